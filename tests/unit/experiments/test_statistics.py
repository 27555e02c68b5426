"""Statistics by hand; coverage is tested in tests/theory/test_coverage.py."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from servesim.experiments.statistics import (
    holm,
    mean_interval,
    mser5,
    paired_interval,
    paired_p_value,
    quantile_interval,
    sectioned_quantile,
    seeds_to_decide,
)


def test_t_interval_by_hand() -> None:
    """1, 2, 3: mean 2, standard error 1/sqrt(3), t(0.975, 2) = 4.3027."""
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.estimate == 2.0
    assert interval.high == pytest.approx(2.0 + 4.302652729911275 / math.sqrt(3.0))
    assert interval.low == pytest.approx(2.0 - 4.302652729911275 / math.sqrt(3.0))


def test_a_single_value_has_no_interval() -> None:
    """It says nothing about its spread; equal values have an interval of no width."""
    assert mean_interval([1.0]).low is None
    assert not mean_interval([1.0]).excludes(5.0)
    assert (mean_interval([1.0, 1.0]).low, mean_interval([1.0, 1.0]).high) == (1.0, 1.0)
    with pytest.raises(ValueError, match="none"):
        mean_interval([])


def test_paired_test_agrees_with_scipy() -> None:
    """The same numbers through scipy.stats.ttest_rel."""
    a, b = [1.0, 2.0, 4.0, 3.5], [1.5, 1.0, 3.0, 3.0]
    expected = stats.ttest_rel(a, b)
    assert paired_p_value(a, b) == pytest.approx(expected.pvalue)
    interval, reference = paired_interval(a, b), expected.confidence_interval(0.95)
    assert (interval.low, interval.high) == (pytest.approx(reference.low), pytest.approx(reference.high))


def test_p_values_at_the_edges() -> None:
    """No difference at all is certain, so is the same difference every time; one pair tells nothing."""
    assert paired_p_value([1.0, 2.0], [1.0, 2.0]) == 1.0
    assert paired_p_value([2.0, 3.0], [1.0, 2.0]) == 0.0
    assert paired_p_value([2.0], [1.0]) is None


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.02, 0.04 times 3, 2, 1, and never below the one before."""
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_seeds_to_decide_is_the_first_count_that_does() -> None:
    """Mean 1 and standard deviation 2 around the threshold 0: t(0.975, n-1) * 2 / sqrt(n) < 1 from n = 18 on."""
    values = [1.0 - math.sqrt(2.0), 1.0 + math.sqrt(2.0)]  # standard deviation 2
    count = seeds_to_decide(values)
    assert count is not None

    def half(n: int) -> float:
        return float(stats.t.ppf(0.975, n - 1)) * 2.0 / math.sqrt(n)

    assert half(count) < 1.0 <= half(count - 1)
    assert count == 18


def test_seeds_to_decide_gives_up() -> None:
    """On the threshold itself, for a single value, and beyond all reason."""
    assert seeds_to_decide([1.0, 3.0], 2.0) is None
    assert seeds_to_decide([1.0]) is None
    assert seeds_to_decide([-1.0, 1.0001]) is None
    assert seeds_to_decide([1.0, 1.0]) == 2


def test_quantile_ranks_by_hand() -> None:
    """Median of 1..10: the binomial(10, 1/2) has 2.5 % and 97.5 % quantiles 2 and 8, so ranks 2 and 9."""
    interval = quantile_interval([float(value) for value in range(1, 11)], 0.5)
    assert (interval.low, interval.estimate, interval.high) == (2.0, 5.5, 9.0)
    assert quantile_interval([1.0, 2.0, 3.0], 0.99).high is None, "too few values for an upper end"


def test_short_sections_give_no_interval() -> None:
    """The 99 % quantile of ten values is none of a section's business."""
    assert sectioned_quantile(range(100), 0.99).low is None
    assert sectioned_quantile(range(10_000), 0.99).low is not None


def test_mser5_of_short_or_steady_series() -> None:
    """Nothing can be said of a few values; a series that is steady loses nothing."""
    assert mser5([1.0] * 10) is None
    assert mser5([1.0, 2.0, 3.0, 2.0, 1.0] * 20) == 0
