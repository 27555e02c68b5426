"""What all replicas of a cluster share: the clock and the buffers of rows."""

from __future__ import annotations

from servesim.cluster.clock import Clock
from servesim.cluster.records import Recorder


class System:
    """Clock and row buffers."""

    __slots__ = ("clock", "events", "outcomes", "samples", "segments", "visibles")

    def __init__(self, recorder: Recorder) -> None:
        self.clock = Clock()
        self.outcomes = recorder.outcomes
        self.segments = recorder.segments
        self.events = recorder.events
        self.samples = recorder.samples
        self.visibles = recorder.visibles
