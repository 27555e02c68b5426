"""Service-level objectives as expressions over the summary: ``ttft_s_p99<=1``, and what runs say about them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from servesim.errors import ScenarioError, nearest
from servesim.experiments.metrics import better, unit_of
from servesim.experiments.statistics import mean_interval, seeds_to_decide
from servesim.results.latencies import has_targets
from servesim.results.schema import EXTRA_METRICS, LATENCY_METRICS, SUMMARY
from servesim.scenario import Scenario

DEFAULT_RATIO = 0.99
"""Share of the requests that must meet the scenario's own targets where no expression is given."""

_FORM = re.compile(r"^\s*(?P<metric>[^<>=\s]+)\s*(?P<sense><=|>=)\s*(?P<limit>[^<>=\s]+)\s*$")


@dataclass(frozen=True, slots=True)
class Slo:
    """A limit for a metric of the summary.

    Attributes
    ----------
    metric
        Key of the summary, with dots for tables in it.
    at_most
        Whether the metric must not exceed the limit; otherwise it must reach it.
    limit
        In the metric's unit.
    """

    metric: str
    at_most: bool
    limit: float

    def __str__(self) -> str:
        return f"{self.metric}{'<=' if self.at_most else '>='}{self.limit:g}"

    @property
    def is_latency(self) -> bool:
        """Whether the metric is a latency, which requests that are not served do not have."""
        return self.metric.rpartition(".")[2].startswith(
            tuple(f"{metric.name}_" for metric in (*LATENCY_METRICS, *EXTRA_METRICS))
        )

    def excess(self, value: float) -> float:
        """Return by how much *value* is beyond the limit; negative within it."""
        return value - self.limit if self.at_most else self.limit - value


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the runs of a point say about one objective.

    Attributes
    ----------
    met
        Whether the mean is within the limit.
    surely_met, surely_missed
        Whether the interval of the mean lies wholly within the limit, or wholly beyond it.
    seeds
        How many seeds would decide, None where that cannot be told.
    """

    met: bool
    surely_met: bool
    surely_missed: bool
    seeds: int | None = None


def judge(slo: Slo, values: Sequence[float], *, stopped: int, cap: float, confidence: float) -> Judgement:
    """Return what the runs of a point say about *slo*.

    Parameters
    ----------
    slo
        The objective.
    values
        The metric of the runs that were not ended early, one per seed.
    stopped
        Runs that were ended early because their value was beyond the limit by more than *cap*.
    cap
        Beyond this much, excess is not counted when it is asked whether the mean surely misses: the mean of
        capped values is a lower bound of the mean, so that its interval may be taken for it, and it is known
        for the stopped runs, too.
    confidence
        Of the two-sided interval.
    """
    excesses = [slo.excess(value) for value in values]
    capped = [min(excess, cap) for excess in excesses] + [cap] * stopped
    if len(capped) == 1:
        return Judgement(met := not stopped and excesses[0] <= 0.0, met, not met)
    low = mean_interval(capped, confidence=confidence).low
    assert low is not None, "two values have an interval"
    surely_missed = low > 0.0
    if stopped:
        return Judgement(met=False, surely_met=False, surely_missed=surely_missed)
    interval = mean_interval(excesses, confidence=confidence)
    assert interval.high is not None, "two values have an interval"
    return Judgement(
        met=interval.estimate <= 0.0,
        surely_met=interval.high <= 0.0,
        surely_missed=surely_missed,
        seeds=seeds_to_decide(excesses, confidence=confidence),
    )


def parse_slo(text: str, *, option: str = "--slo") -> Slo:
    """Return the objective that *text*, ``METRIC<=NUMBER`` or ``METRIC>=NUMBER``, means.

    Raises
    ------
    ScenarioError
        If it has another form, names no metric of the summary, or bounds one from its good side.
    """
    label = f"{option} {text!r}"
    match = _FORM.match(text)
    if match is None:
        raise ScenarioError(
            f"{label}: not an objective. expected METRIC<=NUMBER or METRIC>=NUMBER, such as 'ttft_s_p99<=1'",
            hint="quote it: the shell takes < and > for itself" if not re.search("[<>]", text) else None,
        )
    metric, at_most = match["metric"], match["sense"] == "<="
    try:
        limit = float(match["limit"])
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        unit = unit_of(metric)
        raise ScenarioError(
            f"{label}: no number (got {match['limit']!r}). expected one{'' if unit == '-' else f' in {unit}'}, "
            "without its unit"
        )
    _check_range(label, metric, limit)
    known = [key.name for key in SUMMARY]
    if "." not in metric and metric not in known:
        raise ScenarioError(
            f"{label}: unknown metric (got {metric!r}). expected a key of summary.json with a number",
            hint=nearest(metric, known) or "docs/reference/metrics.md lists them",
        )
    if better(metric) == ("higher" if at_most else "lower"):
        raise ScenarioError(
            f"{label}: bounds {metric} on its good side. expected {metric}{'>=' if at_most else '<='}{limit:g}"
        )
    return Slo(metric, at_most, limit)


def _check_range(label: str, metric: str, limit: float) -> None:
    """Refuse a limit that no value of *metric* is on the other side of."""
    if unit_of(metric) == "0-1" and not 0.0 <= limit <= 1.0:
        percent = f"divide percent by 100: {limit / 100.0:g}" if 1.0 < limit <= 100.0 else None
        raise ScenarioError(f"{label}: no ratio (got {limit:g}). expected a number from 0 to 1", hint=percent)
    if limit < 0.0:
        raise ScenarioError(f"{label}: negative (got {limit:g}). expected 0 or more")


def slos_of(scenario: Scenario, texts: Sequence[str], *, option: str = "--slo") -> list[Slo]:
    """Return the objectives of *texts*; without any, that enough requests meet the scenario's own targets.

    Raises
    ------
    ScenarioError
        If one is malformed, or there is none.
    """
    if texts:
        return list(dict.fromkeys(parse_slo(text, option=option) for text in texts))
    if not has_targets(scenario.slo):
        raise ScenarioError(
            f"{option}: no objective (got none, and the scenario sets no slo). expected one or more",
            hint=f"say {option} 'ttft_s_p99<=1' {option} 'tpot_s_p99<=0.05'",
        )
    return [Slo("slo_met_ratio", False, DEFAULT_RATIO)]
