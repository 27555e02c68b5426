"""Tables of profilers, as CSV or Parquet: read, and checked for what makes a row no measurement."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from servesim.errors import ServesimError


def read_table(folder: Path, name: str) -> tuple[Path, pl.DataFrame]:
    """Return file and rows of the table *name* in *folder*.

    Raises
    ------
    ServesimError
        If there is no such table, or it is unreadable.
    """
    files = [folder / f"{name}.parquet", folder / f"{name}.csv"]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise ServesimError(f"{folder}: no {name} table. expected {files[0].name} or {files[1].name}")
    try:
        # A column may begin with thousands of whole numbers: all rows tell its type.
        return file, pl.read_parquet(file) if file.suffix == ".parquet" else pl.read_csv(
            file, infer_schema_length=None
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ServesimError(f"{file}: unreadable ({error})") from error


REPEATS = 3.0
"""How many times the shorter of two measurements of a shape the longer may be; of more than two the median counts."""


def measured(
    frame: pl.DataFrame, columns: tuple[str, ...], *, where: Path, zero: bool = False
) -> pl.DataFrame:
    """Return the median of the last of *columns*, a time, for every combination of the others, sorted by them.

    *zero* tells that an operator which the model lacks stands with 0.

    Raises
    ------
    ServesimError
        If a column is missing or no numbers; if a shape is missing or negative; if a time is missing, not finite,
        negative, or 0 without *zero*; if two measurements of a shape contradict each other.
    """
    if missing := [column for column in columns if column not in frame.columns]:
        raise ServesimError(
            f"{where}: no column {missing[0]!r} (got {', '.join(frame.columns)}). expected it"
        )
    *shape, last = columns
    if not frame.schema[last].is_numeric():
        raise ServesimError(f"{where}: {last}: no numbers (got {frame.schema[last]}). expected times")
    frame, time = frame.select(columns), pl.col(last)
    rows = frame.with_row_index("row", offset=1)
    for column in shape:
        size = pl.col(column)
        wrong = size.is_null() | (size < 0) if frame.schema[column].is_numeric() else size.is_null()
        if frame.schema[column].is_float():
            wrong |= ~size.is_finite()
        refuse(rows.filter(wrong), column, "no shape", "a number >= 0", where=where)
    short = (time < 0) if zero else (time <= 0)
    expected = "a time >= 0" if zero else "a time > 0"
    refuse(rows.filter(time.is_null() | ~time.is_finite() | short), last, "no time", expected, where=where)
    apart = rows.filter(
        (time > REPEATS * time.min().over(shape)) & (pl.len().over(shape) == 2) & (time.min().over(shape) > 0)
    )
    refuse(
        apart, last, "measured before with another time", f"repeats within a factor {REPEATS:g}", where=where
    )
    return frame.group_by(shape).agg(time.median()).sort(shape)


def refuse(bad: pl.DataFrame, column: str, what: str, expected: str, *, where: Path) -> None:
    """Refuse the first of the rows *bad*, if there are any, by file, row and column.

    Raises
    ------
    ServesimError
        If there is one.
    """
    if bad.height:
        row = bad.sort("row")
        raise ServesimError(
            f"{where}: row {row['row'][0]}: {column}: {what} (got {row[column][0]!r}). expected {expected}"
        )
