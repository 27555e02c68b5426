"""The points that a search for capacity measures: a load, run with every seed, judged by objectives.

Each load is run once. Runs that miss by far are ended early, and are never asked for values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from servesim.cluster.late import StoppedEarly
from servesim.experiments.backends import Backend
from servesim.experiments.metrics import value_of
from servesim.experiments.points import Failure, Point
from servesim.experiments.replications import Case, Replication, Replications, replicate, replication_of
from servesim.experiments.slo import Judgement, Slo, judge
from servesim.experiments.stopping import Stop, stops_for
from servesim.scenario import Scenario

UNSERVED_RATIO = 0.01
"""Latencies do not count where a larger share of the requests was rejected or left unfinished."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """A run that was ended early.

    Attributes
    ----------
    rule
        Position of the rule that ended it, among those of the run.
    """

    rule: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A load, and what its runs gave.

    Attributes
    ----------
    level
        The load, on the scale of the search.
    runs
        One per seed: of those that went on to their end.
    stopped
        Runs that were ended early.
    slos, judgements
        The objectives, and what the runs say about each.
    """

    level: float
    runs: tuple[Replication, ...]
    stopped: int
    slos: tuple[Slo, ...]
    judgements: tuple[Judgement, ...]

    def values(self, metric: str) -> list[float]:
        """Return a metric of the runs that went on to their end."""
        return [value_of(run.summary, metric) for run in self.runs]

    @property
    def growing(self) -> int:
        """Runs whose backlog grew with the arrivals."""
        return sum(run.summary["backlog_growing"] for run in self.runs)

    @property
    def saturated(self) -> bool:
        """Whether the backlog grew in most of the runs that went on to their end."""
        return 2 * self.growing > len(self.runs)

    @property
    def unserved_ratio(self) -> float:
        """Share of the requests that were rejected or left unfinished, mean over the runs."""
        shares = [
            (run.summary["requests_rejected"] + run.summary["requests_unfinished"])
            / run.summary["requests_arrived"]
            for run in self.runs
        ]
        return sum(shares) / len(shares) if shares else 0.0

    @property
    def served(self) -> bool:
        """Whether so many requests were served that latencies count."""
        return self.unserved_ratio <= UNSERVED_RATIO or not any(slo.is_latency for slo in self.slos)

    @property
    def met(self) -> bool:
        """Whether every mean is within its limit, and the load is one that can last."""
        return (
            not self.stopped
            and not self.saturated
            and self.served
            and all(judgement.met for judgement in self.judgements)
        )

    @property
    def surely_met(self) -> bool:
        """Whether every interval lies within its limit, and no run saturates."""
        return self.met and not self.growing and all(judgement.surely_met for judgement in self.judgements)

    @property
    def surely_missed(self) -> bool:
        """Whether some interval lies beyond its limit, or every run was ended or saturated."""
        return (
            self.growing == len(self.runs)
            or not self.served
            or any(judgement.surely_missed for judgement in self.judgements)
        )

    @property
    def seeds_to_decide(self) -> int | None:
        """How many seeds would decide if the means hold; None where that cannot be told."""
        if self.met:
            counts = [judgement.seeds for judgement in self.judgements if not judgement.surely_met]
            known = [count for count in counts if count is not None]
            return max(known) if known and len(known) == len(counts) else None
        known = [j.seeds for j in self.judgements if not j.met and j.seeds is not None]
        return min(known, default=None)

    @property
    def verdict(self) -> str:
        """What became of it in a word or two."""
        if self.stopped:
            return "stopped early"
        return "saturated" if self.saturated else "met" if self.met else "missed"


class LoadPoints:
    """Measures loads, each once.

    Parameters
    ----------
    scenario_at
        Returns the scenario of a load.
    slos
        The objectives.
    backend
        Where runs are computed.
    confidence
        Of intervals.
    requests
        Requests of a run with each seed, at most, where the load tells how many there are to measure (closed
        loops); None: as many as in the first load.
    on_done
        Called with the runs that are done, and None: how many there will be is not known.
    """

    def __init__(
        self,
        scenario_at: Callable[[float], Scenario],
        slos: Sequence[Slo],
        backend: Backend,
        *,
        confidence: float,
        requests: Sequence[int] | None = None,
        on_done: Callable[[int, int | None], None] | None = None,
    ) -> None:
        self.scenario_at = scenario_at
        self.slos = tuple(slos)
        self.backend = backend
        self.confidence = confidence
        self.measured: dict[float, Measured] = {}
        self.seeds: list[int] = []
        self._requests = list(requests or ())
        self._stops: list[Stop | None] = []
        self._on_done = on_done
        self._runs = 0

    def start(self, level: float, seeds: Sequence[int]) -> Replications:
        """Measure the first load, an easy one, and learn from it what the others need to know.

        That is whether anything is random (if not, one seed is enough) and how many requests a run has.
        """
        case = Case(name="the unloaded cluster", scenario=self.scenario_at(level), objects={})
        found = replicate([case], seeds, self.backend, on_done=lambda *_: self._tell(1))
        runs = found.by_variant[case.name]
        self.seeds = found.seeds
        self._requests = self._requests or [_measured_at_most(run) for run in runs]
        self._stops = stops_for(
            self.slos, case.scenario.slo, seeds=len(self.seeds), confidence=self.confidence
        )
        self.measured[level] = self._judged(level, runs)
        return found

    def __call__(self, level: float) -> Measured:
        """Return what a load gives; runs may have been ended early."""
        if level not in self.measured:
            self.measured[level] = self._measure(level, self._stops)
        return self.measured[level]

    def whole(self, level: float) -> Measured:
        """Return what a load gives, every run to its end."""
        if level not in self.measured or self.measured[level].stopped:
            self.measured[level] = self._measure(level, [])
        return self.measured[level]

    def _measure(self, level: float, stops: Sequence[Stop | None]) -> Measured:
        scenario = self.scenario_at(level)
        case = Case(name=f"load {level:.6g}", scenario=scenario, objects={})
        from_s = scenario.run.warm_up_s
        points = [
            case.point(seed, stop_when=[stop.rule(requests, from_s=from_s) for stop in stops if stop])
            for seed, requests in zip(self.seeds, self._requests, strict=True)
        ]
        outcomes: dict[int, Replication | Stopped] = {}
        for index, outcome in self.backend.run(outcome_of, points):
            if isinstance(outcome, Failure):
                raise outcome.error(points[index].name)
            outcomes[index] = outcome
            self._tell(1)
        return self._judged(level, [outcomes[index] for index in range(len(points))])

    def _judged(self, level: float, outcomes: Sequence[Replication | Stopped]) -> Measured:
        runs = [outcome for outcome in outcomes if isinstance(outcome, Replication)]
        stopped = [outcome for outcome in outcomes if isinstance(outcome, Stopped)]
        owners = [index for index, stop in enumerate(self._stops) if stop]
        judgements = []
        for index, (slo, stop) in enumerate(zip(self.slos, self._stops, strict=True)):
            values = [value_of(run.summary, slo.metric, where=f"--slo {str(slo)!r}") for run in runs]
            mine = sum(owners[run.rule] == index for run in stopped)
            judgement = (
                judge(
                    slo, values, stopped=mine, cap=stop.cap if stop else math.inf, confidence=self.confidence
                )
                if mine == len(stopped)
                else Judgement(met=False, surely_met=False, surely_missed=False)  # unknown in other runs
            )
            judgements.append(judgement)
        return Measured(
            level=level,
            runs=tuple(runs),
            stopped=len(stopped),
            slos=self.slos,
            judgements=tuple(judgements),
        )

    def _tell(self, runs: int) -> None:
        self._runs += runs
        if self._on_done is not None:
            self._on_done(self._runs, None)


def outcome_of(point: Point) -> Replication | Stopped:
    """Return what a run of *point* leaves, or that one of its rules ended it."""
    try:
        return replication_of(point)
    except StoppedEarly as stop:
        return Stopped(stop.rule)


def _measured_at_most(run: Replication) -> int:
    """Return a number that the requests from the end of the warm-up on do not exceed."""
    summary = run.summary
    unserved = summary["requests_rejected"] + summary["requests_unfinished"]
    return int(summary["requests_measured"] + unserved)
