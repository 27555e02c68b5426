"""The time series of replica states: sampled at fixed intervals, or thinned as a run of unknown length goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from servesim.cluster.clock import CONTROL, Wakeup
from servesim.cluster.records import SAMPLE
from servesim.cluster.system import System
from servesim.cluster.views import LiveReplicaView

FIRST_INTERVAL_S = 1.0
TICKS_MAX = 256
ROWS_MAX = 8_192


class Sampler:
    """Take a row per replica at each tick, before anything else that happens at that time.

    Parameters
    ----------
    views
        One per replica.
    system
        Of the run.
    interval_s
        Fixed interval; None starts at 1 s and, whenever too many ticks have gathered, drops every other one and
        doubles the interval, so that the series stays short whatever the run's length.
    on_tick
        Called at every tick with the simulated time.
    """

    def __init__(
        self,
        views: Sequence[LiveReplicaView],
        system: System,
        *,
        interval_s: float | None,
        on_tick: Callable[[float], None],
    ) -> None:
        self.views = views
        self.system = system
        self.thinned = interval_s is None
        self.interval_s = FIRST_INTERVAL_S if interval_s is None else interval_s
        self.ticks_max = max(64, min(TICKS_MAX, ROWS_MAX // len(views)))
        self.on_tick = on_tick
        self.active: Callable[[], bool] = lambda: True
        self._ticks: list[bytes] = []
        self._count = 0

    def start(self) -> None:
        """Schedule the first tick, at time 0."""
        self.system.clock.wake(Wakeup(self._tick), 0.0, CONTROL)

    def _tick(self, now: float) -> float | None:
        if not self.active():
            return None
        self._ticks.append(b"".join([self._row(view, now) for view in self.views]))
        if not self.thinned:
            self.flush()
        elif len(self._ticks) >= self.ticks_max:
            self._ticks = self._ticks[::2]
            self._count = self._count // 2
            self.interval_s *= 2.0
        self._count += 1
        self.on_tick(now)
        return self._count * self.interval_s

    def _row(self, view: LiveReplicaView, now: float) -> bytes:
        return SAMPLE.pack.pack(
            now,
            view.index,
            view.waiting_requests,
            view.running_requests,
            view.running_tokens,
            view.kv_blocks_used,
            view._replica.busy_s(now),
        )

    def flush(self) -> None:
        """Hand the ticks to the recorder."""
        self.system.samples += b"".join(self._ticks)
        self._ticks.clear()
