"""Why does a simulation of one trace end differently from that of another? One marginal at a time.

Both traces, and all traces between them that have some marginals of one and the rest of the other, are simulated on the
same scenario with the same seeds. The Shapley value of a marginal is what swapping it changes, averaged over all orders
of swapping; together they are the difference, exactly.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl

from servesim.errors import ServesimError
from servesim.experiments.backends import Backend
from servesim.experiments.metrics import unit_of, value_of
from servesim.experiments.points import Failure, Point, summary_of, with_seed
from servesim.results.frames import disk_errors
from servesim.scenario import Scenario
from servesim.traces.marginals import MARGINALS, Marginals, swapped
from servesim.traces.parquet import write_parquet
from servesim.traces.shapley import Coalition, coalitions, shapley_values
from servesim.workload.spec import SourceSpec, WorkloadSpec

OnDone = Callable[[int, int], None]

NOT_APPLIED = ("closed_loop", "prefixes")
"""Keys of a scenario's workload that need more of a trace than times and lengths."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What makes the difference between two traces.

    Attributes
    ----------
    metric, unit
        What was compared.
    a, b
        Its value for each trace, a mean over the seeds.
    shares
        Marginal to its Shapley value; the sum is exactly ``b - a``.
    values
        Marginals taken from B to the metric's value, for every combination.
    seeds
        What was simulated.
    warnings
        What qualifies the numbers.
    """

    metric: str
    unit: str
    a: Fraction
    b: Fraction
    shares: dict[str, Fraction]
    values: dict[Coalition, Fraction]
    seeds: list[int]
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "metric": self.metric,
            "a": float(self.a),
            "b": float(self.b),
            "difference": float(self.b - self.a),
            "shares": {name: float(share) for name, share in self.shares.items()},
            "values": {
                "+".join(sorted(taken)) or "none": float(value) for taken, value in self.values.items()
            },
            "seeds": self.seeds,
            "warnings": self.warnings,
        }


def explain(
    one: pl.DataFrame,
    other: pl.DataFrame,
    scenario: Scenario,
    backend: Backend,
    *,
    metric: str = "ttft_s_p99",
    seeds: list[int] | None = None,
    on_done: OnDone | None = None,
) -> Explanation:
    """Return what makes *metric* differ between two traces on *scenario*.

    Parameters
    ----------
    one, other
        Requests in order of arrival. Times and lengths are used; everything else is left out.
    scenario
        Its workload's source is replaced, and what it does to requests stays, but for `NOT_APPLIED`.
    backend
        Where the 16 runs per seed are computed.
    metric
        A key of the summary.
    seeds
        Seeds to average over; None: the scenario's.
    on_done
        Called with the runs that are done and those there are.

    Raises
    ------
    ServesimError
        If a run fails, or has no such metric.
    """
    seeds = [scenario.seed] if seeds is None else seeds
    marginals = Marginals(one), Marginals(other)
    wanted = list(coalitions(list(MARGINALS)))
    with tempfile.TemporaryDirectory(prefix="servesim-") as folder:
        points = []
        for index, taken in enumerate(wanted):
            path = Path(folder) / f"{index}.parquet"
            with disk_errors(path):
                write_parquet([swapped(*marginals, taken)], path, {})
            points += [_point(scenario, path, taken, seed) for seed in seeds]
        summaries = _run(points, backend, on_done)
    sums = dict.fromkeys(wanted, Fraction(0))
    for index, summary in enumerate(summaries):
        sums[wanted[index // len(seeds)]] += Fraction(value_of(summary, metric, where="--metric"))
    values = {taken: total / len(seeds) for taken, total in sums.items()}
    return Explanation(
        metric=metric,
        unit=unit_of(metric),
        a=values[frozenset()],
        b=values[frozenset(MARGINALS)],
        shares=shapley_values(list(MARGINALS), values),
        values=values,
        seeds=seeds,
        warnings=[*_left_out(one, other), *_not_applied(scenario)],
    )


def _point(scenario: Scenario, path: Path, taken: Coalition, seed: int) -> Point:
    source = SourceSpec.model_validate({"reader": "servesim", "path": str(path)})
    update = {"source": source, "generator": None, "sources": None, "closed_loop": False, "prefixes": None}
    workload: WorkloadSpec = scenario.workload.model_copy(update=update)
    name = f"the trace with {', '.join(sorted(taken)) or 'nothing'} of the second"
    return Point(name=name, scenario=with_seed(scenario.model_copy(update={"workload": workload}), seed))


def _run(points: list[Point], backend: Backend, on_done: OnDone | None) -> list[dict[str, Any]]:
    summaries: list[dict[str, Any]] = [{} for _ in points]
    for done, (index, outcome) in enumerate(backend.run(summary_of, points), start=1):
        if isinstance(outcome, Failure):
            raise outcome.error(points[index].name)
        summaries[index] = outcome
        if on_done is not None:
            on_done(done, len(points))
    return summaries


def _left_out(one: pl.DataFrame, other: pl.DataFrame) -> list[str]:
    """Tell of columns that are no part of the marginals."""
    used = {"arrival_s", "prompt_tokens", "output_tokens"}
    left = sorted(({*one.columns} | {*other.columns}) - used)
    return [f"only times and lengths are compared; left out: {', '.join(left)}"] if left else []


def _not_applied(scenario: Scenario) -> list[str]:
    """Tell of keys of the scenario that the mixtures have nothing for."""
    given = [f"workload.{name}" for name in NOT_APPLIED if getattr(scenario.workload, name)]
    return [f"left out of the scenario, for it needs sessions or blocks: {', '.join(given)}"] if given else []


def check_open(requests: pl.DataFrame, where: str) -> None:
    """Refuse a trace whose requests wait for others: its gaps are a result of the simulation.

    Raises
    ------
    ServesimError
        If one does.
    """
    if "think_s" in requests.columns and requests["think_s"].null_count() < requests.height:
        raise ServesimError(
            f"{where}: its requests follow others after a think time. expected arrivals of its own",
            hint="compare it without --scenario, or simulate both and compare the results",
        )
