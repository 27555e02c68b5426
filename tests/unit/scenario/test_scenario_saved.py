"""The resolved scenario and its hash."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from servesim.errors import ScenarioError
from servesim.registry import ComponentSpec
from servesim.scenario import Scenario, load_scenario, scenario_hash


def reloaded(scenario: Scenario, tmp_path) -> Scenario:
    path = tmp_path / "elsewhere" / "resolved.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(scenario.to_yaml(), encoding="utf-8")
    return load_scenario(path)


@pytest.mark.parametrize("name", ["quickstart", "azure_conv", "poisson_8x", "two_models"])
def test_the_resolved_scenario_loads_as_an_equal_one(root, tmp_path, name):
    """Saved in another folder, every example gives the same scenario and the same hash."""
    scenario = load_scenario(root / "scenarios" / f"{name}.yaml")
    again = reloaded(scenario, tmp_path)
    assert again == scenario
    assert scenario_hash(again) == scenario_hash(scenario)
    assert again.to_yaml() == scenario.to_yaml()


def test_the_resolved_scenario_writes_every_default(load, minimal):
    """Parameters of components and keys that the file leaves out are all written."""
    data = YAML(typ="safe", pure=True).load(load(minimal).to_yaml())
    assert list(data) == ["name", "seed", "workload", "cluster", "policies", "run", "slo", "cost"]
    pool = data["cluster"]["pools"][0]
    assert pool["engine"]["kv_blocks"] is None and pool["engine"]["leap"] is True
    assert pool["latency"]["name"] == "roofline" and "gemm_scale" in pool["latency"]
    assert data["workload"]["generator"]["duration_s"] is None


def test_nested_components_and_classes_survive(load, minimal, tmp_path):
    """A scheduler's predictor and the targets of classes are written out and read again."""
    text = minimal + "  scheduler: {name: sjf, predictor: {name: noisy, sigma: 0.25}}\n"
    text += "slo: {classes: {a: {e2e_s: 3}}}\n"
    scenario = load(text)
    assert scenario.policies.scheduler.parameters == {"predictor": {"name": "noisy", "sigma": 0.25}}
    assert reloaded(scenario, tmp_path) == scenario
    plain = load(minimal + "  scheduler: {name: sjf, predictor: oracle}\n")
    assert plain.policies.scheduler.parameters == {"predictor": {"name": "oracle"}}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate=st.floats(min_value=1e-12, max_value=1e12),
    warm_up_s=st.floats(min_value=0, max_value=1e300),
    name=st.text(min_size=1, max_size=20).filter(str.strip),
)
def test_any_number_and_name_survives(minimal, tmp_path, rate, warm_up_s, name):
    """Floats are written with all their digits, and texts that look like something else are quoted."""
    data = YAML(typ="safe", pure=True).load(minimal)
    data["workload"]["generator"]["rate_per_s"] = rate
    scenario = Scenario.model_validate({**data, "run": {"warm_up_s": warm_up_s}, "name": name})
    again = reloaded(scenario, tmp_path)
    assert again.workload.generator.parameters["rate_per_s"] == rate
    assert (again.run.warm_up_s, again.name) == (warm_up_s, name)


def test_the_hash_ignores_what_changes_nothing(load, minimal):
    """Defaults that are written out, another notation and the order of keys leave the hash as it is."""
    expected = scenario_hash(load(minimal))
    assert len(expected) == 16 and set(expected) <= set("0123456789abcdef")
    written = (
        minimal
        + "  scheduler: {name: fcfs}\nrun: {drain: true, warm_up_s: 0}\nseed: 0\nslo: {ttft_s: null}\n"
    )
    assert scenario_hash(load(written)) == expected
    assert scenario_hash(load(minimal.replace("rate_per_s: 2", "rate_per_s: 2.0e+0"))) == expected
    pool = "{name: main, model: llama-3.1-8b, gpu: h100-sxm}"
    assert pool in minimal
    moved = minimal.replace(pool, "{gpu: h100-sxm, model: llama-3.1-8b, engine: {leap: true}, replicas: 1}")
    assert scenario_hash(load(moved)) == expected
    roofline = minimal.replace(pool, pool.replace("}", ", latency: {name: roofline}}"))
    assert scenario_hash(load(roofline)) == expected


def test_the_hash_is_pinned(load, minimal):
    """The hash of a scenario never changes between versions, or baselines would be lost."""
    assert scenario_hash(load(minimal)) == "1aedb6f41d5dc448"


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "workload.generator.requests=11",
        "workload.generator.name=constant",
        "workload.generator.output_tokens.sigma=0.6",
        "workload.generator.output_tokens={distribution: exponential, mean: 20}",
        "cluster.pools.main.engine.leap=false",
        "cluster.pools.main.latency={name: roofline, gemm_scale: 0.5}",
        "policies.router=least_requests",
        "slo.ttft_s=1",
        "workload.window={end_s: 5}",
    ],
)
def test_the_hash_changes_with_what_matters(load, minimal, override):
    """Any value that differs from its default is part of the hash, down to parameters of components."""
    assert scenario_hash(load(minimal, override)) != scenario_hash(load(minimal))


def test_paths_count_by_their_file_name(tmp_path, minimal):
    """The same scenario in another folder has the same hash; another trace has another one."""
    generator = minimal[minimal.index("  generator:") : minimal.index("cluster:")]
    hashes = []
    for folder, trace in (("a", "t.csv"), ("b", "t.csv"), ("b", "u.csv")):
        path = tmp_path / folder / "s.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(minimal.replace(generator, f"  source: {{reader: azure, path: {trace}}}\n"))
        hashes.append(scenario_hash(load_scenario(path)))
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_hash_does_not_depend_on_the_process(root):
    """Another seed of Python's own hashing gives the same hash."""
    path = root / "scenarios" / "two_models.yaml"
    code = f"from servesim.scenario import *; print(scenario_hash(load_scenario({str(path)!r})))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "123", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == scenario_hash(load_scenario(path))


def test_a_scenario_with_an_object_cannot_be_written(load, minimal):
    """A parameter that is an object of the user's has no form in YAML, and the message says what to do."""
    scenario = load(minimal)
    router = ComponentSpec.model_validate({"name": "round_robin", "x": object()})
    policies = scenario.policies.model_copy(update={"router": router})
    with pytest.raises(ScenarioError, match="scenario minimal: cannot be written"):
        scenario.model_copy(update={"policies": policies}).to_yaml()
