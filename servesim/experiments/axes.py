"""What differs between the runs of an experiment: axes over keys of a scenario, and the variants they make."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from servesim.errors import ScenarioError
from servesim.scenario.document import parse_document


@dataclass(frozen=True, slots=True)
class Axis:
    """A key of the scenario and the values it takes in turn.

    Attributes
    ----------
    key
        Keys separated by dots, as in ``--set``.
    values
        Plain data each.
    """

    key: str
    values: tuple[Any, ...]

    @property
    def label(self) -> str:
        """The last word of the key that says what it is about: ``router`` of ``policies.router.name``."""
        words = self.key.split(".")
        return words[-2] if words[-1] == "name" and len(words) > 1 else words[-1]


@dataclass(frozen=True, slots=True)
class Variant:
    """One of the things that an experiment compares.

    Attributes
    ----------
    name
        How tables call it; distinct within an experiment.
    coordinates
        Its value on every axis, by the axis's key.
    objects
        ``router``, ``scheduler`` or ``latency``: objects that replace what the scenario names.
    """

    name: str
    coordinates: Mapping[str, Any] = field(default_factory=dict)
    objects: Mapping[str, object] = field(default_factory=dict)

    @property
    def overrides(self) -> list[str]:
        """Its coordinates as ``KEY=VALUE`` each."""
        return overrides_of(self.coordinates)


def overrides_of(values: Mapping[str, Any]) -> list[str]:
    """Return *values* by key as ``KEY=VALUE`` each; JSON is YAML."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]


def parse_axis(text: str, *, option: str = "--vary") -> Axis:
    """Return the axis that ``KEY=VALUE,VALUE,...`` describes; values are YAML.

    Raises
    ------
    ScenarioError
        If it has another form, no value, or a value twice.
    """
    key, separator, listed = text.partition("=")
    label = f"{option} {text}"
    if not separator or not all(key.strip().split(".")):
        raise ScenarioError(
            f"{label}: not an axis. expected KEY=VALUE,VALUE,... with keys separated by dots."
        )
    values = parse_document(f"[{listed}]", label).data
    check_values(values, label)
    return Axis(key.strip(), tuple(values))


def check_values(values: Any, label: str) -> None:
    """Refuse an axis without values, or with the same value twice; *label* names it.

    Raises
    ------
    ScenarioError
        If the values cannot be used.
    """
    if not isinstance(values, list | tuple) or not values or any(value == "" for value in values):
        raise ScenarioError(f"{label}: no value. expected one or more, separated by commas.")
    if len({json.dumps(value, sort_keys=True) for value in values}) < len(values):
        raise ScenarioError(f"{label}: a value stands twice. expected each once.")


def grid(axes: Sequence[Axis]) -> list[Variant]:
    """Return a variant for every combination of the values of *axes*, the last axis changing fastest.

    Without axes there is one variant, named ``base``.

    Raises
    ------
    ScenarioError
        If two axes have the same key.
    """
    keys = [axis.key for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise ScenarioError(f"{key}: two axes with this key. expected one with all values.")
    points = [dict(zip(keys, values, strict=True)) for values in itertools.product(*(a.values for a in axes))]
    names = _names([axis.label for axis in axes], points)
    return [Variant(name, point) for name, point in zip(names, points, strict=True)]


def _names(labels: Sequence[str], points: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the values alone where there is one axis of words, ``label=value, ...`` elsewhere."""
    names = []
    for point in points:
        texts = [value_text(value) for value in point.values()]
        bare = len(texts) == 1 and not _is_number(next(iter(point.values())))
        pairs = texts if bare else [f"{label}={text}" for label, text in zip(labels, texts, strict=True)]
        names.append(", ".join(pairs) or "base")
    return names


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float)


def value_text(value: Any) -> str:
    """Return a value as names and tables show it: words bare, components by their name and parameters."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        pairs = [f"{key}={value_text(item)}" for key, item in value.items() if key != "name"]
        name = str(value.get("name", ""))
        return f"{name}({', '.join(pairs)})" if pairs or not name else name
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(value_text, value))}]"
    return json.dumps(value)
