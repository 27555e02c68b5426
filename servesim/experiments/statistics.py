"""Statistics of replications: intervals, quantiles, warm-up, and how many seeds would decide.

Plain functions of numbers; nothing here knows of scenarios. Methods and their assumptions are in
docs/model/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from servesim.rng import stream

Method = Literal["t", "bootstrap"]

BOOTSTRAP_RESAMPLES = 9999
MOST_SEEDS = 10_000
"""More seeds than this are never suggested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes
    ----------
    estimate
        The mean, or whatever is estimated.
    low, high
        Ends of the interval; None where a single value says nothing about its spread.
    confidence
        Probability that an interval made this way covers the true value.
    method
        How it was made.
    replications
        How many independent values it rests on.
    """

    estimate: float
    low: float | None
    high: float | None
    confidence: float
    method: str
    replications: int

    def excludes(self, value: float) -> bool:
        """Return whether the interval exists and *value* lies outside of it."""
        return self.low is not None and self.high is not None and not self.low <= value <= self.high


def mean_interval(
    values: Sequence[float], *, confidence: float = 0.95, method: Method = "t", seed: int = 0
) -> Interval:
    """Return the mean of independent *values* with its confidence interval.

    Parameters
    ----------
    values
        One per replication. For a paired comparison: the differences, seed by seed.
    confidence
        Coverage, between 0 and 1.
    method
        ``t``: Student's interval, exact for normal values and good from a handful of means on. ``bootstrap``:
        bias-corrected and accelerated (B. Efron, 1987), for skewed values; it needs some twenty of them to
        keep what it promises.
    seed
        What the bootstrap draws from.

    Raises
    ------
    ValueError
        If there is no value.
    """
    data = np.asarray(values, dtype=float)
    if not len(data):
        raise ValueError("values: none. expected one or more")
    mean = float(data.mean())
    low: float | None
    high: float | None
    if len(data) == 1:
        low = high = None
    elif np.ptp(data) == 0.0:
        low = high = mean
    elif method == "t":
        half = t_quantile(0.5 + confidence / 2, len(data) - 1) * standard_error(data)
        low, high = mean - half, mean + half
    else:
        low, high = _bootstrap(data, confidence, seed)
    return Interval(
        estimate=mean,
        low=low,
        high=high,
        confidence=confidence,
        method=method,
        replications=len(data),
    )


def paired_interval(
    values: Sequence[float],
    baseline: Sequence[float],
    *,
    confidence: float = 0.95,
    method: Method = "t",
    seed: int = 0,
) -> Interval:
    """Return the mean difference *values* - *baseline* with its interval.

    Replications are paired: the two values of a seed saw the same arrivals and lengths (common random
    numbers), so what these do to both falls out of the difference.

    Raises
    ------
    ValueError
        If the two have different lengths, or none.
    """
    differences = np.subtract(np.asarray(values, dtype=float), np.asarray(baseline, dtype=float))
    return mean_interval(differences.tolist(), confidence=confidence, method=method, seed=seed)


def ratio_interval(
    values: Sequence[float], baseline: Sequence[float], *, confidence: float = 0.95
) -> Interval:
    """Return the ratio of the means of paired *values* and *baseline* with Fieller's interval.

    It holds every ratio r for which a paired t test does not reject that the mean of values - r * baseline is
    zero (E. C. Fieller, Some problems in interval estimation, 1954): no approximation for normal values, unlike
    a mean of ratios, which is biased.

    Returns
    -------
    Interval
        Without ends where there is one pair, or where the baseline's mean cannot be told from zero. The
        estimate is infinite or NaN where the baseline's mean is zero.

    Raises
    ------
    ValueError
        If the two have different lengths, or none.
    """
    above, below = np.asarray(values, dtype=float), np.asarray(baseline, dtype=float)
    if len(above) != len(below) or not len(above):
        raise ValueError(f"pairs: got {len(above)} and {len(below)} values. expected as many, one or more")
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = float(np.float64(above.mean()) / below.mean())
    low, high = None, None
    if len(above) > 1 and below.mean() != 0.0:
        t = t_quantile(0.5 + confidence / 2, len(above) - 1)
        residual = above - estimate * below
        # Around the estimate r0, with d = r - r0: (d * b)^2 <= t^2 * (vr - 2 d c + d^2 vb), a quadratic in d.
        variance = t * t * np.cov(residual, below) / len(above)
        a = below.mean() ** 2 - variance[1, 1]
        root = variance[0, 1] ** 2 + a * variance[0, 0]
        if a > 0.0:
            low = float(estimate + (-variance[0, 1] - math.sqrt(root)) / a)
            high = float(estimate + (-variance[0, 1] + math.sqrt(root)) / a)
    return Interval(
        estimate=estimate,
        low=low,
        high=high,
        confidence=confidence,
        method="Fieller",
        replications=len(above),
    )


def paired_p_value(values: Sequence[float], baseline: Sequence[float]) -> float | None:
    """Return the two-sided p-value of the paired t test of no difference; None for a single pair."""
    from scipy.special import stdtr

    differences = np.subtract(np.asarray(values, dtype=float), np.asarray(baseline, dtype=float))
    if len(differences) < 2:
        return None
    mean, error = float(differences.mean()), standard_error(differences)
    if error == 0.0:
        return 1.0 if mean == 0.0 else 0.0
    return float(2.0 * stdtr(len(differences) - 1, -abs(mean) / error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for testing several hypotheses at once (S. Holm, 1979).

    Marking those below 0.05 keeps the probability of any false mark at 5 %, whatever their dependence.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def standard_error(values: npt.NDArray[np.float64]) -> float:
    """Return the standard error of the mean of independent *values*, two or more."""
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def t_quantile(probability: float, degrees: int) -> float:
    """Return a quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def seeds_to_decide(
    values: Sequence[float], threshold: float = 0.0, *, confidence: float = 0.95
) -> int | None:
    """Return how many replications would bring a t interval of the mean of *values* clear of *threshold*.

    It takes the mean and the spread of *values* for the true ones: a plan, not a promise.

    Returns
    -------
    int or None
        At least two; None where the values give no hope (a mean at the threshold, a single value, or more
        than `MOST_SEEDS`).
    """
    data = np.asarray(values, dtype=float)
    if len(data) < 2:
        return None
    distance, spread = abs(float(data.mean()) - threshold), float(data.std(ddof=1))
    if spread == 0.0:
        return 2 if distance > 0.0 else None

    def decides(count: int) -> bool:
        return t_quantile(0.5 + confidence / 2, count - 1) * spread / math.sqrt(count) < distance

    if not decides(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS  # decides() is monotone: quantile and root both shrink with the count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high


def quantile_interval(values: npt.ArrayLike, quantile: float, *, confidence: float = 0.95) -> Interval:
    """Return a quantile of independent *values* with its distribution-free interval.

    The ends are the order statistics whose ranks are binomial quantiles (G. J. Hahn and W. Q. Meeker,
    Statistical Intervals, 1991, 5.2): coverage is at least *confidence* for any continuous distribution. It
    does not hold for the requests of one run, which wait for each other: see `sectioned_quantile`.

    Raises
    ------
    ValueError
        If there is no value.
    """
    from scipy.stats import binom

    data = np.sort(np.asarray(values, dtype=float))
    count = len(data)
    if not count:
        raise ValueError("values: none. expected one or more")
    tail = (1.0 - confidence) / 2
    lower = int(binom.ppf(tail, count, quantile)) - 1
    upper = int(binom.ppf(1.0 - tail, count, quantile))
    known = lower >= 0 and upper < count
    return Interval(
        estimate=float(np.quantile(data, quantile)),
        low=float(data[lower]) if known else None,
        high=float(data[upper]) if known else None,
        confidence=confidence,
        method="order statistics",
        replications=count,
    )


def sectioned_quantile(
    values: npt.ArrayLike, quantile: float, *, sections: int = 10, confidence: float = 0.95
) -> Interval:
    """Return a quantile of dependent *values*, in order of time, with its interval by sectioning.

    The values are cut into *sections* of equal length, long enough that their quantiles are nearly
    independent; the interval is centred at the quantile of the whole, its spread is that of the sections'
    around it (S. Asmussen and P. W. Glynn, Stochastic Simulation, 2007, III.5).

    Returns
    -------
    Interval
        Without ends where the sections are too short to have the quantile inside.
    """
    data = np.asarray(values, dtype=float)
    estimate = float(np.quantile(data, quantile))
    length = len(data) // sections
    if length * min(quantile, 1.0 - quantile) < 1.0:
        low = high = None
    else:
        parts = np.quantile(data[: length * sections].reshape(sections, length), quantile, axis=1)
        error = math.sqrt(float(((parts - estimate) ** 2).sum()) / (sections - 1) / sections)
        half = t_quantile(0.5 + confidence / 2, sections - 1) * error
        low, high = estimate - half, estimate + half
    return Interval(
        estimate=estimate,
        low=low,
        high=high,
        confidence=confidence,
        method=f"sectioning ({sections})",
        replications=sections,
    )


def mser5(values: npt.ArrayLike) -> int | None:
    """Return how many leading *values* of a series to leave out as its warm-up, by the MSER-5 rule.

    The series is cut into batches of five; the cut that makes the standard error of the mean of what remains
    smallest is taken, among those that leave at least half (K. P. White, M. J. Cobb and S. C. Spratt, A
    comparison of five steady-state truncation heuristics, 2000).

    Returns
    -------
    int or None
        A multiple of five; None where the minimum is at the end of the range, which means that the series is
        too short, or has no steady state.
    """
    data = np.asarray(values, dtype=float)
    means = data[: len(data) // 5 * 5].reshape(-1, 5).mean(axis=1)
    count = len(means)
    if count < 4:
        return None
    rest = count - np.arange(count // 2 + 1)
    centred = means - means.mean()  # sums of squares lose no digits
    sums = np.cumsum(centred[::-1])[::-1][: len(rest)]
    squares = np.cumsum((centred**2)[::-1])[::-1][: len(rest)]
    statistic = (squares - sums**2 / rest) / rest**2
    best = int(np.argmin(statistic))
    return None if best == len(rest) - 1 else 5 * best


def _bootstrap(values: npt.NDArray[np.float64], confidence: float, seed: int) -> tuple[float, float]:
    from scipy.stats import bootstrap

    result = bootstrap(
        (values,),
        np.mean,
        n_resamples=BOOTSTRAP_RESAMPLES,
        confidence_level=confidence,
        method="BCa",
        rng=stream(seed, "bootstrap"),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
