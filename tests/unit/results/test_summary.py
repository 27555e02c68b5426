"""Tests of the summary: hand-computed numbers."""

from __future__ import annotations

import math

import polars as pl
import pytest

from servesim.results import PoolHardware, SummaryOptions
from servesim.results.latencies import group_statistics, latency_statistics, slo_statistics
from servesim.results.saturation import backlog_growing
from servesim.results.schema import SUMMARY, frame_schema
from servesim.scenario import SloSpec


def requests_frame(**columns) -> pl.LazyFrame:
    """Return a requests frame with *columns*; the others are null, the state completed."""
    height = len(next(iter(columns.values())))
    columns = {"state": ["completed"] * height, **columns}
    return pl.DataFrame(
        [
            pl.Series(name, columns.get(name, [None] * height), dtype=dtype)
            for name, dtype in frame_schema("requests").items()
        ]
    ).lazy()


def test_plain(plain):
    """Counts, rates, latencies and ratios of a run known by hand."""
    summary = plain.result(options=SummaryOptions(workload_notes={"rows_read": 3})).summary
    assert list(summary) == [*(key.name for key in SUMMARY), "sessions"]
    expected = {
        "requests_arrived": 3,
        "requests_completed": 2,
        "requests_rejected": 1,
        "requests_unfinished": 0,
        "requests_measured": 2,
        "requests_cut": 0,
        "requests_rejected_by_reason": {"prompt_too_long": 1},
        "preemptions": 0,
        "duration_s": 1.5,
        "requests_per_s": 2 / 1.5,
        "prompt_tokens_per_s": 30 / 1.5,
        "output_tokens_per_s": 5 / 1.5,
        "ttft_s_mean": 0.625,
        "ttft_s_p50": 0.625,
        "ttft_s_p90": pytest.approx(0.725),
        "ttft_s_p99": pytest.approx(0.7475),
        "tpot_s_mean": 0.5,
        "tpot_s_p99": 0.5,
        "e2e_s_mean": 1.375,
        "e2e_s_p50": 1.375,
        "queue_s_mean": 0.125,
        "queue_s_p90": pytest.approx(0.225),
        "kv_used_ratio_max": 3 / 8,
        "utilization_ratio": 1.0,
        "slo_met_ratio": None,
        "goodput_requests_per_s": None,
        "slo_classes": None,
        "cost_usd": None,
        "gpu_hours": 1.5 / 3600,
        "usd_per_million_output_tokens": None,
        "backlog_growing": False,
        "interrupted": False,
        "models": None,
        "workload": {"rows_read": 3},
        "sessions": {
            "sessions": 1,
            "requests": 1,
            "prompt_tokens_mean": 20.0,
            "session_s_mean": 1.25,
            "active_mean": 1.25 / 1.5,
        },
    }
    assert {key: summary[key] for key in expected} == expected
    assert set(summary["tenants"]) == {"ann", "bob"}
    assert summary["tenants"]["bob"]["requests"] == 2
    assert summary["tenants"]["bob"]["requests_completed"] == 1
    assert summary["tenants"]["bob"]["ttft_s_p99"] == 0.75
    assert summary["replicas"] == [
        {
            "replica": 0,
            "pool": "main",
            "requests_completed": 2,
            "requests_rejected": 1,
            "requests_unfinished": 0,
            "preemptions": 0,
            "output_tokens": 5,
            "engine_steps": 3,
            "utilization_ratio": 1.0,
            "kv_used_ratio_max": 3 / 8,
        }
    ]
    assert summary["pools"][0]["pool"] == "main"
    assert summary["pools"][0]["replicas"] == 1
    assert summary["pools"][0]["output_tokens"] == 5


def test_preemptions(preempted):
    """A preemption counts, and its gap is part of the time per output token."""
    summary = preempted.result().summary
    assert summary["preemptions"] == 1
    assert summary["tpot_s_mean"] == pytest.approx((5.75 / 5 + 7.75 / 4) / 2, rel=1e-15)
    assert summary["queue_s_mean"] == 0.0


def test_nothing_measured(unfinished):
    """What was not measured is null: not 0, not NaN."""
    summary = unfinished.result().summary
    assert summary["requests_unfinished"] == 3
    assert summary["requests_measured"] == 0
    assert [
        summary[f"{name}_s_{s}"] for name in ("ttft", "tpot", "e2e", "queue") for s in ("mean", "p50", "p99")
    ] == [None] * 12
    assert summary["requests_per_s"] == 0.0
    assert summary["output_tokens_per_s"] == 7 / 5


def test_empty_run(plain):
    """A run of no requests and no time has no rates and no ratios."""
    plain.arrivals, plain.outcomes, plain.segments, plain.events = [], [], [], []
    plain.replica = {"kv_blocks": 0}
    plain.account = {"end_s": 0.0, "arrived": 0, "system_area_s": 0.0, "interrupted": True}
    summary = plain.result().summary
    keys = ("requests_per_s", "utilization_ratio", "kv_used_ratio_max", "ttft_s_mean", "output_tokens_per_s")
    assert [summary[key] for key in keys] == [None] * 5
    assert summary["requests_arrived"] == 0
    assert summary["interrupted"] is True


def test_warm_up(plain):
    """Requests that arrive before the end of the warm-up are counted, but not measured."""
    summary = plain.result(options=SummaryOptions(warm_up_s=0.25)).summary
    assert summary["requests_completed"] == 2
    assert summary["requests_measured"] == 1
    assert summary["ttft_s_mean"] == summary["ttft_s_p50"] == 0.75


def test_quantiles_are_linear():
    """Quantiles interpolate: the median of 1, 2, 3, 4 is 2.5, their 90 % quantile 3.7."""
    statistics = latency_statistics(requests_frame(arrival_s=[0.0] * 4, ttft_s=[4.0, 1.0, 3.0, 2.0]), 0.0)
    assert statistics["ttft_s_p50"] == 2.5
    assert statistics["ttft_s_p90"] == pytest.approx(3.7, rel=1e-15)


def test_mean_does_not_depend_on_the_order():
    """The mean is the same to the last bit in whatever order rows come."""
    values = [math.sin(i) ** 2 * 10.0 ** (i % 7) for i in range(5000)]
    forward, backward = (
        latency_statistics(requests_frame(arrival_s=[0.0] * 5000, e2e_s=v), 0.0)["e2e_s_mean"]
        for v in (values, values[::-1])
    )
    assert forward == backward
    assert forward == pytest.approx(math.fsum(values) / 5000, rel=1e-14)


def test_slo(plain):
    """A request meets its targets when no latency exceeds them; a rejected one does not."""
    summary = plain.result(options=SummaryOptions(slo=SloSpec(ttft_s=0.5, tpot_s=0.5))).summary
    assert summary["slo_met_ratio"] == 1 / 3
    assert summary["goodput_requests_per_s"] == 1 / 1.5
    assert summary["slo_classes"]["chat"]["slo_met_ratio"] == 0.5
    assert summary["slo_classes"]["chat"]["goodput_requests_per_s"] == 1 / 1.5
    assert summary["slo_classes"]["chat"]["slo"] == {"ttft_s": 0.5, "tpot_s": 0.5}
    assert summary["slo_classes"]["chat"]["requests"] == 2


def test_slo_after_warm_up(plain):
    """Goodput counts the requests after the warm-up, over the time after it."""
    slo = SloSpec(ttft_s=0.75)
    summary = plain.result(options=SummaryOptions(slo=slo, warm_up_s=0.25)).summary
    assert summary["slo_met_ratio"] == 0.5
    assert summary["goodput_requests_per_s"] == 1 / 1.25


def test_slo_per_class(plain):
    """A class has its own targets instead of the general ones; without either a request does not count."""
    slo = SloSpec.model_validate({"classes": {"chat": {"ttft_s": 0.4}, "batch": {"e2e_s": 9.0}}})
    summary = plain.result(options=SummaryOptions(slo=slo)).summary
    assert summary["slo_met_ratio"] == 0.0
    assert summary["slo_classes"]["chat"]["slo_met_ratio"] == 0.0
    assert summary["slo_classes"]["batch"] == {
        "slo": {"e2e_s": 9.0},
        "slo_met_ratio": None,
        "goodput_requests_per_s": None,
    }
    slo = SloSpec.model_validate({"ttft_s": 0.75, "classes": {"chat": {"ttft_s": 0.5}}})
    assert plain.result(options=SummaryOptions(slo=slo)).summary["slo_met_ratio"] == 2 / 3


def test_one_token_meets_any_tpot():
    """A request of one token has no time per output token, so that no target on it can be missed."""
    frame = requests_frame(arrival_s=[0.0, 0.0], ttft_s=[0.1, 0.1], tpot_s=[None, 9.0])
    assert slo_statistics(frame, SloSpec(tpot_s=0.1), warm_up_s=0.0, end_s=9.0)["met"] == 1


@pytest.mark.parametrize(
    ("targets", "met", "requests"),
    [
        # Of the unfinished, b, c and d have waited 9, 1 and 4 s; a and d have a first token, 2 and 3 s late.
        ({"ttft_s": 2.5}, 1, 4),  # b and d have missed it, a and c have not
        ({"ttft_s": 9.0}, 1, 2),  # nobody has missed it: the unfinished are left out, the rejected is not
        ({"e2e_s": 5.0}, 1, 4),  # a and b have been there for 10 and 9 s
        # a: 8 s for at most 4 gaps is 2 s at least; d: 1 s for 1 gap.
        ({"tpot_s": 1.5}, 1, 3),
        ({"tpot_s": 0.9}, 1, 4),
        ({"tpot_s": 0.9, "e2e_s": 5.0}, 1, 5),
    ],
)
def test_unfinished_requests_and_targets(targets, met, requests):
    """An unfinished request counts as a miss once it is too late for a target; before, it does not count."""
    frame = requests_frame(
        state=["unfinished"] * 4 + ["completed", "rejected"],
        arrival_s=[0.0, 1.0, 9.0, 6.0, 0.0, 0.0],
        first_token_s=[2.0, None, None, 9.0, 1.0, None],
        ttft_s=[2.0, None, None, 3.0, 1.0, None],
        tpot_s=[None, None, None, None, 0.5, None],
        e2e_s=[None, None, None, None, 2.0, None],
        output_tokens_target=[5, 5, 1, 2, 3, 9],
    )
    counts = slo_statistics(frame, SloSpec(**targets), warm_up_s=0.0, end_s=10.0)
    assert (counts["met"], counts["requests"]) == (met, requests)


def test_unfinished_requests_are_judged_by_their_class():
    """A class with generous targets leaves out what the general ones already count as missed."""
    frame = requests_frame(
        state=["unfinished"] * 2, arrival_s=[0.0, 0.0], slo_class=["batch", None], output_tokens_target=[2, 2]
    )
    slo = SloSpec.model_validate({"ttft_s": 1.0, "classes": {"batch": {"ttft_s": 60.0}}})
    counts = slo_statistics(frame, slo, warm_up_s=0.0, end_s=10.0)
    assert (counts["met"], counts["requests"]) == (0, 1)
    assert counts["classes"]["batch"]["slo_met_ratio"] is None
    assert counts["classes"]["batch"]["requests"] == 1


def test_rates_include_the_warm_up_and_goodput_does_not(plain):
    """Two of three requests complete in 1.5 s; one of them arrives in the last 1.25 s, all within targets."""
    options = SummaryOptions(slo=SloSpec(ttft_s=9.0), warm_up_s=0.25)
    summary = plain.result(options=options).summary
    assert summary["requests_per_s"] == 2 / 1.5
    assert summary["output_tokens_per_s"] == 5 / 1.5
    assert summary["prompt_tokens_per_s"] == 30 / 1.5
    assert summary["goodput_requests_per_s"] == 1 / 1.25


def test_no_target_at_all(plain):
    """An objective without a single target is the same as none."""
    assert plain.result(options=SummaryOptions(slo=SloSpec())).summary["slo_met_ratio"] is None


def test_cost(plain):
    """GPU hours are replicas times GPUs times the duration; the cost is per emitted token."""
    options = SummaryOptions(pools={"main": PoolHardware(gpus_per_replica=2, gpu_usd_per_h=3.6)})
    summary = plain.result(options=options).summary
    assert summary["gpu_hours"] == pytest.approx(3.0 / 3600)
    assert summary["cost_usd"] == pytest.approx(0.003)
    assert summary["usd_per_million_output_tokens"] == pytest.approx(600.0)


def test_models_are_listed_when_there_are_several():
    """Groups are sorted by name and count all their requests; latencies are over the completed ones."""
    frame = requests_frame(
        arrival_s=[0.0] * 4,
        model=["b", "a", "b", None],
        state=["completed", "completed", "unfinished", "completed"],
        e2e_s=[1.0, 2.0, None, 3.0],
        output_tokens=[2**31 - 1, 5, 2**31 - 1, 7],
    )
    groups = group_statistics(frame, "model", 0.0)
    assert list(groups) == ["a", "b"]
    assert groups["b"]["requests"] == 2
    assert groups["b"]["requests_completed"] == 1
    assert groups["b"]["output_tokens"] == 2 * (2**31 - 1)
    assert groups["b"]["e2e_s_p50"] == 1.0
    assert groups["b"]["ttft_s_p50"] is None


def backlog(served_per_s: float, *, requests: int = 1000) -> pl.LazyFrame:
    """Return requests that arrive one a second and are scheduled in order at *served_per_s*."""
    arrival_s = [float(i) for i in range(requests)]
    scheduled_s, free_s = [], 0.0
    for time_s in arrival_s:
        free_s = max(free_s, time_s)
        scheduled_s.append(free_s)
        free_s += 1.0 / served_per_s
    return requests_frame(arrival_s=arrival_s, scheduled_s=scheduled_s)


@pytest.mark.parametrize(
    ("served_per_s", "growing"), [(1.1, False), (1.0, False), (0.99, False), (0.7, True)]
)
def test_backlog_of_a_queue(served_per_s, growing):
    """A queue that is served faster than it fills does not grow; one served at 70 % of the rate does."""
    assert backlog_growing(backlog(served_per_s)) is growing


def test_backlog_never_scheduled():
    """Requests that were never scheduled wait to the end; rejected ones never wait."""
    times = [float(i) for i in range(400)]
    assert backlog_growing(requests_frame(arrival_s=times, state=["unfinished"] * 400))
    assert not backlog_growing(requests_frame(arrival_s=times, state=["rejected"] * 400))
    assert not backlog_growing(requests_frame(arrival_s=[], state=[]))


def test_backlog_of_a_slow_evening():
    """At 2/s for 600 s and then at 0.5/s for 200 s, served at 1/s: 600 wait after 600 s, which is three quarters
    of the span, and 500 of 1300 at its end: overloaded, though fewer arrive than are served in the last quarter.
    """
    arrival_s = [0.5 * i for i in range(1200)] + [600.0 + 2.0 * i for i in range(101)]
    scheduled_s = [float(i) for i in range(1301)]
    frame = requests_frame(arrival_s=arrival_s, scheduled_s=scheduled_s)
    assert backlog_growing(frame)


def test_backlog_of_a_burst_that_is_over():
    """300 requests at once in the middle of 400, gone after 75 s: the queue keeps up."""
    arrival_s = [float(i) for i in range(200)] + [200.0] * 300 + [200.0 + i for i in range(200)]
    scheduled_s = [*arrival_s[:200], *(200.0 + 0.25 * i for i in range(300))]
    scheduled_s += [max(275.0, time_s) for time_s in arrival_s[500:]]
    assert not backlog_growing(requests_frame(arrival_s=arrival_s, scheduled_s=scheduled_s))


def test_backlog_of_a_batch():
    """What arrives all at once has no load that lasts."""
    scheduled_s = [float(i) for i in range(400)]
    assert not backlog_growing(requests_frame(arrival_s=[0.0] * 400, scheduled_s=scheduled_s))


def test_backlog_of_a_last_burst():
    """A burst at the end of the arrivals is no steady growth."""
    times = [float(i) for i in range(400)] + [399.0] * 300
    scheduled = times[:400] + [500.0] * 300
    assert not backlog_growing(requests_frame(arrival_s=times, scheduled_s=scheduled))
