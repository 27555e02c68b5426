"""What all replicas of a cluster share: the clock, the buffers of rows, and who wants to know when requests leave."""

from __future__ import annotations

from collections.abc import Callable

from servesim.cluster.clock import Clock
from servesim.cluster.records import Recorder
from servesim.cluster.request import Request


class System:
    """Clock and row buffers.

    Attributes
    ----------
    on_leave
        Called with every request that has finished or was rejected, and the time; None: nobody waits for that.
    step_ends_over
        Whether all step ends of the present time are over, so that who arrives now has missed them.
    """

    __slots__ = (
        "clock",
        "events",
        "on_leave",
        "outcomes",
        "samples",
        "segments",
        "step_ends_over",
        "visibles",
    )

    def __init__(self, recorder: Recorder) -> None:
        self.clock = Clock()
        self.on_leave: Callable[[Request, float], None] | None = None
        self.step_ends_over = False
        self.outcomes = recorder.outcomes
        self.segments = recorder.segments
        self.events = recorder.events
        self.samples = recorder.samples
        self.visibles = recorder.visibles
