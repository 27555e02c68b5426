"""The JSON Schema of a scenario file, with the parameters of every registered plugin.

Editors check and complete scenarios with it; `servesim schema` prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import CoreSchema

from servesim.catalog import gpu_names, model_names
from servesim.registry import Registry
from servesim.scenario.plugins import PluginInfo, usable_plugins
from servesim.scenario.schema import Scenario
from servesim.scenario.slots import SLOTS, nested_registry

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = "#/$defs/{model}"

_CALIBRATED = {
    "title": "calibration",
    "description": "The latency model of a calibration.",
    "type": "object",
    "properties": {"calibration": {"type": "string", "description": "File that servesim calibrate wrote."}},
    "required": ["calibration"],
    "additionalProperties": False,
}
"""The form of a latency model that a calibration tells."""

Infos = Mapping[tuple[str, str], PluginInfo]
"""Usable plugins by kind and name."""


class _PluginSchema(GenerateJsonSchema):
    """Parameters that are objects have no schema of their own: they are replaced by their component's."""

    def handle_invalid_for_json_schema(self, schema: CoreSchema, error_info: str) -> JsonSchemaValue:
        return {}


def scenario_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a scenario file.

    A component is ``anyOf`` the plugins registered for its place, each with its parameters. A plugin that
    cannot be used is left out; `servesim.scenario.plugins.usable_plugins` tells why.
    """
    infos, _ = usable_plugins()
    models: list[type[BaseModel]] = [Scenario, *(info.model for info in infos.values())]
    references, whole = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)],
        ref_template=_REFERENCE,
        schema_generator=_PluginSchema,
    )
    definitions: dict[str, Any] = whole["$defs"]
    names = {model: reference["$ref"].rpartition("/")[2] for (model, _), reference in references.items()}
    scenario = definitions.pop(names[Scenario])
    # Two names may stand for one class, and so share their parameters.
    parameters = {info.model: definitions[names[info.model]] for info in infos.values()}
    for model in parameters:
        del definitions[names[model]]
    for (owner, field), slot in SLOTS.items():
        properties = definitions[owner]["properties"]
        kept = {key: value for key, value in properties[field].items() if key in ("description", "default")}
        null = [option for option in properties[field].get("anyOf", []) if option == {"type": "null"}]
        properties[field] = {**kept, "anyOf": [*_alternatives(slot.registry, infos), *null]}
    for info in infos.values():
        definitions[_key(info.kind, info.name)] = _component(info, parameters[info.model], infos)
    front_end = definitions["EngineSpec"]["properties"]["front_end"]
    front_end["anyOf"] = [{"$ref": front_end.pop("$ref")}, {"const": "none"}]
    _name_the_catalog(definitions["PoolSpec"]["properties"])
    definitions["PoolSpec"]["properties"]["latency"]["anyOf"].append(_CALIBRATED)
    return {"$schema": _DIALECT, **scenario, "$defs": dict(sorted(definitions.items()))}


def _component(info: PluginInfo, parameters: dict[str, Any], infos: Infos) -> dict[str, Any]:
    """Return the schema of one plugin: its name, and its parameters beside it."""
    name_key = "reader" if info.kind == "trace reader" else "name"
    properties = {key: dict(value) for key, value in parameters.get("properties", {}).items()}
    for parameter in info.parameters:
        nested = nested_registry(info.model.model_fields[parameter.name])
        if nested is not None:
            properties[parameter.name] = {"anyOf": _alternatives(nested, infos)}
        if parameter.description:
            properties[parameter.name].setdefault("description", parameter.description)
    name = {"const": info.name, "description": info.summary}
    return {
        "title": info.name,
        "description": info.summary,
        "type": "object",
        "properties": {name_key: name, **properties},
        "required": [name_key, *parameters.get("required", [])],
        "additionalProperties": False,
    }


def _name_the_catalog(pool: dict[str, Any]) -> None:
    """Say which GPUs and models there are; a model may be the path of a config.json, too."""
    pool["gpu"]["enum"] = gpu_names()
    pool["model"]["anyOf"] = [{"enum": model_names()}, {"pattern": r"[/\\]|\.json$"}]


def _alternatives(registry: Registry, infos: Infos) -> list[dict[str, Any]]:
    names = [name for kind, name in infos if kind == registry.kind]
    alternatives: list[dict[str, Any]] = [
        {"$ref": _REFERENCE.format(model=_key(registry.kind, name))} for name in names
    ]
    if registry.kind in ("router", "scheduler", "length predictor", "latency model"):
        alternatives.append({"enum": names})  # the short form: a name alone
    return alternatives


def _key(kind: str, name: str) -> str:
    return f"{kind.replace(' ', '_')}.{name}"
