"""A trace with everything in it, as far as servesim can hold it, and what it cannot."""

from __future__ import annotations

from pathlib import Path

from servesim.errors import ServesimError
from servesim.traces.detect import Detected, detect
from servesim.traces.forms import Taken, forms
from servesim.traces.left_out import outputs_kept, rows_left_out
from servesim.traces.parquet import take_parquet
from servesim.traces.source import SPEC_ENDINGS, build_reader
from servesim.workload.source import load

OWN = "servesim"
"""Name of servesim's own form, Parquet."""


def take(path: Path, *, reader: str | None = None) -> Taken:
    """Return a trace with everything in it, as far as servesim can write its form again.

    Of other forms, what their readers take is returned, and what they leave out is told.

    Raises
    ------
    ServesimError
        If the file cannot be taken as it is.
    """
    if path.suffix.lower() in SPEC_ENDINGS and path.is_file():
        raise ServesimError(
            f"{path}: no trace to convert (got a YAML file). expected a trace",
            hint="servesim trace generate writes the requests that a workload: block describes",
        )
    found = detect(path, reader=reader)
    if found.reader == OWN:
        return take_parquet(path)
    form = next((form for form in forms().values() if form.reader == found.reader), None)
    if form is not None and not found.parameters:
        return form.take(path)
    return _read(path, found)


def _read(path: Path, found: Detected) -> Taken:
    reader = build_reader(path, found)
    frame, notes = load(reader, found.reader)
    lost = [f"the file's {name!r}" for name in getattr(reader, "left_out", [])]
    lost += [f"{rows:,} rows {what}" for what, rows in rows_left_out(notes, frame.height).items()]
    if kept := outputs_kept(notes, frame.height):
        lost.append(f"that {kept:,} requests have no output: it is 1 token")
    return Taken(requests=frame, facts={"form": found.reader}, lost=tuple(lost))
