"""Reports as files: what is reported is read and checked, and the page is put into its place whole."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from servesim.errors import ServesimError
from servesim.results.saving import readable, replacing_file
from servesim.results.schema import SUMMARY, SummaryKey

if TYPE_CHECKING:
    from servesim.results import RunResult

RUNS_MAX = 8
"""Runs that one report can show: there are no more colours that can be told apart."""


def write_report(runs: RunResult | Mapping[str, RunResult], path: str | Path) -> None:
    """Write one HTML file that shows a run, or several side by side; it needs no network.

    Parameters
    ----------
    runs
        A result, or results by the labels that the page gives them.
    path
        The file; an older one there is replaced once the new one is complete.

    Raises
    ------
    ServesimError
        If there is nothing to show or too much, a result cannot be read, or the file cannot be written.

    Examples
    --------
    >>> import servesim, tempfile
    >>> from servesim.report import write_report
    >>> result = servesim.run("scenarios/quickstart.yaml", overrides=["workload.max_requests=50"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(result, f"{folder}/report.html")
    """
    from servesim.report.run_report import run_report

    named = runs if isinstance(runs, Mapping) else {str(runs.provenance.get("scenario", "run")): runs}
    if not 1 <= len(named) <= RUNS_MAX:
        raise ServesimError(
            f"report: {len(named)} runs cannot be told apart in one chart. expected 1 to {RUNS_MAX}"
        )
    check_place(Path(path))
    for label, run in named.items():
        _check_result(label, run)
    with readable(Path(", ".join(named))):
        text = run_report(named)
    write_page(Path(path), text)


def load_runs(directories: Sequence[str | Path]) -> dict[str, RunResult]:
    """Return the results saved in *directories*, labelled by the names of the directories.

    Where two have the same name, both are labelled by their paths.

    Raises
    ------
    ServesimError
        If one is named twice, or holds no complete result.
    """
    from servesim.results import RunResult

    paths = [Path(directory) for directory in directories]
    twice = [
        path for number, path in enumerate(paths) if path.resolve() in [p.resolve() for p in paths[:number]]
    ]
    if twice:
        raise ServesimError(f"{twice[0]}: given twice. expected different runs")
    names = [path.resolve().name for path in paths]
    unique = len(set(names)) == len(names)
    return {
        name if unique else str(path): RunResult.load(path) for name, path in zip(names, paths, strict=True)
    }


def check_place(path: Path) -> None:
    """Refuse a place where a page cannot be written; call it before long work.

    Raises
    ------
    ServesimError
        If *path* is a directory or a device, or the directory that it is in does not exist or is not writable.
    """
    folder = path.resolve().parent
    if path.exists() and not path.is_file():
        got = "a directory" if path.is_dir() else "a device or pipe"
        raise ServesimError(f"{path}: a report is a file (got {got}). expected a name such as report.html")
    if not folder.is_dir():
        raise ServesimError(
            f"{path}: no directory to write to (got {str(folder)!r}). expected one that exists"
        )
    if not os.access(folder, os.W_OK):
        raise ServesimError(f"{path}: its directory cannot be written to. expected a writable place")


def write_page(path: Path, text: str) -> None:
    """Write *text* to *path* whole or not at all; a link stays a link.

    Raises
    ------
    ServesimError
        If that is not possible: what was there before is still there.
    """
    with replacing_file(path.resolve()) as partial:
        partial.write_text(text, encoding="utf-8")


def _check_result(label: str, run: RunResult) -> None:
    """Refuse a summary or provenance that is not one of this version: charts rely on their keys."""
    wrong = [key.name for key in SUMMARY if not _is_summary_value(key, run.summary.get(key.name, "missing"))]
    wrong += ["provenance: pools"] if not _are_rows(run.provenance.get("pools", []), "pool") else []
    if wrong:
        raise ServesimError(
            f"{label}: its summary or provenance is not whole (got none, or another type, for "
            f"{', '.join(wrong[:5])}). expected what this version of servesim saves",
            hint="a result of another version, or changed by hand: run its scenario.yaml anew",
        )


def _is_summary_value(key: SummaryKey, value: object) -> bool:
    if key.name in ("replicas", "pools"):
        return _are_rows(value, "pool")
    if key.name == "duration_s":
        return isinstance(value, int | float)
    return value is None or isinstance(value, int | float | dict)


def _are_rows(value: object, key: str) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) and key in row for row in value)
