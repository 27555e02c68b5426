"""Scenarios made in Python, and the meaning of single blocks."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from servesim.errors import ScenarioError
from servesim.scenario import EngineSpec, PoolSpec, Scenario, SloSpec, load_scenario
from servesim.scenario.schema import ClusterSpec, CostSpec, PoliciesSpec, RunSpec, SloTargets

SECTIONS = (Scenario, ClusterSpec, PoolSpec, EngineSpec, PoliciesSpec, RunSpec, SloSpec, SloTargets, CostSpec)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_key_is_described(section):
    """The reference page is made from the descriptions, so none may be missing."""
    for name, field in section.model_fields.items():
        assert field.description and field.description.endswith("."), name


def test_a_scenario_can_be_made_from_keywords(minimal):
    """Keywords, blocks and dicts mix, and give what the file gives."""
    data = YAML(typ="safe", pure=True).load(minimal)
    pools = [PoolSpec(**pool) for pool in data["cluster"]["pools"]]
    made = Scenario(name="minimal", workload=data["workload"], cluster=ClusterSpec(pools=pools))
    assert made == Scenario.model_validate(data)


def test_a_scenario_can_be_made_from_checked_blocks(minimal):
    """A block of one scenario can be put into another."""
    scenario = Scenario.model_validate(YAML(typ="safe", pure=True).load(minimal))
    again = Scenario(name="minimal", workload=scenario.workload, cluster=scenario.cluster)
    assert again == scenario


def test_a_scenario_does_not_change(minimal):
    """Blocks are frozen: a run cannot alter the scenario that it reports."""
    scenario = Scenario.model_validate(YAML(typ="safe", pure=True).load(minimal))
    with pytest.raises(ValidationError, match="frozen"):
        scenario.seed = 3
    assert hash(scenario.run) == hash(RunSpec())


def test_mistakes_in_python_are_readable(minimal):
    """Without a file, pydantic's error still carries our words."""
    data = YAML(typ="safe", pure=True).load(minimal)
    data["policies"] = {"router": "least_request"}
    with pytest.raises(ValidationError, match=r"unknown router \(got 'least_request'\)"):
        Scenario.model_validate(data)


def test_relative_paths_in_python_start_from_the_working_directory(minimal, tmp_path, monkeypatch):
    """There is no file whose folder could count."""
    data = YAML(typ="safe", pure=True).load(minimal)
    data["workload"] = {"source": {"reader": "azure", "path": "t.csv"}}
    monkeypatch.chdir(tmp_path)
    scenario = Scenario.model_validate(data)
    assert scenario.workload.source.parameters["path"] == str(tmp_path.resolve() / "t.csv")


def test_targets_of_a_class_replace_the_others():
    """A class that is named has its own targets only; all other requests have the common ones."""
    slo = SloSpec.model_validate({"ttft_s": 1.0, "tpot_s": 0.05, "classes": {"batch": {"e2e_s": 60.0}}})
    assert slo.targets(None) is slo and slo.targets("chat") is slo
    batch = slo.targets("batch")
    assert (batch.ttft_s, batch.tpot_s, batch.e2e_s) == (None, None, 60.0)


def test_whole_prompts_fit_with_a_shorter_context():
    """chunked_prefill: false is accepted once max_model_len fits into one step."""
    engine = EngineSpec(chunked_prefill=False, max_model_len=2048, prefill_only_steps=True)
    assert PoolSpec(model="llama-3.1-8b", gpu="h100-sxm", engine=engine).engine.prefill_only_steps


def test_given_blocks_replace_the_memory_check():
    """With kv_blocks given, nothing asks whether they fit; weights and heads must do so all the same."""
    engine = EngineSpec(kv_blocks=10_000_000)
    assert PoolSpec(model="llama-3.1-8b", gpu="l40s", engine=engine).engine.kv_blocks == 10_000_000
    with pytest.raises(ValidationError, match=r"llama-3.1-70b does not fit 1 x l40s"):
        PoolSpec(model="llama-3.1-70b", gpu="l40s", engine=engine)
    with pytest.raises(ValidationError, match="does not divide"):
        PoolSpec(model="llama-3.1-70b", gpu="l40s", engine=engine, tensor_parallel=5)


def test_pool_names_can_be_told_from_positions():
    """An override finds a pool by position or name, so a name must not look like a number."""
    for name in ("0", "a.b", "", "é"):
        with pytest.raises(ValidationError):
            PoolSpec(name=name, model="llama-3.1-8b", gpu="h100-sxm")


def test_a_cluster_has_a_pool(minimal):
    """A cluster without replicas serves nothing."""
    with pytest.raises(ValidationError, match=r"no pool \(got an empty list\)"):
        ClusterSpec(pools=[])


@pytest.mark.parametrize("cv", ["-0.1", ".inf", ".nan", "1.01", "5", "'0.1'"])
def test_noise_that_is_none_is_refused(minimal, file, cv):
    """A coefficient of variation is a number from 0 to 1: one that was meant in percent is refused."""
    text = minimal.replace("replicas: 2}", "replicas: 2, engine: {step_noise_cv: " + cv + "}}")
    with pytest.raises(ScenarioError, match="step_noise_cv"):
        load_scenario(file(text))


def test_noise_may_be_as_large_as_the_step(minimal, file):
    """The bounds themselves are allowed, and the message names them."""
    for cv in ("0", "1"):
        load_scenario(
            file(minimal.replace("replicas: 2}", "replicas: 2, engine: {step_noise_cv: " + cv + "}}"))
        )
    with pytest.raises(ScenarioError, match=r"step_noise_cv: too large \(got 5\). expected at most 1"):
        load_scenario(file(minimal.replace("replicas: 2}", "replicas: 2, engine: {step_noise_cv: 5}}")))


@pytest.mark.parametrize("value", ["foo", "3", "[]", "null", "true"])
def test_a_front_end_that_is_no_block_names_none(minimal, file, value):
    """Besides a block of keys the front end may be none, and the message says so."""
    text = minimal.replace("replicas: 2}", "replicas: 2, engine: {front_end: " + value + "}}")
    expected = r"engine.front_end: unknown value \(got .+\). expected none, or the keys workers, request_s, "
    with pytest.raises(ScenarioError, match=expected):
        load_scenario(file(text))
