"""Quantile curves, histograms, and the heat map's table, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import servesim
from servesim.results.distributions import (
    SHARES,
    histogram,
    histogram_edges,
    quantile_curve,
    sorted_latencies,
)
from servesim.results.replica_map import replica_map
from servesim.results.time_series import TimeGrid


def test_quantiles_are_those_of_the_summary():
    """p50, p90 and p99 of the curve are the summary's, with a warm-up too."""
    overrides = ["workload.max_requests=300", "run.warm_up_s=10"]
    result = servesim.run("scenarios/quickstart.yaml", overrides=overrides)
    curve = quantile_curve(sorted_latencies(result.frames.lazy("requests"), "e2e_s", result.warm_up_s))
    assert result.warm_up_s == 10.0
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        value = curve.filter(pl.col("share") == share)["latency_s"].item()
        assert value == pytest.approx(result.summary[f"e2e_s_{name}"], rel=1e-12)


def test_curve_of_four_values():
    """Quantiles interpolate linearly between order statistics; the ends are least and most."""
    curve = quantile_curve(np.array([1.0, 2.0, 3.0, 4.0]))
    at = dict(curve.iter_rows())
    assert (at[0.0], at[0.5], at[0.9], at[1.0]) == (1.0, 2.5, pytest.approx(3.7), 4.0)
    assert len(SHARES) == len(set(SHARES.tolist())) <= 250
    assert np.all(np.diff(SHARES) > 0)


def test_nothing_has_no_curve():
    """No values: no rows, no edges."""
    assert quantile_curve(np.empty(0)).is_empty()
    assert histogram_edges([np.empty(0)]).tolist() == []
    assert histogram(np.empty(0), np.empty(0)).is_empty()


def test_histogram_by_hand():
    """A value on an edge belongs to the bin above it, the greatest one to the last bin."""
    bars = histogram(np.array([1.0, 2.0, 2.0, 4.0]), np.array([1.0, 2.0, 4.0]))
    assert bars.rows() == [(1.0, 2.0, 0.25), (2.0, 4.0, 0.75)]


@given(st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=50), st.lists(st.floats(1e-4, 1e4), max_size=50))
def test_histograms_lose_nobody(first, second):
    """Edges that suit two samples hold all of both, also where all values are alike."""
    samples = [np.sort(first), np.sort(second)]
    edges = histogram_edges(samples)
    assert np.all(np.diff(edges) > 0)
    for sample in samples:
        assert histogram(sample, edges)["share"].sum() == pytest.approx(1.0 if len(sample) else 0.0)


def test_zero_latencies_have_a_histogram():
    """A queueing delay may be 0: bins of equal width then, for there is no ratio to 0."""
    edges = histogram_edges([np.array([0.0, 0.5, 3.0])])
    assert edges[0] == 0.0
    assert np.all(np.diff(edges) > 0)
    assert histogram_edges([np.zeros(3)])[0] <= 0.0


def test_few_replicas_have_a_row_each():
    """Rows are replicas, columns are bins."""
    frame = pl.DataFrame({"replica": [0, 0, 1, 1], "bin": [0, 1, 0, 1], "value": [1.0, 2.0, 3.0, 4.0]})
    table = replica_map(frame, "value", TimeGrid(1.0, 2.0))
    assert table.rows == ["0", "1"]
    assert table.values.tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("replicas", "rows", "last"), [(33, 17, "32"), (64, 32, "62-63"), (1000, 32, "992-999")]
)
def test_many_replicas_share_rows(replicas, rows, last):
    """At most 32 rows; a row is the mean of its replicas, and names them."""
    frame = pl.DataFrame({"replica": range(replicas), "bin": 0, "value": np.arange(replicas) * 1.0})
    table = replica_map(frame, "value", TimeGrid(1.0, 1.0))
    assert (len(table.rows), table.rows[-1]) == (rows, last)
    first, _, final = last.partition("-")
    assert table.values[-1, 0] == (int(first) + int(final or first)) / 2
