"""What a search for capacity says: the answer, what qualifies it, and how it came about; a sentence each."""

from __future__ import annotations

from collections.abc import Sequence

from servesim.experiments.capacity_question import Question
from servesim.experiments.capacity_result import Capacity, Findings, number
from servesim.experiments.ladders import KNEE_TOLERANCE, TOLERANCE, Ladder, RateLadder
from servesim.experiments.load_points import UNSERVED_RATIO, Measured
from servesim.experiments.replications import fixed_workload
from servesim.experiments.slo import DEFAULT_RATIO
from servesim.results.latencies import has_targets

SHORT_SPANS = 20.0
"""A run whose requests arrive within fewer mean latencies than this says little of a load that lasts."""


def conclusions_of(result: Capacity, found: Findings) -> list[str]:
    """Return the answer, and where the backlog begins to grow."""
    answer = _tell_rate(result) if result.find == "max-rate" else _tell_replicas(result, found)
    return [*answer, *_tell_goodput(result), _tell_knee(result)]


def _tell_rate(result: Capacity) -> list[str]:
    offered = f"{number(result.value)} requests/s as offered"
    scale = f"workload.rate_scale={result.rate_scale:.4g}"
    tokens = f"{number(result.output_tokens_per_s)} output tokens/s"
    if not result.limited:
        return [
            f"max rate: at least {offered} ({scale}), {tokens}: the objectives are met at the highest rate tried, "
            "at which all requests arrive in the time that one of them takes; more requests would tell more"
        ]
    return [f"max rate: {offered} ({scale}), {tokens}{_interval_text(result)}"]


def _tell_replicas(result: Capacity, found: Findings) -> list[str]:
    value = int(result.value)
    answer = f"min replicas of pool {result.pool}: {value}{_interval_text(result)}"
    if not found.has_interval:
        fewer = f"; {value - 1} {_verb('miss', value - 1)} the objectives" if value > 1 else ""
        return [answer + fewer]
    if result.high is None:
        return [answer, "no number tried surely meets the objectives: more seeds would tell more"]
    high = int(result.high)
    sure = f"{high:,} surely {_verb('meet', high)} the objectives"
    return [answer, f"{sure}; {_tell_below(found.measured[high - 1])}" if high > 1 else sure]


def _tell_below(measured: Measured) -> str:
    """Return what is known about the largest number of replicas that does not surely meet the objectives."""
    count = int(measured.level)
    verb = _verb("meet" if measured.met else "miss", count)
    if measured.surely_missed:
        return f"{count:,} surely {verb} them"
    seeds = measured.seeds_to_decide
    more = f", and some {seeds:,} seeds would decide if the means hold" if seeds else ""
    return f"{count:,} {verb} them by the means only{more}"


def _verb(verb: str, count: int) -> str:
    """Return *verb* in the form that goes with *count*."""
    return verb if count != 1 else f"{verb}es" if verb.endswith("ss") else f"{verb}s"


def _tell_goodput(result: Capacity) -> list[str]:
    """Return the goodput of every class at the answer; nothing where there are no classes."""
    row = next(row for row in result.curve.iter_rows(named=True) if row[result.level] == result.value)
    prefix, suffix = "slo_classes.", ".goodput_requests_per_s"
    classes = [
        f"{name.removeprefix(prefix).removesuffix(suffix)} {number(value)}"
        for name, value in row.items()
        if name.startswith(prefix) and name.endswith(suffix) and value is not None
    ]
    if not classes:
        return []
    return [f"goodput there: {number(row['goodput_requests_per_s'])} requests/s ({', '.join(classes)})"]


def _interval_text(result: Capacity) -> str:
    if not result.random or len(result.seeds) < 2:
        return ""
    low = "-" if result.low is None else number(result.low)
    high = "-" if result.high is None else number(result.high)
    return f"; {result.confidence:.0%} interval [{low}, {high}]"


def _tell_knee(result: Capacity) -> str:
    if result.knee_high is None:
        return "knee: the backlog does not grow at any load tried"
    one = result.unit == "replicas" and result.knee_high == 1.0
    at = f"{number(result.knee_high)} {'replica' if one else result.unit}"
    if result.knee_low is None:
        return f"knee: the backlog grows at {at} already"
    if result.knee_low == result.value:
        return f"knee: the objectives are met until the backlog grows, at {at}"
    below = f"knee: the backlog grows at {at}, and not yet at {number(result.knee_low)}"
    if result.find != "max-rate":
        return below
    room = (result.knee_low / result.value - 1.0, result.knee_high / result.value - 1.0)
    return f"{below}: {100 * room[0]:.0f} to {room[1]:.0%} above the max rate"


def warnings_of(
    question: Question, ladder: Ladder, found: Findings, explored: Sequence[Measured]
) -> list[str]:
    """Return what qualifies the answer."""
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
            f"not monotone: missed at {number(ladder.amount(first))} {ladder.unit}, but met at "
            f"{number(ladder.amount(later))}; the answer is on the easy side of the first miss that was seen"
        )
    if found.has_interval and found.surely_met.inside is None:
        warnings.append(
            f"too few seeds: with {len(found.seeds)}, no load meets the objectives for certain, and the interval has "
            "one end at most"
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
            f"at the answer all requests arrive within {number(seconds)} s, {number(min(spans))} times their mean "
            "latency: this is the capacity for a burst of that length; workload.repeat makes it last"
        )
    return warnings


def methods_of(question: Question, found: Findings, *, rates: bool) -> list[str]:
    """Return how the numbers came about."""
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
    if has_targets(question.scenario.slo):
        lines.append("goodput: requests per s that meet all targets of the scenario's slo")
    if any(measured.stopped for measured in found.measured.values()):
        lines.append(
            "stopped early: so many requests had waited so long that an objective was missed by far, whatever came "
            "after; such runs have no latencies"
        )
    return lines


def _difficulty(ladder: Ladder, level: float) -> float:
    return level if isinstance(ladder, RateLadder) else -level
