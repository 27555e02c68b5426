"""A scenario under other loads: the same requests at another rate, or on another number of replicas."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    requests: int
    span_s: float
    together: int

    @property
    def rate_per_s(self) -> float:
        """Mean rate of arrivals; 0 where all of them arrive at once."""
        return (self.requests - 1) / self.span_s if self.span_s > 0.0 else 0.0


def load_of(point: Point) -> Load:
    """Return what arrives in a run of *point*, without running it."""
    scenario = point.scenario
    horizon_s = scenario.run.horizon_s
    requests, together, first_s, last_s = 0, 0, 0.0, 0.0
    for frame in build_workload(scenario.workload, seed=scenario.seed).frames():
        arrival_s = frame["arrival_s"]
        if horizon_s is not None:
            arrival_s = arrival_s.filter(arrival_s < horizon_s)
        if arrival_s.is_empty():
            break
        first_s = first_s if requests else arrival_s[0]
        last_s = arrival_s[-1]
        requests += len(arrival_s)
        most = arrival_s.value_counts()["count"].max()
        assert isinstance(most, int), "a count of rows that there are"
        together = max(together, most)
    return Load(requests, last_s - first_s, together)


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
