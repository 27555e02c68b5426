"""Which format a file has, told from its own words: column names, keys, metadata, or the datasheet beside it.

Formats say themselves what their files have (`servesim.workload.api.Signature`): this module knows none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from servesim.errors import PluginError, TraceError
from servesim.traces.datasheets import datasheet_beside
from servesim.traces.kinds import OTHERS, kind_of
from servesim.workload.api import Signature
from servesim.workload.content import check_is_data
from servesim.workload.files import csv_header, jsonl_keys, parquet_columns
from servesim.workload.registries import READERS

_INSTEAD = {
    "client pool": "a YAML file with workload: {generator: {name: servegen, path: ...}}, or pool: NAME for one that "
    "ships, stands for requests of its clients, and can be given in place of a trace; servesim trace info tells what "
    "is in the pool",
    "serverless log": "servesim trace info tells what is in it",
}
"""What to do with files of other kinds."""


@dataclass(frozen=True, kw_only=True)
class Detected:
    """The format of a file.

    Attributes
    ----------
    reader
        Name of the reader that takes it.
    parameters
        What the reader needs beside the path.
    reading
        Parameters with which the file is looked at.
    by
        What told it: ``its columns``, ``its datasheet``, ...
    """

    reader: str
    parameters: dict[str, Any] = field(default_factory=dict)
    reading: dict[str, Any] = field(default_factory=dict)
    by: str


def signatures() -> Iterator[tuple[str, Signature]]:
    """Yield name and signature of every reader, once for each it has; a plugin that does not import has none."""
    for name in READERS.names():
        try:
            found = getattr(READERS.resolve(name), "signature", None)
        except PluginError:
            continue
        yield from (
            (name, each) for each in (found if isinstance(found, tuple) else (found,)) if each is not None
        )


def detect(path: Path, *, reader: str | None = None) -> Detected:
    """Return the format of the file at *path*.

    Parameters
    ----------
    path
        The file, or a folder for formats that are one.
    reader
        Name of the reader that the user says takes it; None: told from the file.

    Raises
    ------
    TraceError
        If there is no such file, no data in it, or no format fits it, or several do alike.
    PluginError
        If *reader* is unknown.
    """
    if (is_a := kind_of(path, reader=reader)) != "requests":
        raise TraceError(f"{path}: a {is_a}. expected requests", hint=_INSTEAD[is_a])
    if not path.exists():
        raise TraceError(f"{path}: no such file. expected a trace")
    known = dict(signatures())
    if reader is not None:
        READERS.resolve(reader)
        reading = dict(known[reader].reading) if reader in known else {}
        return Detected(reader=reader, reading=reading, by="--reader")
    if (sheet := datasheet_beside(path)) is not None:
        reading = dict(known[sheet.reader].reading) if sheet.reader in known else {}
        return Detected(reader=sheet.reader, parameters=sheet.parameters, reading=reading, by="its datasheet")
    kind, names, marks = _words(path)
    fitting = {
        name: len(each.needs) + (each.mark is not None)
        for name, each in signatures()
        if kind in each.forms and _fits(each, path, names, marks)
    }
    best = [name for name, count in fitting.items() if count == max(fitting.values())]
    if len(best) != 1:
        raise _unknown(path, kind, names, best, known)
    told = {"csv": "its columns", "jsonl": "its keys", "parquet": "its columns", "folder": "its files"}[kind]
    return Detected(reader=best[0], reading=dict(known[best[0]].reading), by=told)


def _words(path: Path) -> tuple[str, list[str], frozenset[str]]:
    """Return what kind of file this is, the names of its columns or keys, and those in its metadata."""
    if path.is_dir():
        return "folder", sorted(file.name for file in path.iterdir())[:20], frozenset()
    head = check_is_data(path)
    if head.startswith(b"PAR1"):
        return "parquet", parquet_columns(path), frozenset(pl.read_parquet_metadata(path))
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return "jsonl", jsonl_keys(path), frozenset()
    return "csv", csv_header(path), frozenset()


def _fits(signature: Signature, path: Path, names: list[str], marks: frozenset[str]) -> bool:
    if signature.mark is not None and signature.mark not in marks:
        return False
    if path.is_dir():
        return all(any(path.glob(pattern)) for pattern in signature.needs)
    return set(signature.needs) <= set(names)


def _unknown(
    path: Path, kind: str, names: list[str], best: list[str], known: dict[str, Signature]
) -> TraceError:
    what = {"csv": "columns", "jsonl": "keys", "parquet": "columns", "folder": "files"}[kind]
    got = ", ".join(map(repr, names[:12])) + (", ..." if len(names) > 12 else "")
    if best:
        return TraceError(
            f"{path}: several formats fit (got {what} {got}). expected one of {', '.join(best)}",
            hint="--reader NAME says which",
        )
    formats = "; ".join(
        f"{name} ({', '.join(each.needs)})" for name, each in known.items() if kind in each.forms
    )
    return TraceError(
        f"{path}: no known format (got {what} {got}). expected {formats or 'a CSV, JSON lines or Parquet file'}",
        hint="a YAML file with a workload: block whose source is {reader: table, path: ..., columns: {...}} says what "
        f"the columns mean, and can be given in place of the trace; {OTHERS}",
    )
