"""Datasheets beside traces: found, read, made for a trace that has none, written.

What is in one is declared in `servesim.workload.datasheet`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from servesim.errors import ServesimError
from servesim.results.saving import replacing_file
from servesim.scenario.document import document_text, read_document
from servesim.scenario.load import checked
from servesim.traces.finding import CHECKSUM, Finding
from servesim.workload.datasheet import Datasheet

TOLD = ("motivation", "collection", "preprocessing", "uses", "licence")
"""What no file tells about itself."""

UNKNOWN = "Not known: whoever made the trace can tell."


def datasheet_path(trace: Path) -> Path:
    """Return where the datasheet of *trace* is: ``NAME.datasheet.yaml`` beside it."""
    return trace.with_name(
        f"{trace.name.removesuffix('.gz').rpartition('.')[0] or trace.name}.datasheet.yaml"
    )


def datasheet_beside(trace: Path) -> Datasheet | None:
    """Return the datasheet of *trace*, or None where there is none that names it.

    Raises
    ------
    ScenarioError
        If it is there but wrong; all mistakes are named at their lines.
    """
    path = datasheet_path(trace)
    if not path.is_file():
        return None
    sheet = read_datasheet(path)
    return sheet if sheet.file == trace.name else None  # x.csv and x.parquet have one name for theirs


def read_datasheet(path: Path) -> Datasheet:
    """Return the datasheet in the YAML file at *path*.

    Raises
    ------
    ScenarioError
        If it cannot be read or anything in it is wrong.
    """
    document = read_document(path, what="a datasheet")
    return checked(document, Datasheet, what="a datasheet", base_dir=path.absolute().parent)


def write_datasheet(sheet: Datasheet, path: Path) -> None:
    """Write *sheet* as YAML; an older file is replaced.

    Raises
    ------
    ServesimError
        If it cannot be written.
    """
    text = document_text(sheet.model_dump(mode="json", exclude_defaults=True))
    with replacing_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def check_own_datasheet(trace: Path) -> None:
    """Refuse to replace the datasheet of another file, which has the same name but for its ending."""
    path = datasheet_path(trace)
    if path.is_file() and (of := read_datasheet(path).file) != trace.name:
        raise ServesimError(
            f"{path}: the datasheet of another file (got {of!r}). expected none, or that of {trace.name!r}",
            hint="give the new trace another name",
        )


def sha256_of(path: Path) -> str:
    """Return the checksum of a file, or of all files of a folder in the order of their names, one after the other."""
    digest = hashlib.sha256()
    for part in sorted(path.iterdir()) if path.is_dir() else [path]:
        with part.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def checksum(trace: Path, rows: int | None = None) -> list[Finding]:
    """Return whether *trace*, of so many *rows*, is what the datasheet beside it describes; nothing without one."""
    sheet = datasheet_beside(trace)
    if sheet is None:
        return []
    if sha256_of(trace) == sheet.sha256:
        return [Finding(CHECKSUM, "ok", "that of the datasheet beside it")]
    counted = f", {rows:,} rows instead of {sheet.rows:,}" if rows not in (None, sheet.rows) else ""
    name = datasheet_path(trace).name
    return [Finding(CHECKSUM, "warning", f"not the file that {name} describes: another SHA-256{counted}")]


def described(
    trace: Path,
    *,
    reader: str,
    parameters: Mapping[str, Any],
    rows: int,
    composition: str,
    rubric: Mapping[str, str],
    known_defects: Sequence[str],
    **told: str,
) -> Datasheet:
    """Return the datasheet of *trace* with what can be measured, and *told* about the rest.

    Parameters
    ----------
    trace
        The file, whose checksum is taken.
    reader, parameters, rows, composition, rubric, known_defects
        As in `Datasheet`.
    told
        Those of `TOLD` that are known.
    """
    unknown = dict.fromkeys(TOLD, UNKNOWN)
    return Datasheet(
        file=trace.name,
        reader=reader,
        parameters=dict(parameters),
        rows=rows,
        sha256=sha256_of(trace),
        composition=composition,
        known_defects=tuple(known_defects),
        rubric=dict(rubric),
        **(unknown | told),
    )
