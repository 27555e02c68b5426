"""A client pool from a trace: from known clients to requests to a fit to requests again, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pools import pool_of, write
from workloads import collect

from servesim.errors import ServesimError, TraceError
from servesim.servegen.pool import ClientPool
from servesim.servegen.read import read_pool
from servesim.traces.datasheets import datasheet_path, read_datasheet
from servesim.traces.fit import fit
from servesim.traces.generate import generate
from servesim.traces.look import look
from servesim.traces.pool_info import PoolInfo
from servesim.traces.source import read_spec

GEOMETRIC = {tokens: 0.99**tokens for tokens in range(1, 1000)}
CVS = {"calm": 0.5, "bursty": 2.0, "weibull": 5**0.5}
"""Gamma of shape 4 and 1/4, Weibull of shape 1/2."""
RATES = {"calm": 900, "bursty": 1500, "weibull": 300}
"""Requests in 600 s."""
SHAPES = {"calm": 4.0, "bursty": 0.25, "weibull": 0.5}
WINDOWS = 12


def three_clients() -> ClientPool:
    """Return a pool of three clients of known gaps and lengths over two hours."""
    activity = []
    for name, requests in RATES.items():
        is_weibull = name == "weibull"
        scale = 600 / requests / (2.0 if is_weibull else SHAPES[name])  # Weibull 1/2 of scale 1 has mean 2
        activity += [(name, window, requests, is_weibull, SHAPES[name], scale) for window in range(WINDOWS)]
    lengths = {(name, 0, "output_tokens"): GEOMETRIC for name in RATES} | {
        ("calm", 0, "input_tokens"): {100: 1, 200: 1},
        ("bursty", 0, "input_tokens"): {tokens + 2000: weight for tokens, weight in GEOMETRIC.items()},
        ("weibull", 0, "input_tokens"): GEOMETRIC,
    }
    return pool_of(activity=activity, lengths=lengths)


def requests_of(trace: Path, out: Path, seed: int) -> pl.DataFrame:
    """Write what the generator makes of the pool at *trace*, as a user would, and return it."""
    spec = out.with_suffix(".yaml")
    spec.write_text(
        f"seed: {seed}\n"
        f"workload: {{generator: {{name: servegen, path: {trace.name}, span: {{end_s: {WINDOWS * 600}}}}}}}\n"
    )
    generate(read_spec(spec), out)
    return pl.read_parquet(out)


@pytest.fixture
def requests(tmp_path: Path) -> pl.DataFrame:
    """Return two hours of requests of the three clients, which are also in ``given.parquet``."""
    return requests_of(
        write(tmp_path / "known.trace.parquet", three_clients()), tmp_path / "given.parquet", 1
    )


def test_a_fit_generates_what_it_was_fitted_to(requests: pl.DataFrame, tmp_path: Path) -> None:
    """Known pool, requests, fit, requests: counts within 4 standard errors, CV within 10 %, the lengths' quantiles.

    A renewal process of CV c sends n requests with a standard deviation of about c sqrt(n). Of lengths, the share of
    those up to the known quantile is compared, within 4 standard errors of a share of n.
    """
    fitted = fit(tmp_path / "given.parquet", tmp_path / "own.trace.parquet")
    assert fitted.counts["clients_poisson"] == 0
    again = requests_of(tmp_path / "own.trace.parquet", tmp_path / "again.parquet", 2)
    for name, cv in CVS.items():
        given, made = (frame.filter(pl.col("tenant") == name) for frame in (requests, again))
        assert abs(made.height - given.height) < 4 * cv * given.height**0.5, name
        gaps = np.diff(made["arrival_s"].to_numpy())
        assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.1), name
        for column in ("prompt_tokens", "output_tokens"):
            for level in (0.5, 0.9, 0.99):
                value = given[column].quantile(level, "higher")
                shares = [(frame[column] <= value).mean() for frame in (given, made)]
                error = (level * (1 - level) / made.height) ** 0.5
                assert abs(shares[0] - shares[1]) < 4 * error + 1e-9, (name, column, level)  # type: ignore[operator]


def test_a_fit_finds_rates_gaps_and_lengths(requests: pl.DataFrame, tmp_path: Path) -> None:
    """Every request is counted, in its window; the fitted shape is near the known one; info reads what was written."""
    fit(tmp_path / "given.parquet", tmp_path / "own.trace.parquet")
    pool = read_pool(tmp_path / "own.trace.parquet")
    assert pool.clients == ("bursty", "calm", "weibull")
    assert pool.activity["requests"].sum() == requests.height
    for number, name in enumerate(pool.clients):
        mine = pool.activity.filter(pl.col("client") == number)
        assert mine["weibull"].mean() == pytest.approx(float(name == "weibull"), abs=0.2), name
        assert mine["shape"].median() == pytest.approx(SHAPES[name], rel=0.1), name
    info = look(tmp_path / "own.trace.parquet")
    assert isinstance(info, PoolInfo)
    assert info.statistics["requests"] == requests.height
    assert info.statistics["top_ratio"]["1"] == pytest.approx(1500 / 2700, rel=0.1)
    given = requests["prompt_tokens"].quantile(0.5, "lower")
    assert info.statistics["lengths"]["input_tokens"]["p50"] == given


def test_the_datasheet_tells_where_the_pool_is_from(requests: pl.DataFrame, tmp_path: Path) -> None:
    """Beside it, with both checksums."""
    out = tmp_path / "own.trace.parquet"
    fitted = fit(tmp_path / "given.parquet", out)
    sheet = read_datasheet(datasheet_path(out))
    assert sheet == fitted.sheet
    assert (sheet.reader, sheet.rows) == ("servegen", 3 * WINDOWS)
    assert "the requests of given.parquet; a client is a tenant" in sheet.collection
    assert "own.dataset.parquet" in sheet.composition
    assert requests.height == fitted.info.statistics["requests"]


def test_clients_of_few_requests_are_told(tmp_path: Path) -> None:
    """Client a sends 20 in the first window, b 3 there and 3 in the next one: 6 of 26 without fitted gaps."""
    rows = [(25.0 * number, "a") for number in range(20)] + [
        (100.0 * n + 200, "b") for n in (0, 1, 2, 4, 5, 6)
    ]
    frame = pl.DataFrame(rows, schema=["arrival_s", "tenant"], orient="row").with_columns(
        prompt_tokens=pl.lit(1), output_tokens=pl.lit(1)
    )
    frame.sort("arrival_s").write_parquet(tmp_path / "few.parquet")
    counts = fit(tmp_path / "few.parquet", tmp_path / "own.trace.parquet").counts
    assert (counts["clients_poisson"], counts["clients_few_lengths"]) == (1, 1)
    assert counts["poisson_ratio"] == pytest.approx(6 / 26)
    assert counts["last_window_s"] == pytest.approx(200.0)


def test_sessions_are_clients_on_request(root: Path, tmp_path: Path) -> None:
    """RAGPulse has sessions and no tenants."""
    sample = root / "traces" / "ragpulse_sample.jsonl"
    fitted = fit(sample, tmp_path / "own.trace.parquet", by="session")
    sessions = collect({"source": {"reader": "ragpulse", "path": sample}})["session"].n_unique()
    assert fitted.info.statistics["clients"] == sessions
    assert fitted.counts["clients_poisson"] > 0


@pytest.mark.parametrize(
    ("sample", "by", "message", "hint"),
    [
        (
            "azure_conv_sample.csv",
            "tenant",
            r"without a tenant \(got 2,000 of 2,000\)",
            "columns: {tenant: COLUMN",
        ),
        (
            "azure_conv_sample.csv",
            "session",
            r"without a session \(got 2,000 of 2,000\)",
            "columns: {tenant: COLUMN",
        ),
        ("ragpulse_sample.jsonl", "tenant", "without a tenant", "--by session takes sessions as clients"),
        ("burstgpt_3_sample.csv", "session", r"without a session \(got \d+ of", "--by tenant takes tenants"),
    ],
)
def test_requests_that_tell_no_clients_are_refused(
    sample: str, by: str, message: str, hint: str, root: Path, tmp_path: Path
) -> None:
    """With what to do; nothing is written."""
    with pytest.raises(TraceError, match=message) as caught:
        fit(root / "traces" / sample, tmp_path / "own.trace.parquet", by=by)  # type: ignore[arg-type]
    assert hint in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_leaves_what_was_there(root: Path, tmp_path: Path) -> None:
    """A name that is no pool's, and a dataset that cannot take its place: the older pool stays whole."""
    sample = root / "traces" / "burstgpt_1_sample.csv"
    with pytest.raises(TraceError, match=r"expected NAME\.trace\.parquet"):
        fit(sample, tmp_path / "own.parquet")
    (tmp_path / "own.dataset.parquet").mkdir()
    (tmp_path / "own.trace.parquet").write_bytes(b"older")
    with pytest.raises(ServesimError, match="not a regular file"):
        fit(sample, tmp_path / "own.trace.parquet")
    assert (tmp_path / "own.trace.parquet").read_bytes() == b"older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.dataset.parquet", "own.trace.parquet"]


def test_the_same_requests_give_the_same_bytes(root: Path, tmp_path: Path) -> None:
    """Nothing is drawn."""
    for folder in ("a", "b"):
        fit(root / "traces" / "burstgpt_1_sample.csv", tmp_path / folder / "own.trace.parquet")
    for name in ("own.trace.parquet", "own.dataset.parquet", "own.trace.datasheet.yaml"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
