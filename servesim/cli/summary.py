"""The summary of a run as a page of text."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from servesim.results.notes import run_notes
from servesim.results.readable import (
    GROUP_TABLES,
    busiest,
    group_table,
    headline_facts,
    latency_table,
    use_facts,
)
from servesim.results.units import bytes_text, seconds_text

_WIDTH = 1000
"""Columns where there is no terminal: nothing is folded or cut."""


def summary_text(
    name: str,
    summary: Mapping[str, Any],
    host: Mapping[str, Any],
    *,
    provenance: Mapping[str, Any] | None = None,
    saved: Path | None = None,
) -> str:
    """Return the page that ``servesim run`` prints.

    Parameters
    ----------
    name
        Name of the scenario.
    summary
        ``RunResult.summary``.
    host
        ``RunResult.host``: facts about this execution.
    provenance
        ``RunResult.provenance``; None leaves out the notes that need it.
    saved
        Where the result was saved, or None.
    """
    parts: list[RenderableType] = [
        f"[bold]{escape(name)}[/bold]{_host_text(host)}",
        "",
        facts_table(headline_facts(summary)),
        "",
    ]
    parts += [numbers_table(*latency_table(summary)), "", facts_table(use_facts(summary, provenance or {}))]
    for title, key in GROUP_TABLES.items():
        if summary.get(key):
            shown = busiest(summary[key])
            parts += ["", numbers_table(*group_table(title, shown))]
            left = len(summary[key]) - len(shown)
            parts += [f"  and {left} more with fewer requests: --json tells all"] if left else []
    notes = [escape(note) for note in run_notes(summary, provenance or {})]
    parts += ["", *notes] if notes else []
    parts += [f"saved in {escape(str(saved))}"] if saved is not None else []
    return rendered(parts)


def rendered(parts: list[RenderableType]) -> str:
    """Return *parts* as text for stdout: styled on a terminal, plain and unfolded elsewhere."""
    terminal = sys.stdout.isatty()
    text = io.StringIO()
    console = Console(
        file=text,
        force_terminal=terminal,
        no_color="NO_COLOR" in os.environ,
        width=None if terminal else _WIDTH,
        highlight=False,
        emoji=False,
    )
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))
    return "".join(line.rstrip() + "\n" for line in text.getvalue().splitlines())


def _host_text(host: Mapping[str, Any]) -> str:
    facts = []
    if host.get("wall_s") is not None:
        facts.append(f"simulated in {seconds_text(host['wall_s'])}")
    if host.get("peak_memory_bytes") is not None:
        facts.append(f"peak memory {bytes_text(host['peak_memory_bytes'])}")
    return f"  ({', '.join(facts)})" if facts else ""


def facts_table(rows: Mapping[str, str]) -> Table:
    """Return labels and texts in two columns."""
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows.items():
        table.add_row(f"  {label}", text)
    return table


def numbers_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table: names on the left, numbers on the right."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column(f"  {head[0]}", overflow="fold")
    for title in head[1:]:
        table.add_column(title, justify="left" if title == "unit" else "right", no_wrap=True)
    for name, *cells in rows:
        table.add_row(f"  {escape(name)}", *cells)
    return table
