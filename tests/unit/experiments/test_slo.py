"""Objectives: how they are written, and what runs say about them."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from servesim.errors import ScenarioError
from servesim.experiments.slo import Slo, judge, parse_slo
from servesim.experiments.stopping import stops_for
from servesim.scenario import SloSpec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ttft_s_p99<=1", Slo("ttft_s_p99", True, 1.0)),
        (" tpot_s_p99 <= 5e-2 ", Slo("tpot_s_p99", True, 0.05)),
        ("slo_met_ratio>=0.99", Slo("slo_met_ratio", False, 0.99)),
        ("slo_classes.chat.slo_met_ratio>=0.9", Slo("slo_classes.chat.slo_met_ratio", False, 0.9)),
        ("kv_used_ratio_max<=0.9", Slo("kv_used_ratio_max", True, 0.9)),
    ],
)
def test_forms(text: str, expected: Slo) -> None:
    """A key, <= or >=, a number; spaces do not matter, and it is shown as it is written."""
    assert parse_slo(text) == expected
    assert parse_slo(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ttft_s_p99", "quote it"),
        ("ttft_s_p99<1", "expected METRIC<=NUMBER"),
        ("ttft_s_p99=<1", "expected METRIC<=NUMBER"),
        ("ttft_s_p99==1", "expected METRIC<=NUMBER"),
        ("<=1", "expected METRIC<=NUMBER"),
        ("", "expected METRIC<=NUMBER"),
        ("a<=1<=2", "expected METRIC<=NUMBER"),
        ("ttft_s_p99<=1s", r"got '1s'\). expected one in s, without its unit"),
        ("ttft_s_p99<=inf", "no number"),
        ("preemptions<=nan", "no number"),
        ("ttft_p99<=1", "did you mean 'ttft_s_p99'"),
        ("latency<=1", "metrics.md"),
        ("ttft_s_p99>=1", "expected ttft_s_p99<=1"),
        ("slo_met_ratio<=0.9", "expected slo_met_ratio>=0.9"),
    ],
)
def test_malformed(text: str, message: str) -> None:
    """Each is answered with what was expected."""
    with pytest.raises(ScenarioError, match=message):
        parse_slo(text)


def test_a_judgement_is_the_t_interval_against_the_limit() -> None:
    """1, 2, 3: mean 2 and half a width of 4.3027 / sqrt(3) = 2.484, so between -0.484 and 4.484."""
    half = stats.t.ppf(0.975, 2) / math.sqrt(3.0)

    def at(limit: float) -> tuple[bool, bool, bool]:
        found = judge(Slo("x", True, limit), [1.0, 2.0, 3.0], stopped=0, cap=math.inf, confidence=0.95)
        return found.met, found.surely_met, found.surely_missed

    assert at(2.0 - half - 1e-9) == (False, False, True)
    assert at(2.0 - half + 1e-9) == (False, False, False)
    assert at(2.0) == (True, False, False)
    assert at(2.0 + half + 1e-9) == (True, True, False)


def test_a_bound_from_below_is_the_mirror() -> None:
    """Ratios of which more is better."""
    slo = Slo("slo_met_ratio", False, 0.9)
    assert judge(slo, [0.95, 0.96, 0.955], stopped=0, cap=math.inf, confidence=0.95).surely_met
    assert judge(slo, [0.85, 0.86, 0.855], stopped=0, cap=math.inf, confidence=0.95).surely_missed


def test_one_value_is_exact() -> None:
    """There is no interval: it meets, or it does not."""
    slo = Slo("x", True, 1.0)
    assert judge(slo, [1.0], stopped=0, cap=math.inf, confidence=0.95).surely_met
    assert judge(slo, [1.1], stopped=0, cap=math.inf, confidence=0.95).surely_missed
    assert judge(slo, [], stopped=1, cap=1.0, confidence=0.95).surely_missed


def test_a_stopped_run_never_meets_and_all_of_them_surely_miss() -> None:
    """One outlier of unknown height decides the mean, but not its interval; all of them do both."""
    slo = Slo("x", True, 1.0)
    some = judge(slo, [0.5, 0.5, 0.5, 0.5], stopped=1, cap=4.0, confidence=0.95)
    assert (some.met, some.surely_met, some.surely_missed) == (False, False, False)
    assert judge(slo, [], stopped=5, cap=4.0, confidence=0.95).surely_missed


def test_an_outlier_does_not_hide_a_sure_miss() -> None:
    """Of 3, 3, 3, 3 and 1000 the plain interval reaches far below 1; capped at 5 it does not."""
    values, slo = [3.0, 3.0, 3.0, 3.0, 1000.0], Slo("x", True, 1.0)
    assert not judge(slo, values, stopped=0, cap=math.inf, confidence=0.95).surely_missed
    assert judge(slo, values, stopped=0, cap=4.0, confidence=0.95).surely_missed


@pytest.mark.parametrize("seeds", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("count", [1, 3])
def test_runs_are_ended_far_enough_to_decide(seeds: int, count: int) -> None:
    """One ended run puts the mean over seeds beyond the limit; the chance that all are is half of 5 % at most."""
    slos = [Slo("ttft_s_p99", True, 2.0)] * count
    for stop in stops_for(slos, SloSpec(), seeds=seeds, confidence=0.95):
        assert stop is not None
        factor = (stop.cap + 2.0) / 2.0
        assert factor >= max(2, seeds)
        assert seeds == 1 or (count / factor) ** seeds <= 0.025 * (1 + 1e-9)


def test_rules_by_hand() -> None:
    """101 values: the 99 % quantile is the value at position 99 of 0 to 100, so two late ones push it beyond."""
    (stop,) = stops_for([Slo("ttft_s_p99", True, 2.0)], SloSpec(), seeds=1, confidence=0.95)
    assert stop is not None
    rule = stop.rule(101, from_s=7.0)
    assert (rule.requests, rule.event, rule.from_s) == (2, "first_token", 7.0)
    assert rule.wait_s == pytest.approx(4.0)
    (stop,) = stops_for([Slo("queue_s_mean", True, 1.0)], SloSpec(), seeds=1, confidence=0.95)
    assert stop is not None
    rule = stop.rule(100, from_s=0.0)  # 26 of 100 wait more than 8 s: 2.08 s on average at least
    assert (rule.requests, rule.event) == (26, "scheduled")
    assert rule.wait_s == pytest.approx(8.0)
    (stop,) = stops_for([Slo("slo_met_ratio", False, 0.9)], SloSpec(ttft_s=0.5), seeds=1, confidence=0.95)
    assert stop is not None
    rule = stop.rule(100, from_s=0.0)  # more than 20 % miss
    assert (rule.requests, rule.wait_s) == (21, 0.5)


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("tpot_s_p99<=1", {}),
        ("kv_used_ratio_max<=0.9", {}),
        ("slo_classes.chat.ttft_s_p99<=1", {}),
        ("slo_met_ratio>=0.9", {"tpot_s": 0.1}),
        ("slo_met_ratio>=0.9", {"ttft_s": 1.0, "classes": {"batch": {"tpot_s": 1.0}}}),
        ("slo_met_ratio>=0.3", {"ttft_s": 1.0}),
    ],
)
def test_what_waiting_says_nothing_about_ends_no_run(text: str, targets: dict[str, object]) -> None:
    """Time per token, memory, single classes, classes without a target of waiting, a share that cannot double."""
    slo = SloSpec.model_validate(targets)
    assert stops_for([parse_slo(text)], slo, seeds=2, confidence=0.95) == [None]
