"""How often a kernel is timed: until its median is known well enough, or time is up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, sqrt

from servesim.errors import ServesimError

Z = 1.96
"""Standard deviations of a confidence of 95 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """When enough is measured.

    Attributes
    ----------
    precision_ratio
        Stop when half of the 95 % interval of the median is at most this share of it.
    budget_s
        Stop when a kernel has taken so long, known well or not.
    fewest, most
        Repeats at least, even when time is up, and at most.
    """

    precision_ratio: float = 0.01
    budget_s: float = 2.0
    fewest: int = 5
    most: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.precision_ratio < 1:
            raise ServesimError(
                f"precision: out of range (got {self.precision_ratio!r}). expected a share between 0 and 1"
            )
        if not 0 < self.budget_s < inf:
            raise ServesimError(f"budget: out of range (got {self.budget_s!r}). expected seconds > 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The median of *repeats* timings.

    Attributes
    ----------
    error_ratio
        Half of the median's 95 % interval as a share of it; None where there are too few timings for one.
    """

    median_s: float
    error_ratio: float | None
    repeats: int


def sampled(run: Callable[[], float], stopping: Stopping, now_s: Callable[[], float]) -> Sample:
    """Call *run* until *stopping* says that it is enough."""
    ends_s = now_s() + stopping.budget_s
    times: list[float] = []
    while True:
        times.append(run())
        if len(times) < stopping.fewest:
            continue
        sample = summarised(times)
        known = sample.error_ratio is not None and sample.error_ratio <= stopping.precision_ratio
        if known or now_s() >= ends_s or len(times) >= stopping.most:
            return sample


def summarised(times: Sequence[float]) -> Sample:
    """Return the median of *times* and its interval, from their order alone: no distribution is assumed.

    The number of values below the median is binomial, here by its normal approximation, rounded outwards: the interval
    has 97 to 99 %.

    Examples
    --------
    >>> summarised([5.0, 1.0, 3.0, 2.0, 4.0, 6.0, 7.0, 8.0, 9.0])
    Sample(median_s=5.0, error_ratio=0.8, repeats=9)
    """
    ordered, count = sorted(times), len(times)
    middle = count // 2
    median_s = ordered[middle] if count % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    # Places from 1 on: the interval from the low-th to the high-th value (Conover 1999, section 3.2).
    low = floor((count - Z * sqrt(count)) / 2)
    high = ceil(1 + (count + Z * sqrt(count)) / 2)
    if low < 1 or high > count:
        return Sample(median_s=median_s, error_ratio=None, repeats=count)
    half_s = (ordered[high - 1] - ordered[low - 1]) / 2
    return Sample(median_s=median_s, error_ratio=half_s / median_s if median_s > 0 else None, repeats=count)
