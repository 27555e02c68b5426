"""The stopping rule: intervals that hold what they say, budgets, bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import comb

import pytest

from servesim.errors import ServesimError
from servesim.profiler.sampling import Sample, Stopping, sampled, summarised
from servesim.rng import stream


def timer(times: Iterator[float]) -> tuple[Callable[[], float], Callable[[], float]]:
    """Return a run that takes *times*, and a clock that runs meanwhile."""
    passed = [0.0]

    def run() -> float:
        seconds = next(times)
        passed[0] += seconds
        return seconds

    return run, lambda: passed[0]


def always(seconds: float) -> Iterator[float]:
    while True:
        yield seconds


def test_even_times_need_eight() -> None:
    """Eight is the least number of timings whose extremes hold the median with 95 %."""
    run, now_s = timer(always(1e-3))
    assert sampled(run, Stopping(), now_s) == Sample(median_s=1e-3, error_ratio=0.0, repeats=8)


def test_budget_ends_what_is_slow() -> None:
    """Kernels of 0.7 s get 5 timings, whatever the budget; their interval is not known."""
    run, now_s = timer(always(0.7))
    assert sampled(run, Stopping(budget_s=2.0), now_s) == Sample(median_s=0.7, error_ratio=None, repeats=5)


def test_most_ends_what_is_noisy() -> None:
    """Every second timing is twice as long: no number of them makes that precise."""
    times = (1e-6 * (1 + turn % 2) for turn in range(1000))
    run, now_s = timer(times)
    sample = sampled(run, Stopping(most=100), now_s)
    assert (sample.repeats, sample.median_s) == (100, pytest.approx(1.5e-6))
    assert sample.error_ratio == pytest.approx(1 / 3)


def test_noise_is_averaged_until_the_precision_is_there() -> None:
    """A median of exponential noise is reached to 2 %, with more timings than for 10 %."""
    repeats = []
    for precision in (0.1, 0.02):
        random = stream(1, "times")
        run, now_s = timer(1e-5 * (1 + 0.5 * float(random.exponential())) for _ in range(10_000))
        sample = sampled(run, Stopping(precision_ratio=precision), now_s)
        assert sample.median_s == pytest.approx(1e-5 * (1 + 0.5 * 0.6931), rel=2 * precision)
        repeats.append(sample.repeats)
    assert repeats[0] < repeats[1]


@pytest.mark.parametrize("count", [*range(8, 60), 200, 500])
def test_intervals_hold_95_percent(count: int) -> None:
    """Of all orders of *count* values, those whose interval holds the median are 95 % at least: the binomial's sum."""
    values = [float(place) for place in range(1, count + 1)]
    sample = summarised(values)
    assert sample.error_ratio is not None
    half = sample.error_ratio * sample.median_s
    low, high = round(sample.median_s - half), round(sample.median_s + half)
    # The interval is (high - low) wide, about the middle or one value to the right of it.
    width = round(2 * half)
    covered = max(
        sum(comb(count, below) for below in range(first, first + width)) / 2**count
        for first in range(max(1, low - 1), min(high, count - width) + 1)
    )
    assert covered >= 0.95


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"precision_ratio": 0.0}, r"precision: out of range \(got 0.0\)"),
        ({"precision_ratio": 1.0}, r"precision: out of range \(got 1.0\)"),
        ({"budget_s": -1.0}, r"budget: out of range \(got -1.0\)"),
        ({"budget_s": float("inf")}, r"budget: out of range \(got inf\)"),
        ({"budget_s": float("nan")}, r"budget: out of range \(got nan\)"),
    ],
)
def test_bad_rules_are_refused(changed: dict[str, float], message: str) -> None:
    """Shares and seconds that make no sense."""
    with pytest.raises(ServesimError, match=message):
        Stopping(**changed)  # type: ignore[arg-type]
