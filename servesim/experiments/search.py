"""Finding where something stops to hold as a load grows: bracketing, then bisection, on a scale of levels.

Plain functions of levels; nothing here knows of simulations, so that the search is tested on known curves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

Holds = Callable[[float], bool]


class Scale(Protocol):
    """Levels of difficulty, such as rates or numbers of replicas."""

    def difficulty(self, level: float) -> float:
        """Return a number that grows with difficulty."""

    def harder(self, level: float) -> float | None:
        """Return the next level to try where *level* is too easy, None at the end of the scale."""

    def easier(self, level: float) -> float | None:
        """Return the next level to try where *level* is too hard, None at the end of the scale."""

    def between(self, easy: float, hard: float) -> float | None:
        """Return a level between the two, None where they are as close as is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Positive levels, harder as they grow; doubled and halved, then halved in the logarithm.

    Attributes
    ----------
    least, most
        Ends of the scale.
    tolerance
        Two levels whose ratio is at most one more than this are close enough.
    """

    least: float
    most: float
    tolerance: float

    def difficulty(self, level: float) -> float:
        """Return the level."""
        return level

    def harder(self, level: float) -> float | None:
        """Return twice the level."""
        return min(2.0 * level, self.most) if level < self.most else None

    def easier(self, level: float) -> float | None:
        """Return half of the level."""
        return max(level / 2.0, self.least) if level > self.least else None

    def between(self, easy: float, hard: float) -> float | None:
        """Return the geometric mean."""
        return math.sqrt(easy * hard) if hard > easy * (1.0 + self.tolerance) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Whole numbers from 1, harder as they fall; doubled and halved, then bisected to neighbours.

    Attributes
    ----------
    most
        The largest.
    """

    most: int

    def difficulty(self, level: float) -> float:
        """Return the level with the other sign."""
        return -level

    def harder(self, level: float) -> float | None:
        """Return half of the level."""
        return level // 2 if level > 1 else None

    def easier(self, level: float) -> float | None:
        """Return twice the level."""
        return min(2 * level, self.most) if level < self.most else None

    def between(self, easy: float, hard: float) -> float | None:
        """Return the middle."""
        return (easy + hard) // 2 if easy - hard > 1 else None


@dataclass(frozen=True, slots=True)
class Boundary:
    """Two levels, as close as asked for, between which something stops to hold.

    Attributes
    ----------
    inside
        The harder end of where it holds; None if it holds nowhere on the scale.
    outside
        The easier end of where it does not; None if it holds everywhere.
    """

    inside: float | None
    outside: float | None


def boundary(explored: Iterable[float], holds: Holds, scale: Scale) -> Boundary:
    """Return where *holds* turns from true to false as levels get harder.

    It is asked at the *explored* levels, one or more, first: they are known already. Where it turns more than
    once, the easiest of the explored turns is followed.
    """
    inside = outside = None
    for level in sorted(explored, key=scale.difficulty):
        if not holds(level):
            outside = level
            break
        inside = level
    while inside is None:
        assert outside is not None, "one level was explored"
        easier = scale.easier(outside)
        if easier is None:
            return Boundary(None, outside)
        inside, outside = (easier, outside) if holds(easier) else (None, easier)
    while outside is None:
        harder = scale.harder(inside)
        if harder is None:
            return Boundary(inside, None)
        inside, outside = (harder, None) if holds(harder) else (inside, harder)
    while (middle := scale.between(inside, outside)) is not None:
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return Boundary(inside, outside)
