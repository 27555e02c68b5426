"""Trace files as frames: what is shared by the readers of one format each.

Only the columns that are asked for are read, numbers as Float64 and the rest as text. A CSV file can be read in
two steps: its numbers, to check them, then no more rows than are needed. Anything that is not data is told apart
first (`servesim.workload.content`).
"""

from __future__ import annotations

import csv
import glob
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from servesim.errors import TraceError
from servesim.workload.checks import ROW, first_wrong, require_columns
from servesim.workload.content import BOM, check_is_data, first_line, opened
from servesim.workload.faults import csv_fault, json_fault

_UNREADABLE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
"""What polars raises for a damaged file; it panics where it did not expect the damage."""


def csv_header(path: Path) -> list[str]:
    """Return the column names of a CSV file, plain or gzipped, with or without a byte-order mark.

    Raises
    ------
    TraceError
        If there is no such file or no data in it.
    """
    line = first_line(path)
    try:
        return next(csv.reader([line]))
    except csv.Error as error:
        raise TraceError(f"{path}: not a header (got {line[:60]!r}). expected names of columns") from error


def read_csv(path: Path, *, numbers: Sequence[str], texts: Sequence[str] = ()) -> pl.DataFrame:
    """Return the named columns of a CSV file, and `ROW`, the row's number from 1.

    Blank lines are left out. A number that is quoted is a number.

    Raises
    ------
    TraceError
        If the file has no data, lacks a column, or has something else than numbers in *numbers*.
    """
    return scan_csv(path, numbers=numbers, texts=texts, read=texts)[1]


def scan_csv(
    path: Path, *, numbers: Sequence[str], texts: Sequence[str] = (), read: Sequence[str] = ()
) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """Return the named columns of a CSV file as a frame that is still to be read, and what must be checked
    before: its rows' numbers, and those of *texts* that are in *read*.

    Both have `ROW`, and the same rows. Raises as `read_csv` does.
    """
    require_columns([*numbers, *texts], csv_header(path), path)
    strings = dict.fromkeys(texts, pl.String)
    wanted = [ROW, *read, *numbers]
    try:
        try:
            lazy = _scan(path, strings | dict.fromkeys(numbers, pl.Float64))
            frame = lazy.select(wanted).collect()
        except pl.exceptions.ComputeError:
            lazy = _scan(path, strings | dict.fromkeys(numbers, pl.String))
            frame = as_numbers(lazy.select(wanted).collect(), numbers, path)
            lazy = lazy.with_columns(_number(pl.col(name)) for name in numbers)
    except _UNREADABLE as error:
        fault = csv_fault(path) or f"not readable as CSV ({_reason(error)}). expected a CSV file"
        raise TraceError(f"{path}: {fault}") from error
    if frame.is_empty():
        raise TraceError(f"{path}: no requests (got a header and 0 rows). expected at least one")
    return lazy, frame


def read_jsonl(path: Path, *, numbers: Sequence[str], others: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return the named keys of a file with one JSON object per line, and `ROW`, the object's number from 1.

    *others* are keys that hold no numbers, with their types. A number may be written as a string.

    Raises
    ------
    TraceError
        As `read_csv`.
    """
    require_columns([*numbers, *others], jsonl_keys(path), path)
    schema: dict[str, Any] = dict.fromkeys(numbers, pl.String) | dict(others)
    try:
        lazy = pl.scan_ndjson(_json_lines(path), schema=schema, row_index_name=ROW, row_index_offset=1)
        frame = _without_blank_rows(lazy, list(schema)).collect()
    except _UNREADABLE as error:
        fault = json_fault(path, schema)
        fault = fault or f"not readable as JSON lines ({_reason(error)}). expected one object per line"
        raise TraceError(f"{path}: {fault}") from error
    if frame.is_empty():
        raise TraceError(f"{path}: no requests (got 0 rows). expected at least one")
    return as_numbers(frame, numbers, path)


def _json_lines(path: Path) -> str | bytes:
    """Return what polars reads JSON lines from: the path, taken literally, or the text behind its byte-order
    mark, which polars takes for JSON.
    """
    if not check_is_data(path).startswith(BOM):
        return glob.escape(str(path))
    with opened(path) as file:
        return file.read().removeprefix(BOM)


def jsonl_keys(path: Path) -> list[str]:
    """Return the keys of the first object of a file with one JSON object per line."""
    line = first_line(path)
    try:
        first = json.loads(line)
    except ValueError as error:
        raise TraceError(
            f"{path}: row 1: not a JSON object (got {line[:60]!r}). expected one per line"
        ) from error
    if not isinstance(first, dict):
        raise TraceError(f"{path}: row 1: not a JSON object (got {line[:60]!r}). expected one per line")
    return list(first)


def parquet_columns(path: Path) -> list[str]:
    """Return the column names of a Parquet file.

    Raises
    ------
    TraceError
        If the file is not Parquet.
    """
    return list(_parquet(path).collect_schema())


def read_parquet(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Return the named columns of a Parquet file, with the types that they have there, and `ROW`, from 1.

    Raises
    ------
    TraceError
        If the file is not Parquet, has no rows, or lacks a column.
    """
    found = _parquet(path)
    require_columns(columns, found.collect_schema(), path)
    try:
        frame = found.select(columns).with_row_index(ROW, offset=1).collect()
    except _UNREADABLE as error:
        raise _not_parquet(path, error) from error
    if frame.is_empty():
        raise TraceError(f"{path}: no requests (got 0 rows). expected at least one")
    return frame


def _parquet(path: Path) -> pl.LazyFrame:
    """Return a Parquet file, its footer read."""
    check_is_data(path)
    found = pl.scan_parquet(path, glob=False)
    try:
        found.collect_schema()
    except _UNREADABLE as error:
        raise _not_parquet(path, error) from error
    return found


def _not_parquet(path: Path, error: BaseException) -> TraceError:
    return TraceError(f"{path}: not readable as Parquet ({_reason(error)}). expected a whole Parquet file")


def as_numbers(frame: pl.DataFrame, columns: Sequence[str], where: Path) -> pl.DataFrame:
    """Return *frame* with the text in *columns* read as numbers.

    Raises
    ------
    TraceError
        At the first cell that is neither a number nor empty.
    """
    for column in columns:
        if frame[column].dtype != pl.String:
            continue
        text = frame[column].str.strip_chars()
        numbers = frame.select(_number(pl.col(column))).to_series()
        wrong = first_wrong(frame, numbers.is_null() & text.is_not_null() & (text != ""))
        if wrong:
            raise TraceError(
                f"{where}: row {wrong[1]}: {column}: not a number (got {text[wrong[0]]!r}). expected a number"
            )
        frame = frame.with_columns(numbers.alias(column))
    return frame


def _number(text: pl.Expr) -> pl.Expr:
    return text.str.strip_chars().cast(pl.Float64, strict=False)


def _scan(path: Path, schema: Mapping[str, Any]) -> pl.LazyFrame:
    frame = pl.scan_csv(
        path, schema_overrides=dict(schema), row_index_name=ROW, row_index_offset=1, glob=False
    )
    return _without_blank_rows(frame.select(ROW, *schema), list(schema))


def _without_blank_rows(frame: pl.LazyFrame, columns: Sequence[str]) -> pl.LazyFrame:
    """Return *frame* without rows that are all null: polars makes them of blank lines."""
    return frame.filter(~pl.all_horizontal(pl.col(columns).is_null()))


def _reason(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]
