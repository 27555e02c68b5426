"""Replays and their errors: known answers, fitted runs apart, figures, and what cannot be replayed."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from benchmark_files import LOG, vllm_bench_data, write_json, write_log

import servesim
from servesim.errors import ScenarioError, ServesimError
from servesim.measurements import Deployment, MeasuredRun, read_measured
from servesim.report.vllm_bench import vllm_bench_json
from servesim.validation import ValidationResult, validate
from servesim.validation.deployment import pool_of

POOL = "cluster.pools.main"
ON_H100 = [f"{POOL}.model=llama-3.1-8b", f"{POOL}.gpu=h100-sxm"]


def constant(step_s: float) -> list[str]:
    """Return overrides for an engine whose steps all take *step_s*."""
    return [*ON_H100, f"{POOL}.latency={{name: constant, step_s: {step_s}}}"]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Return the recording of a simulated engine whose steps take 10 ms."""
    result = servesim.run(
        "scenarios/quickstart.yaml",
        overrides=[
            *("workload.max_requests=80", "cluster.pools.main.replicas=1"),
            "cluster.pools.main.latency={name: constant, step_s: 0.01}",
        ],
    )
    path = tmp_path / "bench.json"
    path.write_text("".join(vllm_bench_json(result, detailed=True)), encoding="utf-8")
    return path


def test_a_recorded_simulation_replays_without_error(recorded):
    """The same load on the same engine: all errors are rounding."""
    result = validate(read_measured(recorded), overrides=constant(0.01))
    assert set(result.metrics["metric"]) >= {
        "ttft_s_p99",
        "tpot_s_mean",
        "itl_s_p99",
        "e2e_s_mean",
        "requests_per_s",
    }
    assert result.metrics["error"].abs().max() < 1e-9
    assert result.runs["ttft_s_mape"][0] < 1e-9


def test_slower_steps_show_as_their_share(recorded):
    """Steps of 11 ms instead of 10: TPOT and ITL are 10 % off."""
    result = validate(read_measured(recorded), overrides=constant(0.011))
    errors = dict(result.metrics.select("metric", "error").iter_rows())
    assert errors["itl_s_mean"] == pytest.approx(0.1, abs=1e-6)
    assert errors["tpot_s_mean"] == pytest.approx(0.1, abs=1e-6)
    assert result.mean_error("tpot_s_mean") == pytest.approx(0.1, abs=1e-6)
    assert result.runs["tpot_s_mape"][0] == pytest.approx(0.1, abs=1e-6)


def test_an_open_loop_is_played_by_its_time_stamps(tmp_path):
    """By hand, steps of 0.1 s: a prompt's step, then one step per token; the third request has one token."""
    log = write_log(
        tmp_path / "requests.jsonl",
        rows=[(0.0, 10, 3, 0.2, 0.4), (5.0, 10, 2, 5.1, 5.3), (9.0, 10, 1, 9.2, 9.2)],
    )
    result = validate(read_measured(log), overrides=constant(0.1))
    rows = result.requests.filter(pl.col("metric") == "ttft_s")
    assert rows["simulated"].to_list() == pytest.approx([0.1, 0.1, 0.1])
    assert rows["measured"].to_list() == pytest.approx([0.2, 0.1, 0.2])
    assert result.runs["ttft_s_mape"][0] == pytest.approx((0.5 + 0.0 + 0.5) / 3)
    tpot = result.requests.filter(pl.col("metric") == "tpot_s")
    assert tpot["simulated"].to_list() == [pytest.approx(0.1), pytest.approx(0.1), None]


def test_a_closed_loop_is_played_by_its_concurrency(tmp_path):
    """Two at a time, ten of 51 tokens with steps of 20 ms: five rounds of 51 steps, TPOT 20 ms."""
    path = write_json(tmp_path / "bench.json", vllm_bench_data())
    result = validate(read_measured(path), overrides=constant(0.02))
    simulated = dict(result.metrics.select("metric", "simulated").iter_rows())
    assert simulated["tpot_s_mean"] == pytest.approx(0.02)
    assert simulated["requests_per_s"] == pytest.approx(10 / (5 * 51 * 0.02))


def test_a_series_is_compared_at_its_own_times(tmp_path):
    """One request runs from 0 to 0.3 s: at 0.25 s it is there, at 1.25 s it is gone."""
    log = write_log(tmp_path / "requests.jsonl", rows=[(0.0, 10, 3, 0.1, 0.3), (2.0, 10, 3, 2.1, 2.3)])
    log.with_name("timeseries.csv").write_text("t,running,waiting\n0.25,1,0\n1.25,0,0\n2.25,2,1\n")
    result = validate(read_measured(log), overrides=constant(0.1))
    running = result.series.filter(pl.col("quantity") == "running_requests")
    assert running["simulated"].to_list() == [1.0, 0.0, 1.0]
    assert result.runs["running_requests_error"][0] == pytest.approx((1 / 3) / 1.0)  # mean error 1/3, mean 1


def test_fitted_runs_are_kept_apart(tmp_path):
    """No error is stated over a run that the model was fitted to."""
    for name in ("one", "two"):
        write_log(tmp_path / name / "requests.jsonl")
    result = validate(read_measured(tmp_path), overrides=constant(0.1), fitted=["o*"])
    assert dict(result.runs.select("run", "split").iter_rows()) == {"one": "fitted", "two": "held out"}
    assert result.errors()["runs"].unique().to_list() == [1]
    assert result.errors(split="fitted")["runs"].unique().to_list() == [1]
    with pytest.raises(ScenarioError, match=r"fitted: no run of this name \(got 'three'\)"):
        validate(read_measured(tmp_path), fitted=["three"])


def run_of(**deployment: object) -> MeasuredRun:
    """Return a measured run of one request that was served so."""
    requests = pl.DataFrame({"arrival_s": [0.0], "prompt_tokens": [10], "output_tokens": [2]})
    return MeasuredRun(
        name="a",
        source=Path("a.json"),
        deployment=Deployment(**deployment),  # type: ignore[arg-type]
        requests=requests,
        metrics={"ttft_s_mean": 0.1},
    )


def test_what_cannot_be_run_is_left_out_with_its_reason():
    """A model that does not fit its GPU cannot have run there; alone it is an error."""
    large, small = (run_of(model=f"llama-3.1-{size}", gpu="h100-sxm") for size in ("70b", "8b"))
    result = validate([large, small])
    assert "does not fit 1 x h100-sxm" in result.runs["left_out"][0]
    assert result.errors()["runs"].to_list() == [1]
    with pytest.raises(ServesimError, match="no held-out run has this metric"):
        result.mean_error("tpot_s_mean")
    with pytest.raises(ScenarioError, match="does not fit 1 x h100-sxm"):
        validate([large])


def test_a_file_without_a_gpu_asks_for_it():
    """The hint is what to type."""
    with pytest.raises(ScenarioError, match=r"the gpu that served a is not in the file") as error:
        validate([run_of(model="llama-3.1-8b")])
    assert error.value.hint == "--set cluster.pools.main.gpu=NAME"


def test_the_cluster_of_a_scenario_serves_the_load(tmp_path):
    """Its workload is not played; relative paths in it still start from its folder."""
    result = validate([run_of()], "scenarios/quickstart.yaml", overrides=["cluster.pools.main.replicas=1"])
    assert result.runs["left_out"][0] is None
    empty = tmp_path / "empty.yaml"
    empty.write_text("name: nothing\n")
    with pytest.raises(ScenarioError, match="no cluster"):
        validate([run_of()], empty)


def test_a_kept_replay_is_a_scenario_that_runs(tmp_path):
    """`servesim run` plays it again, to the same numbers."""
    log = write_log(tmp_path / "requests.jsonl", rows=LOG)
    result = validate(read_measured(log), overrides=constant(0.1), keep=tmp_path / "kept")
    again = servesim.run(tmp_path / "kept" / log.parent.name / "scenario.yaml")
    simulated = dict(result.metrics.select("metric", "simulated").iter_rows())
    assert again.summary["ttft_s_mean"] == simulated["ttft_s_mean"]


@pytest.mark.parametrize(
    ("served", "pool"),
    (
        (
            {
                "model": "meta-llama/Llama-3.1-8B-Instruct",
                "gpu": "H200_SXM",
                "engine": "vllm",
                "engine_version": "0.12.0",
            },
            {"model": "llama-3.1-8b", "gpu": "h200-sxm", "version": "vllm-0.10", "async_scheduling": False},
        ),
        (
            {
                "model": "nvidia/Llama-3.1-8B-Instruct-FP8",
                "gpu": "b200_sxm",
                "engine": "vllm",
                "engine_version": "0.15.1",
            },
            {
                "dtype": "fp8",
                "version": "vllm-0.15",
                "async_scheduling": True,
                "max_num_batched_tokens": 8192,
            },
        ),
        (
            {
                "model": "Qwen/Qwen3-32B",
                "gpu": "RTXPRO6000",
                "engine": "vllm",
                "engine_version": "0.19.0",
                "settings": {"max_num_seqs": 128},
            },
            {"model": "qwen3-32b", "gpu": "rtx-pro-6000", "version": "vllm-0.19", "max_num_seqs": 128},
        ),
        (
            {
                "model": "MiniMaxAI/MiniMax-M2.5",
                "tensor_parallel": 2,
                "data_parallel": 2,
                "expert_parallel": 4,
            },
            {"model": "minimax-m2.5", "tensor_parallel": 2, "data_parallel": 2, "expert_parallel": True},
        ),
        (
            {"model": "x/unknown", "gpu": "a100-80gb-sxm"},
            {"model": "x/unknown", "max_num_batched_tokens": None},
        ),
    ),
)
def test_names_and_defaults_of_deployments(served, pool):
    """Hub names become catalog names; the engine's defaults follow its version and the GPU's memory."""
    found = pool_of(Deployment(**served))
    found |= found.pop("engine")
    assert {key: found.get(key) for key in pool} == pool


def test_a_validation_is_saved_and_replaced(recorded, tmp_path):
    """JSON and Parquet; an older one gives way, other files do not."""
    result = validate(read_measured(recorded), overrides=constant(0.01))
    result.save(tmp_path / "out")
    result.save(tmp_path / "out")
    data = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert data["runs"][0]["run"] == "bench"
    assert pl.read_parquet(tmp_path / "out" / "metrics.parquet").equals(result.metrics)
    assert pl.read_parquet(tmp_path / "out" / "requests.parquet").equals(result.requests)
    with pytest.raises(ServesimError, match="a directory of other files"):
        result.save(tmp_path)


def test_figures_show_both_sides(recorded, tmp_path):
    """Every curve is there; a run or a metric that is not is named."""
    log = write_log(tmp_path / "requests.jsonl", rows=LOG)
    log.with_name("timeseries.csv").write_text("t,running,waiting\n1.0,1,0\n2.0,2,1\n")
    result = validate([*read_measured(recorded), *read_measured(log)], overrides=constant(0.01))
    assert [axes.get_xlabel() for axes in result.plot.cdf("bench").axes] == [
        "ttft (ms)",
        "tpot (ms)",
        "e2e (s)",
    ]
    assert all(len(axes.lines) == 2 for axes in result.plot.cdf("bench").axes)
    series = result.plot.series(log.parent.name)
    assert [axes.get_ylabel() for axes in series.axes] == ["running requests", "waiting requests"]
    scatter = result.plot.scatter("tpot_s_mean").axes[0]
    assert (scatter.get_xscale(), len(scatter.lines)) == ("log", 3)
    for axis in (scatter.xaxis, scatter.yaxis):
        labels = [label.get_text() for label in axis.get_ticklabels(which="both") if label.get_text()]
        assert len(labels) >= 2
        assert all(label == f"{float(label):g}" for label in labels), "plain numbers"
    with pytest.raises(ServesimError, match="nothing to draw of this run"):
        result.plot.cdf("bnch")
    with pytest.raises(ServesimError, match="no run has this metric"):
        result.plot.scatter("tpot_mean")


def test_saturation_is_told_for_both_sides(tmp_path):
    """A closed loop is by its number of requests and of seats, an open loop by a queue that grows."""
    data = vllm_bench_data(max_concurrency=8)
    path = write_json(tmp_path / "bench.json", data)
    few = validate(read_measured(path), overrides=[*constant(0.02), f"{POOL}.engine.max_num_seqs=4"])
    many = validate(read_measured(path), overrides=[*constant(0.02), f"{POOL}.engine.max_num_seqs=16"])
    assert few.runs["saturated_measured"].to_list() == [True]
    assert many.runs["saturated_measured"].to_list() == [False]
    growing = [(0.1 * i, 10, 2, 0.1 * i + 0.05 * (i + 1), 0.1 * i + 0.05 * (i + 1) + 0.1) for i in range(40)]
    log = write_log(tmp_path / "requests.jsonl", rows=growing)
    assert validate(read_measured(log), overrides=constant(0.01)).runs["saturated_measured"].to_list() == [
        True
    ]


def test_errors_have_the_statistics_of_their_runs():
    """Bias keeps the sign, the rest is over magnitudes; quantiles interpolate linearly."""
    runs = pl.DataFrame({"run": ["a", "b", "c"], "split": ["held out"] * 3})
    metrics = pl.DataFrame({"run": ["a", "b", "c"], "metric": ["ttft_s_mean"] * 3, "error": [-0.1, 0.2, 0.3]})
    row = ValidationResult(runs=runs, metrics=metrics).errors().row(0, named=True)
    assert row["bias"] == pytest.approx(0.4 / 3)
    assert (row["mean"], row["median"], row["max"]) == (
        pytest.approx(0.2),
        pytest.approx(0.2),
        pytest.approx(0.3),
    )
    assert row["p90"] == pytest.approx(0.28)


def test_the_table_model_meets_its_bars_on_the_log_that_was_not_fitted(shared):
    """Qwen3-32B on two RTX PRO 6000: TPOT and E2E within 2 %, TTFT 6 %, what runs and waits within 5 %."""
    folder = (
        shared("calibration/operator_tables/layer_profiles/profile_v1/RTXPRO6000") / "Qwen/Qwen3-32B/bf16"
    )
    runs = [
        run
        for run in read_measured(shared("calibration/vllm_requests/RTXPRO6000"))
        if run.name == "Qwen3-32B"
    ]
    result = validate(runs, overrides=[f"{POOL}.latency={{name: table, path: {folder}}}"])
    row = result.runs.row(0, named=True)
    assert row["tpot_s_mape"] < 0.02 and row["e2e_s_mape"] < 0.02
    assert result.mean_error("ttft_s_mean") < 0.06
    assert row["running_requests_error"] < 0.05 and row["waiting_requests_error"] < 0.05
    assert row["saturated_measured"] and row["saturated_simulated"]
