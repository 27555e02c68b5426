"""JSON files of benchmark tools: read whole, with errors that name the file and the key."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from servesim.errors import TraceError


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises
    ------
    TraceError
        If it cannot be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise TraceError(f"{path}: no such file. expected the results of a benchmark") from None
    except (OSError, ValueError, RecursionError) as error:
        raise TraceError(f"{path}: not readable as JSON ({error}). expected one JSON value") from error


def read_json_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return number and object of every line of *path* that is not blank.

    Raises
    ------
    TraceError
        If the file cannot be read, has no objects, or at the first line that is no JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise TraceError(f"{path}: not readable ({error}). expected JSON lines") from error
    found = [(number, _object(line, path, number)) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise TraceError(f"{path}: no requests (got 0 rows). expected at least one")
    return found


def _object(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise TraceError(
            f"{path}: row {number}: not a JSON object (got {line[:60]!r}). expected one per line"
        )
    return value


def at(data: Any, *keys: str) -> Any:
    """Return what is at *keys* of nested mappings, or None."""
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def number(value: Any, where: str) -> float:
    """Return *value* as a number.

    Raises
    ------
    TraceError
        If it is no finite number; *where* begins the message.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TraceError(f"{where}: not a number (got {value!r}). expected a number")
    return float(value)


def number_or_none(value: Any, where: str) -> float | None:
    """Return *value* as a number, or None for null; errors as in `number`."""
    return None if value is None else number(value, where)


def numbers(values: Any, where: str) -> list[float]:
    """Return a list of numbers.

    Raises
    ------
    TraceError
        If *values* is no list, or at the first item that is no number.
    """
    if not isinstance(values, list):
        raise TraceError(f"{where}: not a list (got {str(values)[:60]!r}). expected a list of numbers")
    return [number(value, f"{where}: row {index}") for index, value in enumerate(values, 1)]


def load(count: int, prompt_tokens: float, output_tokens: float, arrivals_s: Any = 0.0) -> pl.DataFrame:
    """Return a load of *count* requests of equal lengths, which arrive at *arrivals_s*."""
    return pl.DataFrame({"arrival_s": pl.repeat(0.0, count, eager=True)}).with_columns(
        arrival_s=pl.lit(arrivals_s) if isinstance(arrivals_s, float) else pl.Series(arrivals_s),
        prompt_tokens=pl.lit(max(1, round(prompt_tokens)), dtype=pl.Int32),
        output_tokens=pl.lit(max(1, round(output_tokens)), dtype=pl.Int32),
    )
