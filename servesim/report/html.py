"""Pieces of HTML. Every text that is passed in is escaped: names of models, tenants and runs are users' own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from servesim.results.schema import POOL_LOAD, SUMMARY
from servesim.results.units import count_text, number_text, ratio_text, seconds_text

_UNITS = {key.name: key.unit for key in (*SUMMARY, *POOL_LOAD)}
_UNITS |= {"requests": "requests", "replicas": "replicas", "output_tokens": "tokens", "slo_met_ratio": "0-1"}
_COUNTED = {"requests", "times", "steps", "tokens", "replicas"}


@dataclass(frozen=True, slots=True)
class Markup:
    """HTML that is safe to put into a page as it is."""

    html: str


Content = str | Markup


def safe(content: Content) -> str:
    """Return *content* as HTML: text escaped, markup as it is."""
    return content.html if isinstance(content, Markup) else escape(content)


def tag(name: str, *contents: Content, **attributes: str) -> Markup:
    """Return an element; a trailing underscore of an attribute's name is dropped, others become hyphens."""
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items()
    )
    return Markup(f"<{name}{told}>{''.join(map(safe, contents))}</{name}>")


def table(head: Sequence[Content], rows: Iterable[Sequence[Content]], *, kind: str = "numbers") -> Markup:
    """Return a table in a box that scrolls by itself; the first column names the rows.

    Parameters
    ----------
    head, rows
        Cells; texts are escaped.
    kind
        ``numbers``, ``exact`` (numbers with a text in the last column) or ``text``.
    """
    top = tag("tr", *(tag("th", text, scope="col") for text in head))
    body = [
        tag("tr", tag("th", name, scope="row"), *(tag("td", cell) for cell in cells)) for name, *cells in rows
    ]
    whole = tag("table", tag("thead", top), tag("tbody", *body), class_=kind)
    return tag("div", whole, class_="scroll", tabindex="0")


def folded(title: str, *contents: Content) -> Markup:
    """Return a block that is shut until it is clicked."""
    return tag("details", tag("summary", title), *contents)


def value(values: Mapping[str, Any], key: str) -> Markup:
    """Return a number of a summary as people read it; the element carries the exact one, and its key.

    The unit is the one that the summary declares for *key*. A value that is null is a dash.
    """
    number = values.get(key)
    if number is None:
        return tag("span", "\N{EN DASH}", data_key=key)
    return tag("data", value_text(key, number), value=repr(number), data_key=key, title=f"{key} = {number!r}")


def value_text(key: str, number: float) -> str:
    """Return a number of a summary as text with its unit."""
    unit = unit_of(key)
    if isinstance(number, bool):
        return "yes" if number else "no"
    if unit == "s":
        return seconds_text(number)
    if unit == "0-1":
        return ratio_text(number)
    if unit in _COUNTED:
        return count_text(number) if isinstance(number, int) else number_text(number)
    return f"{number_text(number)} {'requests/s' if unit == '1/s' else unit}"


def unit_of(key: str) -> str:
    """Return the unit of a key of the summary, or of a table in it."""
    return _UNITS.get(key) or ("s" if "_s_p" in key else "requests")
