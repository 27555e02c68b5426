"""What a run adds up to, gathered while its rows pass by: what went to disk is audited without reading it.

Everything is kept per replica; index -1 stands for requests that reached none. Sums of one batch of rows are
numpy's, sums over batches are exact (`math.fsum`), so that ten million rows cost no precision.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servesim.cluster.records import EVENT_KINDS, FINISH_REASONS, STATES
from servesim.results.columns import Rows
from servesim.results.steps import Floats, durations_s

COMPLETED, REJECTED, UNFINISHED = (STATES.index(name) for name in ("completed", "rejected", "unfinished"))
_STOP = FINISH_REASONS.index("stop")
_PREEMPTED, _READMITTED, _RESUMED, _REFUSED = (
    EVENT_KINDS.index(name) for name in ("preempted", "readmitted", "resumed", "rejected")
)


class PerReplica:
    """One quantity, summed per replica.

    Negative replica numbers are summed together under -1.
    """

    def __init__(self) -> None:
        self._parts: list[Floats] = []

    def add(self, replica: NDArray[Any], values: NDArray[Any] | None = None) -> None:
        """Add *values* (1 each, when left out) to the sums of the replicas beside them."""
        if len(replica):
            sums = np.bincount(replica.astype(np.int64) + 1, weights=values)
            self._parts.append(sums.astype(np.float64, copy=False))

    def __getitem__(self, replica: int) -> float:
        return math.fsum(part[replica + 1] for part in self._parts if len(part) > replica + 1)

    def copy(self) -> PerReplica:
        """Return an independent copy of the sums."""
        other = PerReplica()
        other._parts = self._parts.copy()
        return other

    def total(self) -> float:
        """Return the sum over all replicas, and over what reached none."""
        return math.fsum(math.fsum(part) for part in self._parts)

    def replicas(self) -> int:
        """Return one more than the highest replica number seen."""
        return max((len(part) - 1 for part in self._parts), default=0)


@dataclass(frozen=True, slots=True)
class Sojourns:
    """Time that requests spent in front end, queue, batch and the last two, up to the end of the run, per replica."""

    front_end_s: PerReplica
    queue_s: PerReplica
    batch_s: PerReplica
    replica_s: PerReplica


@dataclass(slots=True)
class RunTotals:
    """Sums over all rows of a run.

    Attributes
    ----------
    sums
        Counts and token sums per replica, by name; a name that never occurred reads as zero.
    broken
        Rules that single rows broke: description to the number of rows and the first offender.
    last_event_s
        Latest time found in any row.
    """

    sums: defaultdict[str, PerReplica] = field(default_factory=lambda: defaultdict(PerReplica))
    broken: dict[str, tuple[int, str]] = field(default_factory=dict)
    last_event_s: float = 0.0
    _segment_end_s: dict[int, float] = field(default_factory=dict)
    _unfinished: list[tuple[NDArray[np.int32], Floats, Floats]] = field(default_factory=list)
    _in_front_end: list[tuple[NDArray[np.int32], Floats]] = field(default_factory=list)

    def add_requests(
        self,
        first_id: int,
        arrival_s: Floats,
        tokens: tuple[Any, Any],
        outcomes: Rows,
        front_end: Rows | None = None,
    ) -> None:
        """Take in consecutive requests: *tokens* are the prompt and the asked-for output lengths."""
        replica, state = outcomes["replica"], outcomes["state"]
        for code, name in enumerate(STATES):
            self.sums[name].add(replica[state == code])
        started = ~np.isnan(outcomes["first_token_s"])
        self.sums["first_tokens"].add(replica[started])
        self.sums["prompt_tokens"].add(replica[started], tokens[0][started])
        self.sums["output_tokens"].add(replica, outcomes["output_tokens"])
        self.sums["request_preemptions"].add(replica, outcomes["preemptions"])
        if front_end is not None:
            arrival_s = self._add_front_end(first_id, arrival_s, outcomes, front_end)
        self._add_sojourns(arrival_s, outcomes)
        self._check_causality(first_id, arrival_s, tokens[1], outcomes)

    def add_decode_steps(self, replica: NDArray[np.int32], steps: NDArray[Any]) -> None:
        """Take in the decode steps of requests; -1: of none that decode speculatively."""
        own = steps >= 0
        self.sums["own_decode_steps"].add(replica[own], steps[own])
        self.sums["speculative_requests"].add(replica[own])

    def _add_front_end(self, first_id: int, arrival_s: Floats, outcomes: Rows, front_end: Rows) -> Floats:
        """Add the times in front ends, and return when each request reached its engine's queue; NaN: not yet."""
        replica, enqueued_s = outcomes["replica"], front_end["enqueued_s"]
        has_one, passed = ~np.isnan(front_end["stream_s"]), ~np.isnan(enqueued_s)
        self.sums["front_end_s"].add(replica[passed], (enqueued_s - arrival_s)[passed])
        inside = has_one & ~passed
        if inside.any():
            self._in_front_end.append((replica[inside], arrival_s[inside]))
        if passed.any():
            self.last_event_s = max(self.last_event_s, float(enqueued_s[passed].max()))
        self._count_broken(
            "in the engine's queue before it arrived",
            enqueued_s < arrival_s,
            lambda row: f"request {first_id + row}",
        )
        return np.where(has_one, enqueued_s, arrival_s)

    def _add_sojourns(self, arrival_s: Floats, outcomes: Rows) -> None:
        """Add what completed requests waited and ran; keep the unfinished until the run's end is known."""
        replica, scheduled_s, finished_s = (
            outcomes["replica"],
            outcomes["scheduled_s"],
            outcomes["finished_s"],
        )
        done = outcomes["state"] == COMPLETED
        self.sums["queue_s"].add(replica[done], (scheduled_s - arrival_s)[done])
        self.sums["batch_s"].add(replica[done], (finished_s - scheduled_s)[done])
        self.sums["replica_s"].add(replica[done], (finished_s - arrival_s)[done])
        if done.any():
            self.last_event_s = max(self.last_event_s, float(finished_s[done].max()))
        left = (outcomes["state"] == UNFINISHED) & ~np.isnan(arrival_s)
        if left.any():
            self._unfinished.append((replica[left], arrival_s[left], scheduled_s[left]))
            self.sums["never_scheduled"].add(replica[left & np.isnan(scheduled_s)])

    def _check_causality(
        self, first_id: int, arrival_s: Floats, target: NDArray[Any], outcomes: Rows
    ) -> None:
        scheduled_s, first_s, finished_s = (
            outcomes[f"{key}_s"] for key in ("scheduled", "first_token", "finished")
        )
        state, emitted = outcomes["state"], outcomes["output_tokens"]
        happened = ~np.isnan(np.stack([scheduled_s, first_s, finished_s]))
        done, refused = state == COMPLETED, state == REJECTED
        rules = {  # comparisons with NaN are false: what has not happened breaks no order
            "scheduled before it arrived": scheduled_s < arrival_s,
            "first token not after it was scheduled": first_s <= scheduled_s,
            "finished before its first token": finished_s < first_s,
            "completed without being scheduled, a first token and an end": done & ~happened.all(axis=0),
            "rejected, but served": refused & (happened[:2].any(axis=0) | (emitted > 0)),
            "finished, but not completed": happened[2] & (state == UNFINISHED),
            "first token, but none emitted, or the reverse": happened[1] != (emitted > 0),
            "emitted more tokens than asked for": emitted > target,
            "stopped short of the tokens asked for": done
            & (outcomes["finish_reason"] == _STOP)
            & (emitted < target),
            "no outcome": state < 0,
        }
        for rule, bad in rules.items():
            self._count_broken(rule, bad, lambda row: f"request {first_id + row}")

    def _count_broken(self, rule: str, bad: NDArray[np.bool_], name: Any) -> None:
        count = int(np.count_nonzero(bad))
        if count:
            before, first = self.broken.get(rule, (0, ""))
            self.broken[rule] = (before + count, first or name(int(bad.argmax())))

    def add_segments(self, rows: Rows) -> None:
        """Take in segments, of each replica in order of time."""
        replica, steps = rows["replica"], rows["steps"].astype(np.int64)
        duration_s = durations_s(rows["step_s"], rows["growth_s"], steps)
        end_s = rows["start_s"] + duration_s
        self.sums["decoded_tokens"].add(replica, steps * rows["sequences"])
        self.sums["prefill_tokens"].add(replica, steps * rows["prefill_tokens"])
        self.sums["steps"].add(replica, steps)
        self.sums["busy_s"].add(replica, duration_s)
        self.sums["segments"].add(replica)
        self.last_event_s = max(self.last_event_s, float(end_s.max()))
        self._check_overlap(rows, end_s)

    def _check_overlap(self, rows: Rows, end_s: Floats) -> None:
        """Check that the segments of a replica do not overlap."""
        replica = rows["replica"]
        narrow = replica.astype(np.uint16) if replica.max() < 1 << 16 else replica  # 16 bits get a radix sort
        order = np.argsort(narrow, kind="stable")
        replica, start_s, end_s = replica[order], rows["start_s"][order], end_s[order]
        first = np.flatnonzero(np.diff(replica, prepend=replica[0] - 1))
        before_s = np.empty_like(end_s)
        before_s[1:] = end_s[:-1]
        last = np.append(first[1:], len(order)) - 1
        names = replica[first].tolist()
        before_s[first] = [self._segment_end_s.get(name, 0.0) for name in names]
        self._count_broken(
            "segment starts before the last one of its replica ended",
            start_s < before_s,
            lambda row: f"replica {replica[row]} at {float(start_s[row])} s",
        )
        self._segment_end_s.update(zip(names, end_s[last].tolist(), strict=True))

    def add_events(self, rows: Rows) -> None:
        """Take in events, in order of time."""
        replica, kind = rows["replica"], rows["kind"]
        out, back = kind == _PREEMPTED, kind == _READMITTED
        self.sums["preempted"].add(replica[out])
        self.sums["readmitted"].add(replica[back])
        self.sums["refused"].add(replica[kind == _REFUSED])
        # A request that lost its KV cache before its first token emits that one first: it is counted as such.
        self.sums["resumed"].add(replica[(kind == _RESUMED) & (rows["output_tokens"] > 1)])
        # The gaps' lengths are summed as ends minus starts; the gaps still open are closed by `sojourns`.
        self.sums["gap_s"].add(replica, rows["time_s"] * (back.astype(np.float64) - out))
        self.last_event_s = max(self.last_event_s, float(rows["time_s"].max()))

    def sojourns(self, end_s: float, replicas: int) -> Sojourns:
        """Return the time spent in front end, queue, batch and the last two within [0, *end_s*].

        Waiting is arrival (with a front end, the end of its work) to scheduled, and preempted to readmitted;
        running is the rest until the request finishes. What is unfinished counts until *end_s*. A rejected request
        spends no time behind the front end.
        """
        front_end, queue, batch, both = (
            self.sums[name].copy() for name in ("front_end_s", "queue_s", "batch_s", "replica_s")
        )
        for replica, arrival_s in self._in_front_end:
            front_end.add(replica, end_s - arrival_s)
        for replica, arrival_s, scheduled_s in self._unfinished:
            until_s = np.where(np.isnan(scheduled_s), end_s, scheduled_s)
            queue.add(replica, until_s - arrival_s)
            batch.add(replica, end_s - until_s)
            both.add(replica, end_s - arrival_s)
        index = np.arange(-1, replicas)
        out, back, gap = self.sums["preempted"], self.sums["readmitted"], self.sums["gap_s"]
        gaps_s = np.array([gap[r] + (out[r] - back[r]) * end_s for r in index.tolist()])
        queue.add(index, gaps_s)
        batch.add(index, -gaps_s)
        return Sojourns(front_end, queue, batch, both)
