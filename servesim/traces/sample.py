"""A sample as its different values and how often each occurs: bins of seconds over years fit into memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from servesim.traces.statistics import QUANTILES, Floats


@dataclass(frozen=True, eq=False)
class Sample:
    """Values, increasing and different, and how often each occurs.

    Examples
    --------
    >>> Sample.of(np.array([3, 1, 3])).spread()["mean"]
    2.3333333333333335
    """

    values: Floats
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[Any]) -> Self:
        """Return the sample of *values*, in any order."""
        different, counts = np.unique(values, return_counts=True)
        return cls(different.astype(np.float64), counts)

    @classmethod
    def of_arrivals_per_s(cls, arrivals: Floats) -> Self:
        """Return the arrivals in each second from the first on, seconds without any included.

        As `servesim.traces.statistics.dispersion` takes them.
        """
        if not len(arrivals):
            return cls.of(arrivals)
        seconds, arrived = np.unique(np.floor(arrivals - arrivals[0]), return_counts=True)
        some = cls.of(arrived)
        empty = int(seconds[-1]) + 1 - len(seconds)
        if not empty:
            return some
        return cls(np.append(0.0, some.values), np.append(empty, some.counts))

    def __add__(self, other: Sample) -> Sample:
        """Return the sample of the values of both."""
        values, places = np.unique(np.append(self.values, other.values), return_inverse=True)
        counts = np.zeros(len(values), dtype=np.int64)
        np.add.at(counts, places, np.append(self.counts, other.counts))
        return Sample(values, counts)

    def largest(self, count: int) -> Floats:
        """Return the *count* largest values, increasing."""
        different = int(np.searchsorted(np.cumsum(self.counts[::-1]), count)) + 1
        return np.repeat(self.values[-different:], self.counts[-different:])[-count:]

    def __len__(self) -> int:
        return int(self.counts.sum())

    def shares_up_to(self, values: Floats) -> Floats:
        """Return the share of the sample that is at most each of *values*."""
        below = np.append(0, np.cumsum(self.counts))
        shares: Floats = below[np.searchsorted(self.values, values, side="right")] / len(self)
        return shares

    def spread(self) -> dict[str, float] | None:
        """Return mean, minimum, quantiles (linear between order statistics) and maximum; None of nothing."""
        if not len(self):
            return None
        last = np.cumsum(self.counts)
        places = np.array(list(QUANTILES.values())) * (len(self) - 1)
        low, high = (
            self.values[np.searchsorted(last, near(places), side="right")] for near in (np.floor, np.ceil)
        )
        quantiles = low + (high - low) * (places - np.floor(places))
        return {
            "mean": float(self.values @ self.counts) / len(self),
            "min": float(self.values[0]),
            **dict(zip(QUANTILES, quantiles.tolist(), strict=True)),
            "max": float(self.values[-1]),
        }
