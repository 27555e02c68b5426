"""Arrivals of many clients at once: each a renewal process in a time of its own, whose speed is the client's rate.

A client's *operational time* passes as fast as it is expected to send: from window to window by the requests expected
there. In it, gaps are independent with mean 1 and the shape of the window they begin in. What is left of a gap at the
end of a window passes in the next one, so that edges leave no trace, the last request is not lost, and a client that
sends less than one request per window sends one now and then. The first gap of all is a residual one: the process is
in equilibrium from the start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Gaps:
    """Distributions of gaps with mean 1, one per client that is active.

    Attributes
    ----------
    weibull
        Whether it is a Weibull distribution; otherwise a Gamma one.
    shape
        Its shape.
    """

    weibull: NDArray[np.bool_]
    shape: Floats

    def draw(self, rng: np.random.Generator, times: Ints) -> Floats:
        """Return gaps, *times* of them for each client, one client behind the other."""
        weibull, shape = np.repeat(self.weibull, times), np.repeat(self.shape, times)
        gaps = np.empty(len(shape))
        gamma = ~weibull
        gaps[gamma] = rng.standard_gamma(shape[gamma]) / shape[gamma]
        gaps[weibull] = _weibull(rng.standard_exponential(int(weibull.sum())), shape[weibull])
        return gaps

    def residual(self, rng: np.random.Generator) -> Floats:
        """Return for each client the time from a moment in equilibrium to its next request.

        It is a uniform share of a gap that is drawn in proportion to its length: Gamma(k) becomes Gamma(k + 1), and
        the k-th power of a Weibull variable, exponential as it is, becomes Gamma(1 + 1/k).
        """
        gaps = rng.standard_gamma(np.where(self.weibull, 1 + 1 / self.shape, 1 + self.shape))
        gaps[self.weibull] = _weibull(gaps[self.weibull], self.shape[self.weibull])
        gaps[~self.weibull] /= self.shape[~self.weibull]
        return gaps * rng.random(len(gaps))

    @property
    def unscaled_mean(self) -> Floats:
        """Mean of each as distributions are usually written: with this shape and the scale 1."""
        mean = self.shape.copy()
        mean[self.weibull] = weibull_mean(mean[self.weibull])
        return mean

    @property
    def cv(self) -> Floats:
        """Coefficient of variation of each."""
        cv = self.shape**-0.5
        cv[self.weibull] = weibull_cv(self.shape[self.weibull])
        return cv


def weibull_cv(shape: Floats) -> Floats:
    """Return the coefficient of variation of a Weibull distribution: sqrt(Gamma(1 + 2/k) / Gamma(1 + 1/k)^2 - 1)."""
    from scipy.special import gammaln

    cv: Floats = np.sqrt(np.expm1(gammaln(1 + 2 / shape) - 2 * gammaln(1 + 1 / shape)))
    return cv


def weibull_mean(shape: Floats) -> Floats:
    """Return the mean of a Weibull distribution of scale 1, Gamma(1 + 1/k)."""
    from scipy.special import gammaln

    mean: Floats = np.exp(gammaln(1 + 1 / shape))
    return mean


class Renewals:
    """The processes of all clients of a pool, taken from stretch to stretch of time.

    Parameters
    ----------
    clients
        How many there are.
    rng
        What gaps are drawn from.
    """

    def __init__(self, clients: int, rng: np.random.Generator) -> None:
        self._rng = rng
        self._next = np.full(clients, np.nan)
        """Operational time until the client's next request; NaN before it is active for the first time."""

    def advance(self, clients: Ints, expected: Floats, gaps: Gaps) -> tuple[Ints, Floats]:
        """Pass a stretch in which each of *clients* is expected to send so many requests.

        Returns
        -------
        rows
            For each request its client's place in *clients*.
        shares
            When it is sent, as a share of the stretch, in [0, 1).
        """
        next_at = self._next[clients]
        new = np.isnan(next_at)
        next_at[new] = gaps.residual(self._rng)[new]
        rows: list[Ints] = []
        times: list[Floats] = []
        going = np.flatnonzero(next_at < expected)
        while len(going):
            some = Gaps(gaps.weibull[going], gaps.shape[going])
            left = expected[going] - next_at[going]
            sizes = np.ceil(left + 2 * np.minimum(some.cv, 10.0) * np.sqrt(left)).astype(np.int64) + 4
            drawn = some.draw(self._rng, sizes)
            reached, place = _sums(next_at[going], drawn, sizes)
            inside = reached < expected[going][place]
            last = np.cumsum(sizes + 1) - 1
            sent = inside.copy()
            sent[last] = False
            rows.append(going[place[sent]])
            times.append(reached[sent])
            first_outside = last - sizes + np.bincount(place[inside], minlength=len(going))
            next_at[going] = reached[np.minimum(first_outside, last)]
            going = going[next_at[going] < expected[going]]
        self._next[clients] = next_at - expected
        if not rows:
            return np.empty(0, dtype=np.int64), np.empty(0)
        row, time = np.concatenate(rows), np.concatenate(times)
        return row, np.minimum(time / expected[row], _BELOW_1)


_BELOW_1 = float(np.nextafter(1.0, 0.0))


def _weibull(exponential: Floats, shape: Floats) -> Floats:
    """Return Weibull variables of mean 1 from exponential ones."""
    return exponential ** (1 / shape) / weibull_mean(shape)


def _sums(starts: Floats, steps: Floats, sizes: Ints) -> tuple[Floats, Ints]:
    """Return, for each of *starts*, itself and its sums with the first, the first two, ... of its *sizes* steps, and
    whose sums they are.
    """
    places = np.cumsum(sizes + 1) - sizes - 1
    flat = np.empty(len(steps) + len(starts))
    is_start = np.zeros(len(flat), dtype=bool)
    is_start[places] = True
    flat[is_start], flat[~is_start] = 0.0, steps
    sums = np.cumsum(flat)
    owner = np.repeat(np.arange(len(starts)), sizes + 1)
    return sums + (starts - sums[places])[owner], owner
