"""What generators that know no clients make of the same load: one stream, one CV, lengths shuffled.

It is for comparison: how much does it matter that clients differ?
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.servegen.compose import Plan, Slot
from servesim.servegen.draws import arrivals_of
from servesim.servegen.lengths import length_table, pooled
from servesim.servegen.pool import ACTIVITY, WINDOW_S, WINDOWS_PER_6H, ClientPool
from servesim.servegen.renewal import Gaps

CV_REQUESTS = 1_000_000
"""The CV of all arrivals together is measured over the first so many requests."""


def naive_plan(plan: Plan, seed: int, *, constant: bool) -> Plan:
    """Return the plan of one client that stands for all of *plan*.

    Gaps are Gamma with the CV of the merged arrivals of *plan*, lengths are those of all its requests, each drawn on
    its own. The rate is that of *plan*, window by window, and in its cycle; with *constant* its mean.
    """
    requests = np.array([slot.expected.sum() * plan.factor(number) for number, slot in enumerate(plan.slots)])
    if constant:
        requests[:] = requests.mean()
    gaps = Gaps(np.array([False]), np.array([merged_cv(plan, seed) ** -2]))
    slots = tuple(
        Slot(0, np.array([0]), requests[[number]], gaps, np.array([float(WINDOW_S)]))
        for number in range(len(requests))
    )
    return Plan(_merged(plan), slots, () if constant else plan.rates_per_s)


def merged_cv(plan: Plan, seed: int) -> float:
    """Return the coefficient of variation of all gaps of *plan*, whoever sends."""
    arrivals: list[NDArray[np.float64]] = []
    count = 0
    for window, _, _, times in arrivals_of(plan, seed):
        if window == len(plan.slots) or count >= CV_REQUESTS:
            break
        arrivals.append(np.sort(window * float(WINDOW_S) + times))
        count += len(times)
    gaps = np.diff(np.concatenate(arrivals))
    return float(gaps.std() / gaps.mean()) if len(gaps) > 1 and gaps.any() else 1.0


def _merged(plan: Plan) -> ClientPool:
    """Return a pool of one client with the lengths of all requests of *plan*."""
    pool = plan.pool
    requests = np.zeros((len(pool.clients), pool.windows // WINDOWS_PER_6H))
    for number, slot in enumerate(plan.slots):
        requests[slot.clients, slot.window // WINDOWS_PER_6H] += slot.expected * plan.factor(number)
    rows: list[dict[str, Any]] = []
    values: list[NDArray[np.int64]] = []
    weights: list[NDArray[np.float64]] = []
    for field in pool.lengths.fields:
        histograms = pool.histograms(field)
        used = (requests > 0) & (histograms >= 0)
        value, weight = pooled(pool.lengths, histograms[used], requests[used])
        rows.append({"client": 0, "window6h": 0, "field": field, "size": len(value)})
        values.append(value)
        weights.append(weight)
    table = length_table(pl.DataFrame(rows), np.concatenate(values), np.concatenate(weights), pool.name)
    return ClientPool(pool.name, ("all",), WINDOWS_PER_6H, pl.DataFrame(schema=ACTIVITY), table)
