"""From paths to what was measured: runs of benchmarks and step logs, those that the user chose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from servesim.errors import TraceError
from servesim.measurements import MeasuredRun, read_measured
from servesim.measurements.step_log import StepLog, is_step_log, read_step_log


def read_all(paths: Sequence[Path], *, only: str | None = None) -> list[MeasuredRun | StepLog]:
    """Return everything that was measured at *paths*, in order.

    Parameters
    ----------
    paths
        Files or folders, as `servesim.measurements.read_measured` takes them, or step logs.
    only
        Pattern of the names of runs to keep; None: all.

    Raises
    ------
    TraceError
        If a file cannot be taken as it is, is given twice, or no run is left.
    """
    places = [path.resolve() for path in paths]
    twice = next((path for path, place in zip(paths, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise TraceError(f"{twice}: given twice. expected every file once")
    found: list[MeasuredRun | StepLog] = []
    for path in paths:
        found += [read_step_log(path)] if is_step_log(path) else read_measured(path)
    kept = [each for each in found if only is None or fnmatchcase(each.name, only)]
    if not kept:
        names = ", ".join(each.name for each in found[:5])
        raise TraceError(
            f"--only: no run of this name (got {only!r}). expected one of {names}{', ...' if len(found) > 5 else ''}"
        )
    return kept


def measured_of(items: Iterable[str | Path | MeasuredRun | StepLog]) -> list[MeasuredRun | StepLog]:
    """Return *items* with their paths read."""
    found: list[MeasuredRun | StepLog] = []
    for item in items:
        found += read_all([Path(item)]) if isinstance(item, str | Path) else [item]
    return found
