"""The runs of an experiment: each a scenario with its seed, run alone and reduced to its summary."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from servesim.cluster.late import TooLate
from servesim.errors import InvariantError, ServesimError
from servesim.results import RunResult
from servesim.scenario import Scenario
from servesim.simulation import simulate

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One run of an experiment.

    Attributes
    ----------
    name
        What messages call it.
    scenario
        What is run, seed included.
    objects
        ``router``, ``scheduler`` or ``latency``: objects that replace what the scenario names.
    stop_when
        Rules that end a hopeless run early.
    """

    name: str
    scenario: Scenario
    objects: Mapping[str, Any] = field(default_factory=dict)
    stop_when: Sequence[TooLate] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """What became of a point that gave no result.

    Attributes
    ----------
    message
        What went wrong, as a run of its own would have said it.
    internal
        Whether it is a bug of servesim or of a plugin rather than a mistake in the scenario.
    """

    message: str
    internal: bool = False

    def error(self, name: str) -> ServesimError:
        """Return it as an error to raise; *name* says which point failed."""
        kind = InvariantError if self.internal else ServesimError
        return kind(f"{name}: {self.message}")


def with_seed(scenario: Scenario, seed: int) -> Scenario:
    """Return *scenario* with another seed."""
    return scenario.model_copy(update={"seed": seed})


def seeds_from(scenario: Scenario, seeds: int | Sequence[int]) -> list[int]:
    """Return the seeds of an experiment: those given, or so many from the scenario's own seed on."""
    return [scenario.seed + index for index in range(seeds)] if isinstance(seeds, int) else list(seeds)


def run_point(point: Point) -> RunResult:
    """Simulate *point*.

    Raises
    ------
    KeyboardInterrupt
        If the user stopped the run: half a run is no point of an experiment.
    StoppedEarly
        If one of the point's rules held.
    """
    return simulate(point.scenario, stop_when=point.stop_when, keep_interrupted=False, **point.objects)


def summary_of(point: Point) -> dict[str, Any]:
    """Return the summary of a run of *point*: what most experiments are about."""
    return run_point(point).summary


def guarded(task: Callable[[Item], Value], item: Item) -> Value | Failure:
    """Return what *task* makes of *item*, or why it could not; only KeyboardInterrupt passes."""
    try:
        return task(item)
    except InvariantError as error:
        return Failure(str(error), internal=True)
    except ServesimError as error:
        return Failure(str(error))
    except Exception:
        return Failure(traceback.format_exc().strip(), internal=True)
