"""Verdicts by hand: what passes, what fails, and what the seeds cannot decide."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from servesim.checks.spec import Expectation
from servesim.checks.verdicts import Verdict, verdict_of

LOW, HIGH = [1.0, 1.1, 0.9, 1.0, 1.05], [2.0, 2.1, 1.9, 2.0, 2.1]
ADAPTER: TypeAdapter[Any] = TypeAdapter(Expectation)


def judged(
    expectation: dict[str, Any], stored: dict[str, list[float]] | None = None, **series: Any
) -> Verdict:
    """Return the verdict on *expectation* about ``ttft_s_p99`` of variants with these numbers."""
    spec = ADAPTER.validate_python({"metric": "ttft_s_p99"} | expectation)
    older = None if stored is None else (lambda variant, metric: stored[variant])
    return verdict_of(spec, list(series), lambda variant, metric: series[variant], older, 0.95)


@pytest.mark.parametrize(
    ("bounds", "outcome"),
    [
        ({"at_most": 1.2}, "passed"),
        ({"at_most": 0.8}, "failed"),
        ({"at_most": 1.02}, "undecided"),
        ({"at_least": 0.8}, "passed"),
        ({"at_least": 1.2}, "failed"),
        ({"at_least": 0.8, "at_most": 1.2}, "passed"),
        ({"at_least": 1.0, "at_most": 1.2}, "undecided"),
    ],
)
def test_a_bound_is_decided_by_the_interval(bounds: dict[str, float], outcome: str) -> None:
    """The mean is 1.01, its 95 % interval 0.918 to 1.102."""
    verdict = judged({"kind": "bound"} | bounds, a=LOW)
    assert verdict.outcome == outcome
    assert (verdict.seeds_to_decide is not None) == (outcome == "undecided")


def test_a_single_number_is_taken_as_it_is() -> None:
    """Nothing random, or one seed: the number is that of this run."""
    assert judged({"kind": "bound", "at_most": 1.0}, a=[1.0]).outcome == "passed"
    assert judged({"kind": "bound", "at_most": 0.99}, a=[1.0]).outcome == "failed"


def test_ratio() -> None:
    """2.02 / 1.01 = 2, within some 12 percent."""
    expectation = {"kind": "ratio", "of": "b", "to": "a"}
    assert judged(expectation | {"at_most": 2.5, "at_least": 1.5}, a=LOW, b=HIGH).outcome == "passed"
    assert judged(expectation | {"at_most": 1.5}, a=LOW, b=HIGH).outcome == "failed"
    assert judged(expectation | {"at_most": 2.01}, a=LOW, b=HIGH).outcome == "undecided"
    assert judged(expectation | {"at_most": 2.0}, a=[0.0], b=[1.0]).outcome == "failed"


def test_trend() -> None:
    """Every step must go the way that is said; a tolerated share may go the other."""
    rising = {"kind": "trend", "direction": "increasing"}
    assert judged(rising, a=LOW, b=HIGH).outcome == "passed"
    assert judged(rising, a=HIGH, b=LOW).outcome == "failed"
    assert judged(rising | {"direction": "decreasing"}, a=HIGH, b=LOW).outcome == "passed"
    assert judged(rising | {"along": ["b", "a"]}, a=HIGH, b=LOW).outcome == "passed"
    assert judged(rising, a=[1.0], b=[1.0]).outcome == "failed", "equal is no rise"
    assert judged(rising | {"tolerance": 0.1}, a=[1.0], b=[0.95]).outcome == "passed"
    verdict = judged(rising, a=LOW, b=[1.0, 1.12, 0.9, 1.01, 1.05])
    assert verdict.outcome == "undecided" and "not from a to b" in verdict.measured


def test_equal() -> None:
    """Seed by seed without a tolerance, the ratio of means with one."""
    same = {"kind": "equal", "of": "a", "to": "b"}
    assert judged(same, a=LOW, b=LOW).outcome == "passed"
    assert judged(same, a=LOW, b=[*LOW[:-1], 7.0]).outcome == "failed"
    assert judged(same | {"tolerance": 0.1}, a=LOW, b=[x * 1.001 for x in LOW]).outcome == "passed"
    assert judged(same | {"tolerance": 0.1}, a=HIGH, b=LOW).outcome == "failed"


@pytest.mark.parametrize(
    ("now", "tolerance", "outcome"),
    [
        (LOW, 0.0, "passed"),
        ([x * 1.01 for x in LOW], 0.02, "passed"),
        ([x * 1.05 for x in LOW], 0.02, "failed"),
        ([x * 0.5 for x in LOW], 0.0, "passed"),
        ([1.1, 1.0, 1.0, 0.95, 1.1], 0.02, "undecided"),
    ],
)
def test_no_regression(now: list[float], tolerance: float, outcome: str) -> None:
    """A latency may fall, and rise by what is tolerated; the same numbers pass whatever their spread."""
    expectation = {"kind": "no_regression", "tolerance": tolerance}
    assert judged(expectation, stored={"a": LOW}, a=now).outcome == outcome


def test_no_regression_knows_which_way_is_better() -> None:
    """Throughput may rise; a file may say otherwise."""
    expectation = {"kind": "no_regression", "metric": "requests_per_s"}
    assert judged(expectation, stored={"a": LOW}, a=HIGH).outcome == "passed"
    assert judged(expectation, stored={"a": HIGH}, a=LOW).outcome == "failed"
    assert judged(expectation | {"better": "lower"}, stored={"a": HIGH}, a=LOW).outcome == "passed"


def test_no_regression_from_zero() -> None:
    """There is no ratio to nothing: any preemption where there was none is worse."""
    expectation = {"kind": "no_regression", "metric": "preemptions"}
    assert judged(expectation, stored={"a": [0.0, 0.0]}, a=[0.0, 0.0]).outcome == "passed"
    assert judged(expectation, stored={"a": [0.0, 0.0]}, a=[3.0, 3.0]).outcome == "failed"


def test_published_numbers_are_shown_with_their_source() -> None:
    """Beside what was expected and measured."""
    published = {"value": "2x", "source": "A paper, table 3"}
    verdict = judged({"kind": "bound", "at_most": 2, "published": published, "name": "speed"}, a=LOW)
    assert (verdict.name, verdict.published) == ("speed", "2x (A paper, table 3)")


def test_large_numbers_are_told_in_full() -> None:
    """49,334 requests are no 4.933e+04; small ones keep four digits, enough to hold against a bound."""
    verdict = judged({"kind": "bound", "at_least": 49_000, "at_most": 2_000_000}, a=[49_334.0])
    assert (verdict.measured, verdict.expected) == ("49,334", "49,000 to 2,000,000")
    assert judged({"kind": "bound", "at_most": 0.98}, a=[0.9734]).measured == "0.9734"
    assert judged({"kind": "bound", "at_least": 1234.5}, a=[1234.4]).expected == "at least 1234.5"
