"""The Ray backend on a real cluster of two nodes, one of which dies."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from servesim.errors import ServesimError
from servesim.experiments.backends import InProcess
from servesim.experiments.points import Failure
from servesim.experiments.ray_backend import RayBackend
from servesim.experiments.sweep import sweep
from servesim.plugin_folders import VARIABLE, with_plugin_folders

from .test_sweep import SCENARIO, SWEEP

pytest.importorskip("ray", reason="Ray is not installed: pip install 'servesim[ray]'")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head without cores for tasks' sake and two nodes of one core each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
        from ray.cluster_utils import Cluster

        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        made.nodes = [made.add_node(num_cpus=1), made.add_node(num_cpus=1)]
        made.wait_for_nodes()
        ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
        yield made
        ray.shutdown()
        made.shutdown()


cloudpickle.register_pickle_by_value(sys.modules[__name__])  # nodes cannot import the tests
ray_cloudpickle = pytest.importorskip("ray.cloudpickle")
ray_cloudpickle.register_pickle_by_value(sys.modules[__name__])


def slow(number: int) -> int:
    time.sleep(0.3)
    if number == 5:
        raise ServesimError("five is refused")
    return number


def named_folders(_: int) -> str:
    return os.environ.get(VARIABLE, "")


def test_a_node_that_dies_costs_nothing(cluster: Any, tmp_path: Path) -> None:
    """Its points are computed again on the other one; a sweep gives the same bytes as in this process.

    Folders of plugins are told to the nodes, for as long as they are named here.
    """
    (tmp_path / "small.yaml").write_text(SCENARIO, encoding="utf-8")
    (tmp_path / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    backend = RayBackend(cluster.address)
    assert backend.workers == 2
    (tmp_path / "pyproject.toml").write_text(
        '[project.entry-points."servesim.routers"]\nmine = "mine:Mine"\n'
    )
    with with_plugin_folders([tmp_path]):
        assert dict(backend.run(named_folders, [1])) == {0: str(tmp_path)}
    assert dict(backend.run(named_folders, [1])) == {0: ""}
    found = {}
    for index, outcome in backend.run(slow, list(range(12))):
        found[index] = outcome
        if len(found) == 2:
            cluster.remove_node(cluster.nodes.pop(), allow_graceful=False)
    assert found == {n: n for n in range(12) if n != 5} | {5: Failure("five is refused")}

    sweep(tmp_path / "sweep.yaml", out=tmp_path / "ray.parquet", backend=backend)
    sweep(tmp_path / "sweep.yaml", out=tmp_path / "here.parquet", backend=InProcess())
    assert (tmp_path / "ray.parquet").read_bytes() == (tmp_path / "here.parquet").read_bytes()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers"),
        ("nonsense", "expected HOST:PORT or auto"),
        ("ray://127.0.0.1:1", "no Ray cluster answers"),
    ],
)
def test_an_address_that_does_not_answer(address: str, message: str) -> None:
    """Told at once."""
    with pytest.raises(ServesimError, match=message):
        RayBackend(address)


@pytest.mark.parametrize(
    ("greeting", "message"), [(None, "timed out"), (b"-ERR unknown command\r\n", "something else than Ray")]
)
def test_an_address_where_something_else_listens(
    greeting: bytes | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told at once, too, be it silent or of another protocol: Ray itself would try for minutes."""
    monkeypatch.setattr("servesim.experiments.ray_backend.PROBE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                if greeting is not None:
                    connection.sendall(greeting)
                while connection.recv(1024):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ServesimError, match=message):
            RayBackend(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join(timeout=10)
