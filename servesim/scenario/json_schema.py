"""The JSON Schema of a scenario file, with the parameters of every registered plugin.

Editors check and complete scenarios with it; `servesim schema` prints it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import CoreSchema

from servesim.registry import Registry
from servesim.scenario.plugins import PluginInfo, plugin_info
from servesim.scenario.schema import Scenario
from servesim.scenario.slots import REGISTRIES, SLOTS, nested_registry

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = "#/$defs/{model}"


class _PluginSchema(GenerateJsonSchema):
    """Parameters that are objects have no schema of their own: they are replaced by their component's."""

    def handle_invalid_for_json_schema(self, schema: CoreSchema, error_info: str) -> JsonSchemaValue:
        return {}


def scenario_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a scenario file.

    A component is ``anyOf`` the plugins registered for its place, each with its parameters.

    Raises
    ------
    PluginError
        If a registered plugin fails to import.
    """
    infos = {(kind.kind, name): plugin_info(kind, name) for kind in REGISTRIES for name in kind.names()}
    models: list[type[BaseModel]] = [Scenario, *(info.model for info in infos.values())]
    references, whole = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)],
        ref_template=_REFERENCE,
        schema_generator=_PluginSchema,
    )
    definitions: dict[str, Any] = whole["$defs"]
    names = {model: reference["$ref"].rpartition("/")[2] for (model, _), reference in references.items()}
    scenario = definitions.pop(names[Scenario])
    parameters = {key: definitions.pop(names[info.model]) for key, info in infos.items()}
    for (owner, field), slot in SLOTS.items():
        properties = definitions[owner]["properties"]
        kept = {key: value for key, value in properties[field].items() if key in ("description", "default")}
        properties[field] = {**kept, **_any_of(slot.registry)}
    for registry in REGISTRIES:
        name_key = "reader" if registry.kind == "trace reader" else "name"
        for name in registry.names():
            info = infos[registry.kind, name]
            definitions[_key(registry, name)] = _component(info, name_key, parameters[registry.kind, name])
    return {"$schema": _DIALECT, **scenario, "$defs": dict(sorted(definitions.items()))}


def _component(info: PluginInfo, name_key: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of one plugin: its name, and its parameters beside it."""
    properties = {key: dict(value) for key, value in parameters.get("properties", {}).items()}
    for parameter in info.parameters:
        nested = nested_registry(info.model.model_fields[parameter.name])
        if nested is not None:
            properties[parameter.name] = _any_of(nested)
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


def _any_of(registry: Registry) -> dict[str, Any]:
    alternatives = [{"$ref": _REFERENCE.format(model=_key(registry, name))} for name in registry.names()]
    return {"anyOf": list(_with_names(registry, alternatives))}


def _with_names(registry: Registry, alternatives: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Add the short form, a name alone, where a component can be written so."""
    yield from alternatives
    if registry.kind in ("router", "scheduler", "length predictor", "latency model"):
        yield {"enum": registry.names()}


def _key(registry: Registry, name: str) -> str:
    return f"{registry.kind.replace(' ', '_')}.{name}"
