"""Shapley values: how much of a difference each of several changes makes, in shares that add up exactly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

Coalition = frozenset[str]


def coalitions(players: Sequence[str]) -> Iterator[Coalition]:
    """Yield every subset of *players*, the empty one first."""
    for size in range(len(players) + 1):
        yield from map(frozenset, itertools.combinations(players, size))


def shapley_values(
    players: Sequence[str], values: Mapping[Coalition, float | Fraction]
) -> dict[str, Fraction]:
    """Return each player's average contribution over all orders in which they can join.

    Parameters
    ----------
    players
        Names.
    values
        What every subset of them achieves.

    Returns
    -------
    dict
        Exact fractions, whose sum is exactly the value of all players less that of none.

    References
    ----------
    L. S. Shapley, "A value for n-person games", Contributions to the Theory of Games II, 1953.

    Examples
    --------
    >>> values = {frozenset(): 0.0, frozenset("a"): 1.0, frozenset("b"): 2.0, frozenset("ab"): 5.0}
    >>> {name: float(value) for name, value in shapley_values("ab", values).items()}
    {'a': 2.0, 'b': 3.0}
    """
    n = len(players)
    exact = {coalition: Fraction(value) for coalition, value in values.items()}
    result = {}
    for player in players:
        total = Fraction(0)
        for coalition in coalitions([other for other in players if other != player]):
            weight = Fraction(
                math.factorial(len(coalition)) * math.factorial(n - len(coalition) - 1), math.factorial(n)
            )
            total += weight * (exact[coalition | {player}] - exact[coalition])
        result[player] = total
    return result
