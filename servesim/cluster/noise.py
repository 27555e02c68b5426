"""Step times that vary: every segment of a replica takes its price times a random number of mean 1.

The number is that of the segment's first step, counted over the life of the replica, so that leaping and walking step
by step draw the same one: docs/model/step-noise.md.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log, sqrt
from statistics import NormalDist

from servesim.rng import stream

Multiplier = Callable[[int], float]

_MASK = (1 << 64) - 1
_NORMAL = NormalDist()


def hashed(key: int, number: int) -> int:
    """Return 64 random bits for *number*: the finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    bits = (key + number * 0x9E3779B97F4A7C15) & _MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
    return bits ^ (bits >> 31)


def step_noise(cv: float, *, seed: int, replica: int) -> Multiplier:
    """Return the multiplier of the segment that begins with a given step: lognormal, of mean 1.

    Parameters
    ----------
    cv
        Coefficient of variation, more than 0.
    seed
        The scenario's.
    replica
        Number of the replica.

    Examples
    --------
    >>> multiplier = step_noise(0.1, seed=0, replica=0)
    >>> multiplier(7) == multiplier(7), multiplier(7) == multiplier(8)
    (True, False)
    """
    key = int(stream(seed, "step noise", replica).integers(1 << 63))
    variance = log(1.0 + cv * cv)
    deviation, mean = sqrt(variance), -0.5 * variance

    def multiplier(step: int) -> float:
        uniform = ((hashed(key, step) >> 12) + 0.5) / (1 << 52)
        return exp(mean + deviation * _NORMAL.inv_cdf(uniform))

    return multiplier
