"""What is wrong with a scenario, as data: a path into the file, a message, a hint.

Turns the validation errors of pydantic into problems in the words of servesim's messages. Where a problem
stands in a file is not known here (see `servesim.scenario.document`).
"""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from servesim.errors import PluginError, nearest
from servesim.scenario.slots import component_model

Path = tuple[str | int, ...]
"""Keys and list positions from the top of a scenario to a value."""

NOT_YET = frozenset(
    {
        *("admission", "autoscaler", "autoscaling", "cold_start", "failures", "keep_alive", "migration"),
        *("data_parallel", "expert_parallel", "pipeline_parallel", "disaggregation", "role", "roles"),
        *("expert_placement", "moe", "placement", "lora", "speculative", "speculative_decoding"),
        *("kv_eviction", "kv_offload", "kv_tiers", "kv_transfer", "swap", "tiers"),
        *("network", "power", "power_cap_w", "signal_delay_s"),
    }
)
"""Keys of planned features: refused as such, so that nobody takes them for a spelling mistake."""

_EXPECTED = {
    "int_type": ("not a whole number", "a whole number"),
    "int_parsing": ("not a whole number", "a whole number"),
    "int_from_float": ("not a whole number", "a whole number"),
    "float_type": ("not a number", "a number"),
    "float_parsing": ("not a number", "a number"),
    "finite_number": ("not a finite number", "a finite number"),
    "bool_type": ("neither true nor false", "true or false"),
    "bool_parsing": ("neither true nor false", "true or false"),
    "string_type": ("not a text", "a text"),
    "path_type": ("not a path", "the path of a file"),
    "model_type": ("not a mapping", "keys with values below it"),
    "model_attributes_type": ("not a mapping", "keys with values below it"),
    "dict_type": ("not a mapping", "keys with values below it"),
    "list_type": ("not a list", "a list"),
    "tuple_type": ("not a list", "a list"),
    "greater_than": ("too small", "more than {gt}"),
    "greater_than_equal": ("too small", "at least {ge}"),
    "less_than": ("too large", "less than {lt}"),
    "less_than_equal": ("too large", "at most {le}"),
    "too_short": ("too short", "at least {min_length}"),
    "string_too_short": ("too short", "at least {min_length} characters"),
    "string_pattern_mismatch": ("not a valid name", "a text that matches {pattern}"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Parameters
    ----------
    path
        Where, from the top of what was validated.
    message
        ``what is wrong (got X). expected Y.``
    hint
        What to do about it.
    at_key
        Whether the key itself is wrong rather than its value.
    """

    path: Path
    message: str
    hint: str | None = None
    at_key: bool = False

    def below(self, prefix: Path) -> Problem:
        """Return the same problem as seen from *prefix* levels further up."""
        return Problem((*prefix, *self.path), self.message, self.hint, self.at_key)

    def __str__(self) -> str:
        key = ".".join(map(str, self.path))
        text = f"{key}: {self.message}" if key else self.message
        return f"{text}\n  hint: {self.hint}" if self.hint else text


class Problems(ValueError):
    """Several problems found by one validator; pydantic carries them to the caller."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def problems_of(
    error: ValidationError, model: type[BaseModel], data: Any, *, beside: Sequence[str] = ()
) -> list[Problem]:
    """Return what *error* says about *data*, which was validated as *model*; *beside* its keys may stand these."""
    found: dict[Problem, None] = {}  # a union reports the same problem once per member
    for item in error.errors(include_url=False):
        if item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]:
            continue  # long enough: pydantic did not count the entries that are wrong
        path = _data_path(item["loc"], data, missing=item["type"] == "missing")
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, Problems):
            found.update(dict.fromkeys(problem.below(path) for problem in cause.problems))
        else:
            found[_problem(typing.cast("dict[str, Any]", item), path, model, data, beside)] = None
    return list(found)


def shown(value: Any) -> str:
    """Return how a message quotes *value*."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]}..."


def _problem(
    item: dict[str, Any], path: Path, model: type[BaseModel], data: Any, beside: Sequence[str]
) -> Problem:
    kind, got = item["type"], shown(item["input"])
    if kind == "extra_forbidden":
        return _unknown_key(
            path, got, [*(beside if len(path) == 1 else ()), *known_keys(model, path[:-1], data)]
        )
    if kind == "missing":
        return Problem(path, f"missing key. expected {_expectation(model, path, data)}.")
    if kind == "union_tag_not_found":
        key = item["ctx"]["discriminator"].strip("'")
        return Problem((*path, key), f"missing key. expected the key {key!r}, which says what this is.")
    if kind in ("literal_error", "enum", "union_tag_invalid"):
        return _unknown_value(path, item)
    if kind in _EXPECTED:
        wrong, expected = _EXPECTED[kind]
        return Problem(path, f"{wrong} (got {got}). expected {expected.format_map(item.get('ctx', {}))}.")
    return _said_by_validator(item, path, got)


def _said_by_validator(item: dict[str, Any], path: Path, got: str) -> Problem:
    """Take over the words of a validator's own error."""
    cause = item.get("ctx", {}).get("error")
    origin = getattr(cause, "__cause__", None)
    if isinstance(origin, PluginError):
        return Problem((*path, "name"), f"{origin.args[0]}.", origin.hint)
    if cause is not None:
        message, _, hint = str(cause).partition("\n  hint: ")
        return Problem(path, message, hint or None)
    return Problem(path, f"{item['msg'][:1].lower()}{item['msg'][1:]} (got {got}).")


def _unknown_key(path: Path, got: str, known: Sequence[str]) -> Problem:
    key = str(path[-1])
    if key in NOT_YET:
        return Problem(path, f"not yet supported (got {got}). expected this key to be left out.", at_key=True)
    expected = f" expected one of {', '.join(known)}." if known else " expected no keys here."
    return Problem(path, f"unknown key (got {got}).{expected}", nearest(key, known), at_key=True)


def _unknown_value(path: Path, item: dict[str, Any]) -> Problem:
    got, context = item["input"], item["ctx"]
    if item["type"] == "union_tag_invalid":
        key = context["discriminator"].strip("'")
        path, got = (*path, key), context["tag"]
        expected = context["expected_tags"]
    else:
        expected = context["expected"]
    known = [word.strip(" '") for word in expected.replace(" or ", ", ").split(",")]
    hint = nearest(got, known) if isinstance(got, str) else None
    return Problem(path, f"unknown value (got {shown(got)}). expected one of {', '.join(known)}.", hint)


def _expectation(model: type[BaseModel], path: Path, data: Any) -> str:
    """Return what is asked for at *path*, in the words of the field's description."""
    if path[-1] == "name":
        return "the name of a component"
    asked = f"a value for {path[-1]!r}"
    for candidate in _models_at(model, path[:-1], data):
        field = candidate.model_fields.get(str(path[-1]))
        if field is not None and field.description:
            return f"{asked} ({_inside(field.description)})"
    return asked


def _inside(description: str) -> str:
    """Return the first sentence of *description* as it stands within another one."""
    sentence = description.partition(". ")[0].rstrip(".")
    first_word = sentence.split(" ", 1)[0]
    return sentence[:1].lower() + sentence[1:] if first_word[1:] == first_word[1:].lower() else sentence


def known_keys(model: type[BaseModel], path: Path, data: Any) -> list[str]:
    """Return the keys that may stand at *path* of *data*, which is validated as *model*."""
    keys = [key for candidate in _models_at(model, path, data) for key in candidate.model_fields]
    return list(dict.fromkeys(keys))


def _models_at(model: type[BaseModel], path: Path, data: Any) -> list[type[BaseModel]]:
    """Follow *path* from *model* through fields, lists, unions and the classes behind component names."""
    candidates = [model]
    for step in path:
        data = _child(data, step)
        following: list[type[BaseModel]] = []
        known = False
        for candidate in candidates:
            if step not in candidate.model_fields:
                continue
            known = True
            component = component_model(candidate, str(step), data)
            following += [component] if component else models_in(candidate.model_fields[str(step)].annotation)
        candidates = (
            following if known else candidates
        )  # a list position or a free key leads to the same models
        candidates = [candidate for candidate in candidates if _matches(candidate, data)]
    return candidates


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return every pydantic model that a type annotation speaks of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in models_in(argument)]


def _matches(candidate: type[BaseModel], data: Any) -> bool:
    """Tell whether the literal fields of a union's member agree with *data*."""
    if not isinstance(data, Mapping):
        return True
    return all(
        name not in data or data[name] in typing.get_args(field.annotation)
        for name, field in candidate.model_fields.items()
        if typing.get_origin(field.annotation) is typing.Literal
    )


def _data_path(location: Sequence[str | int], data: Any, *, missing: bool) -> Path:
    """Return *location* without the steps that pydantic adds for the members of unions."""
    path: list[str | int] = []
    for position, step in enumerate(location):
        last = position == len(location) - 1
        if _has(data, step):
            data = _child(data, step)
            path.append(step)
        elif last and missing:
            path.append(step)
    return tuple(path)


def _has(data: Any, step: str | int) -> bool:
    if isinstance(data, Mapping):
        return step in data
    return isinstance(data, list | tuple) and isinstance(step, int) and step < len(data)


def _child(data: Any, step: str | int) -> Any:
    return data[step] if _has(data, step) else None
