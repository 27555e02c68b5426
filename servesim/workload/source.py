"""A reader's requests, checked and in order: the step between a file format and the stream of frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl

from servesim.errors import PluginError, ServesimError, TraceError, plugin_failed
from servesim.workload.api import Reader
from servesim.workload.checks import ROW
from servesim.workload.contract import check_columns, conform, typed
from servesim.workload.schema import CHUNK_ROWS
from servesim.workload.sessions import END, ends, follow_ups

SORTED = "rows_sorted"
"""Note of how many rows stood behind a later arrival."""

STEPS_BACK = "steps_back"
"""Note of how many rows, where any is out of order, arrive before the row ahead of them."""


def load(
    reader: Reader,
    name: str,
    *,
    closed_loop: bool = False,
    rows: int | None = None,
    end_s: float | None = None,
) -> tuple[pl.DataFrame, dict[str, int | float | str]]:
    """Return the requests of *reader*, with its notes.

    Parameters
    ----------
    reader
        What reads the trace.
    name
        What messages call it.
    closed_loop
        Whether the requests of a session wait for each other (`servesim.workload.sessions.follow_ups`).
    rows, end_s
        How many requests are needed, or up to which time (None: all). Where the reader promises order, no
        more are read than are needed, but always one.

    Returns
    -------
    frame
        The columns of `SCHEMA` that the reader has, with its types, in order of arrival.
    notes
        The reader's own, and ``rows_sorted``: how many rows stood behind a later arrival; where any did,
        ``steps_back``: how many arrive before the row ahead of them; with *closed_loop* those of `follow_ups` too.

    Raises
    ------
    TraceError
        If there is no request, or a value is out of range.
    PluginError
        If the reader breaks its contract.
    """
    who = f"trace reader {name!r}"
    where = str(getattr(reader, "path", who))
    try:
        lazy = reader.read()
        if reader.notes.get(SORTED) == 0 and not closed_loop:
            lazy = _first(lazy, rows=rows, end_s=end_s)
        frame = lazy.collect()
    except ServesimError:
        raise
    except Exception as error:
        raise plugin_failed(who, "read", error) from error
    frame = frame.rename({"row": ROW}, strict=False)
    check_columns(frame.drop(END, strict=False), who)
    if frame.is_empty():
        raise TraceError(f"{where}: no requests {_got(reader.notes)}. expected at least one")
    requests = typed(frame, where)
    if closed_loop and END in frame.columns:
        requests = requests.with_columns(ends(frame, where))
    back = int((requests["arrival_s"].diff() < 0).sum())
    frame, moved = in_order(requests)
    if moved and reader.notes.get(SORTED) == 0:
        raise PluginError(
            f"{who}: requests are out of order (got {moved} behind a later one, and the note {SORTED} 0). "
            f"expected order, or no such note"
        )
    notes = {SORTED: moved, **({STEPS_BACK: back} if moved else {})} | reader.notes
    if closed_loop:
        frame, counted = follow_ups(frame, where)
        notes |= counted
    return frame, notes


def in_order(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return *frame* sorted by ``arrival_s``, ties as they stood, and how many rows stood behind a later
    arrival.
    """
    moved = rows_behind(frame["arrival_s"])
    return (frame.sort("arrival_s", maintain_order=True), moved) if moved else (frame, 0)


def rows_behind(arrivals: pl.Series) -> int:
    """Return how many rows stand behind a later arrival."""
    return int((arrivals < arrivals.cum_max()).sum())


def slices(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield *frame* in pieces of at most `CHUNK_ROWS` rows, with all columns of `SCHEMA`."""
    return map(conform, frame.iter_slices(CHUNK_ROWS))


def _first(requests: pl.LazyFrame, *, rows: int | None, end_s: float | None) -> pl.LazyFrame:
    """Return the first of *requests*, which are in order: *rows* of them, or those before *end_s*."""
    if rows is None and end_s is not None:
        rows = requests.select((pl.col("arrival_s") < end_s).sum()).collect().item()
    return requests if rows is None else requests.head(max(rows, 1))


def _got(notes: Mapping[str, int | float | str]) -> str:
    """Return what became of the rows of a trace of which none is left."""
    counts = [f"{name} {count:,}" for name, count in notes.items() if isinstance(count, int) and count]
    return f"left (got {', '.join(counts)})" if counts else "(got 0 rows)"
