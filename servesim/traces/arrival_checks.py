"""Checks of arrivals: times on a grid, a rate that drifts, varies over long times, or follows the time of day."""

from __future__ import annotations

import math

import numpy as np

from servesim.results.units import number_text
from servesim.traces.finding import Finding, Level
from servesim.traces.statistics import Floats, kpss
from servesim.traces.time_bins import TimeBins

GRID_MATCH = 0.95
"""Share of the gaps that must be multiples of a step before times are said to lie on a grid."""

MOST_BINS, FEWEST_BINS = 200, 20
"""About so many bins in which drift is looked for; with fewer, nothing is tested."""

FEWEST_PER_BIN = 5
"""Mean count of a bin from which on the dispersion of counts is tested."""

SCALES_S = {"10 min": 600.0, "1 h": 3600.0}
"""Times over which the rate of a Poisson process would look constant."""

DAY_BINS, FEWEST_DAYS = 144, 3
"""Bins of 10 min in a day, and days from which on a daily cycle is looked for."""

LEVEL = 0.01
"""Chance of a false alarm of the tests of dispersion and of the daily cycle."""


def grid(arrivals: Floats, *, spread_s: bool = False) -> Finding:
    """Return whether times lie on a grid; *spread_s*: the reader has a parameter of this name against it."""
    gaps = np.diff(arrivals)
    together = float((gaps == 0).mean()) if len(gaps) else 0.0
    step_s = grid_step_s(gaps)
    shared = f"{together:.1%} of the requests arrive at the time of another"
    if step_s is None:
        level: Level = "note" if together > 0.05 else "ok"
        return Finding("time grid", level, shared if together else "no two requests arrive at once")
    # A grid much finer than the gaps moves nothing that matters; one that is coarser makes bursts that never were.
    level = "warning" if together > 0.5 else "note"
    bursts = ": bursts that may never have been" if level == "warning" else ""
    advice = "; the reader's spread_s spreads them" if bursts and spread_s else ""
    return Finding("time grid", level, f"times lie on a grid of {step_s:g} s, {shared}{bursts}{advice}")


def grid_step_s(gaps: Floats) -> float | None:
    """Return the step in s of the grid that times lie on; None where there is none of 10 ms or more.

    It is the greatest common divisor of the gaps in ms, or, where times jitter around their grid, the median gap, if
    nearly all gaps are multiples of it to within 1 %.
    """
    positive = gaps[gaps > 1e-9]
    if len(positive) < 20:
        return None
    milliseconds = np.rint(positive * 1e3)
    if np.abs(positive * 1e3 - milliseconds).max() < 1e-3:
        step = int(np.gcd.reduce(milliseconds.astype(np.int64)))
        if step >= 10:
            return step / 1e3
    middle = float(np.median(positive))
    multiples = positive / middle
    matching = np.abs(multiples - np.rint(multiples)) < 0.01
    # Constant gaps are no grid: times must be shared or skipped on it.
    on_grid = matching.mean() >= GRID_MATCH and middle >= 0.01 and len(positive) < len(gaps)
    return float(f"{middle:.3g}") if on_grid else None


def rate_checks(bins: TimeBins, requests: int) -> list[Finding]:
    """Return the findings on the rate of *requests* arrivals that *bins* has counted."""
    counts, bin_s = bins.equal(max(min(MOST_BINS, requests // 10), 1))
    return [
        drift(counts, bin_s),
        long_bursts({name: bins.counts(scale_s) for name, scale_s in SCALES_S.items()}),
        daily_cycle(bins.counts(SCALES_S["10 min"])),
    ]


def drift(counts: Floats, bin_s: float) -> Finding:
    """Return whether the rate drifts, by a KPSS test of *counts* in equal bins of *bin_s*.

    It sees a rate that wanders away, and no cycle that comes back many times.
    """
    if len(counts) < FEWEST_BINS or not counts.any():
        return Finding("drift", "ok", "too few requests, or too short, to test")
    statistic = kpss(counts)
    how = f"KPSS {statistic:.2f} over {len(counts):,} bins of {number_text(bin_s)} s"
    if statistic <= 0.463:
        return Finding("drift", "ok", f"no drift of the rate shown ({how}; 5% level 0.463)")
    level = "1%" if statistic > 0.739 else "5%"
    return Finding("drift", "note", f"the rate drifts ({how}, above the {level} level)")


def long_bursts(counts: dict[str, Floats]) -> Finding:
    """Return whether *counts*, by the name of their bins' width, vary more than those of a Poisson process.

    Variance / mean times the degrees of freedom is chi-squared for Poisson counts (D. R. Cox and P. A. W. Lewis, "The
    Statistical Analysis of Series of Events", 1966, section 6.3).
    """
    from scipy.special import chdtri

    told, varies = [], False
    for name, each in counts.items():
        if len(each) >= FEWEST_BINS and each.mean() >= FEWEST_PER_BIN:
            dispersion = float(each.var(ddof=1) / each.mean())
            limit = float(chdtri(len(each) - 1, LEVEL)) / (len(each) - 1)
            varies |= dispersion > limit
            told.append(f"D {number_text(dispersion)} over {name}, a Poisson process' at most {limit:.3g}")
    if not told:
        return Finding("long bursts", "ok", "too few requests, or too short, to test")
    if not varies:
        return Finding(
            "long bursts", "ok", f"the rate is as constant as a Poisson process' ({'; '.join(told)})"
        )
    return Finding(
        "long bursts", "note", f"the rate varies over long times ({'; '.join(told)}, at the 1% level)"
    )


def daily_cycle(counts: Floats) -> Finding:
    """Return whether *counts* in bins of 10 min follow the time of day.

    The periodogram at 24 h, of the roots of the counts, whose variance their mean does not change, is held against its
    neighbours, periods of 16 to 48 h: where the spectrum is flat there, the ratio follows an F distribution with 2 and
    twice as many degrees of freedom as there are neighbours.
    """
    days = len(counts) // DAY_BINS
    if days < FEWEST_DAYS or not counts.any():
        return Finding("daily cycle", "ok", f"too few requests, or shorter than {FEWEST_DAYS} days")
    whole = counts[: days * DAY_BINS]
    roots = np.sqrt(whole)
    power = np.abs(np.fft.rfft(roots - roots.mean())) ** 2
    near = [k for k in range(math.ceil(days / 2), int(1.5 * days) + 1) if k != days]
    others = float(power[near].sum())
    by_chance = (others / (others + power[days])) ** len(near) if power[days] > 0 else 1.0
    hours = whole.reshape(days, 24, -1).sum(axis=(0, 2))
    busiest, quietest = (number_text(float(hour) / days) for hour in (hours.max(), hours.min()))
    how = f"in the mean of {days} days the busiest hour has {busiest} requests, the quietest {quietest}"
    if by_chance >= LEVEL:
        return Finding("daily cycle", "ok", f"none shown: {how}")
    return Finding("daily cycle", "note", f"the rate follows the time of day: {how}")
