"""Statistics of values with weights that come in pieces, too many to be held: moments and exact order statistics.

An order statistic takes two passes: the first counts values by their leading bits, the second gathers those that
share the bits of the one that is sought.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from servesim.results.steps import Floats

Counts = NDArray[np.int64]

_KEY_SHIFT = 40
"""Bits of a double that a key leaves out: 4,096 keys per factor of two. Keys of positive doubles sort as they do."""


class Moments:
    """Count, mean and sum of squared deviations, merged piece by piece (Chan, Golub and LeVeque 1983)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0
        self._sums: list[float] = []

    @property
    def sum(self) -> float:
        """The sum of all values."""
        return math.fsum(self._sums)

    def add(self, values: Floats, weights: Counts) -> None:
        """Take in *values*, each as often as its weight."""
        count = int(weights.sum())
        if not count:
            return
        self._sums.append(float((values * weights).sum()))
        mean = self._sums[-1] / count
        squares = float(((values - mean) ** 2 * weights).sum())
        total = self.count + count
        shift = mean - self.mean
        self.squares += squares + shift * shift * self.count * count / total
        self.mean += shift * count / total
        self.count = total


class Histogram:
    """How many values share the leading bits of a double: where any order statistic is, before it is sought."""

    def __init__(self) -> None:
        self._counts = np.zeros(1 << (63 - _KEY_SHIFT), dtype=np.int64)  # pages that stay zero take no memory
        self._low, self._end = len(self._counts), 0  # the keys that occur are from low to before end

    def add(self, values: Floats, weights: Counts) -> None:
        """Take in *values*, each as often as its weight."""
        if len(values):
            keys = _keys(values)
            low = int(keys.min())
            counts = np.bincount(keys - low, weights=weights).astype(np.int64)
            self._counts[low : low + len(counts)] += counts
            self._low, self._end = min(self._low, low), max(self._end, low + len(counts))

    def order_statistics(
        self, ranks: Sequence[int], pieces: Iterator[tuple[Floats, Counts]]
    ) -> dict[int, float]:
        """Return the values of *ranks* (from 0) among all values, which *pieces* yield once more."""
        counts = self._counts[self._low : self._end]
        up_to = np.cumsum(counts)
        keys = np.searchsorted(up_to, ranks, side="right")
        wanted = np.unique(keys)
        values_of, weights_of = [], []
        for values, weights in pieces:
            near = np.isin(_keys(values) - self._low, wanted)
            values_of.append(values[near])
            weights_of.append(weights[near])
        values, weights = np.concatenate(values_of), np.concatenate(weights_of)
        order = np.argsort(values, kind="stable")
        values, numbers = values[order], np.cumsum(weights[order])
        found = {}
        for rank, key in zip(ranks, keys.tolist(), strict=True):
            first = int(up_to[key] - counts[key])  # values before this key
            before = int(counts[wanted[wanted < key]].sum())  # those of them that were gathered
            found[rank] = float(values[np.searchsorted(numbers, rank - first + before, side="right")])
        return found


def _keys(values: Floats) -> Counts:
    result: Counts = values.view(np.int64) >> _KEY_SHIFT
    return result
