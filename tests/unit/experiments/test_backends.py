"""Backends: the same results from each, and what happens when a worker dies."""

from __future__ import annotations

import os
import signal
import sys

import cloudpickle
import pytest

from servesim.errors import ServesimError
from servesim.experiments.backends import Backend, InProcess, Processes
from servesim.experiments.points import Failure

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests


def square(number: int) -> int:
    if number == 3:
        raise ServesimError("three is refused")
    if number == 4:
        raise ValueError("a bug")
    return number * number


def deadly(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("backend", [InProcess(), Processes(1), Processes(2)])
def test_every_item_has_its_result_or_its_failure(backend: Backend) -> None:
    """In any order; a refusal keeps its words, a bug its traceback."""
    found = dict(backend.run(square, list(range(12))))
    assert set(found) == set(range(12))
    assert found[3] == Failure("three is refused")
    bug = found[4]
    assert isinstance(bug, Failure) and bug.internal and bug.message.endswith("ValueError: a bug")
    assert all(found[number] == number * number for number in range(12) if number not in (3, 4))


def test_a_worker_that_is_killed_takes_only_its_point() -> None:
    """The others are there; the next experiment works."""
    found = dict(Processes(2).run(deadly, list(range(8))))
    killed = found.pop(2)
    assert isinstance(killed, Failure) and "killed" in killed.message
    assert found == {number: number for number in range(8) if number != 2}
    assert dict(Processes(2).run(square, [1, 2])) == {0: 1, 1: 4}


def test_an_early_end_stops_the_rest() -> None:
    """Closing the iterator ends the workers; a new run starts others."""
    runs = Processes(2).run(square, list(range(50)))
    next(runs)
    runs.close()
    assert len(dict(Processes(2).run(square, [5, 6]))) == 2
