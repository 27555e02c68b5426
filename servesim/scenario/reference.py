"""The reference page of scenarios, made from the models that check them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from servesim.registry import Registry
from servesim.scenario.components import plain
from servesim.scenario.plugins import DISTRIBUTIONS, ParameterInfo, plugin_info, type_text
from servesim.scenario.problems import NOT_YET, models_in
from servesim.scenario.schema import Scenario
from servesim.scenario.slots import REGISTRIES, slot_of

_INTRODUCTION = """# Scenario reference

A scenario is one YAML file; `servesim validate FILE` checks it, `servesim run FILE` runs it. Unknown keys are
errors, units are in the names (`_s` seconds, `_tokens`, `_bytes`, `_ratio` 0 to 1), and relative paths start
from the file's folder. `--set a.b.c=value` changes a key from the command line; items of a list are named by
position or by their `name`: `--set cluster.pools.main.replicas=8`. The value is read as YAML, and the changes
apply in their order.

A component (a reader, generator, latency model or policy) is written `{name: NAME, parameter: value, ...}`;
routers, schedulers, predictors and latency models without parameters can be written as their name alone.
Which there are is told under [Components](#components), and by `servesim plugins`.

The hash that a run prints names the values that differ from their defaults: it does not change when a file is
moved, when a default is written out, or when a later version adds a key.
"""


def scenario_page() -> str:
    """Return ``docs/reference/scenario.md``: every key of a scenario, and every component."""
    parts = [_INTRODUCTION, "## Keys\n"]
    parts += [_section(model, places) for model, places in _places(Scenario).items()]
    planned = ", ".join(f"`{key}`" for key in sorted(NOT_YET))
    parts.append(f"### Not yet\n\nThese keys are planned, and refused until they work: {planned}.\n")
    parts.append("## Components\n")
    parts += [_kind(registry) for registry in REGISTRIES]
    for kind, models in DISTRIBUTIONS.items():
        parts += [f"## {kind.capitalize()}s\n", *_distributions(models)]
    return "\n".join(parts)


def _places(model: type[BaseModel], prefix: str = "") -> dict[type[BaseModel], list[str]]:
    """Return *model* and every model below it, each with the keys that lead to it."""
    places = {model: [prefix]}
    for name, field in model.model_fields.items():
        if slot_of(model, name) is not None:
            continue
        below = f"{prefix}.{name}" if prefix else name
        kind = type_text(field.annotation)
        below += "[]" if kind.startswith("list") else ".NAME" if kind.startswith("mapping to") else ""
        for inner in models_in(field.annotation):
            for found, keys in _places(inner, below).items():
                places.setdefault(found, []).extend(keys)
    return places


def _section(model: type[BaseModel], places: list[str]) -> str:
    title = ", ".join(f"`{place}`" if place else "Top level" for place in places)
    rows = [_field_row(model, name, field) for name, field in model.model_fields.items()]
    return f"### {title}\n\n{_prose(model.__doc__)}\n\n{_table(('key', 'type', 'default', 'meaning'), rows)}"


def _field_row(model: type[BaseModel], name: str, field: FieldInfo) -> tuple[str, ...]:
    return f"`{name}`", _type(model, name, field), _default(field), field.description or ""


def _type(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    slot = slot_of(model, name)
    return slot.registry.kind if slot is not None else type_text(field.annotation)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    return (
        "see below"
        if isinstance(default, BaseModel) and not hasattr(default, "name")
        else _value(plain(default))
    )


def _value(value: Any) -> str:
    return f"`{json.dumps(value)}`"


def _kind(registry: Registry) -> str:
    parts = [f"### {registry.kind}s\n"]
    for name in registry.names():
        info = plugin_info(registry, name)
        parts.append(f"**`{name}`** {info.summary}\n")
        if info.parameters:
            rows = [_parameter_row(parameter) for parameter in info.parameters]
            parts.append(_table(("parameter", "type", "default", "meaning"), rows))
    return "\n".join(parts)


def _parameter_row(parameter: ParameterInfo) -> tuple[str, ...]:
    default = "required" if parameter.required else _value(parameter.default)
    return f"`{parameter.name}`", parameter.type, default, parameter.description.replace("``", "`")


def _distributions(models: Sequence[type[BaseModel]]) -> Iterator[str]:
    """Yield a paragraph for each distribution of *models*."""
    for model in models:
        name = model.model_fields["distribution"].default
        fields = {key: field for key, field in model.model_fields.items() if key != "distribution"}
        rows = [_field_row(model, key, field) for key, field in fields.items()]
        yield f"**`{name}`** {_prose(model.__doc__)}\n\n{_table(('key', 'type', 'default', 'meaning'), rows)}"


def _prose(docstring: str | None) -> str:
    """Return the paragraphs of a docstring before its first section, one line each."""
    paragraphs = [" ".join(part.split()) for part in (docstring or "").split("\n\n")]
    sections = [index for index, part in enumerate(paragraphs) if " ---" in part]
    return "\n\n".join(paragraphs[: sections[0] if sections else None]).replace("``", "`")


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
