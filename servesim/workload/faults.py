"""Where a text file is broken: its first bad line, looked for only once polars has refused the file.

Polars says what is wrong, but not where. Rows are counted as in `servesim.workload.checks.ROW`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import Any

import polars as pl

from servesim.workload.content import BOM, opened

_CHUNK_LINES = 8192
_SHOWN_CHARS = 60


def csv_fault(path: Path) -> str | None:
    """Return what is wrong with the first row of a CSV file that has more cells than the header, or a cell that does
    not end in its line; None if there is no such row.
    """
    with opened(path) as file, TextIOWrapper(file, "utf-8-sig", errors="replace", newline="") as text:
        rows = csv.reader(text)
        header = next((cells for cells in rows if cells), [])
        try:
            for number, cells in enumerate(rows, start=1):
                if wide := next((cell for cell in cells if "\n" in cell), None):
                    return f"row {number}: a quote that is not closed (got {_shown(wide)}). expected one line per row"
                if len(cells) > len(header):
                    row = ",".join(cells)
                    return f"row {number}: {len(cells)} cells (got {_shown(row)}). expected {len(header)}"
        except csv.Error as error:
            return f"row {rows.line_num}: not CSV (got {error}). expected {len(header)} cells"
    return None


def json_fault(path: Path, schema: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the first line that is no JSON object, or that has a value of another type than
    *schema* says; None if there is no such line.
    """
    number = 0
    for lines in _chunks(path):
        if not _fits(lines, schema):
            place = _first_unfit(lines, schema)
            return f"row {number + place + 1}: {_json_line_fault(lines[place], schema)}"
        number += len(lines)
    return None


def _first_unfit(lines: list[bytes], schema: Mapping[str, Any]) -> int:
    """Return which of *lines* is the first that polars refuses, by halves: asking about each line takes long."""
    low, high = 0, len(lines)  # the first *low* lines fit, the first *high* do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _fits(lines[low:middle], schema) else (low, middle)
    return low


def _json_line_fault(line: bytes, schema: Mapping[str, Any]) -> str:
    """Return what is wrong with a line that polars refuses."""
    text = line.decode("utf-8", errors="replace").strip()
    try:
        found = json.loads(text)
    except ValueError as error:
        return f"not a JSON object (got {_shown(text)}: {error}). expected one per line"
    if not isinstance(found, dict):
        return f"not a JSON object (got {_shown(text)}). expected one per line"
    for name, kind in schema.items():
        if not _fits([line], {name: kind}):
            return f"{name}: not {_words(kind)} (got {_shown(json.dumps(found.get(name)))}). expected {_words(kind)}"
    return f"not a JSON object that can be read (got {_shown(text)}). expected one per line"


def _words(kind: Any) -> str:
    """Return what a type of the schema is in words."""
    if isinstance(kind, pl.List):
        return "a list of whole numbers"
    return "an object of lists of whole numbers" if isinstance(kind, pl.Struct) else "a number or text"


def _fits(lines: list[bytes], schema: Mapping[str, Any]) -> bool:
    try:
        pl.read_ndjson(b"".join(lines), schema=dict(schema))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return False
    return True


def _chunks(path: Path) -> Iterator[list[bytes]]:
    """Yield the lines that are not blank, many at a time, without byte-order mark."""
    with opened(path) as file:
        first = next(iter(file), b"").removeprefix(BOM)
        lines = (line.rstrip(b"\r\n") + b"\n" for line in chain([first], file) if line.strip())
        while chunk := list(islice(lines, _CHUNK_LINES)):
            yield chunk


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "...")
