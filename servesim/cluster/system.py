"""What all replicas of a cluster share: the clock and the buffers of rows."""

from __future__ import annotations

from servesim.cluster.clock import Clock
from servesim.cluster.records import Recorder


class System:
    """Clock and row buffers.

    Attributes
    ----------
    step_ends_over
        Whether all step ends of the present time are over, so that who arrives now has missed them.
    """

    __slots__ = (
        "clock",
        "events",
        "front_ends",
        "outcomes",
        "samples",
        "segments",
        "speculations",
        "step_ends_over",
        "visibles",
    )

    def __init__(self, recorder: Recorder) -> None:
        self.clock = Clock()
        self.step_ends_over = False
        self.outcomes = recorder.outcomes
        self.segments = recorder.segments
        self.events = recorder.events
        self.samples = recorder.samples
        self.visibles = recorder.visibles
        self.front_ends = recorder.front_ends
        self.speculations = recorder.speculations
