"""What runs that are shown side by side were told differently: the keys of their scenarios that differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from servesim.report.html import Content, folded, table

ROWS_MAX = 12
"""Rows that are shown without being asked for."""


def differing_settings(settings: Mapping[str, Mapping[str, Any]]) -> list[Content]:
    """Return a table of the keys whose values differ, a column per run; nothing where all are alike.

    Parameters
    ----------
    settings
        Label of a run to its resolved scenario.
    """
    flat = {label: dict(_leaves(tree, "")) for label, tree in settings.items()}
    keys = dict.fromkeys(key for leaves in flat.values() for key in leaves)
    told = {key: [leaves.get(key, "\N{EN DASH}") for leaves in flat.values()] for key in keys}
    rows = [[key, *texts] for key, texts in told.items() if len(set(texts)) > 1]
    if not rows:
        return []
    shown = table(["setting", *flat], rows, kind="text")
    return [shown if len(rows) <= ROWS_MAX else folded(f"{len(rows):,} settings differ", shown)]


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted path of every value with its text; items of a list go by their names, or are counted."""
    if isinstance(tree, Mapping) and tree:
        for key, item in tree.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list) and tree:
        for number, item in enumerate(tree):
            name = item.get("name", number) if isinstance(item, Mapping) else number
            yield from _leaves(item, f"{path}.{name}")
    else:
        yield path, tree if isinstance(tree, str) else json.dumps(tree, ensure_ascii=False, default=str)
