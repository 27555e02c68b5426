"""From the numbers of replications to a verdict: passed, failed, or not decided by these seeds.

An expectation passes when the confidence interval of what it is about lies wholly where it should, fails when it lies
wholly elsewhere, and is undecided between. Numbers that no seed changes are exact, and decided as they are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from servesim.checks.spec import (
    Bound,
    Bounds,
    Equal,
    Expectation,
    Named,
    NoRegression,
    Ratio,
    Trend,
    named_variants,
)
from servesim.experiments.metrics import better
from servesim.experiments.statistics import (
    Interval,
    mean_interval,
    paired_interval,
    ratio_interval,
    seeds_to_decide,
)
from servesim.results.units import number_text

_MANY = 1000
"""Numbers from here on are told with separated thousands."""

Outcome = Literal["passed", "failed", "undecided"]
Values = Callable[[str, str], Sequence[float]]
"""From variant and metric to the numbers of its replications, in the order of the seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of an expectation.

    Attributes
    ----------
    name
        How reports call it.
    expected, published, measured
        As texts; *published* is empty where there is no published number.
    outcome
        ``passed``, ``failed`` or ``undecided``.
    seeds_to_decide
        How many seeds would decide, if means and spreads are what they seem; None where nobody can tell.
    """

    name: str
    expected: str
    published: str
    measured: str
    outcome: Outcome
    seeds_to_decide: int | None = None


def verdict_of(
    expectation: Expectation, variants: list[str], values: Values, stored: Values | None, confidence: float
) -> Verdict:
    """Return the verdict on *expectation*.

    Parameters
    ----------
    expectation
        Of a check file.
    variants
        Names of the file's variants.
    values
        What was measured.
    stored
        What the baseline holds, where there is one.
    confidence
        Of the intervals.
    """
    metric = expectation.metric
    names = named_variants(expectation, variants)
    series = [values(name, metric) for name in names]
    judge = _Judge(metric, confidence)
    if isinstance(expectation, Bound):
        verdict = judge.bound(expectation, series[0])
    elif isinstance(expectation, Ratio):
        verdict = judge.ratio(expectation, series[0], series[1])
    elif isinstance(expectation, Trend):
        verdict = judge.trend(expectation, names, series)
    elif isinstance(expectation, Equal):
        verdict = judge.equal(expectation, series[0], series[1])
    else:
        assert stored is not None, "the file's validator asks for a baseline"
        verdict = judge.no_regression(expectation, series[0], stored(names[0], metric))
    subject = f" of {names[0]}" if len(names) == 1 and len(variants) > 1 else ""
    return named(verdict, expectation, f"{metric}{subject}{verdict.name}")


def bounds_verdict(expectation: Bounds, name: str, values: Sequence[float], confidence: float) -> Verdict:
    """Return the verdict on numbers that shall lie within bounds; reports call it *name* unless it has one."""
    return named(_Judge(name, confidence).bound(expectation, values), expectation, name)


def named(verdict: Verdict, expectation: Named, name: str) -> Verdict:
    """Return *verdict* with the name and the published number of its expectation, *name* if it has none."""
    published = expectation.published
    return replace(
        verdict,
        name=expectation.name or name,
        published="" if published is None else f"{published.value} ({published.source})",
    )


@dataclass(frozen=True, slots=True)
class _Judge:
    metric: str
    confidence: float

    def bound(self, expected: Bounds, values: Sequence[float]) -> Verdict:
        interval = mean_interval(values, confidence=self.confidence)
        bounds = [bound for bound in (expected.at_least, expected.at_most) if bound is not None]
        return self._verdict(
            "",
            _range_text(expected.at_least, expected.at_most),
            interval,
            outcome(interval, expected.at_least, expected.at_most),
            [seeds_to_decide(values, bound, confidence=self.confidence) for bound in bounds],
        )

    def ratio(self, expected: Ratio, above: Sequence[float], below: Sequence[float]) -> Verdict:
        return self._ratio(
            f", {expected.of} / {expected.to}", above, below, expected.at_least, expected.at_most
        )

    def equal(self, expected: Equal, one: Sequence[float], other: Sequence[float]) -> Verdict:
        name = f", {expected.of} = {expected.to}"
        if expected.tolerance > 0.0:
            return self._ratio(name, one, other, 1.0 - expected.tolerance, 1.0 + expected.tolerance)
        differing = sum(a != b for a, b in zip(one, other, strict=True))
        measured = (
            "the same at every seed" if not differing else f"differs at {differing} of {len(one)} seeds"
        )
        return Verdict(
            name=name,
            expected="equal",
            published="",
            measured=measured,
            outcome="failed" if differing else "passed",
        )

    def trend(self, expected: Trend, names: Sequence[str], series: Sequence[Sequence[float]]) -> Verdict:
        sign = 1.0 if expected.direction == "increasing" else -1.0
        outcomes: list[Outcome] = []
        counts: list[int | None] = []
        for before, after in itertools.pairwise(series):
            # A step, turned so that it should be positive, and raised by what is tolerated.
            steps = [sign * (b - a) + expected.tolerance * abs(a) for a, b in zip(before, after, strict=True)]
            interval = mean_interval(steps, confidence=self.confidence)
            least = 0.0 if expected.tolerance else math.ulp(0.0)  # without tolerance a step must be one
            outcomes.append(outcome(interval, least, None))
            counts.append(seeds_to_decide(steps, 0.0, confidence=self.confidence))
        failed = [
            f"{a} to {b}"
            for a, b, found in zip(names[:-1], names[1:], outcomes, strict=True)
            if found != "passed"
        ]
        means = " -> ".join(_mean_text(values) for values in series)
        worst: Outcome = (
            "failed" if "failed" in outcomes else "undecided" if "undecided" in outcomes else "passed"
        )
        verdict = Verdict(
            name=f" along {len(names)} variants",
            expected=expected.direction
            + (f", {expected.tolerance:.1%} tolerated" if expected.tolerance else ""),
            published="",
            measured=means + (f" (not from {', '.join(failed)})" if failed else ""),
            outcome=worst,
        )
        return replace(verdict, seeds_to_decide=_most(counts) if worst == "undecided" else None)

    def no_regression(
        self, expected: NoRegression, values: Sequence[float], stored: Sequence[float]
    ) -> Verdict:
        way = expected.better or better(self.metric) or "lower"
        if list(values) == list(stored):
            return Verdict(
                name=", no regression",
                expected=f"no worse than {_mean_text(stored)}",
                published="",
                measured="the same numbers as the baseline",
                outcome="passed",
            )
        limit = 1.0 + expected.tolerance if way == "lower" else 1.0 - expected.tolerance
        bounds = (None, limit) if way == "lower" else (limit, None)
        if sum(stored) == 0.0:  # no ratio to nothing: any change for the worse is one
            interval = paired_interval(values, stored, confidence=self.confidence)
            ends = (None, 0.0) if way == "lower" else (0.0, None)
            return self._verdict(", no regression", "no worse than 0", interval, outcome(interval, *ends), [])
        verdict = self._ratio(", no regression", values, stored, *bounds)
        return replace(
            verdict,
            expected=f"no worse than {_mean_text(stored)} ({expected.tolerance:.1%} tolerated)",
            measured=f"{_mean_text(values)}, {verdict.measured} of the baseline",
        )

    def _ratio(
        self,
        name: str,
        above: Sequence[float],
        below: Sequence[float],
        at_least: float | None,
        at_most: float | None,
    ) -> Verdict:
        interval = ratio_interval(above, below, confidence=self.confidence)
        if interval.low is None and len(above) > 1 and list(below) == [below[0]] * len(below) == list(above):
            interval = replace(interval, low=interval.estimate, high=interval.estimate)
        counts = [
            seeds_to_decide(
                [a - bound * b for a, b in zip(above, below, strict=True)], confidence=self.confidence
            )
            for bound in (at_least, at_most)
            if bound is not None
        ]
        return self._verdict(
            name,
            _range_text(at_least, at_most),
            interval,
            outcome(interval, at_least, at_most),
            counts,
        )

    def _verdict(
        self,
        name: str,
        expected: str,
        interval: Interval,
        found: Outcome,
        counts: Sequence[int | None],
    ) -> Verdict:
        return Verdict(
            name=name,
            expected=expected,
            published="",
            measured=_interval_text(interval),
            outcome=found,
            seeds_to_decide=_most(counts) if found == "undecided" else None,
        )


def outcome(interval: Interval, at_least: float | None, at_most: float | None) -> Outcome:
    """Return whether what *interval* estimates lies within the bounds.

    A single replication is taken as it is: the number of this seed, which no interval surrounds.
    """
    low, high = interval.low, interval.high
    if low is None or high is None:
        if interval.replications > 1 or math.isnan(interval.estimate):
            return "undecided"
        low = high = interval.estimate
    inside = (at_least is None or low >= at_least) and (at_most is None or high <= at_most)
    outside = (at_least is not None and high < at_least) or (at_most is not None and low > at_most)
    return "passed" if inside else "failed" if outside else "undecided"


def _most(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return max(known) if known and len(known) == len(counts) else None


def _range_text(at_least: float | None, at_most: float | None) -> str:
    low, high = ("" if bound is None else _bound_text(bound) for bound in (at_least, at_most))
    return f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}"


def _bound_text(bound: float) -> str:
    """Return a bound as it was written."""
    return f"{bound:,.0f}" if abs(bound) >= _MANY and float(bound).is_integer() else f"{bound:g}"


def _interval_text(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return _measured(interval.estimate)
    if interval.low == interval.high:
        return f"{_measured(interval.estimate)} at every seed"
    return f"{_measured(interval.estimate)} [{_measured(interval.low)}, {_measured(interval.high)}]"


def _mean_text(values: Sequence[float]) -> str:
    return _measured(sum(values) / len(values))


def _measured(value: float) -> str:
    """Return a number with four digits, so that it can be held against its bound, and all of a whole part."""
    return number_text(value) if abs(value) >= _MANY else f"{value:.4g}"
