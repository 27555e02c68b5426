"""What a serverless log is, in one object: its statistics, findings, and its datasheet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from servesim import serverless
from servesim.errors import ServesimError
from servesim.traces.datasheets import datasheet_beside, described
from servesim.traces.finding import Finding, Level, defects_in, rubric_of
from servesim.workload.datasheet import Datasheet

FEW_ROWS = 100
"""Of fewer rows, a 99th percentile is the largest value."""

_CHECKS: dict[str, tuple[str, Level, str]] = {
    "rows_sorted": ("monotone time", "note", "rows stand behind a later one; they are sorted"),
    "totals_off": ("totals", "warning", "cold starts whose total is not the sum of its parts"),
    "pods_without_pool": ("pods", "note", "pods whose name does not tell their pool"),
    "without_frontend": ("missing values", "note", "requests without the frontend's columns"),
    "without_container": ("missing values", "note", "loads without a container"),
    "zero_loads": ("zero times", "note", "loads that took no time"),
    "off_grid": ("time grid", "note", "times off the grid of the log"),
    "not_succeeded": ("failures", "note", "requests that did not succeed; they are counted with the others"),
}
"""Note of a reader to check, level and text of the finding where it is not 0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LogInfo:
    """What a serverless log is.

    Attributes
    ----------
    path
        Its file or folder.
    format
        Name of its format.
    by
        What told it.
    notes
        What the reader counted.
    summary
        `servesim.serverless.summary`.
    findings
        What is odd about it.
    """

    path: Path
    format: str
    by: str
    notes: Mapping[str, int | float | str]
    summary: serverless.Summary
    findings: list[Finding]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, as JSON can hold it; tables are lists of their rows."""
        return {
            "file": str(self.path),
            "format": self.format,
            "notes": dict(self.notes),
            **self.summary.figures,
            "tables": {name: table.to_dicts() for name, table in self.summary.tables.items()},
            "findings": [asdict(finding) for finding in self.findings],
        }


def log_info(path: Path, *, form: str | None = None) -> LogInfo:
    """Return what the serverless log at *path* is.

    Parameters
    ----------
    path
        A file, or a folder of the files of one table.
    form
        Name of its format; None: told from its datasheet, else from its columns.

    Raises
    ------
    TraceError
        If it cannot be taken as it is.
    """
    by = "--reader" if form is not None else "its columns"
    if form is None and (sheet := datasheet_beside(path)) is not None:
        form, by = sheet.reader, "its datasheet"
    log = serverless.read(path, form=form)
    summary = serverless.summary(log)
    return LogInfo(
        path=path,
        format=log.format,
        by=by,
        notes=log.notes,
        summary=summary,
        findings=[_duplicates(log), *_findings(log.notes, summary.figures)],
    )


def rows_of(notes: Mapping[str, Any]) -> int:
    """Return how many rows of a log its reader took: values, of a wide table."""
    return int(notes["values" if "values" in notes else "rows_read"])


def datasheet_of_log(info: LogInfo, **told: str) -> Datasheet:
    """Return a datasheet of the log: what was measured, and what is *told* about the rest.

    Raises
    ------
    ServesimError
        If it is a folder, which has no checksum.
    """
    if info.path.is_dir():
        raise ServesimError(f"{info.path}: a folder (got {info.notes['files']} files). expected one file")
    return described(
        info.path,
        reader=info.format,
        parameters={},
        rows=rows_of(info.notes),
        composition=_composition(info),
        rubric=rubric_of(info.findings),
        known_defects=defects_in(info.findings),
        **told,
    )


def _composition(info: LogInfo) -> str:
    figures = info.summary.figures
    told = [
        f"{figures[name]:,} {what}"
        for name, what in (
            ("cold_starts", "cold starts"),
            ("invocations", "invocations"),
            ("functions", "functions"),
        )
        if figures.get(name)
    ]
    return f"{', '.join(told) or f'{rows_of(info.notes):,} values'}, in the form {info.format}."


def _duplicates(log: serverless.ServerlessLog) -> Finding:
    frames = [
        each for each in (log.cold_starts, log.invocations, log.functions, log.series) if each is not None
    ]
    counts = pl.struct(pl.all()).hash().n_unique().alias("different"), pl.len().alias("rows")
    found = pl.concat(frame.select(*counts).collect(engine="streaming") for frame in frames).sum()
    different, rows = found.row(0)
    if different == rows:
        return Finding("duplicates", "ok", "no row is there twice")
    return Finding(
        "duplicates",
        "note",
        f"{rows - different:,} of {rows:,} rows equal an earlier one in all that is read",
    )


def _findings(notes: Mapping[str, Any], figures: Mapping[str, Any]) -> list[Finding]:
    rows, found = rows_of(notes), []
    for note, (check, level, text) in _CHECKS.items():
        if note in notes:
            count = int(notes[note])
            found.append(Finding(check, level if count else "ok", f"{count:,} of {rows:,} {text}"))
    measured = figures.get("cold_starts") or figures.get("invocations")
    if measured is not None and measured < FEW_ROWS:
        found.append(
            Finding("rows", "note", f"only {measured:,}: quantiles of the tail are those of a few values")
        )
    return found
