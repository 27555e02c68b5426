"""The pools that ship: complete, the same each time, and near the release that they were fitted to."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import get_args

import numpy as np
import polars as pl
import pytest
from workloads import collect

from servesim.errors import TraceError
from servesim.servegen.parametric import LEVELS, PoolName, between, pool_file, shipped_name, shipped_pool
from servesim.servegen.pool import ClientPool
from servesim.servegen.read import read_pool
from servesim.traces.datasheets import UNKNOWN, datasheet_beside, datasheet_path, read_datasheet, sha256_of
from servesim.traces.detect import detect

SOURCES = {
    "language": "language.m-large",
    "reason": "reason.deepseek-r1",
    "multimodal": "multimodal.mm-image",
}
CLIENTS = {"language": 162, "reason": 73, "multimodal": 35}
FOR_90_PERCENT = {"language": 39, "reason": 25, "multimodal": 15}


def clients_for(pool: ClientPool, share: float) -> int:
    """Return how many clients send this share of the requests."""
    load = pool.activity.group_by("client").agg(pl.col("requests").sum())["requests"].sort(descending=True)
    return int((load.cum_sum() < share * load.sum()).sum()) + 1


def window_rates(pool: ClientPool) -> np.ndarray:
    """Return the requests of each window."""
    activity = pool.activity
    return np.bincount(activity["window"].to_numpy(), activity["requests"].to_numpy(), pool.windows)


@pytest.mark.parametrize("name", get_args(PoolName))
def test_a_shipped_pool_generates_offline(name: PoolName) -> None:
    """Every client of the release is there; its few lead the load as published; requests come at the asked rate."""
    pool = shipped_pool(name)
    assert len(pool.clients) == CLIENTS[name]
    assert clients_for(pool, 0.9) == FOR_90_PERCENT[name]
    assert not pool.lenders
    requests = collect(
        {"generator": {"name": "servegen", "pool": name, "rate_per_s": 50.0, "duration_s": 3600.0}}
    )
    assert requests.height == pytest.approx(180_000, rel=0.02)
    assert requests["tenant"].n_unique() >= 10
    assert (requests["reasoning_tokens"].null_count() == 0) == (name == "reason")
    assert (requests["image_tokens"].null_count() == 0) == (name == "multimodal")


def test_a_shipped_pool_unfolds_to_the_same_days() -> None:
    """No seed of a run changes the pool's history."""
    first = shipped_pool("reason").activity
    shipped_pool.cache_clear()
    assert shipped_pool("reason").activity.equals(first)


def test_values_between_quantiles_keep_the_quantiles() -> None:
    """Sixteen values in each stretch, whose weights are its probability."""
    quantiles = np.array([float(100 * 2**index) for index in range(len(LEVELS))])
    values = between(quantiles)
    assert len(values) == 16 * (len(LEVELS) - 1)
    assert (np.diff(values) >= 0).all()
    edges = np.searchsorted(values, quantiles[1:-1])
    assert np.abs(edges - 16 * np.arange(1, len(LEVELS) - 1)).max() <= 2


def test_the_files_are_what_the_script_makes(
    root: Path, shared: Callable[[str], Path], tmp_path: Path
) -> None:
    """Fitted numbers in the package can be made again."""
    shared("traces/servegen")
    script = _script(root)
    for name, source in script.POOLS.items():
        pool = read_pool(script.RELEASE / f"{source}.trace.parquet")
        text = script.as_toml(source, pool, script.fit(pool))
        path = pool_file(name)
        assert path.read_text() == text, name
        assert read_datasheet(datasheet_path(path)) == script.datasheet(path, source), name


@pytest.mark.parametrize("name", get_args(PoolName))
def test_a_shipped_pool_has_its_datasheet(name: PoolName) -> None:
    """Of this file, complete, a row per client; it names what the pool lacks."""
    sheet = datasheet_beside(pool_file(name))
    assert sheet is not None
    assert (sheet.reader, sheet.rows, sheet.sha256) == ("servegen", CLIENTS[name], sha256_of(pool_file(name)))
    assert "clients do not move together" in sheet.known_defects
    assert UNKNOWN not in sheet.model_dump().values()


def test_a_shipped_pool_is_no_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that take requests say what it is, and how to name it in a workload."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TraceError, match="language: a client pool") as caught:
        detect(Path("language"))
    assert "pool: NAME" in str(caught.value)
    with pytest.raises(TraceError, match="chat: no such file or folder"):
        read_pool(Path("chat"))


def test_a_shipped_pool_is_meant_by_name_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a file of the user has that name; a copy is no shipped pool."""
    monkeypatch.chdir(tmp_path)
    assert shipped_name(Path("reason")) == shipped_name(pool_file("reason")) == "reason"
    assert read_pool(Path("reason")) is shipped_pool("reason")
    (tmp_path / "reason").mkdir()
    assert shipped_name(Path("reason")) is shipped_name(Path("chat")) is None
    (tmp_path / "reason.toml").write_bytes(pool_file("reason").read_bytes())
    assert shipped_name(tmp_path / "reason.toml") is None


def _script(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "fit_client_pools", root / "scripts" / "fit_client_pools.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fit_client_pools"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", get_args(PoolName))
def test_a_shipped_pool_resembles_the_release(name: PoolName, shared: Callable[[str], Path]) -> None:
    """Mean rate within 1 %, its variation over windows within half, active clients per window within two."""
    pool, release = shipped_pool(name), read_pool(shared(f"traces/servegen/{SOURCES[name]}.trace.parquet"))
    mine, theirs = window_rates(pool), window_rates(release)
    assert mine.mean() == pytest.approx(theirs.mean(), rel=0.01)
    assert mine.std() / mine.mean() == pytest.approx(theirs.std() / theirs.mean(), rel=0.5)
    active = [np.median(np.bincount(each.activity["window"].to_numpy())) for each in (pool, release)]
    assert active[0] == pytest.approx(active[1], abs=2)
