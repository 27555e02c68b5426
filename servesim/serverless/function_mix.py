"""Which functions there are: runtime, trigger, size, how often they are called; after region R2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.serverless.crossed import Indices
from servesim.serverless.curves import Floats
from servesim.serverless.parameters import coefficients

BUSY_COLD_STARTS = 300.0
"""From how many cold starts a month on a function's runtime and size are those of cold starts, not of functions."""

_USERS_PER_FUNCTION = 1 / 2.117  # mean functions per user in R2, figure 4a
_POOL_IDS = {"300-128": 22, "400-256": 23, "600-512": 24, "1000-1024": 26}
_OTHER_POOL = "pool30-1800-2048"
_TIMER = "TIMER-A"


@dataclass(frozen=True, slots=True, eq=False)
class FunctionMix:
    """Functions, a position in each array.

    Attributes
    ----------
    runtime, trigger
        Positions in the coefficients' lists.
    period_s
        Period of a timer, NaN for others.
    cold_starts_per_s
        Rate of pod lives of functions that are no timers, NaN for timers.
    requests_per_pod
        Mean requests in the life of a pod.
    names
        Columns ``function``, ``user``, ``pool``.
    """

    runtime: Indices
    trigger: Indices
    period_s: Floats
    cold_starts_per_s: Floats
    requests_per_pod: Floats
    names: pl.DataFrame


def draw_functions(rng: np.random.Generator, size: int, timer_ratio: float | None) -> FunctionMix:
    """Return *size* functions; *timer_ratio* of them are timers (None: as in R2)."""
    saved: dict[str, Any] = coefficients()["R2"]
    triggers = saved["triggers"]
    timer = triggers.index(_TIMER)
    shares = np.array(saved["functions"])
    by_trigger = shares.sum(axis=0) / shares.sum()
    if timer_ratio is not None:
        by_trigger = by_trigger * (1 - timer_ratio) / (1 - by_trigger[timer])
        by_trigger[timer] = timer_ratio
    trigger = _counted(rng, by_trigger, size)
    period_s, monthly, requests = np.full(size, np.nan), np.full(size, np.nan), np.ones(size)
    for column, name in enumerate(triggers):
        mine = np.flatnonzero(trigger == column)
        if column == timer:
            periods, parts = np.array(saved["timer_periods_s"]).T
            period_s[mine] = periods[_counted(rng, parts / parts.sum(), len(mine))]
            continue
        strata = saved["counts"][name]
        upto = np.diff(strata["p"], prepend=0.0)
        monthly[mine] = np.array(strata["cold_starts"])[_counted(rng, upto, len(mine))]
        requests[mine] = np.array(strata["requests_per_cold_start"])[_counted(rng, upto, len(mine))]
    busy = np.where(np.isnan(period_s), monthly, _month_s() / period_s) >= BUSY_COLD_STARTS
    runtime = _runtimes(rng, trigger, busy)
    return FunctionMix(runtime, trigger, period_s, monthly / _month_s(), requests, _names(rng, busy))


def _month_s() -> float:
    """Return the span of the trace that the counts of functions are of."""
    return float(coefficients()["span_s"])


def _counted(rng: np.random.Generator, shares: Floats, size: int) -> Indices:
    """Return *size* categories in random order, as many of each as its share of them, rounded at random."""
    u = (np.arange(size) + rng.random()) / max(size, 1)
    drawn = np.minimum(np.searchsorted(np.cumsum(shares), u, side="right"), len(shares) - 1)
    return np.asarray(rng.permutation(drawn), dtype=np.intp)


def _runtimes(rng: np.random.Generator, trigger: Indices, busy: NDArray[np.bool_]) -> Indices:
    saved = coefficients()["R2"]
    tables = {False: np.array(saved["functions"]), True: np.array(saved["cold_starts"]).sum(axis=0)}
    runtime = np.zeros(len(trigger), dtype=np.intp)
    for is_busy, table in tables.items():
        for column in range(table.shape[1]):
            mine = np.flatnonzero((trigger == column) & (busy == is_busy))
            runtime[mine] = _counted(rng, table[:, column] / table[:, column].sum(), len(mine))
    return runtime


def _names(rng: np.random.Generator, busy: NDArray[np.bool_]) -> pl.DataFrame:
    """Return names in Huawei's form, ``function---user---pool``."""
    saved, size = coefficients()["R2"], len(busy)
    users = rng.integers(max(int(size * _USERS_PER_FUNCTION), 1), size=size)
    pools = np.empty(size, dtype=object)
    for is_busy, key in ((False, "pools"), (True, "pools_of_cold_starts")):
        kinds, shares = list(saved[key]), np.array(list(saved[key].values()))
        mine = np.flatnonzero(busy == is_busy)
        drawn = _counted(rng, shares / shares.sum(), len(mine))
        names = [f"pool{_POOL_IDS[kind]}-{kind}" if kind in _POOL_IDS else _OTHER_POOL for kind in kinds]
        pools[mine] = np.array(names, dtype=object)[drawn]
    return pl.DataFrame({"user": users.astype(str), "pool": pl.Series(pools, dtype=pl.String)}).select(
        pl.format("{}---{}---{}", pl.int_range(pl.len()), "user", "pool").alias("function"), "user", "pool"
    )
