"""What all replicas of a cluster share: the clock, the buffers of rows, and the count of requests in the system."""

from __future__ import annotations

from servesim.cluster.clock import Clock
from servesim.cluster.records import Recorder


class System:
    """Clock, row buffers and population.

    Attributes
    ----------
    requests
        Requests in the system.
    area_s
        Integral of that number over time, until `changed_s`.
    changed_s
        When it last changed: in the end, the end of a drained run.
    """

    __slots__ = ("area_s", "changed_s", "clock", "events", "outcomes", "requests", "samples", "segments")

    def __init__(self, recorder: Recorder) -> None:
        self.clock = Clock()
        self.outcomes = recorder.outcomes
        self.segments = recorder.segments
        self.events = recorder.events
        self.samples = recorder.samples
        self.requests = 0
        self.area_s = 0.0
        self.changed_s = 0.0

    def enter(self, now: float) -> None:
        """Count an accepted request in."""
        self.area_s += (now - self.changed_s) * self.requests
        self.changed_s = now
        self.requests += 1

    def leave(self, now: float) -> None:
        """Count a finished request out."""
        self.area_s += (now - self.changed_s) * self.requests
        self.changed_s = now
        self.requests -= 1
