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
        Integral of that number over time, without what those still inside add: leaving times minus arrival times.
    changed_s
        When a request last left: in the end, the end of a drained run.
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
