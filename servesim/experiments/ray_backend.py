"""Points on a Ray cluster: one task each, with the same results as anywhere else."""

from __future__ import annotations

import itertools
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from servesim.errors import ServesimError
from servesim.experiments.points import Failure, guarded
from servesim.plugin_folders import VARIABLE, plugin_folders

Item = TypeVar("Item")
Value = TypeVar("Value")

PROBE_S = 5.0
"""How long an address may take to answer."""

RETRIES = 5
"""How often a point is computed again when the node that worked on it dies."""

UNDER_WAY_PER_CORE = 4

_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How an HTTP/2 connection begins, with empty settings (RFC 9113, 3.4); a server answers with its own. Ray speaks gRPC
over it."""


class RayBackend:
    """Computes points as tasks of a Ray cluster.

    Traces and folders of plugins must be on every node, at the same paths.

    Parameters
    ----------
    address
        ``HOST:PORT`` of a running cluster, ``ray://HOST:PORT`` of its client server, ``auto`` for the one on
        this machine; None: start one here, for this process.

    Raises
    ------
    ServesimError
        If Ray is not installed, or nothing answers at the address.
    """

    def __init__(self, address: str | None = None) -> None:
        # Nothing is sent home, and nobody is told of a dashboard.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise ServesimError(
                "--backend ray: Ray is not installed. expected it beside servesim",
                hint="pip install 'servesim[ray]'",
            ) from error
        self._ray: Any = ray
        if not ray.is_initialized():
            if address is not None:
                _probe(address)
            self._connect(address)
        self.workers = max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def _connect(self, address: str | None) -> None:
        options: dict[str, Any] = {"include_dashboard": False} if address is None else {"address": address}
        try:
            self._ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ServesimError(
                f"--address {address}: no Ray cluster ({reason}). expected one that runs"
            ) from error

    def run(
        self, task: Callable[[Item], Value], items: Sequence[Item]
    ) -> Iterator[tuple[int, Value | Failure]]:
        """Yield results as they end; what is still computed is cancelled when the iteration ends early."""
        ray = self._ray
        remote = ray.remote(_compute).options(num_cpus=1, max_retries=RETRIES)
        plugins = os.pathsep.join(map(str, plugin_folders()))
        todo = iter(enumerate(items))
        running: dict[Any, int] = {}
        try:
            while True:
                room = UNDER_WAY_PER_CORE * self.workers - len(running)
                for index, item in itertools.islice(todo, room):
                    running[remote.remote(task, item, plugins)] = index
                if not running:
                    return
                done, _ = ray.wait(list(running), num_returns=1)
                for reference in done:
                    yield running.pop(reference), self._outcome(reference)
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def _outcome(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Failure(f"Ray gave it up ({type(error).__name__}); did its nodes die?")


def _compute(task: Callable[[Any], Any], item: Any, plugins: str) -> Any:
    """Compute a point on a node of the cluster, with the folders of *plugins*."""
    import signal

    os.environ[VARIABLE] = plugins
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return guarded(task, item)


def _probe(address: str) -> None:
    """Refuse an address where no Ray cluster answers, within seconds: Ray itself would try for minutes."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ServesimError(f"--address: not an address (got {address!r}). expected HOST:PORT or auto")
    try:
        with socket.create_connection((host, int(port)), timeout=PROBE_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "0" and not _greets(connection):
                raise ConnectionError("something else than Ray listens there")
    except (OSError, OverflowError) as error:
        raise ServesimError(
            f"--address {address}: no Ray cluster answers ({error}). expected a running Ray cluster",
            hint="ray start --head prints the address of a new one",
        ) from error


def _greets(connection: socket.socket) -> bool:
    """Return whether the other side begins an HTTP/2 connection: with a frame of settings, type 4."""
    connection.sendall(_GREETING)
    return connection.recv(9)[3:4] == b"\x04"
