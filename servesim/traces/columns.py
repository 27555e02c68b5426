"""One column of any file that holds requests or a serverless log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from servesim import serverless
from servesim.errors import TraceError, nearest
from servesim.serverless.summary import gaps_s
from servesim.traces.kinds import kind_of
from servesim.traces.source import read_requests
from servesim.traces.statistics import Floats, open_arrivals

GAPS = "gap_s"
"""No column, but the times between arrivals, or between the cold starts of a region."""


def column_of(path: Path, column: str, *, reader: str | None = None) -> Floats:
    """Return the numbers in a column, those that are missing left out.

    Parameters
    ----------
    path
        A trace of requests, or a serverless log.
    column
        A column of `servesim.workload.schema.SCHEMA`, or of a frame of `servesim.serverless.schema`; or `GAPS`.
    reader
        Name of the trace's reader or the log's format; None: told from the file.

    Raises
    ------
    TraceError
        If there is no such column of numbers, or nothing in it.
    """
    kind = kind_of(path, reader=reader)
    if kind == "client pool":
        raise TraceError(
            f"{path}: a client pool has no column {column!r}. expected requests or a serverless log"
        )
    columns = (
        _columns_of_log(path, reader) if kind == "serverless log" else _columns_of_requests(path, reader)
    )
    known = [name for name, values in columns.items() if values.dtype.is_numeric()]
    if column not in known:
        raise TraceError(
            f"{path}: no column of numbers {column!r}. expected any of {', '.join(known)}",
            hint=nearest(column, known),
        )
    values = columns[column].drop_nulls().cast(pl.Float64).to_numpy()
    if not len(values):
        raise TraceError(f"{path}: column {column!r} is empty. expected at least one number")
    return values


def _columns_of_requests(path: Path, reader: str | None) -> Mapping[str, pl.Series]:
    frame = read_requests(path, reader=reader).frame
    return {**frame.to_dict(), GAPS: pl.Series(np.diff(open_arrivals(frame)))}


def _columns_of_log(path: Path, form: str | None) -> Mapping[str, pl.Series]:
    log = serverless.read(path, form=form)
    columns: dict[str, pl.Series] = {}
    for lazy in (log.series, log.functions, log.invocations, log.cold_starts):
        if lazy is not None:
            columns |= lazy.collect().to_dict()
    if log.cold_starts is not None:
        columns[GAPS] = gaps_s(log.cold_starts.collect())
    return columns
