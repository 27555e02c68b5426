"""The clock: SimPy's event loop, with wake-ups at absolute times and in one total order.

SimPy schedules by delay, and ``now + (t - now)`` is not always ``t``; boundaries of segments must be hit exactly, so
`Clock.wake` puts the absolute time on SimPy's heap. Simultaneous events are ordered by (kind, replica index), both
encoded in SimPy's integer priority; insertion order never decides.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from typing import Any

from simpy import Environment, Event
from simpy.exceptions import SimPyException

CONTROL = 1 << 32
ARRIVAL = 2 << 32
STEP_END = 3 << 32
"""Kinds of simultaneous events, in their order; a replica's index is added to STEP_END."""

STOP = 0


class Wakeup(Event):
    """An event with one callback that may be scheduled again and again, even while it is still scheduled.

    SimPy takes an event's callbacks away when it happens; the callback puts them back with `rearm`, so that a replica
    needs one object for all its wake-ups. Which of them is due is for the callback to know.
    """

    def __init__(self, callback: Callable[[Any], None]) -> None:
        self._ok = True
        self._armed = (callback,)
        self.callbacks = self._armed  # type: ignore[assignment]

    def rearm(self) -> None:
        """Make it callable again."""
        self.callbacks = self._armed  # type: ignore[assignment]


class Stop(SimPyException):
    """Raised inside the event loop to leave it."""


class Clock(Environment):
    """Simulated time in float seconds."""

    def wake(self, wakeup: Wakeup, time_s: float, priority: int) -> None:
        """Call *wakeup* back at *time_s*, among simultaneous events by *priority*."""
        heappush(self._queue, (time_s, priority, next(self._eid), wakeup))  # type: ignore[arg-type]

    def stop(self, time_s: float | None = None) -> None:
        """End `run_until_stopped` before any other event of *time_s* (default: now). Safe in a signal handler."""
        self.wake(Wakeup(_raise_stop), self._now if time_s is None else time_s, STOP)

    def run_until_stopped(self) -> bool:
        """Process events until none is left (return False) or `stop` takes effect (return True)."""
        try:
            self.run()
        except Stop:
            return True
        return False


def _raise_stop(_: Wakeup) -> None:
    raise Stop
