"""When in a window of 600 s a client is active: all the time, or for one burst that fills a part of it.

A burst lies anywhere in the window, and one that reaches its end goes on at its begin. So no time in the window is more
likely than another, and each window has the requests that it should have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from servesim.servegen.pool import WINDOW_S
from servesim.servegen.renewal import Gaps

FULL_RATIO = 0.8
"""A burst that fills so much of its window is taken to last all of it."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def active_s(requests: Floats, mean_s: Floats, gaps: Gaps) -> Floats:
    """Return for how long of a window clients are active whose gaps in it have the mean *mean_s*.

    What was measured are the gaps that the window shows whole. The gaps that it cuts, one at either end of the active
    time, show (1 + cv^2) / 2 mean gaps each of themselves, in equilibrium: n requests make (n + cv^2) gaps of time.
    """
    lasting = mean_s * (requests + gaps.cv**2)
    return np.where(lasting < FULL_RATIO * WINDOW_S, lasting, float(WINDOW_S))


@dataclass(frozen=True, eq=False)
class Bursts:
    """The active times of some clients in a window.

    Attributes
    ----------
    begin_s
        When in the window each begins.
    active_s
        For how long each lasts: what does not fit before the window's end is at its begin.
    """

    begin_s: Floats
    active_s: Floats

    @property
    def _head_s(self) -> Floats:
        """How much of each is at the begin of the window."""
        return np.maximum(self.begin_s + self.active_s - WINDOW_S, 0.0)

    def passed_s(self, time_s: float) -> Floats:
        """Return how much of each has passed at *time_s*."""
        head_s = self._head_s
        return np.minimum(time_s, head_s) + np.clip(time_s - self.begin_s, 0.0, self.active_s - head_s)

    def times_s(self, rows: Ints, passed_s: Floats) -> Floats:
        """Return when of each of *rows* so much has passed."""
        head_s = self._head_s
        pause_s = np.where(passed_s < head_s[rows], 0.0, (self.begin_s - head_s)[rows])
        return passed_s + pause_s
