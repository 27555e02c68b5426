"""Files and folders of serverless logs: which files belong to one, and their rows checked and read lazily."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from servesim.errors import TraceError
from servesim.serverless.contract import check
from servesim.workload.checks import ROW
from servesim.workload.files import csv_header, scan_csv

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".rar", ".7z")


def refuse_archive(path: Path) -> None:
    """Raise `TraceError` if *path* is an archive, by its name."""
    if path.name.lower().endswith(_ARCHIVES):
        raise TraceError(
            f"{path}: an archive (got {path.name!r}). expected a CSV file or a folder of them",
            hint="unpack it first",
        )


def members(path: Path) -> list[Path]:
    """Return the CSV files of a log: the file itself, or those below a folder, days and parts in order.

    The companions that macOS puts into archives (``._name``, ``__MACOSX``) are left out.

    Raises
    ------
    TraceError
        If there is none, or *path* is an archive.
    """
    refuse_archive(path)
    if not path.is_dir():
        return [path]
    found = [
        file
        for file in path.rglob("*")
        if file.name.lower().endswith((".csv", ".csv.gz", ".txt"))
        and not file.name.startswith(".")
        and "__MACOSX" not in file.parts
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
    derive
        Expressions of further columns of the frame, from the columns of the file.
    extra_numbers
        Columns of the file that only *derive* needs.
    ticks_per_s
        Unit of the numbers whose names end in ``_s`` or hold ``_s_``.
    """

    kind: str
    numbers: Mapping[str, str]
    texts: Mapping[str, str] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    derive: Mapping[str, pl.Expr] = field(default_factory=dict)
    extra_numbers: Sequence[str] = ()
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
    extra = [name for name in table.extra_numbers if name not in numbers.values()]
    required = [name for name in texts if name not in table.optional]
    lazy, frame = scan_csv(
        path,
        numbers=[*dict.fromkeys(numbers.values()), *extra],
        texts=list(dict.fromkeys(texts.values())),
        read=[texts[name] for name in required],
    )
    plain = [_number(ours, name, table.ticks_per_s) for ours, name in numbers.items()]
    derived = [expression.alias(name) for name, expression in table.derive.items()]
    checked = frame.select(ROW, *plain, *(pl.col(texts[name]).alias(name) for name in required))
    check(checked, table.kind, path, names=numbers | texts)
    rows = lazy.select(ROW, *plain, *(pl.col(name).alias(ours) for ours, name in texts.items()), *derived)
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
