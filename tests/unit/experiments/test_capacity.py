"""Capacity of small scenarios: same requests at every load, what ends runs early, what is said, bad input."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import servesim
from servesim.cluster.late import StoppedEarly
from servesim.errors import ScenarioError, ServesimError
from servesim.experiments.backends import InProcess
from servesim.experiments.capacity_result import Capacity
from servesim.experiments.load_points import LoadPoints
from servesim.experiments.loads import at_rate, load_of, with_replicas
from servesim.experiments.metrics import value_of
from servesim.experiments.points import Point, run_point, with_seed
from servesim.experiments.saved import CAPACITY
from servesim.experiments.slo import parse_slo
from servesim.experiments.stopping import stops_for
from servesim.scenario import Scenario

QUICKSTART = Path(__file__).parents[3] / "scenarios/quickstart.yaml"
LENGTHS = {
    "prompt_tokens": {"distribution": "exponential", "mean": 300},
    "output_tokens": {"distribution": "exponential", "mean": 40},
}


def scenario(
    *,
    generator: dict[str, Any] | None = None,
    engine: dict[str, Any] | None = None,
    scheduler: dict[str, Any] | str = "fcfs",
    **blocks: Any,
) -> Scenario:
    """Return two replicas with two seats each; a token takes 10 ms, so that they serve some 10 requests a s."""
    made = {"name": "poisson", "rate_per_s": 4.0, "requests": 300, **(generator or {}), **LENGTHS}
    pool = {
        "model": "llama-3.1-8b",
        "gpu": "h100-sxm",
        "replicas": 2,
        "latency": {"name": "linear", "base_s": 0.01},
        "engine": {"max_num_seqs": 2, **(engine or {})},
    }
    policies = {"scheduler": scheduler}
    base = {"workload": {"generator": made}, "cluster": {"pools": [pool]}, "policies": policies}
    return Scenario.model_validate(base | blocks)


@pytest.mark.parametrize(
    "generator",
    [
        {"name": "poisson"},
        {"name": "gamma", "cv": 2.0},
        {"name": "weibull", "cv": 2.0},
        {"name": "constant"},
    ],
)
def test_every_rate_plays_the_same_requests(generator: dict[str, Any]) -> None:
    """Arrival times are divided by the factor, lengths stay; the same requests are measured and left out."""
    base = with_seed(scenario(generator=generator, run={"warm_up_s": 20.0, "horizon_s": 50.0}), 3)
    one = run_point(Point(name="one", scenario=base))
    three = run_point(Point(name="three", scenario=at_rate(base, 3.0)))
    assert 100 < one.requests.height < 300
    arrivals = (one.requests["arrival_s"] / 3.0 - three.requests["arrival_s"]).abs().max()
    assert isinstance(arrivals, float) and arrivals < 1e-12
    lengths = ["prompt_tokens", "output_tokens_target"]
    assert one.requests.select(lengths).equals(three.requests.select(lengths))
    assert one.summary["requests_measured"] == three.summary["requests_measured"] < one.requests.height


def test_a_resampled_trace_is_the_same_at_every_rate() -> None:
    """Blocks are drawn before the rate is changed."""
    overrides = ["workload.resample.block_s=20", "workload.max_requests=300"]
    base = servesim.load_scenario(QUICKSTART, overrides=overrides)
    one, five = (
        load_of(Point(name="one", scenario=base)),
        load_of(Point(name="5", scenario=at_rate(base, 5.0))),
    )
    assert (one.requests, one.together) == (five.requests, five.together)
    assert five.rate_per_s == pytest.approx(5.0 * one.rate_per_s)


def test_a_load_by_hand() -> None:
    """300 arrivals, a quarter of a second apart; before the horizon of 10 s there are 40."""
    base = scenario(generator={"name": "constant"})
    load = load_of(Point(name="all", scenario=base))
    assert (load.requests, load.span_s, load.together, load.rate_per_s) == (300, 74.75, 1, 4.0)
    cut = load_of(
        Point(name="cut", scenario=scenario(generator={"name": "constant"}, run={"horizon_s": 10.0}))
    )
    assert (cut.requests, cut.rate_per_s) == (40, 4.0)


@pytest.mark.parametrize("case", range(12))
def test_an_early_end_never_changes_a_verdict(case: int) -> None:
    """Every run that a rule ends would have missed by more than the rule says: overloads of several kinds, with
    rejections, preemptions, warm-up, another order of the queue, for every kind of objective.
    """
    blocks: list[dict[str, Any]] = [
        {},
        {"engine": {"max_num_seqs": 8, "kv_blocks": 200, "max_model_len": 1200}},
        {"scheduler": {"name": "sjf", "predictor": {"name": "oracle"}}, "run": {"warm_up_s": 10.0}},
    ]
    slo = {"ttft_s": 0.5, "tpot_s": 1.0}
    base = with_seed(scenario(slo=slo, **blocks[case % 3]), case)
    texts = ["ttft_s_p99<=0.5", "ttft_s_p50<=0.2", "queue_s_p90<=0.3", "e2e_s_mean<=1", "ttft_s_mean<=0.3"]
    slos = [parse_slo(text) for text in [*texts, "slo_met_ratio>=0.9"]]
    ended = 0
    for factor in (1.5, 4.0, 30.0):
        loaded = at_rate(base, factor)
        full = run_point(Point(name="full", scenario=loaded)).summary
        served = full["requests_measured"] + full["requests_rejected"]
        for slo_ in slos:
            (stop,) = stops_for([slo_], base.slo, seeds=1, confidence=0.95)
            assert stop is not None
            rule = stop.rule(served, from_s=loaded.run.warm_up_s)
            try:
                run_point(Point(name="watched", scenario=loaded, stop_when=[rule]))
            except StoppedEarly:
                ended += 1
                assert slo_.excess(value_of(full, slo_.metric)) > stop.cap
    assert ended >= 5, "overloads are ended"


def test_points_judge_alike_with_and_without_early_ends() -> None:
    """A load that is measured whole is missed, too."""
    slos = [parse_slo("ttft_s_p99<=0.5"), parse_slo("queue_s_mean<=0.2")]
    points = LoadPoints(lambda level: at_rate(scenario(), level), slos, InProcess(), confidence=0.95)
    points.start(1e-3, [0, 1, 2])
    seen = set()
    for level in (0.5, 1.0, 2.0, 3.0, 5.0, 20.0):
        early = points(level)
        whole = points.whole(level)
        seen.add(early.stopped)
        assert early.met == whole.met
        assert not early.stopped or whole.stopped == 0
    assert 0 in seen and 3 in seen


def test_an_overloaded_run_ends_early() -> None:
    """At 50 times the rate most requests are late before a fifth of the work is done."""
    slos = [parse_slo("ttft_s_p99<=0.2")]
    base = scenario(generator={"requests": 3000})
    points = LoadPoints(lambda level: at_rate(base, level), slos, InProcess(), confidence=0.95)
    points.start(1e-3, [0])
    found = points(5.0)
    assert found.stopped == 1 and found.verdict == "stopped early" and not found.runs
    (stop,) = stops_for(slos, base.slo, seeds=1, confidence=0.95)
    assert stop is not None
    with pytest.raises(StoppedEarly) as ended:
        run_point(Point(name="50", scenario=at_rate(base, 5.0), stop_when=[stop.rule(3000, from_s=0.0)]))
    assert ended.value.arrived < 600


def found(base: Scenario | Path, *slo: str, **options: Any) -> Capacity:
    """Search in this process."""
    return servesim.capacity(base, slo=slo, workers=1, **options)


@pytest.fixture(scope="module")
def answer() -> Capacity:
    """Return the highest rate of the small scenario."""
    return found(scenario(slo={"ttft_s": 0.5}), "ttft_s_p99<=0.5", "tpot_s_p99<=0.05", seeds=4)


def test_the_answer_is_a_point_of_the_curve(answer: Capacity) -> None:
    """Met where it says so, missed at the next rate; the interval holds it; loads are in order."""
    curve = answer.curve
    assert curve["rate_per_s"].is_sorted()
    row = curve.filter(pl.col("rate_per_s") == answer.value).row(0, named=True)
    assert row["verdict"] == "met" and row["rate_scale"] == answer.rate_scale
    assert row["ttft_s_p99"] <= 0.5 and row["tpot_s_p99"] <= 0.05
    harder = curve.filter(pl.col("rate_per_s") > answer.value)
    assert harder["verdict"].to_list() and "met" not in harder["verdict"].to_list()
    assert harder["rate_per_s"][0] <= 1.02 * answer.value
    assert answer.low is not None and answer.high is not None
    assert answer.low <= answer.value < answer.high
    assert answer.knee_low is not None and answer.knee_high is not None
    assert answer.value <= answer.knee_low < answer.knee_high <= 1.1 * answer.knee_low


def test_what_does_not_last_has_no_latencies(answer: Capacity) -> None:
    """Saturated or stopped rows show none; those that were run to their end show throughput."""
    hopeless = answer.curve.filter(pl.col("verdict").is_in(["saturated", "stopped early"]))
    assert hopeless.height
    for name in ("ttft_s_p99", "ttft_s_p99_low", "tpot_s_p99"):
        assert hopeless[name].null_count() == hopeless.height
    saturated = hopeless.filter(pl.col("verdict") == "saturated")
    assert saturated["output_tokens_per_s"].null_count() == 0


def test_a_rerun_at_the_answer_gives_its_numbers(answer: Capacity) -> None:
    """What --set workload.rate_scale=... would: the mean of the four seeds."""
    assert answer.rate_scale is not None
    values = [
        run_point(Point(name="again", scenario=with_seed(at_rate(scenario(), answer.rate_scale), seed)))
        for seed in answer.seeds
    ]
    mean = sum(run.summary["ttft_s_p99"] for run in values) / 4
    row = answer.curve.filter(pl.col("rate_per_s") == answer.value)
    assert row["ttft_s_p99"].item() == pytest.approx(mean, rel=1e-12)
    tokens = sum(run.requests["output_tokens"].sum() for run in values) / sum(
        run.requests.height for run in values
    )
    assert answer.output_tokens_per_s == pytest.approx(answer.value * tokens)


def test_workers_do_not_change_the_answer(answer: Capacity) -> None:
    """Two processes, the same numbers."""
    options: dict[str, Any] = {"slo": ["ttft_s_p99<=0.5", "tpot_s_p99<=0.05"], "seeds": 4, "workers": 2}
    again = servesim.capacity(scenario(slo={"ttft_s": 0.5}), **options)
    assert again.to_dict() == answer.to_dict()


def test_replicas_are_found_and_their_neighbour_is_told() -> None:
    """The least number that surely meets; one fewer does not."""
    base = at_rate(scenario(), 5.0)
    result = found(base, "ttft_s_p99<=0.3", find="min-replicas", seeds=4)
    assert result.unit == "replicas" and result.high is not None and result.low is not None
    assert result.low <= result.value <= result.high
    sure = result.curve.filter((pl.col("verdict") == "met") & pl.col("certain"))
    assert sure["replicas"].min() == result.high
    assert result.conclusions[0] == (
        f"min replicas of pool main: {result.value:g}; 95% interval [{result.low:g}, {result.high:g}]"
    )
    assert result.conclusions[1].startswith(f"{result.high:g} surely meet the objectives; ")
    one = run_point(Point(name="x", scenario=with_replicas(base, "main", int(result.high)))).summary
    assert len(one["replicas"]) == result.high


def test_too_few_seeds_are_told() -> None:
    """Two seeds, t(0.975, 1) = 12.7: nothing is certain, and no time is spent on looking for it."""
    result = found(scenario(generator={"requests": 60}), "e2e_s_p99<=2", seeds=2)
    assert result.low is None and any(line.startswith("too few seeds") for line in result.warnings)
    assert result.curve.height < 25


def test_nothing_random_is_exact() -> None:
    """A trace and a router that draws nothing: no interval, and a hint at resampling."""
    base = servesim.load_scenario(QUICKSTART, overrides=["workload.max_requests=150"], with_files=True)
    result = found(base, "ttft_s_p99<=0.3")
    assert not result.random and result.seeds == [0] and (result.low, result.high) == (None, None)
    assert result.curve["certain"].null_count() == result.curve.height
    assert "nothing is random" in result.warnings[0] and "workload.resample" in result.warnings[0]


def test_without_objectives_the_scenarios_own_are_taken() -> None:
    """99 % of the requests within the slo block, and it is said."""
    result = found(scenario(slo={"ttft_s": 0.5}), seeds=2)
    assert result.slos == ["slo_met_ratio>=0.99"]
    assert any("because no --slo was given" in line for line in result.methods)
    row = result.curve.filter(pl.col("rate_per_s") == result.value).row(0, named=True)
    assert row["slo_met_ratio"] >= 0.99


def test_rejected_requests_let_no_objective_pass() -> None:
    """A tenth of the prompts is too long: the rest is fast, and says nothing about them."""
    base = scenario(engine={"max_model_len": 700})
    with pytest.raises(ServesimError, match=r"does not serve \d+.\d% of the requests"):
        found(base, "ttft_s_p99<=1", seeds=2)
    counted = scenario(engine={"max_model_len": 700}, slo={"ttft_s": 1.0})
    result = found(counted, "slo_met_ratio>=0.8", seeds=2)
    assert "were rejected at the answer" in " ".join(result.warnings)


def test_infeasible_objectives_are_told_with_the_unloaded_value() -> None:
    """The first token takes a step of 10 ms at least."""
    with pytest.raises(ScenarioError, match=r"an unloaded cluster misses it already \(got 0.01 s\)"):
        found(scenario(), "ttft_s_p50<=0.009", seeds=2)
    with pytest.raises(ScenarioError, match="the load makes it better"):
        found(scenario(), "output_tokens_per_s>=1e6", seeds=2)
    with pytest.raises(ScenarioError, match="the load makes it better"):
        found(scenario(), "duration_s<=10", seeds=2)


def test_a_replica_count_that_does_not_help_is_infeasible() -> None:
    """The other pool is too small, whatever this one gets."""
    pool = {"gpu": "h100-sxm", "latency": {"name": "constant", "step_s": 0.01}}
    part = {"name": "poisson", "rate_per_s": 40.0, "requests": 60, **LENGTHS}
    base = scenario(
        workload={
            "sources": [
                {"generator": part, "model": "llama-3.1-8b"},
                {"generator": part, "model": "llama-3.3-70b"},
            ]
        },
        cluster={
            "pools": [
                {**pool, "name": "small", "model": "llama-3.1-8b"},
                {**pool, "name": "large", "model": "llama-3.3-70b", "tensor_parallel": 4}
                | {"engine": {"max_num_seqs": 1}},
            ]
        },
    )
    with pytest.raises(ScenarioError, match=r"120 replicas of pool small"):
        found(base, "ttft_s_p99<=0.5", find="min-replicas", pool="small", seeds=2)
    with pytest.raises(ScenarioError, match=r"several. expected one of small, large"):
        found(base, "ttft_s_p99<=0.5", find="min-replicas")
    with pytest.raises(ScenarioError, match="did you mean 'small'"):
        found(base, "ttft_s_p99<=0.5", find="min-replicas", pool="smal")


def test_no_limit_is_said() -> None:
    """A handful of requests fits into the batch at any rate."""
    few = scenario(generator={"requests": 4}, engine={"max_num_seqs": 256})
    result = found(few, "ttft_s_p99<=5", seeds=2)
    assert not result.limited and "at least" in result.conclusions[0]
    assert result.knee_high is None
    one = found(few, "ttft_s_p99<=5", seeds=2, find="min-replicas")
    assert one.value == 1


def test_no_rate_no_search() -> None:
    """Requests that arrive together have no distances to change, but may need replicas."""
    together = at_rate(scenario(generator={"requests": 1}), 1.0)
    with pytest.raises(ScenarioError, match="all requests arrive at the same time"):
        found(together, "ttft_s_p99<=1")
    assert found(together, "ttft_s_p99<=1", find="min-replicas").value == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"find": "max_rate"}, "did you mean 'max-rate'"),
        ({"pool": "main"}, "only for min-replicas"),
        ({"overrides": ["seed=1"]}, "only a file takes them"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    """Refused before anything is run."""
    with pytest.raises(ScenarioError, match=message):
        found(scenario(), "ttft_s_p99<=1", **options)


def test_no_objective_at_all() -> None:
    """Neither given nor in the scenario; a metric that a run does not have."""
    with pytest.raises(ScenarioError, match="the scenario sets no slo"):
        found(scenario())
    with pytest.raises(ScenarioError, match="slo_met_ratio has no value in this run"):
        found(scenario(), "slo_met_ratio>=0.9")


def test_the_goodput_of_every_class_is_told_and_counted_by_hand() -> None:
    """Requests of a class that meet its targets, over the time of the run; the classes add up to the total."""
    part = {"name": "poisson", "rate_per_s": 2.0, "requests": 100, **LENGTHS}
    sources = [{"generator": part, "slo_class": "chat"}, {"generator": part, "slo_class": "batch"}]
    slo = {"classes": {"chat": {"ttft_s": 0.3}, "batch": {"e2e_s": 0.5}}}
    base = scenario(workload={"sources": sources}, slo=slo)
    result = found(base, "slo_classes.chat.slo_met_ratio>=0.9", seeds=1)
    row = result.curve.filter(pl.col("rate_per_s") == result.value).row(0, named=True)
    assert result.rate_scale is not None
    run = run_point(Point(name="again", scenario=at_rate(base, result.rate_scale)))
    chat = run.requests.filter(pl.col("slo_class") == "chat")["ttft_s"] <= 0.3
    batch = run.requests.filter(pl.col("slo_class") == "batch")["e2e_s"] <= 0.5
    assert 90 <= chat.sum() <= 100 and 0 < batch.sum() < 80
    end_s = run.summary["duration_s"]
    assert row["slo_classes.chat.goodput_requests_per_s"] == pytest.approx(chat.sum() / end_s)
    assert row["slo_classes.batch.goodput_requests_per_s"] == pytest.approx(batch.sum() / end_s)
    assert row["goodput_requests_per_s"] == pytest.approx((chat.sum() + batch.sum()) / end_s)
    (line,) = [line for line in result.conclusions if line.startswith("goodput there: ")]
    assert line.startswith(f"goodput there: {(chat.sum() + batch.sum()) / end_s:.3g} requests/s (")
    assert f"chat {chat.sum() / end_s:.3g}" in line and f"batch {batch.sum() / end_s:.3g}" in line


def test_saved_and_shown(answer: Capacity, tmp_path: Path) -> None:
    """Everything is in the JSON, without a NaN; the curve is a frame; a notebook shows a row per load."""
    CAPACITY.save(answer.to_dict(), answer.curve, tmp_path / "out")
    CAPACITY.save(answer.to_dict(), answer.curve, tmp_path / "out")
    data = json.loads((tmp_path / "out/capacity.json").read_text(encoding="utf-8"))
    assert data["value"] == answer.value and len(data["curve"]) == answer.curve.height
    assert pl.read_parquet(tmp_path / "out/curve.parquet").equals(answer.curve)
    assert answer._repr_html_().count("<tr>") == 1 + answer.curve.height
    with pytest.raises(ServesimError, match="cannot be saved here"):
        CAPACITY.save(answer.to_dict(), answer.curve, tmp_path)
    assert not any(isinstance(value, float) and math.isnan(value) for value in data.values())
