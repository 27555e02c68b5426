"""Variants x seeds: the same random numbers for every variant, one summary each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from servesim.cluster.late import TooLate
from servesim.experiments.backends import Backend
from servesim.experiments.points import Failure, Point, run_point, with_seed
from servesim.scenario import Scenario
from servesim.workload.spec import MixSpec, WorkloadSpec

OnDone = Callable[[int, int], None]
"""Called with the points that are done and the points there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A variant with its scenario, ready to run at any seed.

    Attributes
    ----------
    name
        The variant's.
    scenario
        Its scenario; the seed is replaced.
    objects
        ``router``, ``scheduler`` or ``latency``: objects that replace what the scenario names.
    """

    name: str
    scenario: Scenario
    objects: Mapping[str, Any]

    def point(self, seed: int, *, stop_when: Sequence[TooLate] = ()) -> Point:
        """Return its run with *seed*, ended early where one of *stop_when* holds."""
        return Point(
            name=f"{self.name}, seed {seed}",
            scenario=with_seed(self.scenario, seed),
            objects=self.objects,
            stop_when=stop_when,
        )


@dataclass(frozen=True, slots=True)
class Replication:
    """What a run leaves for comparisons.

    Attributes
    ----------
    summary
        The run's.
    last_arrival_s
        When the last request arrived: what comes later is the drain.
    """

    summary: dict[str, Any]
    last_arrival_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Replications:
    """What all variants gave.

    Attributes
    ----------
    seeds
        The seeds that were run.
    by_variant
        Name of the variant to its replications, in the order of *seeds*.
    random
        Whether the seed changed anything. If not, `seeds` is the first one alone.
    """

    seeds: list[int]
    by_variant: dict[str, list[Replication]]
    random: bool

    def values(self, variant: str, metric: str) -> list[float | None]:
        """Return a top-level *metric* of *variant*, seed by seed."""
        return [replication.summary[metric] for replication in self.by_variant[variant]]


def replicate(
    cases: Sequence[Case], seeds: Sequence[int], backend: Backend, *, on_done: OnDone | None = None
) -> Replications:
    """Run every case with every seed.

    Two seeds come first: if neither of any case differs from the other in any number, nothing is random, and
    more runs would say the same again.

    Raises
    ------
    ServesimError
        If a run fails; names the variant and the seed.
    """
    total = len(cases) * len(seeds)
    found = _runs(cases, seeds[:2], backend, lambda done: on_done(done, total) if on_done else None)
    pilots = [[found[case.name, seed] for seed in seeds[:2]] for case in cases]
    random = len(seeds) < 2 or any(first.summary != second.summary for first, second in pilots)
    if not random:
        seeds = seeds[:1]
    elif len(seeds) > 2:
        before = len(found)
        found |= _runs(
            cases, seeds[2:], backend, lambda done: on_done(before + done, total) if on_done else None
        )
    return Replications(
        seeds=list(seeds),
        by_variant={case.name: [found[case.name, seed] for seed in seeds] for case in cases},
        random=random,
    )


def _runs(
    cases: Sequence[Case], seeds: Sequence[int], backend: Backend, on_done: Callable[[int], None]
) -> dict[tuple[str, int], Replication]:
    # Seeds outermost: the runs of an expensive variant are spread over the workers.
    keys = [(case, seed) for seed in seeds for case in cases]
    points = [case.point(seed) for case, seed in keys]
    found = {}
    for index, outcome in backend.run(replication_of, points):
        if isinstance(outcome, Failure):
            raise outcome.error(points[index].name)
        case, seed = keys[index]
        found[case.name, seed] = outcome
        on_done(len(found))
    return found


def replication_of(point: Point) -> Replication:
    """Return what a run of *point* leaves."""
    result = run_point(point)
    last: Any = result.requests["arrival_s"].max()
    return Replication(result.summary, float(last or 0.0))


def fixed_workload(scenario: Scenario) -> bool:
    """Return whether every seed gives the same requests."""
    workload = scenario.workload
    parts: list[WorkloadSpec | MixSpec] = [workload, *(workload.sources or [])]
    return all(part.generator is None and part.resample is None for part in parts)
