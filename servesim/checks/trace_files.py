"""The files of a check of traces: made, and reduced to the numbers that are asked for. Each is a task of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servesim.checks.trace_spec import Ks, TraceFile
from servesim.scenario import Scenario
from servesim.traces.columns import column_of
from servesim.traces.compare import compare_files
from servesim.traces.convert import convert
from servesim.traces.datasheets import sha256_of
from servesim.traces.forms import forms
from servesim.traces.generate_log import generate_any
from servesim.traces.laws import ks_to_law, ks_to_points
from servesim.traces.log_spec import LogSpec
from servesim.traces.look import look
from servesim.traces.source import TraceSpec

Spec = TraceSpec | Scenario | LogSpec

Numbers = dict[str, float | None]
"""Numbers by name; None where there is nothing to tell."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A file to make, and what to tell of it.

    Attributes
    ----------
    name, trace
        Of the check file.
    spec
        What is generated, with its seed; None: the trace is a file.
    folder
        Where to write.
    ks
        Distances of its columns that are asked for.
    told
        Whether the numbers of ``servesim trace info`` are.
    """

    name: str
    trace: TraceFile
    spec: Spec | None
    folder: Path
    ks: tuple[Ks, ...] = ()
    told: bool = False


@dataclass(frozen=True, kw_only=True)
class Made:
    """A file that is there.

    Attributes
    ----------
    path
        It.
    sha256
        Its checksum.
    numbers
        Those of ``servesim trace info``, if they were asked for.
    ks
        The distances that were asked for.
    """

    path: Path
    sha256: str
    numbers: Numbers = field(default_factory=dict)
    ks: tuple[float, ...] = ()


def make(job: Job) -> Made:
    """Make a file and tell of it.

    Raises
    ------
    ServesimError
        If it cannot be read, generated or converted, or lacks a column.
    """
    reader = job.trace.reader if not job.trace.convert else None
    path = _file(job)
    numbers = dict(flat(look(path, reader=reader).to_dict())) if job.told else {}
    return Made(
        path=path,
        sha256=sha256_of(path),
        numbers=numbers,
        ks=tuple(_ks(path, reader, each) for each in job.ks),
    )


def compare(pair: tuple[Path, Path]) -> Numbers:
    """Return the numbers of ``servesim trace compare``."""
    return dict(flat(compare_files(*pair)))


def _file(job: Job) -> Path:
    if job.spec is not None:
        out = job.folder / f"{job.name}.parquet"
        if job.trace.to in forms():
            out = out.with_suffix(forms()[job.trace.to].ending)
        generate_any(job.spec, out, to=job.trace.to)
        return out
    assert job.trace.file is not None, "the validator lets exactly one of them pass"
    path, reader = job.trace.file, job.trace.reader
    for number, form in enumerate(job.trace.convert):
        ending = forms()[form].ending if form in forms() else ".parquet"
        out = job.folder / f"{job.name}.{number}{ending}"
        convert(path, out, to=form, reader=reader)
        path, reader = out, None
    return path


def _ks(path: Path, reader: str | None, expected: Ks) -> float:
    values = column_of(path, expected.column, reader=reader)
    if expected.law is not None:
        return ks_to_law(values, expected.law)
    assert expected.points is not None, "the validator lets exactly one of them pass"
    return ks_to_points(values, expected.points)


def flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float | None]]:
    """Yield every number of *data* by name, with dots for what is in a table.

    A list of rows is a table by what is first in each row. ``findings.note`` and ``findings.warning`` are counts.
    """
    for key, value in data.items():
        if key == "findings":
            for level in ("note", "warning"):
                yield f"{prefix}findings.{level}", float(sum(each["level"] == level for each in value))
        elif isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            rows = {str(next(iter(row.values()))): row for row in value if isinstance(row, Mapping)}
            yield from flat(rows, f"{prefix}{key}.")
        elif value is None or isinstance(value, int | float):
            yield f"{prefix}{key}", value if value is None else float(value)
