"""Sweeps: a grid or list of points x seeds, one row each, in one Parquet file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import polars as pl
from pydantic import Field, model_validator

from servesim._version import __version__
from servesim.errors import ScenarioError, ServesimError
from servesim.experiments.axes import grid, overrides_of, value_text
from servesim.experiments.backends import Backend, local_backend
from servesim.experiments.files import ExperimentSpec, axes_of, read_experiment
from servesim.experiments.journal import Journal
from servesim.experiments.points import Failure, Point, seeds_from, summary_of, with_seed
from servesim.experiments.replications import OnDone
from servesim.results.provenance import scenario_facts
from servesim.results.saving import replacing_file, write_parquet
from servesim.results.schema import SUMMARY
from servesim.scenario import Scenario, load_scenario, scenario_hash


class SweepSpec(ExperimentSpec):
    """A sweep file."""

    grid: dict[str, list[Any]] | None = Field(
        default=None,
        min_length=1,
        description="Keys of the scenario to the values they take; every combination is a point.",
    )
    points: list[dict[str, Any]] | None = Field(
        default=None, min_length=1, description="Points of their own, each keys of the scenario to values."
    )

    @model_validator(mode="after")
    def _has_points(self) -> Self:
        if self.grid is None and self.points is None:
            raise ValueError("no points (got neither grid nor points). expected one of them, or both")
        try:
            grid(axes_of(self.grid or {}))
        except ScenarioError as error:
            raise ValueError(f"grid: {error}") from error
        return self

    def coordinates(self) -> Sequence[Mapping[str, Any]]:
        """Return the points: those of the grid, the last key changing fastest, then those listed."""
        of_grid = [variant.coordinates for variant in grid(axes_of(self.grid))] if self.grid else []
        return [*of_grid, *(self.points or [])]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SweepResult:
    """What a sweep gave.

    Attributes
    ----------
    rows
        One per point and seed, in the order of the file: ``point`` (its number), a column per key that is
        varied, ``seed``, ``scenario_hash``, every number of the summary, and ``error`` (null where there is
        none). Tables of the summary, such as those of replicas, are left out.
    reused
        How many runs were there from before.
    """

    rows: pl.DataFrame
    reused: int

    @property
    def failed(self) -> pl.DataFrame:
        """The rows of runs that gave no result."""
        return self.rows.filter(pl.col("error").is_not_null())


@dataclass(frozen=True, slots=True)
class _Row:
    """A run of the sweep: its place, and its scenario or why there is none."""

    point: int
    coordinates: Mapping[str, Any]
    seed: int | None
    scenario: Scenario | None
    error: str | None


def sweep(
    file: str | Path,
    *,
    out: str | Path,
    overrides: Sequence[str] = (),
    backend: Backend | None = None,
    workers: int | None = None,
    on_done: OnDone | None = None,
) -> SweepResult:
    """Run a sweep file and write its rows to a Parquet file.

    Runs that end are noted in a journal beside it, ``OUT.journal``, at once. A sweep that is started again,
    after a crash or with more points, computes only what the journal does not have; failed runs are tried
    again. A run is known by its scenario, its seed, the content of its traces and model descriptions, the code of its
    plugins, and the version of servesim.

    Parameters
    ----------
    file
        Path of the sweep file.
    out
        Path of the Parquet file; an older one is replaced.
    overrides
        ``"a.b.c=value"`` each, applied to the scenario before the keys that are varied.
    backend
        Where the runs are computed; None: processes on this machine. The file is the same to the last bit
        from every backend.
    workers
        How many processes; None: one per CPU core.
    on_done
        Told of progress.

    Raises
    ------
    ServesimError
        If the file cannot be used, no point of it can be run, or *out* cannot be written.
    """
    spec = read_experiment(file, SweepSpec, what="a sweep file")
    rows = _rows(spec, overrides)
    if all(row.scenario is None for row in rows):
        raise ScenarioError(rows[0].error or "no point")
    keys = [_key(row) for row in rows]
    out = Path(out)
    check_place(out)
    with Journal(out.with_name(f"{out.name}.journal")) as journal:
        todo = [
            index
            for index, (row, key) in enumerate(zip(rows, keys, strict=True))
            if row.scenario is not None and key not in journal.found
        ]
        runnable = sum(row.scenario is not None for row in rows)
        reused = runnable - len(todo)
        if on_done is not None:
            on_done(reused, runnable)
        points = [_point(rows[index]) for index in todo]
        chosen = backend or local_backend(workers, len(points))
        errors = {}
        for done, (position, outcome) in enumerate(chosen.run(_numbers, points), start=1):
            index = todo[position]
            if isinstance(outcome, Failure):
                errors[index] = _short(outcome)
            else:
                journal.add(keys[index], outcome)
            if on_done is not None:
                on_done(reused + done, runnable)
        frame = _frame(rows, [journal.found.get(key) for key in keys], errors)
    with replacing_file(out) as partial:
        write_parquet(partial, frame)
    return SweepResult(rows=frame, reused=reused)


def check_place(out: Path) -> None:
    """Refuse a place where a Parquet file cannot be, before anything is run.

    Raises
    ------
    ServesimError
        If it is a directory.
    """
    if out.is_dir():
        raise ServesimError(f"{out}: a directory. expected the name of a Parquet file to write")


def _rows(spec: SweepSpec, overrides: Sequence[str]) -> list[_Row]:
    rows = []
    for number, coordinates in enumerate(spec.coordinates()):
        try:
            scenario = load_scenario(
                spec.scenario,
                overrides=[*overrides_of(spec.set), *overrides],
                varied=overrides_of(coordinates),
                with_files=True,
            )
        except ServesimError as error:
            rows.append(_Row(number, coordinates, None, None, str(error)))
            continue
        rows += [
            _Row(number, coordinates, seed, with_seed(scenario, seed), None)
            for seed in seeds_from(scenario, spec.seeds)
        ]
    return rows


def _key(row: _Row) -> str:
    """Return what a run is known by in the journal."""
    if row.scenario is None:
        return ""
    digests = [str(fact["sha256"]) for fact in scenario_facts(row.scenario)]
    return "/".join([__version__, scenario_hash(row.scenario), str(row.seed), *digests])


def _point(row: _Row) -> Point:
    assert row.scenario is not None, "only rows that can be run become points"
    texts = [f"{key}={value_text(value)}" for key, value in row.coordinates.items()]
    return Point(name=f"{', '.join(texts)}, seed {row.seed}", scenario=row.scenario)


def _numbers(point: Point) -> dict[str, Any]:
    """Return the numbers of a run's summary, without its tables."""
    summary = summary_of(point)
    return {key: value for key, value in summary.items() if value is None or isinstance(value, int | float)}


def _short(failure: Failure) -> str:
    """Return a failure's message; of a traceback the last line."""
    return failure.message.splitlines()[-1] if failure.internal else failure.message


def _frame(
    rows: Sequence[_Row], numbers: Sequence[dict[str, Any] | None], errors: Mapping[int, str]
) -> pl.DataFrame:
    varied = list(dict.fromkeys(key for row in rows for key in row.coordinates))
    summary_keys = [key.name for key in SUMMARY if any(key.name in (found or {}) for found in numbers)]
    columns: dict[str, list[Any]] = {"point": [row.point for row in rows]}
    for key in varied:
        columns[key] = _coordinates([row.coordinates.get(key) for row in rows])
    columns["seed"] = [row.seed for row in rows]
    columns["scenario_hash"] = [None if row.scenario is None else scenario_hash(row.scenario) for row in rows]
    for key in summary_keys:
        columns[key] = [None if found is None else found.get(key) for found in numbers]
    columns["error"] = [errors.get(index, row.error) for index, row in enumerate(rows)]
    return pl.DataFrame(
        [_series(name, values) for name, values in columns.items()],
    )


def _coordinates(values: list[Any]) -> list[Any]:
    """Return *values* as they are where a column can hold them, else as text."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) <= 1 and kinds <= {str, bool, int, float}:
        return values
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values]
    return [
        None if value is None else value if isinstance(value, str) else json.dumps(value) for value in values
    ]


def _series(name: str, values: list[Any]) -> pl.Series:
    if name == "error":
        return pl.Series(name, values, dtype=pl.String)
    if any(isinstance(value, float) for value in values) or all(value is None for value in values):
        return pl.Series(name, values, dtype=pl.Float64, strict=False)
    return pl.Series(name, values)
