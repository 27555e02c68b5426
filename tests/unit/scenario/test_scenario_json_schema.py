"""The JSON Schema that editors use."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from servesim.policies import ROUTERS
from servesim.scenario import load_scenario
from servesim.scenario.json_schema import scenario_json_schema
from servesim.scenario.slots import REGISTRIES


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    """Return a validator of the schema, itself checked."""
    schema = scenario_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(json.loads(json.dumps(schema)))


def quickstart(root) -> Any:
    return YAML(typ="safe", pure=True).load(root / "scenarios" / "quickstart.yaml")


@pytest.mark.parametrize("name", ["quickstart", "azure_conv", "poisson_8x", "poisson_64x", "two_models"])
def test_the_examples_are_valid(root, validator, name):
    """What loads is also valid to an editor."""
    validator.validate(YAML(typ="safe", pure=True).load(root / "scenarios" / f"{name}.yaml"))


def test_short_and_nested_components_are_valid(root, validator):
    """A name alone, and a component within a component, are understood."""
    data = quickstart(root)
    data["policies"] = {
        "router": "random",
        "scheduler": {"name": "sjf", "predictor": {"name": "noisy", "sigma": 1}},
    }
    validator.validate(data)
    data["policies"]["scheduler"]["predictor"] = {"name": "noisy", "sigm": 1}
    assert not validator.is_valid(data)


def test_what_a_result_holds_is_valid(root, validator):
    """The scenario that is saved beside a result, every default written out, is valid as well."""
    text = load_scenario(root / "scenarios" / "quickstart.yaml").to_yaml()
    validator.validate(YAML(typ="safe", pure=True).load(text))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["cluster"]["pools"][0].update(gpu="h100"),
        lambda data: data["cluster"]["pools"][0].update(model="llama-8b"),
        lambda data: data.update(sed=1),
        lambda data: data.pop("cluster"),
        lambda data: data["cluster"]["pools"][0].update(replicas=0),
        lambda data: data["cluster"]["pools"][0].update(replicas="4"),
        lambda data: data["cluster"]["pools"][0]["latency"].update(gemm_efficency=0.5),
        lambda data: data["cluster"]["pools"][0]["latency"].update(name="rooflin"),
        lambda data: data["workload"]["source"].pop("path"),
        lambda data: data["workload"]["source"].update(reader="poisson"),
        lambda data: data["policies"].update(router={"name": "fcfs"}),
    ],
)
def test_mistakes_are_invalid(root, validator, change):
    """Unknown keys, wrong types, and parameters of plugins are all known to the schema."""
    data = quickstart(root)
    change(data)
    assert not validator.is_valid(data)


def test_every_plugin_is_in_it(validator):
    """Each registered name has a definition with its parameters."""
    for registry in REGISTRIES:
        for name in registry.names():
            definition = validator.schema["$defs"][f"{registry.kind.replace(' ', '_')}.{name}"]
            assert definition["description"], name
            assert set(registry.parameters(name).model_fields) < set(definition["properties"])


def test_no_reference_leads_nowhere(validator):
    """Every $ref points to a definition that is there."""
    text = json.dumps(validator.schema)
    names = {part.split('"')[0] for part in text.split("#/$defs/")[1:]}
    assert names <= set(validator.schema["$defs"])


def test_two_names_may_stand_for_one_class(monkeypatch):
    """Both are in it, with the same parameters."""
    monkeypatch.setitem(ROUTERS.builtin, "another", ROUTERS.builtin["random"])
    definitions = scenario_json_schema()["$defs"]
    first, second = definitions["router.random"]["properties"], definitions["router.another"]["properties"]
    assert (first["name"]["const"], second["name"]["const"]) == ("random", "another")
    assert first.keys() == second.keys()
