"""A scenario under other loads: the same requests at another rate, or on another number of replicas."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from servesim.experiments.points import Point
from servesim.scenario import Scenario
from servesim.workload.build import build_workload


@dataclass(frozen=True, slots=True)
class Load:
    """What arrives in a run.

    Attributes
    ----------
    requests
        How many.
    span_s
        Time from the first arrival to the last.
    together
        Most requests that arrive at the same time.
    waiting
        Requests of which only the run tells when they arrive: follow-ups of sessions. The others count for span,
        rate and together.
    max_concurrency
        The limit of concurrent requests.
    """

    requests: int
    span_s: float
    together: int
    waiting: int = 0
    max_concurrency: int | None = None

    @property
    def rate_per_s(self) -> float:
        """Mean rate of arrivals; 0 where all of them arrive at once."""
        return (self.requests - self.waiting - 1) / self.span_s if self.span_s > 0.0 else 0.0

    @property
    def is_closed(self) -> bool:
        """Whether arrivals depend on what happens in the run."""
        return self.waiting > 0 or self.max_concurrency is not None


def load_of(point: Point) -> Load:
    """Return what arrives in a run of *point*, without running it."""
    scenario = point.scenario
    horizon_s = scenario.run.horizon_s
    requests, waiting, together, first_s, last_s = 0, 0, 0, 0.0, 0.0
    for frame in build_workload(scenario.workload, seed=scenario.seed).frames():
        kept = frame if horizon_s is None else frame.filter(pl.col("arrival_s") < horizon_s)
        if kept.is_empty():
            break
        arrival_s = kept.filter(pl.col("think_s").is_null())["arrival_s"]
        first_s = first_s if requests else kept["arrival_s"][0]
        last_s = kept["arrival_s"][-1]
        requests += len(kept)
        waiting += len(kept) - len(arrival_s)
        together = max([together, *arrival_s.value_counts()["count"].top_k(1)])
    return Load(requests, last_s - first_s, together, waiting, scenario.workload.max_concurrency)


def to_the_end(scenario: Scenario) -> Scenario:
    """Return *scenario* with runs that go on until every request is finished.

    What a run leaves unfinished has no latency: cut runs would look better than they are.
    """
    return scenario.model_copy(update={"run": scenario.run.model_copy(update={"drain": True})})


def at_rate(scenario: Scenario, factor: float) -> Scenario:
    """Return *scenario* with *factor* times the rate: the same requests, measured and left out alike.

    Warm-up and horizon are divided by the factor as arrival times are.
    """
    workload, run = scenario.workload, scenario.run
    faster = workload.model_copy(update={"rate_scale": workload.rate_scale * factor})
    horizon_s = None if run.horizon_s is None else run.horizon_s / factor
    times = run.model_copy(update={"warm_up_s": run.warm_up_s / factor, "horizon_s": horizon_s})
    return scenario.model_copy(update={"workload": faster, "run": times})


def with_replicas(scenario: Scenario, pool: str, replicas: int) -> Scenario:
    """Return *scenario* with another number of *replicas* in one pool."""
    pools = tuple(
        spec.model_copy(update={"replicas": replicas}) if spec.name == pool else spec
        for spec in scenario.cluster.pools
    )
    return scenario.model_copy(update={"cluster": scenario.cluster.model_copy(update={"pools": pools})})
