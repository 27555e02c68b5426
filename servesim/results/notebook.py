"""How a result shows itself in a notebook: the summary as a few small tables, in the notebook's own colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from servesim.results.notes import run_notes, validation_note
from servesim.results.readable import (
    GROUP_TABLES,
    busiest,
    group_table,
    headline_facts,
    latency_table,
    use_facts,
)


def summary_html(summary: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """Return the summary of a run as HTML: headline, latencies, groups, and what to know before trusting them.

    Parameters
    ----------
    summary, provenance
        Of the `RunResult`.
    """
    name = provenance.get("scenario")
    parts = [f"<b>{escape(str(name))}</b>"] if name is not None else []
    facts = headline_facts(summary) | use_facts(summary, provenance)
    parts += [_table([], [[label, text] for label, text in facts.items()]), _table(*latency_table(summary))]
    for title, key in GROUP_TABLES.items():
        if summary.get(key):
            shown = busiest(summary[key])
            parts.append(_table(*group_table(title, shown)))
            left = len(summary[key]) - len(shown)
            parts += [f"<div>and {left} more with fewer requests</div>"] if left else []
    notes = [*run_notes(summary, provenance), *filter(None, [validation_note(provenance)])]
    parts += [f"<div>{escape(note)}</div>" for note in notes]
    return f"<div>{''.join(parts)}</div>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column names the rows; numbers are to the right where there is a head."""
    side = "right" if head else "left"
    top = "".join(_cell("th", text, "right" if number else "left") for number, text in enumerate(head))
    body = "".join(
        f"<tr>{_cell('th', row[0], 'left')}{''.join(_cell('td', text, side) for text in row[1:])}</tr>"
        for row in rows
    )
    return f"<table>{f'<thead><tr>{top}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"


def _cell(tag: str, text: str, side: str) -> str:
    return f'<{tag} style="text-align: {side}; padding: 0.1em 0.6em">{escape(text)}</{tag}>'
