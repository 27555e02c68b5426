"""Components of a scenario: parameters checked against the class behind the name, defaults filled in.

A checked component is plain data again: every parameter written out, paths absolute. So a scenario can be
saved, hashed and sent to another process, and the objects are built where they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_origin

from pydantic import BaseModel, ValidationError, ValidationInfo

from servesim.errors import PluginError, ServesimError
from servesim.registry import ComponentSpec, parameters_model
from servesim.scenario.checks import check_ends
from servesim.scenario.problems import Problem, Problems, problems_of
from servesim.scenario.slots import SLOTS, Slot
from servesim.workload.spec import MixSpec, SourceSpec, WorkloadSpec

Spec = TypeVar("Spec", bound=SourceSpec | ComponentSpec)
"""The two forms of a component: its name stands under ``reader`` or under ``name``."""


def resolve_component(spec: Spec, slot: Slot, info: ValidationInfo) -> Spec:
    """Return *spec* with every parameter checked and written out.

    Raises
    ------
    Problems
        If the name is unknown, a parameter is unknown, missing or of the wrong type, or the class refuses it.
    """
    name, given = getattr(spec, slot.name_key), spec.parameters
    try:
        model = slot.registry.parameters(name)
    except PluginError as error:
        raise Problems([Problem((slot.name_key,), f"{error.args[0]}.", error.hint)]) from error
    try:
        validated = model.model_validate(given, context=path_context(info))
    except ValidationError as error:
        raise Problems(problems_of(error, model, given, beside=(slot.name_key,))) from error
    values = {key: getattr(validated, key) for key in model.model_fields}
    try:
        # What a constructor refuses is found here, at its line, and not when the run starts.
        slot.registry.resolve(name)(**values)
    except (ServesimError, ValueError) as error:
        raise Problems([Problem((), str(error))]) from error
    parameters = {key: plain(value, given.get(key)) for key, value in values.items()}
    return cast("Spec", type(spec).model_validate({slot.name_key: name, **parameters}))


def path_context(info: ValidationInfo) -> dict[str, Any]:
    """Return the context of paths: relative ones start from the file's folder or the working directory."""
    return {"base_dir": Path.cwd(), **(info.context or {})}


def resolve_workload(value: Any, handler: Any, info: ValidationInfo) -> WorkloadSpec:
    """Validate a workload, its readers and generators included; report what is wrong with either together.

    Raises
    ------
    Problems
        If anything is wrong.
    """
    problems: list[Problem] = []
    spec: WorkloadSpec | None = None
    try:
        spec = handler(value)
    except ValidationError as error:
        problems += problems_of(error, WorkloadSpec, value)
    parts = spec if spec is not None else value
    resolved = _resolve_parts(parts, "WorkloadSpec", info, problems)
    sources = parts.get("sources") if isinstance(parts, Mapping) else getattr(parts, "sources", None)
    mixed = []
    for index, part in enumerate(sources if isinstance(sources, list) else []):
        below: list[Problem] = []
        update = _resolve_parts(part, "MixSpec", info, below)
        problems += [problem.below(("sources", index)) for problem in below]
        if isinstance(part, MixSpec):
            mixed.append(part.model_copy(update=update))
    if problems or spec is None:
        raise Problems(problems)
    workload = spec.model_copy(update={**resolved, "sources": mixed or None})
    check_ends(workload)
    return workload


def _resolve_parts(part: Any, owner: str, info: ValidationInfo, problems: list[Problem]) -> dict[str, Any]:
    """Return the resolved components of a workload or of one of its sources, given as data or as models."""
    resolved: dict[str, Any] = {}
    for key, form in (("source", SourceSpec), ("generator", ComponentSpec)):
        slot = SLOTS[owner, key]
        spec: Any = part.get(key) if isinstance(part, Mapping) else getattr(part, key, None)
        try:
            if isinstance(spec, Mapping):
                spec = form.model_validate(spec)
        except ValidationError:
            continue  # what is wrong with its form is known already
        if not isinstance(spec, SourceSpec | ComponentSpec):
            continue
        try:
            resolved[key] = resolve_component(spec, slot, info)
        except Problems as error:
            problems += [problem.below((key,)) for problem in error.problems]
    return resolved


def plain(value: Any, given: Any = None, *, differing: bool = False) -> Any:
    """Return a validated parameter as data that YAML can hold.

    Parameters
    ----------
    value
        The parameter's validated value.
    given
        What the scenario had written: it holds the name of a nested component, whose object does not know it.
    differing
        Leave out what equals its default, and reduce paths to file names: the form that is hashed.
    """
    if isinstance(value, BaseModel):
        return model_data(value, differing=differing)
    if isinstance(value, Path):
        return path_text(value, differing=differing)
    if isinstance(value, Mapping):
        return {str(key): plain(item, differing=differing) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, differing=differing) for item in value]
    name = given.get("name") if isinstance(given, Mapping) else given
    if value is None or isinstance(value, bool | int | float | str) or not isinstance(name, str):
        return value
    return {"name": name, **_object_data(value, given, differing=differing)}


def path_text(path: Path, *, differing: bool = False) -> str:
    """Return *path* as absolute text, or only what names the file."""
    if differing:
        # Every model's architecture is in a file called config.json: its folder tells which.
        return "/".join(path.parts[-2:]) if path.name == "config.json" else path.name
    return str(path.absolute().parent.resolve() / path.name)  # a link keeps its own name


def model_data(model: BaseModel, *, differing: bool = False) -> dict[str, Any]:
    """Return the fields of *model* as plain data, all of them or those that differ from their defaults.

    A field with a single literal value says which member of a union this is, and always stays.
    """
    data = {}
    for name, field in type(model).model_fields.items():
        value = _field_data(model, name, getattr(model, name), differing=differing)
        if differing and get_origin(field.annotation) is not Literal and not field.is_required():
            default = field.get_default(call_default_factory=True)
            if value == _field_data(model, name, default, differing=True):
                continue
        data[name] = value
    return data


def _field_data(model: BaseModel, name: str, value: Any, *, differing: bool) -> Any:
    if not isinstance(value, ComponentSpec | SourceSpec):
        return plain(value, differing=differing)
    slot = SLOTS[type(model).__name__, name]
    return _component_data(value, slot) if differing else value.model_dump()


def _component_data(spec: ComponentSpec | SourceSpec, slot: Slot) -> dict[str, Any]:
    """Return a checked component: its name, and the parameters that differ from their defaults."""
    name = getattr(spec, slot.name_key)
    model = slot.registry.parameters(name)
    validated = model.model_validate(spec.parameters)
    values = {key: getattr(validated, key) for key in model.model_fields}
    return {slot.name_key: name, **_differing(model, values, spec.parameters)}


def _object_data(component: Any, given: Any, *, differing: bool) -> dict[str, Any]:
    """Return the parameters of a nested component's object, which stores them under their own names."""
    model = parameters_model(type(component))
    values = {key: getattr(component, key) for key in model.model_fields}
    parameters = given if isinstance(given, Mapping) else {}
    if differing:
        return _differing(model, values, parameters)
    return {key: plain(value, parameters.get(key)) for key, value in values.items()}


def _differing(model: type[BaseModel], values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    data = {}
    for key, value in values.items():
        field = model.model_fields[key]
        reduced = plain(value, given.get(key), differing=True)
        default = field.get_default(call_default_factory=True)
        if field.is_required() or reduced != plain(default, differing=True):
            data[key] = reduced
    return data
