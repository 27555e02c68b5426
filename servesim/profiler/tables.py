"""A profile while it is written: ``profile.json``, and a CSV file per table to which rows are added as they come.

A row is one write of one line, so that whatever ends the program, all rows but perhaps the last are whole; what is left
of a torn one is cut off when the profile goes on. The form is that of `servesim.profiles.native`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from servesim.errors import ServesimError
from servesim.profiles.native import ARCHITECTURE, FORMAT, SHAPES, is_profile, read_facts
from servesim.results.frames import disk_errors
from servesim.results.saving import replacing_file, write_json

MEASURED = ("time_s", "error_ratio", "repeats", "sm_clock_mhz", "throttled")
"""Columns of every table after those of the shape."""

LOADS = ("state", "power_w", "lowest_w", "highest_w", "readings", "sm_clock_mhz", "alone_s", "lasting_s")
"""Columns of ``loads.csv``."""

SAME = ("format", "gpu", "device", "model", "attention", "versions", "driver", "limits", "seed")
"""What a profile that goes on has in common with what is there."""

Key = tuple[str, int, tuple[str, ...]]
"""Table, ranks and shape of a row, the latter as text."""


class ProfileFolder:
    """The folder *path* of a profile that is begun, or goes on.

    Raises
    ------
    ServesimError
        If it holds something else, or a profile of something else than *facts* tell.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        self.path = path
        self._facts = {"format": FORMAT, **facts}
        if is_profile(path):
            self._go_on(read_facts(path))
        elif path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ServesimError(f"{path}: something else is there. expected a new folder or a profile")
        self.done = set(self._rows())
        self.write_facts(complete=False)

    def write_facts(self, *, complete: bool) -> None:
        """Write ``profile.json``."""
        with replacing_file(self.path / "profile.json") as partial:
            write_json(partial, {**self._facts, "complete": complete})

    def add(self, table: str, ranks: int, shape: tuple[str | int, ...], measured: Iterable[object]) -> None:
        """Add a row, *measured* in the order of `MEASURED`."""
        columns = (*SHAPES[table], *MEASURED)
        _append(self.path / f"tp{ranks}" / f"{table}.csv", columns, (*shape, *measured))
        self.done.add((table, ranks, tuple(map(str, shape))))

    def add_load(self, row: Iterable[object]) -> None:
        """Add a row of ``loads.csv``, in the order of `LOADS`."""
        _append(self.path / "loads.csv", LOADS, row)

    def loads(self) -> set[str]:
        """Return the states that are there."""
        return {line[0] for line in _whole_rows(self.path / "loads.csv", LOADS)}

    def _go_on(self, there: dict[str, Any]) -> None:
        for name in SAME:
            got, expected = there.get(name), self._facts.get(name)
            if got != expected:
                raise ServesimError(
                    f"{self.path}: a profile of another {name} (got {got!r}). expected {expected!r} to go on",
                    hint="another --out begins a new one",
                )
        known = {*there["tensor_parallel"], *self._facts["tensor_parallel"]}
        left_out = list(dict.fromkeys([*there["left_out"], *self._facts["left_out"]]))
        self._facts |= {"tensor_parallel": sorted(known), "left_out": left_out, "begun": there["begun"]}

    def _rows(self) -> Iterable[Key]:
        for folder in sorted(self.path.glob("tp*")):
            for table, columns in SHAPES.items():
                rows = _whole_rows(folder / f"{table}.csv", (*columns, *MEASURED))
                for row in rows:
                    yield table, int(folder.name.removeprefix("tp")), tuple(row[: len(columns)])


def architecture(model: Any) -> dict[str, Any]:
    """Return what ``profile.json`` tells of a model."""
    return {name: getattr(model, name) for name in ("name", "heads", "kv_heads", *ARCHITECTURE)}


def _append(path: Path, columns: tuple[str, ...], row: Iterable[object]) -> None:
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [row] if path.exists() else [columns, row]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(lines)
        with path.open("ab", buffering=0) as file:
            file.write(text.getvalue().encode())


def _whole_rows(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    """Return the rows of a table; cut off what is no whole line."""
    if not path.is_file():
        return []
    with disk_errors(path):
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with path.open("r+b") as file:
                file.truncate(whole)
    if not whole:
        path.unlink()
        return []
    header, *rows = csv.reader(io.StringIO(data[:whole].decode("utf-8", errors="replace")))
    if tuple(header) != columns:
        raise ServesimError(f"{path}: other columns (got {', '.join(header)}). expected {', '.join(columns)}")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            raise ServesimError(
                f"{path}: line {number}: {len(row)} values (got {','.join(row)!r}). expected {len(columns)}"
            )
    return rows
