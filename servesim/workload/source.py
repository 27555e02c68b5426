"""A reader's requests, checked and in order: the step between a file format and the stream of frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import polars as pl

from servesim.errors import ServesimError, TraceError, plugin_failed
from servesim.workload.api import Reader
from servesim.workload.checks import ROW
from servesim.workload.contract import check_columns, conform, typed
from servesim.workload.schema import CHUNK_ROWS


def load(reader: Reader, name: str) -> tuple[pl.DataFrame, dict[str, int | float | str]]:
    """Return the requests of *reader*, with its notes.

    Returns
    -------
    frame
        The columns of `SCHEMA` that the reader has, with its types, in order of arrival.
    notes
        The reader's own, and ``rows_sorted``: how many rows stood behind a later arrival.

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
        frame = reader.read().collect()
    except ServesimError:
        raise
    except Exception as error:
        raise plugin_failed(who, "read", error) from error
    frame = frame.rename({"row": ROW}, strict=False)
    check_columns(frame, who)
    if frame.is_empty():
        raise TraceError(f"{where}: no requests {_got(reader.notes)}. expected at least one")
    frame, moved = in_order(typed(frame, where))
    return frame, {"rows_sorted": moved} | reader.notes


def in_order(frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Return *frame* sorted by ``arrival_s``, ties as they stood, and how many rows stood behind a later
    arrival.
    """
    arrivals = frame["arrival_s"]
    moved = int((arrivals < arrivals.cum_max()).sum())
    return (frame.sort("arrival_s", maintain_order=True), moved) if moved else (frame, 0)


def slices(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield *frame* in pieces of at most `CHUNK_ROWS` rows, with all columns of `SCHEMA`."""
    return map(conform, frame.iter_slices(CHUNK_ROWS))


def _got(notes: Mapping[str, int | float | str]) -> str:
    """Return what became of the rows of a trace of which none is left."""
    counts = [f"{name} {count:,}" for name, count in notes.items() if isinstance(count, int) and count]
    return f"left (got {', '.join(counts)})" if counts else "(got 0 rows)"
