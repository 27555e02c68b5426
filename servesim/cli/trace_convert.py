"""``servesim trace convert`` and ``generate``: requests to files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from servesim.cli.exits import OK
from servesim.cli.output import write

if TYPE_CHECKING:
    from servesim.traces.convert import Written


def convert_trace(file: Path, out: Path, *, to: str | None, reader: str | None, lossy: bool) -> int:
    """Write the trace at *file* to *out* in another form; return the exit code."""
    from servesim.traces.convert import convert

    _tell(out, convert(file, out, to=to, reader=reader, lossy=lossy))
    return OK


def generate_trace(spec: Path, out: Path, *, to: str | None, overrides: list[str], lossy: bool) -> int:
    """Write the requests, or the serverless log, that *spec* describes to *out*; return the exit code."""
    from servesim.traces.generate_log import generate_any
    from servesim.traces.source import read_spec

    generated = generate_any(read_spec(spec, overrides), out, to=to, lossy=lossy)
    _tell(out, generated.written)
    for defect in generated.sheet.known_defects[len(generated.written.lost) :]:
        print(f"note: {defect}", file=sys.stderr)
    write(f"{generated.sheet.composition}\nsha256 {generated.sheet.sha256}\n")
    return OK


def _tell(out: Path, written: Written) -> None:
    write(f"wrote {out}: {written.rows:,} rows, form {written.form}\n")
    for lost in written.lost:
        print(f"left out: {lost}", file=sys.stderr)
