"""The Trace Event Format: frames of events to the JSON that Perfetto and chrome://tracing read, and to a file.

Phases written here: ``X`` (a slice with a duration), ``C`` (a counter), ``i`` (an instant) and ``M`` (names of
processes and threads). Times are whole microseconds, so that no rounding in a viewer can make slices overlap that
meet. What the events of a run are is in `servesim.report.timeline`. The format: "Trace Event Format", Google,
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from servesim.results.saving import replacing_file

_LINES = 10_000
"""Events that are joined to one piece of text."""


def slices(frame: pl.DataFrame, *, args: Sequence[str]) -> pl.DataFrame:
    """Return *frame* (``pid``, ``tid``, ``name``, ``ts``, ``dur`` and the *args*) as slices."""
    return _encoded(frame, "X", args=args)


def counters(frame: pl.DataFrame, *, args: Sequence[str]) -> pl.DataFrame:
    """Return *frame* (``pid``, ``name``, ``ts`` and the *args*) as values of counters, one series per argument."""
    return _encoded(frame, "C", args=args)


def instants(frame: pl.DataFrame, *, args: Sequence[str]) -> pl.DataFrame:
    """Return *frame* (``pid``, ``tid``, ``name``, ``ts`` and the *args*) as instants on their threads."""
    return _encoded(frame.with_columns(s=pl.lit("t")), "i", args=args)


def names(frame: pl.DataFrame, kind: str) -> pl.DataFrame:
    """Return *frame* (``pid``, ``tid``, ``label``) as ``process_name`` or ``thread_name`` metadata."""
    label = frame["label"].alias("name")
    own = frame.select("pid", "tid", name=pl.lit(kind), ts=pl.lit(0, dtype=pl.Int64))
    return _encoded(own, "M", args=["name"], values=pl.DataFrame([label]))


def order_of_processes(frame: pl.DataFrame) -> pl.DataFrame:
    """Return *frame* (``pid``, ``sort_index``) as metadata that tells in which order viewers list processes."""
    own = frame.with_columns(name=pl.lit("process_sort_index"), ts=pl.lit(0, dtype=pl.Int64))
    return _encoded(own, "M", args=["sort_index"])


def _encoded(
    frame: pl.DataFrame, phase: str, *, args: Sequence[str], values: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Return ``ts``, ``dur`` and the JSON ``text`` of every event; arguments that are null throughout are left out."""
    values = frame.select(args) if values is None else values
    kept = [name for name in values.columns if values[name].null_count() < len(values)]
    fields = [name for name in ("pid", "tid", "ts", "dur", "s") if name in frame.columns]
    event = frame.select(pl.lit(phase).alias("ph"), "name", *fields)
    if kept:
        event = event.with_columns(values.select(kept).to_struct("args"))
    text = event.select(pl.struct(pl.all()).struct.json_encode())
    duration = (
        frame["dur"] if "dur" in frame.columns else pl.repeat(0, len(frame), dtype=pl.Int64, eager=True)
    )
    begin = (
        frame["ts"] if phase != "M" else pl.repeat(-1, len(frame), dtype=pl.Int64, eager=True)
    )  # names come first
    return pl.DataFrame([begin.alias("ts"), duration.alias("dur"), text.to_series().alias("text")])


def trace_text(events: Sequence[pl.DataFrame], facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the trace as pieces of one JSON object.

    Parameters
    ----------
    events
        What the functions above returned. Names come first, the rest by time; of those that start together the
        longer comes first, then the one that is given first: outer before inner.
    facts
        What the trace is of; viewers show it as metadata.
    """
    lines = pl.concat(events).sort("ts", "dur", descending=[False, True], maintain_order=True)["text"]
    yield '{"traceEvents":[\n'
    for start in range(0, len(lines), _LINES):
        yield (",\n" if start else "") + ",\n".join(lines.slice(start, _LINES))
    yield f'\n],"displayTimeUnit":"ms","otherData":{json.dumps(dict(facts), allow_nan=False)}}}\n'


def write_trace(pieces: Iterator[str], path: Path) -> int:
    """Write a trace, compressed where the name ends in ``.gz``, and return the size of the file in bytes.

    Raises
    ------
    ServesimError
        If it cannot be written; an older file is kept then.
    """
    with replacing_file(path) as partial:
        with partial.open("wb") as file:
            if path.suffix == ".gz":
                # Neither name nor time go into the file: the same trace has the same bytes.
                with gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0) as packed:
                    packed.writelines(piece.encode() for piece in pieces)
            else:
                file.writelines(piece.encode() for piece in pieces)
        return partial.stat().st_size
