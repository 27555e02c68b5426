"""Where a scenario names components, and which registry knows their names.

One table serves the checks, the hash, the JSON Schema and the reference page. What is done with a component's
parameters is in `servesim.scenario.components`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, BeforeValidator, PlainValidator
from pydantic.fields import FieldInfo

from servesim.errors import PluginError
from servesim.latency import LATENCY_MODELS
from servesim.policies import PREDICTORS, ROUTERS, SCHEDULERS
from servesim.registry import Registry
from servesim.workload.registries import GENERATORS, READERS


@dataclass(frozen=True, slots=True)
class Slot:
    """A place where a component is named.

    Parameters
    ----------
    registry
        What knows the names.
    name_key
        The key that holds the name; the component's parameters stand beside it.
    """

    registry: Registry
    name_key: str = "name"


SLOTS: dict[tuple[str, str], Slot] = {
    ("WorkloadSpec", "source"): Slot(READERS, "reader"),
    ("WorkloadSpec", "generator"): Slot(GENERATORS),
    ("MixSpec", "source"): Slot(READERS, "reader"),
    ("MixSpec", "generator"): Slot(GENERATORS),
    ("PoolSpec", "latency"): Slot(LATENCY_MODELS),
    ("PoliciesSpec", "router"): Slot(ROUTERS),
    ("PoliciesSpec", "scheduler"): Slot(SCHEDULERS),
}
"""Name of a scenario model's class, and of the field that holds a component."""

REGISTRIES: tuple[Registry, ...] = (READERS, GENERATORS, LATENCY_MODELS, ROUTERS, SCHEDULERS, PREDICTORS)
"""Every kind of plugin, in the order in which they are listed."""


def slot_of(model: type[BaseModel], field: str) -> Slot | None:
    """Return the slot that *field* of *model* is, or None if it holds no component."""
    if (slot := SLOTS.get((model.__name__, field))) is not None:
        return slot
    info = model.model_fields.get(field)
    registry = nested_registry(info) if info is not None else None
    return Slot(registry) if registry is not None else None


def nested_registry(info: FieldInfo) -> Registry | None:
    """Return the registry of a parameter that is itself a component (`servesim.registry.component`)."""
    for item in info.metadata:
        if isinstance(item, BeforeValidator | PlainValidator) and inspect.isfunction(item.func):
            registry = inspect.getclosurevars(item.func).nonlocals.get("registry")
            if isinstance(registry, Registry):
                return registry
    return None


def plugin_classes(
    part: Any, place: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], type[Any]]]:
    """Yield the place and the class of every plugin that a checked scenario, or a part of it, names.

    Built-in ones are left out: the version of servesim tells what they are.
    """
    if isinstance(part, list | tuple):
        for index, item in enumerate(part):
            yield from plugin_classes(item, (*place, index))
    elif isinstance(part, BaseModel):
        for field in type(part).model_fields:
            slot, value = SLOTS.get((type(part).__name__, field)), getattr(part, field)
            if slot is None:
                yield from plugin_classes(value, (*place, field))
            elif value is not None:
                data = {"name": getattr(value, slot.name_key), **value.parameters}
                yield from _classes(slot.registry, data, (*place, field))


def _classes(
    registry: Registry, data: Mapping[str, Any], place: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], type[Any]]]:
    """Yield the class of a component, and those of the components among its parameters."""
    name = data["name"]
    if name not in registry.builtin:
        yield place, registry.resolve(name)
    for field, info in registry.parameters(name).model_fields.items():
        nested = nested_registry(info)
        if nested is not None and isinstance(data.get(field), Mapping):
            yield from _classes(nested, data[field], (*place, field))


def component_model(model: type[BaseModel], field: str, data: Any) -> type[BaseModel] | None:
    """Return the model of the parameters of the component that *data* names in *field*, if there is one."""
    slot = slot_of(model, field)
    if slot is None:
        return None
    name = data.get(slot.name_key) if isinstance(data, Mapping) else data
    try:
        return slot.registry.parameters(name) if isinstance(name, str) else None
    except PluginError:
        return None
