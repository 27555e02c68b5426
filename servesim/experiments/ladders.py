"""The loads that a search for capacity may try: rates of the same requests, or numbers of replicas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from servesim.errors import ScenarioError
from servesim.experiments.backends import Backend
from servesim.experiments.capacity_question import Question
from servesim.experiments.load_points import Measured
from servesim.experiments.loads import Load, at_rate, load_of, with_replicas
from servesim.experiments.points import Failure, Point, with_seed
from servesim.experiments.search import Counts, Rates, Scale
from servesim.scenario import Scenario

UNLOADED_PER_S = 1e-3
"""Offered requests per s at which a cluster counts as unloaded: one every quarter of an hour or so."""

TOLERANCE, KNEE_TOLERANCE = 0.02, 0.1
"""Largest ratio, less one, of the two rates between which the answer, or the knee, lies."""

RATE_SCALE_LEAST, RATE_SCALE_MOST = 1e-6, 1e6
"""Limits of workload.rate_scale."""

MOST_REPLICAS = 1024
"""More replicas in a pool than this are not tried."""


@dataclass(frozen=True, slots=True)
class RateLadder:
    """Multiples of the scenario's rate.

    Attributes
    ----------
    scenario
        As it is, level 1.
    rate_per_s
        Its rate of arrivals.
    span_s
        The time that they take.
    """

    scenario: Scenario
    rate_per_s: float
    span_s: float
    start: float = 1.0
    unit: str = "requests/s"

    @property
    def unloaded(self) -> float:
        """A level of a request every quarter of an hour or so."""
        least = RATE_SCALE_LEAST / self.scenario.workload.rate_scale
        return min(1.0, max(least, UNLOADED_PER_S / self.rate_per_s))

    def scenario_at(self, level: float) -> Scenario:
        """Return the scenario at a multiple of its rate."""
        return at_rate(self.scenario, level)

    def scales(self, unloaded: Measured) -> tuple[Scale, Scale]:
        """Return scales that end where all requests arrive in the time that one takes."""
        e2e_s = sum(values := unloaded.values("e2e_s_mean")) / len(values)
        most = max(2.0, self.span_s / e2e_s)
        most = min(most, RATE_SCALE_MOST / self.scenario.workload.rate_scale)
        fine, coarse = (
            Rates(least=self.unloaded, most=most, tolerance=tolerance)
            for tolerance in (TOLERANCE, KNEE_TOLERANCE)
        )
        return fine, coarse

    def amount(self, level: float) -> float:
        """Return the rate."""
        return level * self.rate_per_s


@dataclass(frozen=True, slots=True)
class ReplicaLadder:
    """Numbers of replicas of a pool; infinitely many stand for a cluster without load.

    Attributes
    ----------
    scenario, pool
        Whose.
    rate_per_s
        Its rate of arrivals; 0 where all requests arrive at once.
    requests
        How many arrive, and how many at the same time.
    together
    """

    scenario: Scenario
    pool: str
    rate_per_s: float
    requests: int
    together: int
    unloaded: float = math.inf
    unit: str = "replicas"

    @property
    def start(self) -> float:
        """Replicas that the scenario has."""
        return next(spec.replicas for spec in self.scenario.cluster.pools if spec.name == self.pool)

    @property
    def most(self) -> int:
        """Replicas beyond which nothing is tried: no more than requests."""
        return max(int(self.start), min(MOST_REPLICAS, self.requests))

    def scenario_at(self, level: float) -> Scenario:
        """Return the scenario with so many replicas; for infinitely many, what comes closest."""
        if math.isfinite(level):
            return with_replicas(self.scenario, self.pool, int(level))
        apart = with_replicas(self.scenario, self.pool, max(int(self.start), min(self.together, self.most)))
        if self.rate_per_s <= UNLOADED_PER_S:
            return apart
        least = RATE_SCALE_LEAST / self.scenario.workload.rate_scale
        return at_rate(apart, max(least, UNLOADED_PER_S / self.rate_per_s))

    def scales(self, unloaded: Measured) -> tuple[Scale, Scale]:
        """Return the same scale for both: whole numbers need no tolerance."""
        return Counts(most=self.most), Counts(most=self.most)

    def amount(self, level: float) -> float:
        """Return the number itself."""
        return level


Ladder = RateLadder | ReplicaLadder
"""Loads by their level: `start` is that of the scenario as it is, at `unloaded` hardly any two requests meet."""


def loads_of(question: Question, backend: Backend) -> list[Load]:
    """Return what arrives with each seed.

    Raises
    ------
    ServesimError
        If a workload cannot be read or generated.
    """
    points = [
        Point(name=f"seed {seed}", scenario=with_seed(question.scenario, seed)) for seed in question.seeds
    ]
    loads: dict[int, Load] = {}
    for index, outcome in backend.run(load_of, points):
        if isinstance(outcome, Failure):
            raise outcome.error(points[index].name)
        loads[index] = outcome
    return [loads[index] for index in range(len(points))]


def ladder_of(question: Question, loads: Sequence[Load]) -> Ladder:
    """Return the loads that may be tried to answer *question*.

    Raises
    ------
    ScenarioError
        If there is no rate to change, or none that is offered.
    """
    rate_per_s = sum(load.rate_per_s for load in loads) / len(loads)
    if question.find == "max-rate":
        if closed := next((load for load in loads if load.is_closed), None):
            raise _no_rate(closed)
        if rate_per_s == 0.0:
            raise ScenarioError(
                f"workload: all requests arrive at the same time (got {loads[0].requests}). expected arrivals "
                "apart from each other, because max-rate changes their distances",
                hint="say --find min-replicas",
            )
        span_s = sum(load.span_s for load in loads) / len(loads)
        return RateLadder(question.scenario, rate_per_s, span_s)
    assert question.pool is not None, "replicas are those of a pool"
    return ReplicaLadder(
        question.scenario,
        question.pool,
        rate_per_s,
        requests=max(load.requests for load in loads),
        together=max(load.together for load in loads),
    )


def _no_rate(load: Load) -> ScenarioError:
    """Return the error that a closed loop has no rate of its own."""
    got = (
        f"workload.max_concurrency {load.max_concurrency}"
        if load.max_concurrency is not None
        else f"{load.waiting:,} of {load.requests:,} requests that wait for others of their session"
    )
    return ScenarioError(
        f"--find max-rate: the workload is a closed loop, whose rate is what the cluster makes of it (got {got}). "
        "expected arrivals that do not wait for the cluster",
        hint="say --find min-replicas, or sweep the number of clients; closed_loop: false replays recorded times",
    )
