"""Files and folders of serverless logs: which files belong to one, and their rows checked and read lazily."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from servesim.errors import TraceError
from servesim.serverless.contract import check
from servesim.workload.checks import ROW
from servesim.workload.content import without_companions
from servesim.workload.files import csv_header, scan_csv


def members(path: Path) -> list[Path]:
    """Return the CSV files of a log: the file itself, or those below a folder, days and parts in order.

    The companions that macOS puts into archives are left out.

    Raises
    ------
    TraceError
        If there is none.
    """
    if not path.is_dir():
        return [path]
    found = [
        file
        for file in without_companions(path.rglob("*"))
        if file.name.lower().endswith((".csv", ".csv.gz", ".txt"))
    ]
    if not found:
        raise TraceError(f"{path}: no CSV file in this folder (got 0 files). expected at least one")
    return sorted(found, key=lambda file: [_natural(part) for part in file.relative_to(path).parts])


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that puts day_2 before day_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


@dataclass(frozen=True, slots=True)
class Table:
    """How the columns of a native CSV become those of one kind of frame.

    Attributes
    ----------
    kind
        The kind of frame.
    numbers, texts
        Name in the frame to name in the file; of those in *optional* a file may lack any.
    ticks_per_s
        Unit of the numbers whose names end in ``_s`` or hold ``_s_``.
    """

    kind: str
    numbers: Mapping[str, str]
    texts: Mapping[str, str] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    ticks_per_s: float = 1.0


def read_table(path: Path, table: Table) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """Return a file's rows, still to be read, and the numbers of all of them, checked.

    Both have the names of the frame; numbers that are NaN are null.

    Raises
    ------
    TraceError
        If the file cannot be read, lacks a column, or has a value that the frame must not have.
    """
    header = csv_header(path)

    def there(names: Mapping[str, str]) -> dict[str, str]:
        return {ours: name for ours, name in names.items() if name in header or ours not in table.optional}

    numbers, texts = there(table.numbers), there(table.texts)
    required = [name for name in texts if name not in table.optional]
    lazy, frame = scan_csv(
        path,
        numbers=list(dict.fromkeys(numbers.values())),
        texts=list(dict.fromkeys(texts.values())),
        read=[texts[name] for name in required],
    )
    plain = [_number(ours, name, table.ticks_per_s) for ours, name in numbers.items()]
    checked = frame.select(ROW, *plain, *(pl.col(texts[name]).alias(name) for name in required))
    check(checked, table.kind, path, names=numbers | texts)
    rows = lazy.select(ROW, *plain, *(pl.col(name).alias(ours) for ours, name in texts.items()))
    return rows, checked


def _number(ours: str, name: str, ticks_per_s: float) -> pl.Expr:
    value = pl.col(name).fill_nan(None)
    is_time = ours.endswith("_s") or "_s_" in ours
    return (value / ticks_per_s if is_time and ticks_per_s != 1 else value).alias(ours)


def read_parts(
    path: Path,
    table_of: Callable[[Path], Table],
    finish: Callable[[pl.LazyFrame, Path], pl.LazyFrame] | None = None,
) -> tuple[list[pl.LazyFrame], list[pl.DataFrame], list[Path]]:
    """Return rows, checked numbers and path of each file of a log."""
    files = members(path)
    rows, numbers = [], []
    for file in files:
        lazy, frame = read_table(file, table_of(file))
        rows.append(finish(lazy, file) if finish else lazy)
        numbers.append(frame)
    return rows, numbers, files
