"""What the frames of a serverless log must be, whoever brings them: the one check between a reader or a generator and
all that comes after.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from servesim.errors import TraceError, nearest
from servesim.serverless.schema import COMPONENTS, FRAMES, LOADS, Column, dtypes
from servesim.workload.checks import first_wrong

TOLERANCE_S = 0.0021
"""How far a total may be from the sum of its parts: they are rounded to milliseconds in some logs."""

Where = str | Path


def check(frame: pl.DataFrame, kind: str, where: Where, *, names: Mapping[str, str] | None = None) -> None:
    """Raise unless the columns that *frame* has are ones of the *kind* of frame, with values in their bounds.

    Parameters
    ----------
    frame
        Some of the columns of `FRAMES`, and ``servesim.workload.checks.ROW`` for messages.
    kind
        A name in `FRAMES`.
    where
        The file, for messages.
    names
        What the file calls a column, for messages.

    Raises
    ------
    TraceError
        At the first column that is unknown or value that is missing, no number, or out of bounds.
    """
    known = {column.name: column for column in FRAMES[kind]}
    for name in frame.columns:
        if name in known:
            _check_column(frame, known[name], where, (names or {}).get(name, name))
    if kind == "cold_starts" and "load" in frame.columns:
        wrong = first_wrong(frame, ~frame["load"].fill_null(LOADS[0]).is_in(LOADS))
        if wrong:
            got = frame["load"][wrong[0]]
            raise TraceError(
                f"{where}: row {wrong[1]}: load: unknown kind (got {got!r}). expected any of {', '.join(LOADS)}",
                hint=nearest(str(got), LOADS),
            )


def _check_column(frame: pl.DataFrame, column: Column, where: Where, shown: str) -> None:
    values = frame[column.name]
    missing = values.is_null()
    if column.required and (wrong := first_wrong(frame, missing)):
        raise TraceError(f"{where}: row {wrong[1]}: {shown}: missing (got an empty cell). expected a value")
    if column.least is None or values.dtype == pl.Null:
        return
    if not values.dtype.is_numeric():
        raise TraceError(f"{where}: {shown}: not numbers (got type {values.dtype}). expected numbers")
    numbers = values.cast(pl.Float64)
    bad = ~numbers.is_finite() | (numbers < column.least)
    if column.dtype.is_integer():
        bad |= numbers != numbers.floor()
    if wrong := first_wrong(frame, bad.fill_null(value=False)):
        what = "a whole number" if column.dtype.is_integer() else "a number"
        raise TraceError(
            f"{where}: row {wrong[1]}: {shown}: unusable value (got {numbers[wrong[0]]!r}). expected {what} >= 0"
        )


def conform(frame: pl.LazyFrame, kind: str) -> pl.LazyFrame:
    """Return *frame* with exactly the columns of its kind, in order and with their types; what is missing is null."""
    present = set(frame.collect_schema())
    return frame.select(
        pl.col(name).cast(dtype) if name in present else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in dtypes(kind).items()
    )


def typed(frame: pl.DataFrame, kind: str, where: Where) -> pl.DataFrame:
    """Return *frame* checked, with exactly the columns of its kind.

    Raises
    ------
    TraceError
        As `check`; also if a required column is missing, or one is not of the kind.
    """
    known = {column.name for column in FRAMES[kind]}
    required = {column.name for column in FRAMES[kind] if column.required}
    if not required <= set(frame.columns) <= known:
        raise TraceError(
            f"{where}: columns are not those of {kind} (got {', '.join(frame.columns)}). expected "
            f"{', '.join(sorted(required))} and any of {', '.join(sorted(known - required))}"
        )
    check(frame, kind, where)
    return conform(frame.lazy(), kind).collect()


def totals_off(frame: pl.DataFrame) -> int:
    """Return in how many rows the total is not the sum of its parts, to `TOLERANCE_S`.

    Rows that lack a part are not counted.
    """
    parts = pl.sum_horizontal(*COMPONENTS, ignore_nulls=False)
    return int(frame.select(((pl.col("total_s") - parts).abs() > TOLERANCE_S).sum()).item())
