"""``--set a.b.c=value``: changes to a scenario's data before it is checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from servesim.errors import ScenarioError, nearest
from servesim.scenario.document import Document, Mark, parse_document
from servesim.scenario.problems import Path, shown

SHORT_FORMS = frozenset({"router", "scheduler", "latency", "predictor"})
"""Keys whose component may be written as its name alone."""


def apply_overrides(document: Document, overrides: Sequence[str], *, option: str = "--set") -> None:
    """Change *document* as *overrides* say, in their order.

    Parameters
    ----------
    document
        Changed in place.
    overrides
        ``key=value`` each: keys separated by dots, items of a list by position or by their ``name``, the
        value as YAML. Keys that the file lacks are added.
    option
        What messages call the place that the overrides come from.

    Raises
    ------
    ScenarioError
        If overrides cannot be read or lead nowhere; all of them are named at once.
    """
    problems = []
    for override in overrides:
        try:
            _apply(document, override, option)
        except ScenarioError as error:
            problems.append(str(error))
    if problems:
        raise ScenarioError("\n".join(problems))


def _apply(document: Document, override: str, option: str) -> None:
    label = f"{option} {override}"
    dotted, separator, text = override.partition("=")
    parts = dotted.strip().split(".")
    if not separator or not all(parts):
        raise ScenarioError(f"{label}: not an override. expected KEY=VALUE with keys separated by dots.")
    if not isinstance(document.data, dict):
        document.data = {}
    value = parse_document(text, label).data
    target: Any = document.data
    path: Path = ()
    for part in parts[:-1]:
        step = _step(target, part, path, label)
        path = (*path, step)
        if isinstance(target, dict):
            held = target.get(part)
            if held is None or (isinstance(held, str) and part in SHORT_FORMS):
                target[part] = {} if held is None else {"name": held}
                _move_marks(document, path, Mark(label))
        target = target[step]
    step = _step(target, parts[-1], path, label)
    target[step] = value
    _move_marks(document, (*path, step), Mark(label))


def _step(target: Any, part: str, path: Path, label: str) -> str | int:
    """Return the key or position in *target* that *part* of an override means."""
    if isinstance(target, dict):
        return part
    where = ".".join(map(str, path))
    if not isinstance(target, list):
        raise ScenarioError(
            f"{label}: {where} has no keys (got {shown(target)} there). expected a mapping to find {part!r}"
            " in."
        )
    if part.isdecimal() and int(part) < len(target):
        return int(part)
    names = [item.get("name") if isinstance(item, dict) else None for item in target]
    if part in names:
        return names.index(part)
    known = [name for name in names if isinstance(name, str)]
    expected = f"a position below {len(target)}" + (f" or one of {', '.join(known)}" if known else "")
    message = f"{label}: {where} has no item {part!r}. expected {expected}."
    raise ScenarioError(message, hint=nearest(part, known))


def _move_marks(document: Document, path: Path, mark: Mark) -> None:
    """Say that everything at *path* now comes from the command line."""
    for places in (document.keys, document.values):
        for other in [other for other in places if other[: len(path)] == path]:
            del places[other]
        places[path] = mark
