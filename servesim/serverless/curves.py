"""Distributions as curves through knots, and the map that gives a mixture of them a law of its own.

A curve is linear between its knots in the logarithm of the value. No law is fitted to it: where a published fit
and the published measurement differ, both can be had (`mapping`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Law = tuple[Literal["lognormal", "weibull"], float, float]
"""LogNormal with mu and sigma, or Weibull with k and lambda."""

_TAIL = 1e-7
"""Probability at which a law is cut at both ends, since a curve ends where its figure does."""
_GRID = 4000
FADE_S = (5.0, 9.5)
"""Between which values `bent` fades."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A cumulative distribution: probabilities *p*, non-decreasing from 0 to 1, at positive values *x*."""

    p: Floats
    x: Floats

    def quantile(self, u: Floats) -> Floats:
        """Return the values at the probabilities *u*."""
        return np.asarray(np.exp(np.interp(u, self.p, np.log(self.x))))

    def cdf(self, x: Floats) -> Floats:
        """Return the probabilities of values up to *x*."""
        return np.asarray(np.interp(np.log(x), np.log(self.x), self.p, left=0.0, right=1.0))

    def mean(self) -> float:
        """Return the mean, by 20,000 quantiles."""
        return float(self.quantile((np.arange(20_000) + 0.5) / 20_000).mean())

    def scaled(self, factor: float) -> Curve:
        """Return the distribution of *factor* times a value."""
        return Curve(self.p, self.x * factor)

    def bent(self, factor: float) -> Curve:
        """Return the distribution of values `bent` by *factor*."""
        return Curve(self.p, bent(self.x, factor))


def bent(x: Floats, factor: float) -> Floats:
    """Return *x* times *factor*, fading to *x* itself from `FADE_S` on.

    Where the third step of pod allocation is, nothing moves.
    """
    start_s, end_s = FADE_S
    weight = np.clip((np.log(end_s) - np.log(x)) / np.log(end_s / start_s), 0, 1)
    return np.asarray(x * factor**weight)


def law_quantile(law: Law, p: Floats) -> Floats:
    """Return the values of a law at the probabilities *p*."""
    from scipy.special import ndtri

    name, first, second = law
    if name == "lognormal":
        return np.asarray(np.exp(first + second * ndtri(p)))
    return np.asarray(second * (-np.log1p(-p)) ** (1 / first))


def law_cdf(law: Law, x: Floats) -> Floats:
    """Return the probabilities that a law gives to values up to *x*."""
    from scipy.special import ndtr

    name, first, second = law
    if name == "lognormal":
        return np.asarray(ndtr((np.log(x) - first) / second))
    return np.asarray(-np.expm1(-((x / second) ** first)))


def mapping(curves: Mapping[str, Curve], shares: Mapping[str, float], law: Law) -> Callable[[Floats], Floats]:
    """Return the increasing map that turns a mixture of *curves* into *law*.

    A value at which the mixture has probability p becomes the value at which *law* has it. Each curve keeps
    its place among the others; it is distorted by no more than the mixture differs from the law.
    """
    low = min(curve.x[0] for curve in curves.values())
    high = max(curve.x[-1] for curve in curves.values())
    every = [curve.x for curve in curves.values()]
    x = np.unique(np.concatenate([np.geomspace(low, high, _GRID), *every]))
    p = sum(shares[name] * curve.cdf(x) for name, curve in curves.items()) / sum(
        shares[name] for name in curves
    )
    y = np.log(law_quantile(law, np.clip(p, _TAIL, 1 - _TAIL)))
    log_x = np.log(x)
    return lambda values: np.asarray(np.exp(np.interp(np.log(values), log_x, y)))
