"""From the loads that a search measured to its result: the numbers of the answer, and the curve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from servesim.experiments.capacity_question import Question
from servesim.experiments.capacity_result import Capacity, Findings
from servesim.experiments.capacity_sentences import conclusions_of, methods_of, warnings_of
from servesim.experiments.ladders import Ladder, RateLadder
from servesim.experiments.load_points import Measured
from servesim.experiments.metrics import numbers
from servesim.experiments.statistics import mean_interval

THROUGHPUT = ("requests_per_s", "output_tokens_per_s", "goodput_requests_per_s")


def capacity_of(question: Question, ladder: Ladder, found: Findings) -> Capacity:
    """Return what *found* means for *question*."""
    unloaded = found.measured[ladder.unloaded]
    explored = sorted(
        (measured for level, measured in found.measured.items() if level != ladder.unloaded),
        key=lambda measured: measured.level,
    )
    answer = found.answer
    rates = isinstance(ladder, RateLadder)

    def amount(level: float | None) -> float | None:
        return None if level is None else ladder.amount(level)

    sure = amount(found.surely_met.inside)
    possible = amount(found.not_surely_missed.outside if rates else found.not_surely_missed.inside)
    low, high = (sure, possible) if rates else (possible, sure)
    tokens_per_request = _ratio(_output_tokens(unloaded), _total(unloaded, "requests_arrived"))
    rate_per_s = ladder.amount(answer.level) if rates else ladder.rate_per_s
    knee = (found.knee.inside, found.knee.outside)
    result = Capacity(
        scenario=question.scenario.name,
        find=question.find,
        pool=question.pool,
        slos=[str(slo) for slo in question.slos],
        value=ladder.amount(answer.level),
        unit=ladder.unit,
        low=low if found.has_interval else None,
        high=high if found.has_interval else None,
        limited=found.met.outside is not None,
        rate_scale=ladder.scenario_at(answer.level).workload.rate_scale if rates else None,
        output_tokens_per_s=rate_per_s * tokens_per_request,
        knee_low=amount(knee[0]),
        knee_high=amount(knee[1]),
        unloaded={slo.metric: _mean(unloaded.values(slo.metric)) for slo in question.slos},
        seeds=found.seeds,
        random=found.random,
        confidence=question.confidence,
        curve=_curve(question, ladder, explored, random=found.has_interval),
        conclusions=[],
        warnings=warnings_of(question, ladder, found, explored),
        methods=methods_of(question, found, rates=rates),
    )
    return replace(result, conclusions=conclusions_of(result, found))


def _curve(question: Question, ladder: Ladder, explored: Sequence[Measured], *, random: bool) -> pl.DataFrame:
    rows = [_row(question, ladder, measured, random=random) for measured in explored]
    names = list(dict.fromkeys(name for row in rows for name in row))
    types: dict[str, pl.DataType] = dict.fromkeys(names, pl.Float64())
    counts = ("replicas", "runs", "runs_stopped", "runs_growing")
    types |= {name: pl.Int64() for name in counts if name in types}
    return pl.DataFrame(rows, schema=types | {"verdict": pl.String(), "certain": pl.Boolean()})


def _row(question: Question, ladder: Ladder, measured: Measured, *, random: bool) -> dict[str, Any]:
    """Return the row of a load; values that depend on the length of the run are left out."""
    level = measured.level
    row: dict[str, Any]
    if isinstance(ladder, RateLadder):
        rate_scale = ladder.scenario_at(level).workload.rate_scale
        row = {"rate_per_s": ladder.amount(level), "rate_scale": rate_scale}
    else:
        row = {"replicas": int(level)}
    row["verdict"] = measured.verdict
    row["certain"] = (measured.surely_met if measured.met else measured.surely_missed) if random else None
    lasting = not measured.stopped and not measured.saturated
    for slo in question.slos:
        values = measured.values(slo.metric)
        interval = mean_interval(values, confidence=question.confidence) if lasting else None
        row[slo.metric] = interval.estimate if interval else None
        row[f"{slo.metric}_low"] = interval.low if interval else None
        row[f"{slo.metric}_high"] = interval.high if interval else None
    classes = [f"slo_classes.{name}.goodput_requests_per_s" for name in question.scenario.slo.classes]
    for metric in (*THROUGHPUT, *classes):
        row[metric] = _mean(_known(measured, metric)) if not measured.stopped else None
    counts = {"runs": len(measured.runs) + measured.stopped, "runs_stopped": measured.stopped}
    return row | counts | {"runs_growing": measured.growing}


def _known(measured: Measured, metric: str) -> list[float]:
    """Return a metric of the runs that have it."""
    found = [dict(numbers(run.summary)).get(metric) for run in measured.runs]
    return [value for value in found if value is not None]


def _output_tokens(measured: Measured) -> float:
    return sum(float(pool["output_tokens"]) for run in measured.runs for pool in run.summary["pools"])


def _total(measured: Measured, key: str) -> float:
    return sum(float(run.summary[key]) for run in measured.runs)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
