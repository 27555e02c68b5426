"""Forms that requests can be written in: what each holds, and how its rows look.

A form's `Form.take` reads a native file with everything that is in it, `Form.rows` writes it again. In between,
requests are a `Taken`: the columns of `servesim.workload.schema.SCHEMA` with lengths as the file has them (0 for a
failed request), the file's other columns as ``source.NAME``, and what it says beside its rows as facts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from servesim.errors import ServesimError, nearest
from servesim.workload.checks import ROW
from servesim.workload.content import opened
from servesim.workload.source import in_order

SOURCE = "source."
"""Begin of the names of columns that only the source's own form has."""

SOURCE_ROW = f"{SOURCE}row"
"""Column of the row's number in the source, where rows were not in order of arrival."""

ALWAYS = ("arrival_s", "prompt_tokens", "output_tokens")
"""Columns that every form holds."""

_ORIGIN = "origin_"
"""Begin of the facts that tell when time 0 was."""

FINE_TICK_S = 1e-6
"""Rounding times to this or less is no loss: the clock of a simulation does not depend on it."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Requests as a native file has them.

    Attributes
    ----------
    requests
        In order of arrival, from 0 on.
    facts
        ``form``, ``line_end``, ``final_newline``, and what the form needs: origin and writing of times.
    lost
        What the file has and this cannot hold, in words.
    """

    requests: pl.DataFrame
    facts: dict[str, Any]
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Form:
    """A native form.

    Attributes
    ----------
    name
        Name on the command line.
    reader
        Trace reader that takes it.
    ending
        Usual end of the file's name.
    holds
        Optional columns of requests that it has a place for.
    own
        Columns of its own, which come back as ``source.NAME``.
    tick_s
        Resolution of its times; None: all digits of a float.
    header
        The first line's cells; None: no header.
    rows
        Makes the native columns, in order, from requests and facts.
    take
        Reads a file of this form.
    facts
        What new files of the form have: line ends, origin of times.
    reading
        Parameters that the reader needs for files that are written.
    check
        Returns what the form cannot hold of a frame, beside columns and times.
    """

    name: str
    reader: str
    ending: str
    holds: frozenset[str]
    own: frozenset[str] = frozenset()
    tick_s: float | None
    header: tuple[str, ...] | None
    rows: Callable[[pl.DataFrame, Mapping[str, Any]], pl.DataFrame]
    take: Callable[[Path], Taken]
    facts: Mapping[str, Any] = field(default_factory=dict)
    reading: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[pl.DataFrame], list[str]] = lambda frame: []


def losses(frame: pl.DataFrame, form: Form, facts: Mapping[str, Any] | None = None) -> list[str]:
    """Return what *form* cannot hold of the requests in *frame* and the *facts* of their source, in words."""
    facts = facts or {}
    origins = [name for name, value in facts.items() if name.startswith(_ORIGIN) and value]
    found = [] if all(name in form.facts for name in origins) else ["the date or time of the first arrival"]
    for name in frame.columns:
        held = name in (*ALWAYS, SOURCE_ROW) or name in form.holds or name.removeprefix(SOURCE) in form.own
        says = frame[name] != 0 if name == "priority" else frame[name].is_not_null()
        if not held and (count := int(says.sum())):
            found.append(f"{name} ({count:,} requests have one)")
    if form.tick_s is not None and form.tick_s > FINE_TICK_S and not facts.get("float_times"):
        ticks = (frame["arrival_s"].to_numpy() + facts.get("origin_s", 0.0)) / form.tick_s
        between = int((np.abs(ticks - np.rint(ticks)) > 1e-3).sum())
        if between:
            found.append(f"arrival_s finer than {form.tick_s:g} s ({between:,} requests)")
    return found + form.check(frame)


def kept_facts(form: Form, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a source's *facts* that a file of *form* shall have: all of its own form, else its origin."""
    if facts.get("form") == form.name:
        return dict(facts)
    return {name: value for name, value in facts.items() if name.startswith(_ORIGIN) and name in form.facts}


def text_facts(path: Path) -> dict[str, Any]:
    """Return how the lines of a text file end, and whether the last one does."""
    with opened(path) as file:
        first = file.readline()
        last = first
        while chunk := file.read(1 << 20):
            last = chunk
    return {"line_end": "\r\n" if first.endswith(b"\r\n") else "\n", "final_newline": last.endswith(b"\n")}


def taken(frame: pl.DataFrame, facts: dict[str, Any], lost: Sequence[str] = ()) -> Taken:
    """Return *frame* in order of arrival, with the number of each row where that moves one."""
    ordered, moved = in_order(frame)
    ordered = ordered.rename({ROW: SOURCE_ROW}).with_columns(pl.col(SOURCE_ROW).cast(pl.Int64))
    return Taken(requests=ordered if moved else ordered.drop(SOURCE_ROW), facts=facts, lost=tuple(lost))


def own_columns(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Return *frame* with its text columns *names* as ``source.NAME``; whole numbers as such."""
    for name in names:
        text = frame[name]
        whole = text.cast(pl.Int64, strict=False)
        same = (whole.cast(pl.String) == text).fill_null(value=True).all() and (
            whole.null_count() == text.null_count()
        )
        frame = frame.drop(name).with_columns((whole if same else text).alias(f"{SOURCE}{name}"))
    return frame


def column(frame: pl.DataFrame, name: str, default: Any = None) -> pl.Expr:
    """Return a column of *frame*, or *default* where it has none."""
    return pl.col(name) if name in frame.columns else pl.lit(default)


def form_named(name: str) -> Form:
    """Return the form called *name*.

    Raises
    ------
    ServesimError
        If there is none.
    """
    known = forms()
    if name not in known:
        raise ServesimError(
            f"unknown form (got {name!r}). expected one of {', '.join(known)}, servesim",
            hint=nearest(name, [*known, "servesim"]),
        )
    return known[name]


def forms() -> dict[str, Form]:
    """Return every native form that can be written, by name."""
    from servesim.traces.forms_azure import AZURE_FORMS
    from servesim.traces.forms_burstgpt import BURSTGPT_FORMS
    from servesim.traces.forms_mooncake import MOONCAKE
    from servesim.traces.forms_table import TABLE

    return {form.name: form for form in (*AZURE_FORMS, *BURSTGPT_FORMS, MOONCAKE, TABLE)}
