"""Arrivals counted in equal bins over a span that nobody knows before, in bounded memory."""

from __future__ import annotations

import numpy as np

from servesim.traces.statistics import Floats

BINS = 65_536
"""Bins that are held: up to a span of 455 days none is wider than 10 min."""

_BASE_S = 600.0
_NARROWEST_S = _BASE_S / 2**20


class TimeBins:
    """Counts of arrivals from the first one on; bins become twice as wide whenever there are too many.

    Widths are 600 s times a power of two, so that bins of 10 min, 1 h or a day are whole numbers of them.

    Examples
    --------
    >>> bins = TimeBins()
    >>> bins.add(np.array([5.0, 6.0, 700.0]))
    >>> bins.add(np.array([1300.0, 1805.0]))
    >>> bins.counts(600.0)
    array([2., 1., 1.])
    """

    def __init__(self) -> None:
        self.span_s = 0.0
        self._width_s = _NARROWEST_S
        self._first_s: float | None = None
        self._counts = np.zeros(BINS, dtype=np.int64)

    def add(self, arrivals: Floats) -> None:
        """Count *arrivals*, which are in order and not before earlier ones."""
        if not len(arrivals):
            return
        if self._first_s is None:
            self._first_s = float(arrivals[0])
        since_s = arrivals - self._first_s
        self.span_s = float(since_s[-1])
        while self.span_s >= self._width_s * BINS:
            self._width_s *= 2
            pairs = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts = np.concatenate([pairs, np.zeros(BINS // 2, dtype=np.int64)])
        self._counts += np.bincount((since_s / self._width_s).astype(np.int64), minlength=BINS)

    def counts(self, bin_s: float) -> Floats:
        """Return the arrivals in each bin of *bin_s* that ends within the span; none if those held are wider.

        *bin_s* is 600 s, or a multiple.
        """
        return self._merged(int(bin_s / self._width_s)) if bin_s >= self._width_s else np.empty(0)

    def equal(self, about: int) -> tuple[Floats, float]:
        """Return the arrivals in *about* so many equal bins within the span, and how wide the bins are in s."""
        each = max(int(self.span_s / self._width_s) // about, 1)
        return self._merged(each), each * self._width_s

    def _merged(self, each: int) -> Floats:
        bins = int(self.span_s / self._width_s) // each
        merged: Floats = self._counts[: bins * each].reshape(bins, each).sum(axis=1).astype(np.float64)
        return merged
