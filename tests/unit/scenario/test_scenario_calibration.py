"""Pools that take a calibration: what it fills in, what it is refused for, and what results say of it."""

from __future__ import annotations

import pytest

import servesim
from servesim.errors import ScenarioError
from servesim.results.notes import run_notes, validation_note
from servesim.scenario.document import document_text

CALIBRATION = {
    "servesim_calibration": 1,
    "servesim_version": "0.1.0",
    "measured": {
        "model": "llama-3.1-8b",
        "gpu": "h100-sxm",
        "tensor_parallel": 1,
        "dtype": None,
        "engine_version": "vllm-0.10",
    },
    "latency": {"name": "linear", "base_s": 0.01},
    "engine": {"host": {"launch_s": 0.002}},
    "parameters": [
        {
            "key": "latency.base_s",
            "value": 0.01,
            "low": 0.009,
            "high": 0.011,
            "start": 0.02,
            "bounds": [0.001, 0.1],
            "at_bound": False,
        }
    ],
    "files": [{"name": "bench.json", "size_bytes": 10, "sha256": "00", "runs": ["bench"]}],
    "errors_fitted": {},
    "errors_held_out": {
        "ttft_s_mean": {"rows": 2, "before": 0.5, "after": 0.08},
        "tpot_s_mean": {"rows": 2, "before": 0.4, "after": 0.021},
    },
    "validity": {"prompt_tokens": [10, 20000], "output_tokens": [1, 5000], "batch_sequences": 256},
    "notes": [],
}

SCENARIO = """\
workload:
  generator:
    name: poisson
    rate_per_s: 2.0
    requests: 20
    prompt_tokens: {distribution: constant, value: 100}
    output_tokens: {distribution: constant, value: 20}
cluster:
  pools:
    - name: main
      model: llama-3.1-8b
      gpu: h100-sxm
      latency: {calibration: measured/calibration.yaml}
"""


@pytest.fixture
def scenario(tmp_path):
    """Return a scenario whose pool takes a calibration from a folder beside it."""
    write(tmp_path)
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


def write(folder, **changed):
    """Write the calibration, changed at its top."""
    (folder / "measured").mkdir(exist_ok=True)
    (folder / "measured" / "calibration.yaml").write_text(document_text(CALIBRATION | changed))


def test_it_fills_in_latency_model_host_and_engine(scenario):
    """What the pool says itself wins."""
    pool = servesim.load_scenario(scenario).cluster.pools[0]
    assert (pool.latency.name, pool.latency.parameters["base_s"]) == ("linear", 0.01)
    assert (pool.engine.version, pool.engine.host.launch_s) == ("vllm-0.10", 0.002)
    changed = servesim.load_scenario(
        scenario,
        overrides=["cluster.pools.main.latency.base_s=0.03", "cluster.pools.main.engine.host.launch_s=0.0"],
    ).cluster.pools[0]
    assert (changed.latency.parameters["base_s"], changed.engine.host.launch_s) == (0.03, 0.0)


def test_the_resolved_scenario_loads_as_an_equal_one(scenario, tmp_path):
    """With the values written out, and the file as their source."""
    loaded = servesim.load_scenario(scenario)
    again = tmp_path / "again.yaml"
    again.write_text(loaded.to_yaml(), encoding="utf-8")
    assert servesim.load_scenario(again) == loaded


def test_results_quote_what_was_held_out(scenario):
    """Errors, the file's digest, and a sentence."""
    result = servesim.run(scenario)
    told = result.provenance["pools"][0]
    assert told["latency_error"]["metrics"]["tpot_s_mean"] == {"mean": 0.021, "rows": 2}
    assert told["outside_calibration"] == []
    assert len(result.provenance["calibration_version"]) == 16
    assert [fact["name"] for fact in result.provenance["inputs"]] == ["calibration.yaml"]
    assert validation_note(result.provenance) == (
        "note: expected error of latencies: TTFT 8.0%, TPOT 2.1% off in the mean of what calibration "
        "calibration.yaml held out"
    )


@pytest.mark.parametrize(
    "change",
    (
        "cluster.pools.main.latency.base_s=0.02",
        "cluster.pools.main.engine.host.launch_s=0.0",
        "cluster.pools.main.model=qwen3-8b",
        "cluster.pools.main.tensor_parallel=2",
    ),
)
def test_other_values_or_another_model_are_not_validated(scenario, change):
    """The errors are those of what was fitted, and of nothing else."""
    result = servesim.run(scenario, overrides=[change])
    assert result.provenance["pools"][0]["latency_error"] == "not validated"


def test_a_run_that_leaves_the_fitted_loads_is_told(scenario, tmp_path):
    """By hand: all prompts have 100 tokens where 200 were the least; the fitted batches had one sequence."""
    write(tmp_path, validity={"prompt_tokens": [200, 300], "output_tokens": None, "batch_sequences": 1})
    result = servesim.run(scenario, overrides=["workload.generator.rate_per_s=50.0"])
    batches, prompts = result.provenance["pools"][0]["outside_calibration"]
    assert batches.endswith("sequences (fitted: 1)")
    assert prompts == "100% of prompts (fitted: 200 to 300 tokens)"
    assert any(
        note.startswith("warning: pool main leaves the loads that were calibrated: batches")
        for note in run_notes(result.summary, result.provenance)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    (
        (
            "gpu=h200-sxm",
            r"latency.calibration: measured with another GPU \(got h100-sxm\). expected h200-sxm",
        ),
        ("engine.version=vllm-0.19", "measured with another engine"),
        ("latency.name=roofline", "measured with another latency model"),
        ("latency.calibration=nothing.yaml", "no such file"),
        (
            "latency.calibration=scenario.yaml",
            "no calibration. expected a file that servesim calibrate wrote",
        ),
        ("latency.calibration=7", "not a path"),
    ),
)
def test_what_does_not_fit_is_refused(scenario, change, message):
    """At its place in the scenario."""
    with pytest.raises(ScenarioError, match=message):
        servesim.load_scenario(scenario, overrides=[f"cluster.pools.main.{change}"])


def test_a_broken_calibration_is_named_by_its_line(scenario, tmp_path):
    """As scenarios are."""
    write(tmp_path, validity={"batch_sequences": 0})
    with pytest.raises(ScenarioError, match=r"calibration.yaml:\d+:\d+: validity.batch_sequences: too small"):
        servesim.load_scenario(scenario)
