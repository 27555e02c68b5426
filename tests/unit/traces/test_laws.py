"""Distances of values to laws and to points of measured distributions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy import stats

from servesim.errors import TraceError
from servesim.traces.columns import column_of
from servesim.traces.laws import Gamma, Lognormal, Points, Weibull, ks_to_law, ks_to_points


@pytest.mark.parametrize(
    ("law", "theirs"),
    [
        (Lognormal(name="lognormal", mu=0.3, sigma=1.3), stats.lognorm(s=1.3, scale=np.exp(0.3))),
        (Weibull(name="weibull", shape=0.42, scale=0.4), stats.weibull_min(0.42, scale=0.4)),
        (Gamma(name="gamma", shape=0.25, scale=2.0), stats.gamma(0.25, scale=2.0)),
    ],
)
def test_the_distance_is_that_of_scipy(law: Lognormal | Weibull | Gamma, theirs: stats.rv_frozen) -> None:  # type: ignore[name-defined]
    """On values of another law, a zero among them."""
    values = np.append(np.random.default_rng(3).exponential(1.0, 500), 0.0)
    assert ks_to_law(values, law) == pytest.approx(stats.kstest(values, theirs.cdf).statistic, abs=1e-12)


def test_points_of_one_distribution_of_a_file(tmp_path: Path) -> None:
    """Shares of 1, 2, 3, 4 up to 1.5 and 3 are 1/4 and 3/4; the points say 0.2 and 0.5: 0.25 apart."""
    table = {"x": [0.1, 1.5, 3.0, 1.5], "cdf": [0.9, 0.2, 0.5, 0.0], "of": ["a", "a", "a", "b"]}
    pl.DataFrame(table).write_parquet(tmp_path / "points.parquet")
    points = Points(path=tmp_path / "points.parquet", where={"of": "a"}, above=1.0)
    assert ks_to_points(np.array([3.0, 1.0, 4.0, 2.0]), points) == pytest.approx(0.25)
    with pytest.raises(TraceError, match=r"no such points .got where \{'of': 'c'\}"):
        Points(path=tmp_path / "points.parquet", where={"of": "c"}).read()
    with pytest.raises(TraceError, match="missing column 'y'"):
        Points(path=tmp_path / "points.parquet", x="y").read()
    pl.DataFrame({"x": [1.0], "cdf": [20.0]}).write_parquet(tmp_path / "percent.parquet")
    with pytest.raises(TraceError, match=r"no shares .got 20.0"):
        Points(path=tmp_path / "percent.parquet").read()


def test_a_column_of_requests_and_of_a_log(root: Path, tmp_path: Path) -> None:
    """By name; ``gap_s`` is made; a wrong name is told with those that there are."""
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
        f"2024-05-10 00:00:{second:02}.000000+00:00,{tokens},1\n"
        for second, tokens in ((1, 7), (4, 8), (9, 6))
    )
    (tmp_path / "a.csv").write_text(text)
    assert column_of(tmp_path / "a.csv", "gap_s").tolist() == [3.0, 5.0]
    assert column_of(tmp_path / "a.csv", "prompt_tokens").tolist() == [7.0, 8.0, 6.0]
    with pytest.raises(TraceError, match=r"no column of numbers 'prompts'.*prompt_tokens"):
        column_of(tmp_path / "a.csv", "prompts")
    log = root / "traces" / "huawei_cold_starts_sample.csv"
    assert len(column_of(log, "total_s")) == 250
    assert len(column_of(log, "gap_s")) == 249
    with pytest.raises(TraceError, match="column 'useful_s' is empty"):
        column_of(log, "useful_s")
    with pytest.raises(TraceError, match="client pool has no column"):
        column_of(root / "traces" / "servegen_sample", "gap_s")
