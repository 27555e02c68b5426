"""When a run has missed an objective for certain, long before its end, and by so much that its value is of no use.

Every rule is exact. It counts requests that have waited too long (`servesim.cluster.late`), and the requests of a run
are known beforehand: they are the same at every load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from servesim.cluster.late import Event, TooLate
from servesim.experiments.slo import Slo
from servesim.scenario import SloSpec, SloTargets

LEAST_FACTOR = 2.0
"""A run is ended only where its value is beyond this many times the limit: near it, values are wanted."""

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_EVENTS: dict[str, Event] = {"queue_s": "scheduled", "ttft_s": "first_token", "e2e_s": "first_token"}
_MEAN_WAITS = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """How runs that miss an objective by far are ended.

    Attributes
    ----------
    cap
        A run is ended only when its excess is certain to be above this.
    wait_s, event
        Requests are late that wait longer for it.
    late_ratio
        A larger share of late ones is too much.
    quantile
        Instead of a share: the quantile that late ones push beyond the wait.
    """

    cap: float
    wait_s: float
    event: Event = "first_token"
    late_ratio: float = 1.0
    quantile: float | None = None

    def rule(self, requests: int, *, from_s: float) -> TooLate:
        """Return the rule for a run with so many *requests*, or fewer, that arrive at or after *from_s*."""
        if self.quantile is not None:
            # The linear quantile of n values is above x once its lower neighbour is, at position (n - 1) q.
            late = requests - math.floor((requests - 1) * self.quantile)
        else:
            late = math.floor(requests * self.late_ratio) + 1
        return TooLate(wait_s=self.wait_s, requests=late, event=self.event, from_s=from_s)


def stops_for(slos: Sequence[Slo], targets: SloSpec, *, seeds: int, confidence: float) -> list[Stop | None]:
    """Return for each of *slos* how runs that miss it are ended, with so many *seeds*; None: they are not.

    A run is ended where its value is beyond c times the limit, with c at least

    - the number of seeds: then the mean over seeds is beyond the limit whatever the other seeds give, because
      latencies and shares of requests are not negative;
    - k (2 / alpha)^(1 / seeds) for k objectives, alpha = 1 - *confidence*: if all runs of a point are ended, a
      mean is surely beyond. By Markov's inequality a run is ended with a probability of at most k / c where all
      means are within their limits, and all of them are with at most (k / c)^seeds <= alpha / 2.

    *targets* are the scenario's own, which ``slo_met_ratio`` is about.
    """
    chance = len(slos) * (2.0 / (1.0 - confidence)) ** (1.0 / seeds) if seeds > 1 else 1.0
    factor = max(LEAST_FACTOR, float(seeds), chance) * (
        1.0 + 1e-9
    )  # what rounding does stays on the safe side
    return [_stop(slo, targets, factor) for slo in slos]


def _stop(slo: Slo, targets: SloSpec, factor: float) -> Stop | None:
    if slo.metric == "slo_met_ratio":
        wait_s, missed = _longest_wait_s(targets), factor * (1.0 - slo.limit)
        if wait_s is None or missed >= 1.0:
            return None
        return Stop(cap=missed - (1.0 - slo.limit), wait_s=wait_s, late_ratio=missed)
    name, _, statistic = slo.metric.rpartition("_")
    if name not in _EVENTS:
        return None
    beyond_s, event = factor * slo.limit, _EVENTS[name]
    cap = beyond_s - slo.limit
    if statistic == "mean":  # if a quarter of the requests waits four times as long, the mean is above
        return Stop(cap=cap, wait_s=_MEAN_WAITS * beyond_s, event=event, late_ratio=1.0 / _MEAN_WAITS)
    return Stop(cap=cap, wait_s=beyond_s, event=event, quantile=_QUANTILES[statistic])


def _longest_wait_s(targets: SloSpec) -> float | None:
    """Return a wait for the first token that misses the targets of any request; None if some have no such."""
    waits = [_wait_s(group) for group in (targets, *targets.classes.values())]
    known = [wait_s for wait_s in waits if wait_s is not None]
    return max(known) if len(known) == len(waits) else None


def _wait_s(targets: SloTargets) -> float | None:
    limits = [limit_s for limit_s in (targets.ttft_s, targets.e2e_s) if limit_s is not None]
    return min(limits, default=None)
