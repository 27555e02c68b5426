"""The search on known curves: it finds the turn, within the tolerance, with few evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from servesim.experiments.search import Boundary, Counts, Rates, boundary

RATES = Rates(least=1e-4, most=1e4, tolerance=0.02)


class Counted:
    """A test that remembers at which levels it was asked."""

    def __init__(self, holds: Callable[[float], bool]) -> None:
        self.holds = holds
        self.asked: set[float] = set()

    def __call__(self, level: float) -> bool:
        self.asked.add(level)
        return self.holds(level)


@pytest.mark.parametrize("turn", [0.0013, 0.5, 0.999, 1.0, 1.7, 64.0, 5000.0])
def test_a_rate_is_found_within_the_tolerance(turn: float) -> None:
    """Doublings to pass the turn, then as many halvings as log2(log(2) / log(1.02)) = 5.1 asks for."""
    holds = Counted(lambda level: level <= turn)
    found = boundary([1.0], holds, RATES)
    assert found.inside is not None and found.outside is not None
    assert found.inside <= turn < found.outside <= 1.02 * found.inside
    assert len(holds.asked) <= 1 + math.ceil(abs(math.log2(turn))) + 1 + 6


@pytest.mark.parametrize("turn", [1, 2, 3, 7, 8, 9, 100, 1000])
def test_a_number_of_replicas_is_found_exactly(turn: int) -> None:
    """The least number that is enough, and one fewer is not."""
    holds = Counted(lambda level: level >= turn)
    found = boundary([6], holds, Counts(most=1024))
    assert found == Boundary(turn, turn - 1 if turn > 1 else None)
    assert len(holds.asked) <= 2 * math.ceil(math.log2(1024)) + 1


def test_the_ends_of_a_scale() -> None:
    """What holds everywhere has no outside, what holds nowhere no inside; the ends themselves are asked."""
    everywhere, nowhere = Counted(lambda _: True), Counted(lambda _: False)
    assert boundary([1.0], everywhere, RATES) == Boundary(1e4, None)
    assert boundary([1.0], nowhere, RATES) == Boundary(None, 1e-4)
    assert max(everywhere.asked) == 1e4 and min(nowhere.asked) == 1e-4
    assert boundary([4], lambda _: False, Counts(most=100)) == Boundary(None, 100)


def test_what_is_explored_is_used() -> None:
    """A second search between levels that are known asks for nothing outside of them."""
    holds = Counted(lambda level: level <= 3.0)
    found = boundary([1.0, 2.0, 4.0, 8.0], holds, RATES)
    assert found.inside is not None and 2.0 <= found.inside <= 3.0
    assert max(holds.asked) == 4.0, "what is harder than a miss is not asked"


def test_the_easiest_of_several_turns_is_followed() -> None:
    """Holds up to 2 and from 5 to 9: the answer is 2 where both turns were seen."""
    found = boundary([1.0, 4.0, 8.0], lambda level: level <= 2.0 or 5.0 <= level <= 9.0, RATES)
    assert found.inside is not None and found.inside <= 2.0 < (found.outside or 0.0) <= 4.0
