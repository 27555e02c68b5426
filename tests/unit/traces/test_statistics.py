"""Statistics of traces, against numbers worked out by hand and published ones."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesim.rng import stream
from servesim.traces.arrival_checks import grid_step_s
from servesim.traces.distances import distances, ks_statistic, quantile_distance
from servesim.traces.sample import Sample
from servesim.traces.statistics import correlation, cv, dispersion, kpss, spread, statistics, tail_index


def requests(arrivals: list[float], **columns: object) -> pl.DataFrame:
    """Return requests at *arrivals*; lengths are 10 and 5 unless given."""
    n = len(arrivals)
    return pl.DataFrame(
        {"arrival_s": arrivals, "prompt_tokens": [10] * n, "output_tokens": [5] * n, **columns},
        schema_overrides={"arrival_s": pl.Float64},
    )


def test_arrivals_by_hand():
    """Gaps 1, 1, 4: mean 2, variance 2; counts in six bins of 1 s from 0 to 6: 1 1 1 0 0 0 1."""
    found = statistics(requests([0.0, 1.0, 2.0, 6.0]))
    assert found["span_s"] == 6.0
    assert found["rate_per_s"] == pytest.approx(4 / 6)
    assert found["gap_cv"] == pytest.approx(math.sqrt(2) / 2)
    assert found["gap_s"]["p50"] == 1.0
    assert found["peak_1s"] == 1
    mean = 4 / 7
    assert found["dispersion_1s"] == pytest.approx((4 / 7 - mean**2) / mean)
    assert found["zero_gap_ratio"] == 0.0
    assert (found["sessions"], found["prefix"], found["models"]) == (None, None, None)


def test_bins_of_a_second_begin_at_the_first_arrival():
    """0.5 to 1.4 is one bin with two, 1.5 to 2.4 one with one: mean 1.5, variance 0.25."""
    assert dispersion(np.array([0.5, 1.4, 1.6])) == {"dispersion_1s": pytest.approx(0.25 / 1.5), "peak_1s": 2}
    assert dispersion(np.array([])) == {"dispersion_1s": None, "peak_1s": None}


def test_single_and_simultaneous_requests_have_no_rate():
    """What cannot be computed is None, not 0 or NaN."""
    one = statistics(requests([3.0]))
    assert (one["rate_per_s"], one["gap_cv"], one["gap_s"], one["correlation"]) == (None, None, None, None)
    assert statistics(requests([3.0, 3.0]))["rate_per_s"] is None


def test_spread_cv_and_correlation_by_hand():
    """1 to 5: mean and median 3, p90 4.6; CV sqrt(2)/3; y = 2x is fully correlated."""
    values = np.array([5, 3, 1, 2, 4])
    found = spread(values)
    assert found is not None
    assert (found["mean"], found["p50"], found["p90"], found["max"]) == (3.0, 3.0, pytest.approx(4.6), 5.0)
    assert cv(values) == pytest.approx(math.sqrt(2) / 3)
    assert correlation(values, 2 * values) == pytest.approx(1.0)
    assert correlation(values, np.ones(5)) is None


def test_sessions_by_hand():
    """Session a comes at 0, 10, 40, b at 5 and 6; one request has none."""
    frame = requests([0, 5, 6, 10, 20, 40], session=["a", "b", "b", "a", None, "a"])
    found = statistics(frame)["sessions"]
    assert found["sessions"] == 2
    assert found["requests_in_sessions"] == 5
    assert found["turns"]["mean"] == 2.5
    assert found["multi_turn_ratio"] == 1.0
    assert (found["turn_gap_s"]["mean"], found["turn_gap_s"]["max"]) == (pytest.approx(41 / 3), 30.0)


def test_follow_ups_do_not_count_as_arrivals():
    """Their time is known in the simulation only: two sessions at 0 and 8 s make one gap."""
    frame = requests([0.0, 0.0, 8.0], session=["a", "a", "b"], think_s=[None, 2.5, None])
    found = statistics(frame)
    assert found["gap_s"]["mean"] == 8.0
    assert (found["requests"], found["arrivals"], found["rate_per_s"]) == (3, 2, 0.25)
    assert found["sessions"]["think_s"]["mean"] == 2.5
    assert found["sessions"]["turn_gap_s"] is None


def test_the_prefix_ceiling_counts_every_occurrence_but_the_first():
    """Five blocks, three of them new: two hits."""
    frame = requests([0, 1, 2], prefix_blocks=[[1, 2], [1, 2], [3]])
    found = statistics(frame)["prefix"]
    assert (found["blocks"], found["distinct_blocks"]) == (5, 3)
    assert found["hit_ceiling_ratio"] == pytest.approx(2 / 5)


def test_tail_index_by_hand():
    """Above 1 stand e, e, ... (k times): every log ratio is 1, so is the index."""
    values = np.concatenate([np.ones(380), np.full(20, math.e)])
    assert Sample.of(values).largest(21).tolist() == [1.0] + [math.e] * 20
    assert tail_index(Sample.of(values).largest(21)) == pytest.approx(1.0)
    assert tail_index(np.ones(21)) is None
    assert tail_index(np.arange(1.0, 11.0)) is None


@given(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(0, 9)), st.integers(1, 99))
def test_samples_add_up_and_keep_their_largest(one, other, count):
    """Two parts are the whole, and its largest values those of a sort."""
    both = Sample.of(np.array(one)) + Sample.of(np.array(other))
    whole = Sample.of(np.array(one + other))
    assert (both.values.tolist(), both.counts.tolist()) == (whole.values.tolist(), whole.counts.tolist())
    assert both.largest(count).tolist() == sorted(one + other)[-count:]


@pytest.mark.parametrize("alpha", [1.2, 3.0])
def test_tail_index_of_a_pareto_law(alpha):
    """Hill's estimate from k values has standard error alpha / sqrt(k): within three of them."""
    values = 100 * stream(1, "pareto").random(40_000) ** (-1 / alpha)
    assert tail_index(np.sort(values)[-2001:]) == pytest.approx(alpha, abs=3 * alpha / math.sqrt(2000))


def test_kpss_by_hand():
    """1, -1: partial sums 1 and 0; one lag of weight 1/2 makes the variance 1 - 1/2; 1 / (2^2 * 1/2) = 1/2."""
    assert kpss(np.array([1.0, -1.0])) == pytest.approx(0.5)
    assert kpss(np.full(50, 3.0)) == 0.0


def test_kpss_tells_drift_from_noise():
    """A trend is rejected at 1 %; of white noise about 5 % are, at the 5 % level."""
    rng = stream(2, "kpss")
    assert kpss(np.arange(100.0) + rng.standard_normal(100)) > 0.739
    rejected = np.mean([kpss(rng.standard_normal(100)) > 0.463 for _ in range(1000)])
    assert 0.02 < rejected < 0.08


def test_grids():
    """Whole seconds, a jittering grid of 3 s, and times without a grid."""
    rng = stream(3, "grid")
    seconds = np.diff(np.sort(rng.integers(0, 500, 1000)).astype(float))
    assert grid_step_s(seconds) == 1.0
    cells = np.sort(rng.integers(0, 300, 1000)) * 3.0
    jitter = np.array([0.001 if cell % 2 else 0.0 for cell in cells])  # equal within a cell
    assert grid_step_s(np.diff(cells - jitter)) == 3.0
    assert grid_step_s(rng.exponential(1.0, 1000)) is None
    assert grid_step_s(np.full(100, 0.5)) == 0.5


def test_distances_by_hand():
    """0, 1 against 1, 2: shares differ by a half on two unit stretches; moving each by 1 is the shortest way."""
    a, b = np.array([0.0, 1.0]), np.array([1.0, 2.0])
    assert ks_statistic(Sample.of(a), Sample.of(b)) == 0.5
    assert quantile_distance(Sample.of(a), Sample.of(b)) == pytest.approx(1.0)
    zero, two = Sample.of(np.array([0.0])), Sample.of(np.array([1.0, 3.0]))
    assert quantile_distance(zero, two) == pytest.approx(2.0)
    assert ks_statistic(Sample.of(a), Sample.of(np.array([]))) is None


def test_a_trace_is_no_distance_from_itself():
    """All distances are 0."""
    frame = requests([0.0, 1.0, 3.0, 3.5])
    found = distances(frame, frame)["distributions"]
    assert {(each["ks"], each["quantile_distance"]) for each in found.values()} == {(0.0, 0.0)}


@given(st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=50))
def test_a_sample_spreads_as_its_values_do(values: list[float]) -> None:
    """Counted values have the mean, quantiles and extremes of the values themselves."""
    assert Sample.of(np.array(values)).spread() == pytest.approx(spread(np.array(values)))


def test_counts_per_second_over_decades_need_no_memory() -> None:
    """Three requests, two of them in the first two of two billion seconds: all others are empty."""
    sample = Sample.of_arrivals_per_s(np.array([0.0, 1.5, 2e9]))
    assert dict(zip(sample.values, sample.counts, strict=True)) == {0.0: 2_000_000_001 - 3, 1.0: 3}


def test_counts_per_second_by_hand() -> None:
    """Two, none, one: as many bins as seconds have begun."""
    sample = Sample.of_arrivals_per_s(np.array([5.0, 5.9, 7.0]))
    assert dict(zip(sample.values, sample.counts, strict=True)) == {0.0: 1, 1.0: 1, 2.0: 1}


def test_parts_of_lengths_are_told_where_there_are_some():
    """Images in one of two prompts, reasoning in none: the mean is over both requests; of another trace it is 0."""
    frame = requests([0, 1], image_tokens=[6, None], reasoning_tokens=[0, None])
    found = statistics(frame)
    assert (found["image_tokens"]["mean"], found["image_tokens"]["max"]) == (3, 6)
    assert "reasoning_tokens" not in found
    apart = distances(requests([0, 1, 2]), frame)["distributions"]["image_tokens"]
    assert (apart["a"]["max"], apart["b"]["max"], apart["ks"], apart["quantile_distance"]) == (0, 6, 0.5, 3)
    assert "image_tokens" not in distances(requests([0, 1]), requests([0, 1]))["distributions"]
