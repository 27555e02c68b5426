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


def measured(frame: pl.DataFrame, columns: tuple[str, ...], *, where: Path) -> pl.DataFrame:
    """Return the median of the last of *columns*, a time, for every combination of the others, sorted by them.

    Raises
    ------
    ServesimError
        If a column is missing or no numbers, or a time is missing, not finite or negative.
    """
    if missing := [column for column in columns if column not in frame.columns]:
        raise ServesimError(
            f"{where}: no column {missing[0]!r} (got {', '.join(frame.columns)}). expected it"
        )
    *shape, last = columns
    if not frame.schema[last].is_numeric():
        raise ServesimError(f"{where}: {last}: no numbers (got {frame.schema[last]}). expected times")
    frame, time = frame.select(columns), pl.col(last)
    bad = frame.with_row_index("row", offset=1).filter(time.is_null() | ~time.is_finite() | (time < 0))
    if bad.height:
        raise ServesimError(f"{where}: row {bad['row'][0]}: no time (got {bad[last][0]!r}). expected >= 0")
    return frame.group_by(shape).agg(time.median()).sort(shape)
