"""Arrivals that depend on what happens in the run: follow-ups of sessions, and a limit of concurrent requests.

A *follow-up* (`servesim.workload.schema.SCHEMA`) is due its think time after its session's previous request has left
the system, finished or rejected. With a limit of N, a request enters when it is due and fewer than N are in the system.
Who enters first among those that are due is told by (due time, row of the workload).

What is due later than the present enters before the step ends of its time, as every arrival does. What a step end
makes due at once (no think time, or a place that it frees) enters after all step ends of that time, of whatever
replica, and joins at the boundaries that follow. So the order never depends on which replica was looked at first, nor
on leaps: in both modes all boundaries of the time have been passed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

import numpy as np
import polars as pl

from servesim.cluster.arrivals import Arrivals, Group
from servesim.cluster.clock import AFTER_STEPS, ARRIVAL, Wakeup
from servesim.cluster.late import LateRequests
from servesim.cluster.records import Recorder
from servesim.cluster.request import Request
from servesim.cluster.system import System
from servesim.errors import TraceError
from servesim.workload.schema import CHUNK_ROWS
from servesim.workload.sessions import whole_sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """How the arrivals of a workload depend on the run.

    Attributes
    ----------
    follow_ups
        Whether there may be requests with a think time.
    max_concurrency
        Most requests in the system at once; None: no limit.
    """

    follow_ups: bool = False
    max_concurrency: int | None = None

    def arrivals(
        self,
        frames: Iterator[pl.DataFrame],
        groups: Sequence[Group],
        *,
        system: System,
        recorder: Recorder,
        horizon_s: float | None,
        late: LateRequests | None = None,
    ) -> Arrivals:
        """Return what brings the requests; parameters as for `Arrivals`."""
        if not self.follow_ups and self.max_concurrency is None:
            return Arrivals(frames, groups, system=system, recorder=recorder, horizon_s=horizon_s, late=late)
        return ClosedLoopArrivals(
            frames,
            groups,
            system=system,
            recorder=recorder,
            horizon_s=horizon_s,
            late=late,
            loop=self,
        )


OPEN = Loop()
"""Requests arrive when the workload says."""


class ClosedLoopArrivals(Arrivals):
    """Bring the requests of a workload, of which some are due only when others have left.

    Each follow-up waits for its predecessor in a dict; when that has left, in a heap for its time.
    `Request.request_id` is the row of the workload until the request enters, then its number among the arrivals: the
    recorder is given rows in the order of arrival, with the times at which they arrived.

    Parameters
    ----------
    frames, groups, system, recorder, horizon_s, late
        As for `Arrivals`; the horizon is one of the times at which requests really arrive.
    loop
        What arrivals depend on.
    """

    def __init__(
        self,
        frames: Iterator[pl.DataFrame],
        groups: Sequence[Group],
        *,
        system: System,
        recorder: Recorder,
        horizon_s: float | None,
        late: LateRequests | None = None,
        loop: Loop,
    ) -> None:
        frames = whole_sessions(frames) if loop.follow_ups else frames
        super().__init__(frames, groups, system=system, recorder=recorder, horizon_s=horizon_s)
        self.late = late
        self.follow_ups_not_sent = 0 if loop.follow_ups else None
        self.places: float = inf if loop.max_concurrency is None else loop.max_concurrency  # left to enter
        self._after: dict[Request, tuple[float, Request]] = {}  # think time and follow-up of who has not left
        self._due: list[tuple[float, int, Request]] = []
        self._wake_s: float | None = None
        self._at_once = self._entering = False
        self._wakeup, self._wakeup_at_once = Wakeup(self._arrive), Wakeup(self._arrive_at_once)
        self._held: deque[_Held] = deque()
        self._entered_rows: list[int] = []
        self._entered_s: list[float] = []

    def start(self) -> None:
        """Schedule the first arrival.

        Raises
        ------
        TraceError
            If the workload is empty.
        """
        for group in self.groups.values():
            group.tell_who_leaves(self._left)
        self._next = next(self._requests, None)
        if self._next is None:
            raise TraceError("workload: holds no request to simulate (got 0 rows). expected at least one")
        self._wake_at(self._next.arrival_s)

    # -- the workload -----------------------------------------------------------------------------------------------

    def _read(self, frames: Iterator[pl.DataFrame]) -> Iterator[Iterator[Request]]:
        """Yield the requests of each frame that wait for no other; link the others to those that they wait for."""
        first_row = 0
        for frame in self._before_horizon(frames):
            requests = self._requests_of(frame, first_row)
            self._held.append(_Held(first_row, frame))
            first_row += len(frame)
            if follow_ups := frame["think_s"].count():
                assert self.follow_ups_not_sent is not None, "a stream announces that it has think times"
                self.follow_ups_not_sent += follow_ups
                yield iter(self._linked(requests, frame["think_s"].to_list()))
            else:
                yield requests

    def _linked(self, requests: Iterator[Request], think_s: Sequence[float | None]) -> list[Request]:
        first: list[Request] = []
        last: dict[str | None, Request] = {}
        for request, pause_s in zip(requests, think_s, strict=True):
            if pause_s is None:
                first.append(request)
            else:
                before = last.get(request.session)
                if before is None or before.arrival_s != request.arrival_s:
                    raise TraceError(
                        f"workload: a follow-up without a predecessor (got session {request.session!r} at "
                        f"{request.arrival_s!r} s). expected the session's first request before it, with the same "
                        "arrival_s"
                    )
                self._after[before] = (pause_s, request)
            last[request.session] = request
        return first

    # -- wake-ups ---------------------------------------------------------------------------------------------------

    def _arrive(self, now: float) -> float | None:
        """Let in what is due now; come back for what is due next."""
        if now == self._wake_s:  # otherwise something was due earlier, and this wake-up is left over
            self._wake_s = None
            self._enter_due(now)
        return None

    def _arrive_at_once(self, now: float) -> None:
        """Let in what the step ends of this time made due."""
        self._at_once = False
        self.system.step_ends_over = True
        self._enter_due(now)
        self.system.step_ends_over = False

    def _left(self, request: Request, now: float) -> None:
        """Take note that *request* has left the system."""
        self.places += 1
        waiting = self._after.pop(request, None)
        if waiting is not None:
            think_s, follow_up = waiting
            due_s = now + think_s
            if self.horizon_s is None or due_s < self.horizon_s:
                heappush(self._due, (due_s, follow_up.request_id, follow_up))
            else:
                self._drop(follow_up)
        if not self._entering:
            self._look_ahead(now)

    def _drop(self, follow_up: Request) -> None:
        """Forget a follow-up that is due too late, and all that wait for it."""
        waiting = self._after.pop(follow_up, None)
        while waiting is not None:
            waiting = self._after.pop(waiting[1], None)
        self.finished = self._nothing_left()

    def _look_ahead(self, now: float) -> None:
        """Schedule a wake-up for the next request that can enter."""
        next_s = self._due[0][0] if self._due else inf
        if self._next is not None and self._next.arrival_s < next_s:
            next_s = self._next.arrival_s
        if next_s == inf or self.places < 1:
            return
        if next_s > now:
            if self._wake_s is None or next_s < self._wake_s:
                self._wake_at(next_s)
        elif not self._at_once:
            self._at_once = True
            self.system.clock.wake(self._wakeup_at_once, now, AFTER_STEPS)

    def _wake_at(self, time_s: float) -> None:
        self._wake_s = time_s
        self.system.clock.wake(self._wakeup, time_s, ARRIVAL)

    # -- arrivals ---------------------------------------------------------------------------------------------------

    def _enter_due(self, now: float) -> None:
        """Let requests in that are due, as far as there are places."""
        self._entering = True
        due = self._due
        if self.horizon_s is not None and now >= self.horizon_s:
            self._give_up()
        while self.places >= 1:
            first = self._next
            if due and (first is None or due[0] < (first.arrival_s, first.request_id)):
                if due[0][0] > now:
                    break
                self._enter(heappop(due)[2], now)
            elif first is not None and first.arrival_s <= now:
                self._next = next(self._requests, None)
                self._enter(first, now)
            else:
                break
        self._entering = False
        self._look_ahead(now)
        if not self.finished and self._nothing_left():
            self.finished = True
            if self.on_last is not None:
                self.on_last()

    def _enter(self, request: Request, now: float) -> None:
        self._entered_rows.append(request.request_id)
        self._entered_s.append(now)
        request.request_id, request.arrival_s = self.arrived, now
        self.arrived += 1
        self.last_s = now
        self.places -= 1
        if self.late is not None:
            self.late.watch(request)
        if len(self._entered_rows) == CHUNK_ROWS:
            self.hand_over()
        self.groups[request.model].choose(request).enqueue(request, now)

    def _nothing_left(self) -> bool:
        return self._next is None and not self._due and not self._after

    def _give_up(self) -> None:
        """Forget all that has not arrived."""
        self._next = None
        self._requests = iter(())
        self._due.clear()
        self._after.clear()

    def hand_over(self) -> None:
        """Hand the requests that have arrived since the last call over to the recorder."""
        if not self._entered_rows:
            return
        rows, times_s = np.array(self._entered_rows), pl.Series("arrival_s", self._entered_s)
        parts, positions = [], []
        for held in self._held:
            own = np.flatnonzero((rows >= held.first_row) & (rows < held.first_row + held.frame.height))
            if len(own):
                parts.append(held.frame[rows[own] - held.first_row])
                positions.append(own)
                held.left -= len(own)
        order = np.argsort(np.concatenate(positions))
        frame = pl.concat(parts)[order].with_columns(times_s)
        self._held = deque(held for held in self._held if held.left)
        self._entered_rows, self._entered_s = [], []
        if self.follow_ups_not_sent is not None:
            self.follow_ups_not_sent -= frame["think_s"].count()
        self.recorder.arrivals(frame)


class _Held:
    """A frame of the workload of which some rows have not been handed over."""

    __slots__ = ("first_row", "frame", "left")

    def __init__(self, first_row: int, frame: pl.DataFrame) -> None:
        self.first_row = first_row
        self.frame = frame
        self.left = frame.height
