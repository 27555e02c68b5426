"""What a search for capacity found: the answer, the curve that was explored, and what qualifies them."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from servesim.experiments.capacity_question import Question
from servesim.experiments.ladders import KNEE_TOLERANCE, TOLERANCE, Ladder, RateLadder
from servesim.experiments.load_points import UNSERVED_RATIO, Measured
from servesim.experiments.metrics import numbers
from servesim.experiments.replications import fixed_workload
from servesim.experiments.search import Boundary
from servesim.experiments.slo import DEFAULT_RATIO
from servesim.experiments.statistics import mean_interval

SHORT_SPANS = 20.0
"""A run whose requests arrive within fewer mean latencies than this says little of a load that lasts."""

THROUGHPUT = ("requests_per_s", "output_tokens_per_s", "goodput_requests_per_s")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Capacity:
    """What a search for capacity found.

    Attributes
    ----------
    scenario
        Its name.
    find
        ``max-rate`` or ``min-replicas``.
    pool
        Whose replicas are counted; None for a rate.
    slos
        The objectives, as expressions.
    value, unit
        The answer: the highest rate explored, or the least number of replicas, at which the mean over seeds of
        every objective's metric is within its limit.
    low, high
        Interval of the answer; None without seeds that differ, and for an end that was not found.
    limited
        Whether there is a limit: False where the objectives are met at the hardest load that was tried, too.
    rate_scale
        ``workload.rate_scale`` that gives the rate; None for replicas.
    output_tokens_per_s
        Latency-bounded throughput: output tokens of the requests that arrive per s at the answer.
    knee_low, knee_high
        Two loads in `unit`, at the easier of which the backlog does not grow, and at the harder it does; None for
        what was not found.
    unloaded
        The objectives' metrics of an unloaded cluster.
    seeds, random
        The seeds that were run, and whether they change anything.
    confidence
        Of intervals.
    curve
        A row per load that was explored, in order: ``rate_per_s`` and ``rate_scale``, or ``replicas``; ``verdict``
        (met, missed, saturated or stopped early) and whether it is ``certain``; the mean of each objective's
        metric with ``_low`` and ``_high``, null where a run was ended early or the backlog grows: such values
        depend on the length of the run; measured throughput and goodput; ``runs``, and how many of them were
        ``runs_stopped`` and ``runs_growing``.
    conclusions, warnings, methods
        What it means, what qualifies it, how it came about; a sentence each.
    """

    scenario: str
    find: str
    pool: str | None
    slos: list[str]
    value: float
    unit: str
    low: float | None
    high: float | None
    limited: bool
    rate_scale: float | None
    output_tokens_per_s: float
    knee_low: float | None
    knee_high: float | None
    unloaded: dict[str, float | None]
    seeds: list[int]
    random: bool
    confidence: float
    curve: pl.DataFrame
    conclusions: list[str]
    warnings: list[str]
    methods: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, for JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {"curve": self.curve.to_dicts()}

    def _repr_html_(self) -> str:
        """Return the conclusions and the curve for notebooks."""
        names = [name for name in self.curve.columns if not name.startswith("slo_classes.")]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_cell(row[name]))}</td>" for name in names) + "</tr>"
            for row in self.curve.iter_rows(named=True)
        )
        lines = [*self.conclusions, *(f"warning: {line}" for line in self.warnings)]
        notes = "".join(f"<div>{html.escape(line)}</div>" for line in lines)
        methods = "".join(f"<div>{html.escape(line)}</div>" for line in self.methods)
        return f"{notes}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{methods}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the search left.

    Attributes
    ----------
    met, surely_met, not_surely_missed
        Where the means stop to meet the objectives, where intervals stop to lie within them, and where they begin
        to lie beyond.
    knee
        Where the backlog begins to grow.
    measured
        Every load by its level.
    seeds, random
        As in `Capacity`.
    """

    met: Boundary
    surely_met: Boundary
    not_surely_missed: Boundary
    knee: Boundary
    measured: Mapping[float, Measured]
    seeds: list[int]
    random: bool

    @property
    def answer(self) -> Measured:
        """The hardest load that meets the objectives."""
        assert self.met.inside is not None, "without an answer there is an error"
        return self.measured[self.met.inside]

    @property
    def has_interval(self) -> bool:
        """Whether there are seeds that differ."""
        return self.random and len(self.seeds) > 1


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
        warnings=_warnings(question, ladder, found, explored),
        methods=_methods(question, found, rates=rates),
    )
    tell = _tell_rate if rates else _tell_replicas
    return replace(result, conclusions=[*tell(result, found), _tell_knee(result)])


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


def _tell_rate(result: Capacity, found: Findings) -> list[str]:
    offered = f"{_text(result.value)} requests/s as offered"
    scale = f"workload.rate_scale={result.rate_scale:.4g}"
    tokens = f"{_text(result.output_tokens_per_s)} output tokens/s"
    if not result.limited:
        return [
            f"max rate: at least {offered} ({scale}), {tokens}: the objectives are met at the highest rate tried, "
            "at which all requests arrive in the time that one of them takes; more requests would tell more"
        ]
    return [f"max rate: {offered} ({scale}), {tokens}{_interval_text(result)}"]


def _tell_replicas(result: Capacity, found: Findings) -> list[str]:
    value = int(result.value)
    if not found.has_interval:
        fewer = f"; {value - 1} {'miss' if value > 2 else 'misses'} the objectives" if value > 1 else ""
        return [f"min replicas of pool {result.pool}: {value}{fewer}"]
    if result.high is None:
        return [
            f"min replicas of pool {result.pool}: {value} by the means, but no number tried meets the objectives "
            "for certain; more seeds would tell more"
        ]
    high = int(result.high)
    lines = [f"min replicas of pool {result.pool}: {high} surely meet the objectives{_interval_text(result)}"]
    if high > 1:
        below = found.measured[high - 1]
        if below.surely_missed:
            lines.append(f"{high - 1}: surely missed")
        else:
            count = below.seeds_to_decide
            more = f"; if its means hold, some {count} seeds would decide" if count else ""
            lines.append(f"{high - 1}: undecided, by the means {'met' if below.met else 'missed'}{more}")
    return lines


def _interval_text(result: Capacity) -> str:
    if not result.random or len(result.seeds) < 2:
        return ""
    low = "-" if result.low is None else _text(result.low)
    high = "-" if result.high is None else _text(result.high)
    return f"; {result.confidence:.0%} interval [{low}, {high}]"


def _tell_knee(result: Capacity) -> str:
    if result.knee_high is None:
        return "knee: the backlog does not grow at any load tried"
    at = f"{_text(result.knee_high)} {result.unit}"
    if result.knee_low is None:
        return f"knee: the backlog grows at {at} already"
    if result.knee_low == result.value:
        return f"knee: the objectives are met until the backlog grows, at {at}"
    below = f"knee: the backlog grows at {at}, and not yet at {_text(result.knee_low)}"
    if result.find != "max-rate":
        return below
    return f"{below}: {_ratio(result.knee_low, result.value) - 1.0:.0%} above the max rate"


def _warnings(question: Question, ladder: Ladder, found: Findings, explored: Sequence[Measured]) -> list[str]:
    warnings = []
    if len(question.seeds) == 1:
        warnings.append("one seed: no interval, the answer is about its requests only")
    elif not found.random:
        warnings.append(
            "nothing is random here: two seeds gave the same numbers, so there is one run for each load and no "
            "interval. The answer is exact for this trace, and says nothing about another day; "
            "workload.resample.block_s=60 draws other days from it"
        )
    elif fixed_workload(question.scenario):
        warnings.append(
            "the trace is the same for every seed: the interval is over the random choices of policies only; "
            "workload.resample.block_s=60 varies the trace, too"
        )
    by_difficulty = sorted(explored, key=lambda measured: _difficulty(ladder, measured.level))
    missed = [index for index, measured in enumerate(by_difficulty) if not measured.met]
    again = [measured for measured in by_difficulty[missed[0] :] if measured.met] if missed else []
    if again:
        first, later = by_difficulty[missed[0]].level, again[-1].level
        warnings.append(
            f"not monotone: missed at {_text(ladder.amount(first))} {ladder.unit}, but met at "
            f"{_text(ladder.amount(later))}; the answer is on the easy side of the first miss that was seen"
        )
    answer = found.answer
    if answer.unserved_ratio:
        warnings.append(
            f"{answer.unserved_ratio:.2%} of the requests were rejected at the answer; latencies are without them"
        )
    if answer.growing:
        warnings.append(f"the backlog grows in {answer.growing} of {len(answer.runs)} runs at the answer")
    spans = [run.last_arrival_s / run.summary["e2e_s_mean"] for run in answer.runs]
    if 0.0 < min(spans) < SHORT_SPANS:
        seconds = min(run.last_arrival_s for run in answer.runs)
        warnings.append(
            f"at the answer all requests arrive within {_text(seconds)} s, {_text(min(spans))} times their mean "
            "latency: this is the capacity for a burst of that length; workload.repeat makes it last"
        )
    return warnings


def _methods(question: Question, found: Findings, *, rates: bool) -> list[str]:
    listed = " and ".join(str(slo) for slo in question.slos)
    if question.by_default:
        listed += f": the scenario's slo for {DEFAULT_RATIO:.0%} of the requests, because no --slo was given"
    lines = [
        f"objectives: {listed}; means over {len(found.seeds)} seeds"
        if found.has_interval
        else f"objectives: {listed}"
    ]
    if found.has_interval:
        lines.append(
            f"{question.confidence:.0%} interval: loads where Student's interval of every mean lies within its limit "
            "are surely met (met *), where one lies beyond surely missed; the answer is between them"
        )
    if rates:
        lines.append(
            "every rate plays the same requests, seed by seed, warm-up and horizon scaled with it; rates are "
            f"found to {TOLERANCE:.0%}, the knee to {KNEE_TOLERANCE:.0%}"
        )
    lines.append(
        "runs go on until every request is finished, which lowers throughput and goodput of short ones; where the "
        f"backlog grows in most runs, or more than {UNSERVED_RATIO:.0%} of the requests are not served, nothing is met"
    )
    if any(measured.stopped for measured in found.measured.values()):
        lines.append(
            "stopped early: so many requests had waited so long that an objective was missed by far, whatever came "
            "after; such runs have no latencies"
        )
    return lines


def _difficulty(ladder: Ladder, level: float) -> float:
    return level if isinstance(ladder, RateLadder) else -level


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


def _text(value: float) -> str:
    """Return a number with three digits or, if it is larger, as a whole one."""
    return f"{value:,.0f}" if abs(value) >= 100.0 or value == int(value) else f"{value:.3g}"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return _text(value)
    return "" if value is None else str(value)
