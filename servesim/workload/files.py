"""Trace files as frames: what is shared by the readers of one format each.

A file is read once, only the columns that are asked for, numbers as Float64 and the rest as text. Anything
that is not data is told apart first: a folder, an empty file, the pointer that Git LFS leaves where the data
was not fetched.
"""

from __future__ import annotations

import csv
import glob
import gzip
import json
from collections.abc import Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

import polars as pl

from servesim.errors import TraceError
from servesim.workload.checks import first_wrong, require_columns

_LFS_POINTER = b"version https://git-lfs"
_HEAD_BYTES = 4096


def csv_header(path: Path) -> list[str]:
    """Return the column names of a CSV file, plain or gzipped, with or without a byte-order mark.

    Raises
    ------
    TraceError
        If there is no such file or no data in it.
    """
    return next(csv.reader([_first_line(path)]))


def read_csv(path: Path, *, numbers: Sequence[str], texts: Sequence[str] = ()) -> pl.DataFrame:
    """Return the named columns of a CSV file, and ``row``, the row's number from 1.

    Blank lines are left out. A number that is quoted is a number.

    Raises
    ------
    TraceError
        If the file has no data, lacks a column, or has something else than numbers in *numbers*.
    """
    require_columns([*numbers, *texts], csv_header(path), path)
    columns = [*texts, *numbers]
    try:
        try:
            frame = _scan(path, dict.fromkeys(texts, pl.String) | dict.fromkeys(numbers, pl.Float64), columns)
        except pl.exceptions.ComputeError:
            frame = _scan(path, dict.fromkeys(columns, pl.String), columns)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TraceError(f"{path}: not readable as CSV ({_reason(error)})") from error
    return as_numbers(_without_blank_rows(frame, columns, path), numbers, path)


def read_jsonl(path: Path, *, numbers: Sequence[str], others: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return the named keys of a file with one JSON object per line, and ``row``, the object's number from 1.

    *others* are keys that hold no numbers, with their types. A number may be written as a string.

    Raises
    ------
    TraceError
        As `read_csv`.
    """
    require_columns([*numbers, *others], jsonl_keys(path), path)
    schema: dict[str, Any] = dict.fromkeys(numbers, pl.String) | dict(others)
    try:
        literal = glob.escape(str(path))  # polars takes a path for a pattern
        frame = pl.scan_ndjson(literal, schema=schema, row_index_name="row", row_index_offset=1).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TraceError(f"{path}: not readable as JSON lines ({_reason(error)})") from error
    return as_numbers(_without_blank_rows(frame, list(schema), path), numbers, path)


def jsonl_keys(path: Path) -> list[str]:
    """Return the keys of the first object of a file with one JSON object per line."""
    line = _first_line(path)
    try:
        first = json.loads(line)
    except ValueError as error:
        raise TraceError(
            f"{path}: row 1: not a JSON object (got {line[:60]!r}). expected one per line"
        ) from error
    if not isinstance(first, dict):
        raise TraceError(f"{path}: row 1: not a JSON object (got {line[:60]!r}). expected one per line")
    return list(first)


def read_parquet(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """Return the named columns of a Parquet file, with the types that they have there, and ``row``, from 1.

    Raises
    ------
    TraceError
        If the file is not Parquet, has no rows, or lacks a column.
    """
    check_is_data(path)
    try:
        found = pl.scan_parquet(path, glob=False)
        names = found.collect_schema().names()
        require_columns(columns, names, path)
        frame = found.select(columns).with_row_index("row", offset=1).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TraceError(f"{path}: not readable as Parquet ({_reason(error)})") from error
    if frame.is_empty():
        raise TraceError(f"{path}: no requests (got 0 rows). expected at least one")
    return frame


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
        numbers = text.cast(pl.Float64, strict=False)
        wrong = first_wrong(frame, numbers.is_null() & text.is_not_null() & (text != ""))
        if wrong:
            raise TraceError(
                f"{where}: row {wrong[1]}: {column}: not a number (got {text[wrong[0]]!r}). expected a number"
            )
        frame = frame.with_columns(numbers.alias(column))
    return frame


def check_is_data(path: Path) -> None:
    """Raise `TraceError` if *path* is nothing that can hold a trace."""
    if path.is_dir():
        raise TraceError(f"{path}: a folder. expected a file")
    try:
        with _opened(path) as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError as error:
        raise TraceError(
            f"{path}: no such file. expected a trace",
            hint="a relative path starts from the scenario file's folder",
        ) from error
    except (OSError, EOFError) as error:
        raise TraceError(f"{path}: cannot be read ({error})") from error
    if head.startswith(_LFS_POINTER):
        raise TraceError(
            f"{path}: a Git LFS pointer. expected the data it points to",
            hint="fetch the file itself: `git lfs pull` where it was cloned, or a download of the release",
        )
    if not head.strip():
        raise TraceError(f"{path}: empty (got no data). expected a trace")


def _opened(path: Path) -> BufferedReader | gzip.GzipFile:
    """Open *path* for reading, unpacked if it is gzipped, whatever its name."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else path.open("rb")


def _first_line(path: Path) -> str:
    """Return the first line of a text file that is not blank, without a byte-order mark."""
    check_is_data(path)
    with _opened(path) as file:
        lines = (line.decode("utf-8-sig", errors="replace").strip() for line in file)
        return next(line for line in lines if line)


def _scan(path: Path, schema: Mapping[str, Any], columns: Sequence[str]) -> pl.DataFrame:
    frame = pl.scan_csv(
        path, schema_overrides=dict(schema), row_index_name="row", row_index_offset=1, glob=False
    )
    return frame.select("row", *columns).collect()


def _without_blank_rows(frame: pl.DataFrame, columns: Sequence[str], path: Path) -> pl.DataFrame:
    """Return *frame* without rows that are all null: polars makes them of blank lines."""
    frame = frame.filter(~pl.all_horizontal(pl.col(columns).is_null()))
    if frame.is_empty():
        raise TraceError(f"{path}: no requests (got a header and 0 rows). expected at least one")
    return frame


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
