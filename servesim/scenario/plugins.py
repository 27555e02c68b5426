"""What the registered plugins are called, do and take: for listings, editors and the reference pages."""

from __future__ import annotations

import inspect
import re
import typing
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from servesim.errors import PluginError
from servesim.generators.lengths import LengthDistribution
from servesim.generators.times import TimeDistribution
from servesim.registry import Registry
from servesim.scenario.components import plain
from servesim.scenario.problems import models_in
from servesim.scenario.slots import REGISTRIES, nested_registry

_WORDS = {int: "int", float: "float", str: "str", bool: "bool", NoneType: "null", Any: "any", Path: "path"}
DISTRIBUTIONS = {
    "length distribution": models_in(LengthDistribution),
    "time distribution": models_in(TimeDistribution),
}
"""Models of distributions by their kind."""

_SECTION = re.compile(
    r"^(?:Parameters|Attributes)\n-+\n(.*?)(?=^\S[^\n]*\n-{3,}\n|\Z)", re.MULTILINE | re.DOTALL
)
_ENTRY = re.compile(r"^(\S[^\n]*)\n((?:[ \t]+[^\n]*\n?|\n)+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterInfo:
    """One parameter of a plugin.

    Attributes
    ----------
    name, type
        As a scenario writes it, and what it holds, in words.
    required
        Whether it has no default.
    default
        Plain data; None if *required*.
    description
        From the class's docstring; empty where that has none.
    """

    name: str
    type: str
    required: bool
    default: Any
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """One plugin.

    Attributes
    ----------
    kind, name
        As its registry calls it.
    summary
        First paragraph of its docstring.
    parameters
        In the order of its constructor.
    model
        What its parameters are validated with.
    """

    kind: str
    name: str
    summary: str
    parameters: tuple[ParameterInfo, ...]
    model: type[BaseModel]


def plugin_info(registry: Registry, name: str) -> PluginInfo:
    """Return what is known of the plugin that *registry* calls *name*.

    Raises
    ------
    PluginError
        If it does not resolve to a class, or does not tell what it takes.
    """
    cls, model = registry.resolve(name), registry.parameters(name)
    described: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        described |= _described_parameters(inspect.cleandoc(owner.__doc__ or ""))
    return PluginInfo(
        kind=registry.kind,
        name=name,
        summary=_summary(cls),
        parameters=tuple(_parameter(key, field, described) for key, field in model.model_fields.items()),
        model=model,
    )


def usable_plugins() -> tuple[dict[tuple[str, str], PluginInfo], list[PluginError]]:
    """Return what is known of every plugin, by kind and name, and why others cannot be used."""
    infos: dict[tuple[str, str], PluginInfo] = {}
    errors = []
    for registry in REGISTRIES:
        for name in registry.names():
            try:
                infos[registry.kind, name] = plugin_info(registry, name)
            except PluginError as error:
                errors.append(error)
    return infos, errors


def distributions() -> list[PluginInfo]:
    """Return the distributions: no plugins, but named with parameters in the same way."""
    return [
        PluginInfo(
            kind=kind,
            name=model.model_fields["distribution"].default,
            summary=_summary(model),
            parameters=_required_first(model),
            model=model,
        )
        for kind, models in DISTRIBUTIONS.items()
        for model in models
    ]


def _required_first(model: type[BaseModel]) -> tuple[ParameterInfo, ...]:
    fields = {key: field for key, field in model.model_fields.items() if key != "distribution"}
    parameters = [_parameter(key, field, {}) for key, field in fields.items()]
    return tuple(sorted(parameters, key=lambda parameter: not parameter.required))


def _summary(cls: type[Any]) -> str:
    return " ".join(inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].split())


def _parameter(name: str, field: FieldInfo, described: dict[str, str]) -> ParameterInfo:
    required = field.is_required()
    nested = nested_registry(field)
    return ParameterInfo(
        name=name,
        type=nested.kind if nested is not None else type_text(field.annotation),
        required=required,
        default=None if required else plain(field.get_default(call_default_factory=True)),
        description=described.get(name, field.description or ""),
    )


def _described_parameters(docstring: str) -> dict[str, str]:
    """Return what the numpydoc section ``Parameters`` or ``Attributes`` says; names may share a text."""
    described: dict[str, str] = {}
    section = _SECTION.search(docstring)
    for names, text in _ENTRY.findall(section[1] if section else ""):
        for name in names.partition(":")[0].split(","):
            described[name.strip(" *`")] = " ".join(text.split())
    return described


def type_text(annotation: Any) -> str:
    """Return what a value of type *annotation* is, in the words of a scenario's reader."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_text(arguments[0])
    if origin is typing.Literal:
        return " or ".join(map(str, arguments))
    if origin in (typing.Union, UnionType):
        kinds = [kind for kind, models in DISTRIBUTIONS.items() if list(arguments) == models]
        return kinds[0] if kinds else " or ".join(dict.fromkeys(map(type_text, arguments)))
    if origin in (list, tuple):
        return f"list of {type_text(arguments[0])}"
    if origin is dict:
        return f"mapping to {type_text(arguments[1])}"
    return "mapping" if models_in(annotation) else _WORDS.get(annotation, str(annotation))
