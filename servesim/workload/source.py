"""A reader's requests, checked and in order: the step between a file format and the stream of frames."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from servesim.errors import PluginError, TraceError
from servesim.workload.api import Reader
from servesim.workload.checks import check_numbers, check_tokens
from servesim.workload.schema import CHUNK_ROWS, SCHEMA

_REQUIRED = ("arrival_s", "prompt_tokens", "output_tokens")


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
    frame = reader.read().collect()
    where = str(getattr(reader, "path", f"trace reader {name!r}"))
    missing = [column for column in _REQUIRED if column not in frame.columns]
    unknown = [column for column in frame.columns if column not in SCHEMA and column != "row"]
    if missing or unknown:
        raise PluginError(
            f"trace reader {name!r}: columns do not follow the schema (got {', '.join(frame.columns)}). "
            f"expected {', '.join(_REQUIRED)} and any of {', '.join(list(SCHEMA)[3:])}"
        )
    if frame.is_empty():
        raise TraceError(f"{where}: no requests (got 0 rows). expected at least one")
    _check(frame, where)
    frame, moved = in_order(
        frame.select(pl.col(column).cast(kind) for column, kind in _present(frame).items())
    )
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


def conform(frame: pl.DataFrame) -> pl.DataFrame:
    """Return *frame* with exactly the columns of `SCHEMA`: what is missing becomes null, the priority 0."""
    if frame.columns == list(SCHEMA):
        return frame
    present = frame.columns
    return frame.select(
        pl.col(column)
        if column in present
        else pl.lit(0 if column == "priority" else None, dtype=kind).alias(column)
        for column, kind in SCHEMA.items()
    )


def _present(frame: pl.DataFrame) -> dict[str, pl.DataType]:
    return {column: kind for column, kind in SCHEMA.items() if column in frame.columns}


def _check(frame: pl.DataFrame, where: str) -> None:
    check_numbers(frame, "arrival_s", where)
    if frame["arrival_s"].min() < 0:  # type: ignore[operator]  # checked to be numbers
        raise TraceError(
            f"{where}: arrival_s: before time 0 (got {frame['arrival_s'].min()!r}). expected >= 0"
        )
    check_tokens(frame, "prompt_tokens", where)
    check_tokens(frame, "output_tokens", where)
