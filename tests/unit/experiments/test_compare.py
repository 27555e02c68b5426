"""Comparisons: same arrivals for all, what is random, what is significant, what is warned of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import servesim
from servesim.errors import ScenarioError, ServesimError
from servesim.experiments.axes import parse_axis
from servesim.experiments.backends import InProcess
from servesim.experiments.compare import Comparison, Options, cases_of, compare_cases
from servesim.experiments.points import run_point
from servesim.experiments.saved import COMPARISON

SCENARIO = """
name: small
workload:
  generator: {name: poisson, rate_per_s: 20, requests: 60,
    prompt_tokens: {distribution: exponential, mean: 300},
    output_tokens: {distribution: exponential, mean: 40}}
cluster:
  pools: [{name: main, model: llama-3.1-8b, gpu: h100-sxm, replicas: 2, latency: {name: linear, base_s: 0.01}}]
slo: {ttft_s: 1.0}
"""
ROUTERS = "policies.router.name=round_robin,random"


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


def compared(
    path: Path, *vary: str, seeds: int = 4, overrides: tuple[str, ...] = (), **options: Any
) -> Comparison:
    """Compare in this process."""
    cases = cases_of(path, [parse_axis(text) for text in vary], overrides=overrides)
    chosen = Options(**options)
    return compare_cases(cases, list(range(seeds)), InProcess(), baseline=None, options=chosen)


def test_all_variants_see_the_same_arrivals_and_lengths(scenario: Path) -> None:
    """Common random numbers: what the policies draw shifts nothing of the workload."""
    cases = cases_of(scenario, [parse_axis("policies.router.name=round_robin,random,power_of_two")])
    columns = ["arrival_s", "prompt_tokens", "output_tokens_target"]
    for seed in (0, 7):
        first, *others = [run_point(case.point(seed)).requests.select(columns) for case in cases]
        assert all(other.equals(first) for other in others)
    assert not first.equals(run_point(cases[0].point(8)).requests.select(columns))


def test_the_table_is_the_arithmetic_of_the_values(scenario: Path) -> None:
    """Means and differences of the rows that `values` shows; the baseline has no difference."""
    found = compared(scenario, ROUTERS)
    assert found.random and found.seeds == [0, 1, 2, 3]
    values = found.values.filter(pl.col("variant") == "random")["ttft_s_p99"]
    base = found.values.filter(pl.col("variant") == "round_robin")["ttft_s_p99"]
    row = found.table.filter(pl.col("metric") == "ttft_s_p99", pl.col("variant") == "random").row(
        0, named=True
    )
    assert row["mean"] == pytest.approx(values.mean())
    assert row["difference"] == pytest.approx((values - base).mean())
    assert row["relative"] == pytest.approx((values - base).mean() / base.mean())
    assert row["difference_low"] < row["difference"] < row["difference_high"]
    assert found.table.filter(pl.col("variant") == "round_robin")["difference"].is_null().all()


def test_a_real_difference_is_marked_with_its_direction(scenario: Path) -> None:
    """Steps of twice the time: latencies worse, throughput not better, whatever the seed."""
    found = compared(scenario, "cluster.pools.main.latency.base_s=0.01,0.02", seeds=6)
    verdicts = dict(
        found.table.filter(pl.col("difference").is_not_null()).select("metric", "verdict").iter_rows()
    )
    assert verdicts["tpot_s_p50"] == verdicts["e2e_s_p50"] == "worse"
    assert any("worse in" in line for line in found.conclusions)


def test_nothing_random_is_said_instead_of_an_interval(scenario: Path) -> None:
    """A trace as it is, and policies that draw nothing: two seeds tell, and no more are run."""
    trace = Path(__file__).parents[3] / "traces"
    (scenario.parent / "traces").symlink_to(trace)
    quickstart = Path(__file__).parents[3] / "scenarios/quickstart.yaml"
    few = ("workload.max_requests=50",)
    found = compared(quickstart, "policies.router.name=round_robin,least_tokens", overrides=few)
    assert not found.random and found.seeds == [0]
    assert found.table["difference_low"].is_null().all() and found.table["p_value"].is_null().all()
    assert "nothing is random" in found.warnings[0] and found.conclusions == []
    resampled = compared(
        quickstart,
        "policies.router.name=round_robin,least_tokens",
        overrides=("workload.resample.block_s=5",),
    )
    assert resampled.random and not any("same for every seed" in line for line in resampled.warnings)


def test_variants_of_the_workload_are_not_said_to_be_given_the_same_requests(scenario: Path) -> None:
    """The sentence is there where only the cluster varies."""
    routers, rates = (
        compared(scenario, vary, seeds=2) for vary in (ROUTERS, "workload.generator.rate_per_s=5,6")
    )
    assert routers.methods[0].endswith("all variants of a seed are given the same requests")
    assert rates.methods[0].endswith("variants have other workloads, drawn from the same seeds")


def test_one_seed_gives_no_interval(scenario: Path) -> None:
    """The difference stands, and it is said that nothing more can be told of it."""
    found = compared(scenario, ROUTERS, seeds=1)
    assert found.table["difference"].is_not_null().any() and found.table["difference_low"].is_null().all()
    assert found.methods[0] == "one seed: no intervals and nothing significant; more seeds give both"
    assert found.conclusions == ["random: nothing shown"]


def test_random_policies_on_a_fixed_trace_are_qualified() -> None:
    """The interval is about the coins of the router, not about other days."""
    quickstart = Path(__file__).parents[3] / "scenarios/quickstart.yaml"
    found = compared(quickstart, ROUTERS, overrides=("workload.max_requests=60",))
    assert found.random
    assert any("the trace is the same for every seed" in line for line in found.warnings)


def test_saturation_is_warned_of(scenario: Path) -> None:
    """At a hundred times the rate the backlog only grows."""
    overload = ("workload.generator.rate_per_s=2000", "workload.generator.requests=2000")
    engine = ("cluster.pools.main.engine.max_num_seqs=4",)
    found = compared(scenario, ROUTERS, seeds=2, overrides=(*overload, *engine))
    assert any("saturated" in line and "lower bounds" in line for line in found.warnings)


def test_warm_up_rules(scenario: Path) -> None:
    """A given time holds for all; auto finds one, or says that there is none."""
    given = compared(scenario, ROUTERS, warm_up=1.0)
    assert given.warm_up.warm_up_s == 1.0
    assert "1 s, as given" in " ".join(given.methods)
    auto = compared(scenario, ROUTERS, warm_up="auto")
    assert "MSER-5" in auto.warm_up.text


def test_a_failed_run_names_its_variant_and_seed(scenario: Path) -> None:
    """What a policy does wrong in one run is told with the run."""

    class Nowhere:
        def reset(self, context: Any) -> None: ...

        def route(self, request: Any, replicas: Any) -> int:
            return 99

    with pytest.raises(ServesimError, match="mine, seed 0: "):
        servesim.compare(scenario, variants={"base": {}, "mine": {"router": Nowhere()}}, seeds=2, workers=1)


def test_objects_travel_to_workers(scenario: Path) -> None:
    """A class that exists in this function only reaches two processes."""

    class First:
        def reset(self, context: Any) -> None: ...

        def route(self, request: Any, replicas: Any) -> int:
            return 0

    found = servesim.compare(
        scenario, variants={"base": {}, "first": {"router": First()}}, seeds=2, workers=2
    )
    alone = servesim.compare(
        scenario, variants={"base": {}, "first": {"router": First()}}, seeds=2, workers=1
    )
    assert found.values.equals(alone.values)


def test_unknown_names_are_answered_with_the_nearest(scenario: Path) -> None:
    """Axis, value, metric and baseline."""
    with pytest.raises(ScenarioError, match=r"--vary policies.rooter.name(.|\n)*did you mean 'router'"):
        compared(scenario, "policies.rooter.name=random")
    with pytest.raises(ScenarioError, match="did you mean 'ttft_s_p99'"):
        compared(scenario, ROUTERS, metrics=["ttft_p99"])
    with pytest.raises(ScenarioError, match="did you mean 'random'"):
        compare_cases(
            cases_of(scenario, [parse_axis(ROUTERS)]), [0], InProcess(), baseline="randon", options=Options()
        )


def test_several_files_are_variants(scenario: Path) -> None:
    """Named after their scenarios; two of the same name cannot be told apart."""
    other = scenario.with_name("other.yaml")
    other.write_text(SCENARIO.replace("name: small", "name: other"), encoding="utf-8")
    assert [case.name for case in cases_of([scenario, other], [])] == ["small", "other"]
    with pytest.raises(ScenarioError, match="two variants are called 'small'"):
        cases_of([scenario, scenario], [])


def test_saved_as_json_and_parquet(scenario: Path, tmp_path: Path) -> None:
    """Everything that is printed is in the file; an older comparison is replaced, other things are not."""
    found = compared(scenario, ROUTERS)
    COMPARISON.save(found.to_dict(), found.values, tmp_path / "out")
    COMPARISON.save(found.to_dict(), found.values, tmp_path / "out")
    data = json.loads((tmp_path / "out/comparison.json").read_text(encoding="utf-8"))
    assert data["variants"] == ["round_robin", "random"] and len(data["table"]) == found.table.height
    assert pl.read_parquet(tmp_path / "out/values.parquet").equals(found.values)
    with pytest.raises(ServesimError, match="a comparison cannot be saved here"):
        COMPARISON.save(found.to_dict(), found.values, tmp_path)


def test_shown_in_a_notebook(scenario: Path) -> None:
    """A table with a row per metric and variant, names escaped."""
    page = compared(scenario, ROUTERS)._repr_html_()
    assert page.count("<tr>") == 1 + 2 * len(compared(scenario, ROUTERS).table["metric"].unique())
