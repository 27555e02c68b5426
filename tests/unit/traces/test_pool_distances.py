"""Requests against the client pool that they are generated from, or should be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from servesim.cli import main
from servesim.errors import TraceError
from servesim.servegen.lengths import length_table
from servesim.servegen.pool import ClientPool, client_pool
from servesim.traces.compare import compare_files
from servesim.traces.pool_distances import pool_distances

WINDOWS = 24


@pytest.fixture
def pool() -> ClientPool:
    """Return two clients over 24 windows, Poisson: one sends 180 requests in each, the other 20; all lengths are 10."""
    activity = pl.DataFrame(
        [
            {"client": client, "window": window, "requests": float(requests), "cv": 1.0}
            for window in range(WINDOWS)
            for client, requests in ((0, 180), (1, 20))
        ]
    ).with_columns(weibull=pl.lit(value=False), shape=pl.lit(1.0), scale=pl.lit(3.0))
    rows = pl.DataFrame(
        {
            "client": [0, 0, 1, 1],
            "window6h": [0] * 4,
            "field": ["input_tokens", "output_tokens"] * 2,
            "size": [1] * 4,
        }
    )
    lengths = length_table(rows, np.full(4, 10), np.ones(4), "here")
    return client_pool("two", ("a", "b"), activity, lengths, where="here")


def regular(client: str, per_window: int) -> pl.DataFrame:
    """Return requests in pairs: gaps of 1 s and of the rest take turns, with the mean 600 / *per_window*."""
    starts = np.arange(WINDOWS * per_window // 2) * (1200 / per_window) + 0.5
    times = np.sort(np.concatenate((starts, starts + 1)))
    return pl.DataFrame({"arrival_s": times}).with_columns(
        prompt_tokens=pl.lit(20), output_tokens=pl.lit(10), tenant=pl.lit(client)
    )


def test_every_number_by_hand(pool: ClientPool) -> None:
    """Rates, clients, lengths, and the CV of gaps that are 1 s and 9 s in turns: 4/5 where the pool says 1."""
    requests = pl.concat([regular("a", 120), regular("b", 20)]).sort("arrival_s")
    found = pool_distances(pool, requests)
    assert found["rate_per_s"] == pytest.approx({"pool": 200 / 600, "requests": 140 / 600, "ratio": 0.7})
    assert found["clients_for_90_percent"] == {"pool": 1.0, "requests": 2.0, "ratio": 2.0}
    assert found["prompt_tokens"]["p50"] == {"pool": 10.0, "requests": 20.0, "ratio": 2.0}
    assert found["output_tokens"]["p99"] == {"pool": 10.0, "requests": 10.0, "ratio": 1.0}
    cv = found["client_cv"]
    assert (cv["clients"], cv["within_10_percent"]) == (1, 0), "b has too few requests in a window"
    assert cv["ratio_p50"] == pytest.approx(0.8, abs=0.01)


def test_only_the_time_that_both_have_counts(pool: ClientPool) -> None:
    """Half of the windows: the pool's rate is that of this half, and too few windows are left for CVs."""
    requests = regular("a", 120).filter(pl.col("arrival_s") < 6000)
    found = pool_distances(pool, requests)
    assert found["rate_per_s"]["pool"] == pytest.approx(200 / 600)
    assert found["rate_per_s"]["requests"] == pytest.approx(120 / 600)
    assert found["client_cv"] == {"clients": 0}


def test_requests_of_others_are_refused(pool: ClientPool) -> None:
    """Tenants that are no clients, or none at all."""
    for requests in (regular("c", 20), regular("a", 20).drop("tenant")):
        with pytest.raises(TraceError, match="no tenant of the requests is one of its clients"):
            pool_distances(pool, requests)


def test_on_the_command_line(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sample's own requests follow it, whichever comes first; two pools, or a pool in a simulation, are refused."""
    sample, spec, out = root / "traces" / "servegen_sample", tmp_path / "s.yaml", tmp_path / "s.parquet"
    spec.write_text(f"workload: {{generator: {{name: servegen, path: {sample}}}}}", encoding="utf-8")
    assert main(["trace", "generate", str(spec), str(out)]) == 0
    capsys.readouterr()
    assert main(["trace", "compare", str(sample), str(out)]) == 0
    page = capsys.readouterr().out
    assert "clients for 90%" in page
    assert "CV of gaps of" in page
    assert compare_files(sample, out) == compare_files(out, sample)
    assert compare_files(sample, out)["rate_per_s"]["ratio"] == pytest.approx(1, abs=0.05)
    assert main(["trace", "compare", str(sample), str(sample)]) == 2
    assert "expected requests, to compare with the pool" in capsys.readouterr().err
    scenario = str(root / "scenarios" / "quickstart.yaml")
    assert main(["trace", "compare", str(sample), str(out), "--scenario", scenario]) == 2
    assert "expected two traces of requests" in capsys.readouterr().err
