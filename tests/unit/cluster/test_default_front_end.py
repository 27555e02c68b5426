"""The front end that an engine's version has by default: with what latency models, and how to have none."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

import servesim
from servesim.catalog import FrontEndCosts, engine_version, engine_versions
from servesim.latency.linear import Linear
from servesim.scenario.json_schema import scenario_json_schema

ROOT = Path(__file__).resolve().parents[3]
SMALL = "workload.max_requests=20"
FRONT_END = "cluster.pools.main.engine.front_end"


def run(*overrides: str, **options: object) -> servesim.RunResult:
    """Return a small run of the first scenario."""
    return servesim.run(ROOT / "scenarios" / "quickstart.yaml", overrides=[SMALL, *overrides], **options)


def test_every_version_has_one_that_takes_time():
    """No engine reads requests for nothing."""
    assert all(engine_version(name).front_end.takes_time for name in engine_versions())


def test_a_request_passes_the_front_end_of_its_engine():
    """Reading takes what the version takes; a key of the scenario replaces a single number of it."""
    costs = engine_version("vllm-0.19").front_end
    result = run()
    first = result.requests.row(0, named=True)
    assert first["front_end_s"] == pytest.approx(
        costs.request_s + costs.prompt_token_s * first["prompt_tokens"]
    )
    assert first["stream_s"] == costs.stream_s
    changed = run(f"{FRONT_END}.stream_s=0.25").requests.row(0, named=True)
    assert (changed["front_end_s"], changed["stream_s"]) == (first["front_end_s"], 0.25)


@pytest.mark.parametrize(
    "overrides", [[f"{FRONT_END}=none"], ["cluster.pools.main.latency={name: linear, base_s: 0.01}"]]
)
def test_none_is_none(overrides):
    """Switched off, or with a latency model of whole steps, it leaves no trace."""
    result = run(*overrides)
    assert "front_end_s" not in result.requests.columns
    assert result.requests["ttft_s"].to_list() == pytest.approx(
        (result.requests["first_token_s"] - result.requests["arrival_s"]).to_list()
    )


def test_with_a_model_of_whole_steps_there_is_what_the_scenario_says():
    """An object of the caller's has no host either; what is written is added to nothing."""
    model = Linear(base_s=0.01)
    result = run(f"{FRONT_END}.request_s=0.5", latency=model)
    assert result.requests["front_end_s"].min() == pytest.approx(0.5)
    assert result.requests["stream_s"].to_list() == [0.0] * 20


def test_another_word_is_refused():
    """Only none stands for a front end."""
    with pytest.raises(servesim.errors.ScenarioError, match="front_end"):
        run(f"{FRONT_END}=off")


def test_no_front_end_takes_no_time():
    """What none stands for."""
    assert not FrontEndCosts().takes_time


def test_editors_take_the_word_none():
    """The JSON Schema has it beside the keys, and no other."""
    schema = scenario_json_schema()
    engine = {"$schema": schema["$schema"], "$defs": schema["$defs"], "$ref": "#/$defs/EngineSpec"}
    jsonschema.validate({"front_end": "none"}, engine)
    jsonschema.validate({"front_end": {"workers": 2}}, engine)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"front_end": "off"}, engine)
