"""Length distributions: means, ranges, tables, mixtures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from workloads import rows

from servesim.errors import TraceError
from servesim.generators.lengths import LengthDistribution

ADAPTER: TypeAdapter[Any] = TypeAdapter(LengthDistribution)
N = 200_000


def sample(spec: dict[str, Any], n: int = N, seed: int = 1) -> np.ndarray:
    """Return lengths drawn from a distribution written as a dict."""
    return np.asarray(ADAPTER.validate_python(spec).sample(np.random.default_rng(seed), n))


ZIPF_MEAN = sum(k * k**-1.1 for k in range(1, 1025)) / sum(k**-1.1 for k in range(1, 1025))


@pytest.mark.parametrize(
    ("spec", "mean"),
    [
        ({"distribution": "constant", "value": 128}, 128),
        ({"distribution": "lognormal", "mean": 512, "sigma": 0.8}, 512),
        ({"distribution": "lognormal", "mean": 100, "sigma": 0}, 100),
        ({"distribution": "exponential", "mean": 250}, 250),
        ({"distribution": "exponential", "mean": 1.5}, 1.5),
        ({"distribution": "exponential", "mean": 1}, 1),
        ({"distribution": "zipf", "a": 1.1, "max": 1024}, ZIPF_MEAN),
        ({"distribution": "uniform", "low": 10, "high": 19}, 14.5),
        (
            {
                "distribution": "mixture",
                "components": [
                    {"weight": 3, "tokens": {"distribution": "constant", "value": 10}},
                    {"weight": 1, "tokens": {"distribution": "uniform", "low": 20, "high": 40}},
                ],
            },
            0.75 * 10 + 0.25 * 30,
        ),
    ],
)
def test_the_mean_is_the_arithmetic_mean(spec: dict[str, Any], mean: float) -> None:
    """Within five standard errors of theory, as whole numbers of at least 1."""
    lengths = sample(spec)
    assert lengths.dtype == np.int32
    assert lengths.min() >= 1
    assert abs(lengths.mean() - mean) <= 5 * lengths.std() / N**0.5


def test_lognormal_sigma_is_in_log_space() -> None:
    """The logarithms have that standard deviation; the median is mean * exp(-sigma^2/2)."""
    lengths = sample({"distribution": "lognormal", "mean": 5000, "sigma": 0.8})
    assert np.log(lengths).std() == pytest.approx(0.8, rel=0.01)
    assert np.median(lengths) == pytest.approx(5000 * np.exp(-0.32), rel=0.01)


def test_exponential_lengths_are_geometric() -> None:
    """P(1) = 1/mean, and the standard deviation is sqrt(mean * (mean - 1))."""
    lengths = sample({"distribution": "exponential", "mean": 4})
    assert (lengths == 1).mean() == pytest.approx(0.25, abs=0.005)
    assert lengths.std() == pytest.approx(12**0.5, rel=0.02)


def test_zipf_follows_its_law() -> None:
    """1 is 2^a times as likely as 2, and nothing lies beyond max."""
    lengths = sample({"distribution": "zipf", "a": 1.5, "max": 100})
    assert (lengths == 1).sum() / (lengths == 2).sum() == pytest.approx(2**1.5, rel=0.03)
    assert lengths.max() <= 100


def test_uniform_includes_both_ends() -> None:
    """Every value of a small range occurs, and no other."""
    assert set(sample({"distribution": "uniform", "low": 3, "high": 5}, 1000)) == {3, 4, 5}


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(0, 50))
def test_min_and_max_hold(low: int, more: int) -> None:
    """Whatever is drawn is clipped."""
    spec = {"distribution": "exponential", "mean": 30, "min": low, "max": low + more}
    lengths = sample(spec, 200)
    assert low <= lengths.min() <= lengths.max() <= low + more


def test_an_absurd_tail_stays_within_32_bits() -> None:
    """A lognormal of sigma 10 exceeds 32 bits now and then; the length does not wrap around."""
    lengths = sample({"distribution": "lognormal", "mean": 2e9, "sigma": 10}, 100_000)
    assert lengths.min() >= 1


@pytest.mark.parametrize("name", ["lengths.csv", "lengths.parquet"])
def test_a_table_of_counts_gives_its_frequencies(name: str, tmp_path: Path) -> None:
    """Counts may be probabilities, and a count of 0 never occurs."""
    table = pl.DataFrame({"value": [5, 7, 100], "count": [0.25, 0.0, 0.75], "note": ["a", "b", "c"]})
    (table.write_csv if name.endswith("csv") else table.write_parquet)(tmp_path / name)
    lengths = sample({"distribution": "empirical", "file": str(tmp_path / name)})
    assert set(lengths) == {5, 100}
    assert (lengths == 5).mean() == pytest.approx(0.25, abs=0.01)


def test_a_single_column_is_a_sample(tmp_path: Path) -> None:
    """Each observed length is equally likely."""
    path = rows(tmp_path / "seen.csv", "tokens\n3\n3\n9\n3\n")
    lengths = sample({"distribution": "empirical", "file": str(path)})
    assert (lengths == 3).mean() == pytest.approx(0.75, abs=0.01)
    assert set(lengths) == {3, 9}


def test_a_column_of_a_trace_is_a_sample(tmp_path: Path) -> None:
    """Named, it may stand among others, CRLF or not; a wrong name is told with the near one."""
    path = rows(tmp_path / "trace.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\r\nx,3,1\r\ny,9,2\r\n")
    given = {"distribution": "empirical", "file": str(path), "column": "ContextTokens"}
    assert set(sample(given)) == {3, 9}
    with pytest.raises(TraceError, match=r"missing column 'ContextToken' .*\n.*ContextTokens"):
        sample({**given, "column": "ContextToken"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "not a table of lengths"),
        ("value,count\n0,1\n", "row 1: value"),
        ("value,count\n1,-1\n2,5\n", "count: not weights"),
        ("value,count\n1,0\n", "count: not weights"),
        ("value,count\n1,x\n", "row 1: count"),
    ],
)
def test_a_bad_table_is_explained(text: str, message: str, tmp_path: Path) -> None:
    """Wrong columns, lengths below 1, weights that are none."""
    path = rows(tmp_path / "t.csv", text)
    with pytest.raises(TraceError, match=message):
        sample({"distribution": "empirical", "file": str(path)})


@pytest.mark.parametrize(
    "spec",
    [
        {"distribution": "constant", "value": 0},
        {"distribution": "constant", "value": 5, "mean": 5},
        {"distribution": "lognormal", "mean": 512},
        {"distribution": "lognormal", "mean": 0.5, "sigma": 1},
        {"distribution": "lognormal", "mean": 512, "sigma": -1},
        {"distribution": "exponential", "mean": float("nan")},
        {"distribution": "uniform", "low": 5, "high": 4},
        {"distribution": "exponential", "mean": 5, "min": 5, "max": 4},
        {"distribution": "zipf", "a": 1.1},
        {"distribution": "mixture", "components": []},
        {"distribution": "pareto", "mean": 5},
        {"mean": 5},
    ],
)
def test_impossible_distributions_are_refused(spec: dict[str, Any]) -> None:
    """Missing, unknown and contradictory parameters."""
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(spec)
