"""From one form of a trace to another, and from a description of requests to a file.

A file is taken with everything in it and written with everything in it. What the target cannot hold is named, and
refused unless the user agrees to lose it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from servesim.errors import ServesimError
from servesim.results.saving import replacing_file
from servesim.traces.forms import SOURCE_ROW, Form, form_named, forms, kept_facts, losses
from servesim.traces.parquet import ordered, write_parquet
from servesim.traces.source import without_empty
from servesim.traces.take import OWN, take


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written.

    Attributes
    ----------
    form
        Name of the form.
    rows
        Requests, or rows of the native file.
    lost
        What the file could not hold, in words.
    """

    form: str
    rows: int
    lost: tuple[str, ...]


def convert(
    path: Path, out: Path, *, to: str | None = None, reader: str | None = None, lossy: bool = False
) -> Written:
    """Write the trace at *path* in another form.

    Parameters
    ----------
    path
        The trace.
    out
        The file to write; an older one is replaced once the new one is complete.
    to
        Name of a form; None: told by *out*: Parquet is servesim's own, another ending the form that the trace had
        before it was servesim's.
    reader
        Name of the reader that takes *path*; None: told from the file.
    lossy
        Leave out what the form cannot hold. Otherwise that is an error.

    Raises
    ------
    ServesimError
        If it cannot be read, or not be written whole.
    """
    if to not in (None, OWN):
        form_named(to)  # what cannot be written is told before anything is read
    source = take(path, reader=reader)
    requests = ordered(without_empty(source.requests))
    name = to or form_of(out, source.facts)
    lost = list(source.lost)
    form = None if name == OWN else form_named(name)
    if form is not None:
        lost += losses(requests, form, source.facts)
    if lost and not lossy:
        raise _not_held(path, name, lost)
    with replacing_file(out) as partial:
        if form is None:
            rows = write_parquet([requests], partial, source.facts)
        else:
            facts = kept_facts(form, source.facts)
            whole = requests.sort(SOURCE_ROW) if SOURCE_ROW in requests.columns else requests
            rows = write_text([whole], partial, form, facts)
    return Written(form=name, rows=rows, lost=tuple(lost))


def form_of(out: Path, facts: dict[str, Any] | None = None) -> str:
    """Return the form that the name of *out* stands for.

    Raises
    ------
    ServesimError
        If it stands for none, or for several.
    """
    if out.suffix.lower() == ".parquet":
        return OWN
    before = (facts or {}).get("form")
    if before in forms() and forms()[before].ending == out.suffix.lower():
        return str(before)
    fitting = [form.name for form in forms().values() if form.ending == out.suffix.lower()]
    if len(fitting) == 1:
        return fitting[0]
    raise ServesimError(
        f"{out}: the form is not clear from the name. expected --to with one of "
        f"{', '.join(fitting or [*forms(), OWN])}"
    )


def write_frames(
    frames: Iterable[pl.DataFrame], out: Path, *, to: str | None = None, lossy: bool = False
) -> Written:
    """Write generated requests, frame by frame: memory holds a few frames at most.

    Parameters
    ----------
    frames
        With all columns of `SCHEMA`, in order of arrival.
    out, to, lossy
        As for `convert`.

    Raises
    ------
    ServesimError
        If the form cannot hold them, or the file not be written; an older file stays.
    """
    name = to or form_of(out)
    lost: dict[str, None] = {}
    with replacing_file(out) as partial:
        if name == OWN:
            return Written(form=name, rows=write_parquet(frames, partial, {}), lost=())
        form = form_named(name)

        def checked() -> Iterator[pl.DataFrame]:
            for frame in frames:
                found = losses(frame, form)
                if found and not lossy:
                    raise _not_held(out, name, found)
                lost.update(dict.fromkeys(each.partition(" (")[0] for each in found))
                yield frame

        rows = write_text(checked(), partial, form, {})
    return Written(form=name, rows=rows, lost=tuple(lost))


def write_text(frames: Iterable[pl.DataFrame], path: Path, form: Form, facts: dict[str, Any]) -> int:
    """Write requests in a native form and return how many rows; *facts* of the source go before the form's own."""
    whole = {**form.facts, **facts}
    end, rows = whole["line_end"], 0
    with path.open("wb") as file:
        if form.header is not None:
            file.write(",".join(form.header).encode())
        for frame in frames:
            text = form.rows(frame, whole).write_csv(
                include_header=False,
                line_terminator=end,
                quote_style="never" if form.header is None else "necessary",
            )
            first = "" if form.header is None and rows == 0 else end
            file.write((first + text.removesuffix(end)).encode())
            rows += frame.height
        if whole["final_newline"]:
            file.write(end.encode())
    return rows


def native_reading(name: str) -> tuple[str, dict[str, Any]]:
    """Return reader and parameters that take a file of the form *name*."""
    if name == OWN:
        return OWN, {}
    form = form_named(name)
    return form.reader, dict(form.reading)


def _not_held(path: Path, name: str, lost: list[str]) -> ServesimError:
    own = "" if name == OWN else "; servesim's own form (Parquet) holds more"
    return ServesimError(
        f"{path}: the form {name} cannot hold all of it (got {'; '.join(lost)}). expected only what it holds",
        hint=f"--lossy leaves that out{own}",
    )
