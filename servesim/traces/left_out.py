"""Rows of a trace that are no requests, as its reader's notes count them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WITHOUT_OUTPUT = {"failures": "failed", "zero_output": "without output"}
"""Notes of readers that count requests without output, in words."""

NO_REQUESTS = {
    "other_log_types": "of other log types",
    "rows_duplicated": "in sessions that are there twice",
}
"""Notes of readers that count other rows which are no requests, in words."""


def rows_left_out(notes: Mapping[str, Any], requests: int) -> dict[str, int]:
    """Return how many rows are not among the *requests*, by what they are, in words."""
    counts = NO_REQUESTS if outputs_kept(notes, requests) else NO_REQUESTS | WITHOUT_OUTPUT
    return {text: int(notes[name]) for name, text in counts.items() if notes.get(name)}


def without_output(notes: Mapping[str, Any]) -> int:
    """Return how many requests had no output, left out or not."""
    return sum(int(notes.get(name, 0)) for name in WITHOUT_OUTPUT)


def outputs_kept(notes: Mapping[str, Any], requests: int) -> int:
    """Return how many requests without output are among the *requests*, with 1 token."""
    others = sum(int(notes.get(name, 0)) for name in NO_REQUESTS)
    empty = without_output(notes)
    kept = requests > int(notes.get("rows_read", requests)) - others - empty
    return empty if kept else 0
