"""Dates, times and counts of ticks, as seconds."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from servesim.errors import TraceError
from servesim.workload.checks import ROW, first_wrong

_FORM = re.compile(r"^\d{4}-\d\d-\d\d(?P<separator>[ T])\d\d:\d\d:\d\d(\.\d+)?(?P<zone>Z|[+-]\d\d:?\d\d)?$")


def seconds(ticks: pl.Series, ticks_per_s: float) -> pl.Series:
    """Return *ticks* in seconds, correctly rounded.

    polars multiplies by the reciprocal, which turns 60.5 s in nanoseconds into 60.50000000000001 s; arrivals
    at round numbers shall stay round.
    """
    return pl.Series(ticks.name, ticks.cast(pl.Float64).to_numpy() / ticks_per_s)


def seconds_since_first(frame: pl.DataFrame, column: str, where: str | Path) -> pl.Series:
    """Return the times in *column* in seconds after the earliest one, exact to the nanosecond.

    Raises
    ------
    TraceError
        As `nanoseconds`.
    """
    times = nanoseconds(frame, column, where)
    return seconds(times - times.min(), 1e9)


def nanoseconds(frame: pl.DataFrame, column: str, where: str | Path) -> pl.Series:
    """Return the times in *column* in nanoseconds since 1970.

    Dates and times are text in ISO 8601 order with a space or a ``T`` between, any number of decimals, and no
    zone, ``Z`` or an offset; or a date-time column as it is. All rows have the form of the first.

    Raises
    ------
    TraceError
        At the first row that has no time in that form.
    """
    values = frame[column]
    if values.dtype == pl.String:
        values = _parsed(frame, column, where)
    elif not isinstance(values.dtype, pl.Datetime):
        raise TraceError(
            f"{where}: {column}: not dates and times (got type {values.dtype}). expected text or datetime"
        )
    wrong = first_wrong(frame, values.is_null())
    if wrong:
        raise TraceError(
            f"{where}: row {wrong[1]}: {column}: no time (got an empty cell). expected a date and time"
        )
    return values.dt.epoch("ns")


def _parsed(frame: pl.DataFrame, column: str, where: str | Path) -> pl.Series:
    text = frame[column]
    first = text[0]
    form = _FORM.match(first) if first is not None else None
    if form is None:
        raise TraceError(
            f"{where}: row {frame[ROW][0]}: {column}: not a time (got {first!r}). expected one such as "
            "'2024-05-10 00:00:00.009930+00:00'"
        )
    pattern = f"%Y-%m-%d{form['separator']}%H:%M:%S%.f" + ("%#z" if form["zone"] else "")
    parsed = pl.col(column).str.to_datetime(pattern, time_unit="ns", strict=False)
    times = frame.select(parsed).to_series()  # an expression is computed on all cores
    wrong = first_wrong(frame, times.is_null())
    if wrong:
        got = "an empty cell" if text[wrong[0]] is None else repr(text[wrong[0]])
        raise TraceError(
            f"{where}: row {wrong[1]}: {column}: not a time (got {got}). "
            f"expected the form of the first row, {first!r}"
        )
    return times
