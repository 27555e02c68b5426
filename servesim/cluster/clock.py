"""The clock: SimPy's event loop, with wake-ups at absolute times and in one total order.

SimPy schedules by delay, and ``now + (t - now)`` is not always ``t``; boundaries of segments must be hit exactly, so
`Clock.wake` puts the absolute time on SimPy's heap. Simultaneous events are ordered by (kind, replica index), both
encoded in SimPy's integer priority; insertion order never decides.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Any

from simpy import Environment, Event

STOP = 1 << 32
CONTROL = 2 << 32
ARRIVAL = 3 << 32
STEP_END = 4 << 32
AFTER_STEPS = 5 << 32
"""Kinds of simultaneous wake-ups, in their order; a replica's index is added to STEP_END. SimPy's own are lower.
AFTER_STEPS is for what step ends cause at once."""


class Wakeup(Event):
    """An event that only calls back: it holds no value, nothing waits for it, and it may be scheduled repeatedly.

    The callback is given the time, and returns that at which it wants to be called back next, or None. A replica needs
    one object for all its wake-ups; which of those on the heap is still due is for its callback to know.
    """

    def __init__(self, callback: Callable[[float], float | None]) -> None:
        self.callback = callback


class Clock(Environment):
    """Simulated time in float seconds."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self._stopping = False
        self._entries: list[Any] = self._queue  # SimPy types its heap for priorities of its own

    def wake(self, wakeup: Wakeup, time_s: float, priority: int) -> None:
        """Call *wakeup* back at *time_s*, among simultaneous events by *priority*."""
        heappush(self._entries, (time_s, priority, next(self._eid), wakeup))

    def stop(self) -> None:
        """End `run_until_stopped` after the event in hand. Safe in a signal handler."""
        self._stopping = True

    def stop_at(self, time_s: float) -> None:
        """End `run_until_stopped` before any other event of *time_s*."""
        self.wake(Wakeup(lambda now: self.stop()), time_s, STOP)

    def run_until_stopped(self) -> bool:
        """Process events until none is left (return False) or a stop takes effect (return True).

        Wake-ups are called back here, without the steps that SimPy needs for events with values and waiters, and
        take their next place on the heap in one operation; any other event, such as those of SimPy processes, is
        SimPy's to handle.
        """
        entries = self._entries
        while True:  # a condition here would keep CPython 3.11 from specializing the loop
            if self._stopping:
                return True
            try:
                entry = entries[0]
            except IndexError:
                return False
            now, priority, number, wakeup = entry
            self._now = now
            try:
                callback = wakeup.callback
            except AttributeError:  # an event of SimPy; errors of a callback are not caught here
                self.step()
                continue
            next_s = callback(now)
            if entries[0] is not entry:  # the callback scheduled something that comes before its own place
                entries.remove(entry)
                heapify(entries)
                if next_s is not None:
                    self.wake(wakeup, next_s, priority)
            elif next_s is None:
                heappop(entries)
            else:
                heapreplace(entries, (next_s, priority, number, wakeup))
