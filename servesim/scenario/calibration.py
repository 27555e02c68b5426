"""Calibration files: what ``servesim calibrate`` writes, and how a pool takes its latency model and host from one.

``latency: {calibration: FILE}`` in a pool fills in what the pool itself leaves open. What the pool says wins; whether
its values still are those of the file is for the result's provenance to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from servesim.errors import ScenarioError, ServesimError
from servesim.registry import ComponentSpec
from servesim.scenario.document import read_document
from servesim.scenario.problems import Problem, Problems, problems_of

FORMAT = 1
"""Version of the form of calibration files."""

KEY = "calibration"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class MeasuredPool(_Part):
    """What was measured: the pool whose latency model was fitted."""

    model: str
    gpu: str
    tensor_parallel: int = Field(ge=1)
    dtype: str | None = None
    engine_version: str


class FittedParameter(_Part):
    """One fitted value, with the interval that holds the true one with 95 % confidence, and the bounds of the fit."""

    key: str
    value: float
    low: float
    high: float
    start: float
    bounds: tuple[float, float]
    at_bound: bool


class MeasuredFile(_Part):
    """A measured file, by name and content."""

    name: str
    size_bytes: int
    sha256: str
    runs: list[str]


class MetricError(_Part):
    """Mean magnitude of the relative error of one metric over so many rows, before and after the fit."""

    rows: int = Field(ge=1)
    before: float
    after: float


class Validity(_Part):
    """The loads that were fitted: least and most of what a request and a batch held."""

    prompt_tokens: tuple[int, int] | None = None
    output_tokens: tuple[int, int] | None = None
    batch_sequences: int = Field(ge=1)


class Calibration(_Part):
    """The content of a calibration file."""

    servesim_calibration: int = Field(ge=FORMAT, le=FORMAT)
    servesim_version: str
    measured: MeasuredPool
    latency: ComponentSpec
    engine: dict[str, dict[str, float]]
    parameters: list[FittedParameter] = Field(min_length=1)
    files: list[MeasuredFile]
    errors_fitted: dict[str, MetricError]
    errors_held_out: dict[str, MetricError]
    validity: Validity
    notes: list[str] = []


def read_calibration(path: Path) -> Calibration:
    """Return the calibration in the file at *path*.

    Raises
    ------
    ScenarioError
        If it cannot be read, or is no calibration.
    """
    try:
        changed_ns = path.stat().st_mtime_ns
    except OSError:
        changed_ns = 0
    return _read(path, changed_ns)


@lru_cache(maxsize=16)
def _read(path: Path, changed_ns: int) -> Calibration:
    document = read_document(path, what="a file that servesim calibrate wrote")
    data = document.data
    if not isinstance(data, dict) or "servesim_calibration" not in data:
        raise ScenarioError(f"{path}: no calibration. expected a file that servesim calibrate wrote")
    try:
        calibration = Calibration.model_validate(data)
    except ValidationError as error:
        problems = problems_of(error, Calibration, data)
        raise ScenarioError("\n".join(f"{document.mark(each.path)}: {each}" for each in problems)) from error
    return calibration.model_copy(update={"latency": _with_absolute_path(calibration.latency, path)})


def _with_absolute_path(latency: ComponentSpec, file: Path) -> ComponentSpec:
    """Return *latency* with a ``path`` that starts from the folder of *file*."""
    data = latency.model_dump()
    if isinstance(data.get("path"), str):
        data["path"] = str((file.absolute().parent / data["path"]).resolve())
    return ComponentSpec.model_validate(data)


def calibrated(pool: Any, base_dir: Path) -> Any:
    """Return the data of a pool with what its calibration says, if it names one.

    Parameters
    ----------
    pool
        As the scenario has it; left alone.
    base_dir
        What relative paths start from.

    Raises
    ------
    Problems
        If the file cannot be used for this pool.
    """
    if not isinstance(pool, Mapping):
        return pool
    latency = pool.get("latency")
    beside = dict(latency) if isinstance(latency, Mapping) else {}
    named = beside.pop(KEY, None) if KEY in beside else pool.get(KEY)
    if named is None:
        return pool
    place = ("latency", KEY) if isinstance(latency, Mapping) and KEY in latency else (KEY,)
    if not isinstance(named, str | Path):
        raise Problems([Problem(place, f"not a path (got {named!r}). expected a calibration file.")])
    path = base_dir / named
    try:
        calibration = read_calibration(path)
    except ServesimError as error:
        raise Problems([Problem(place, str(error.args[0]), error.hint)]) from error
    if isinstance(latency, str):
        beside = {"name": latency}
    _check_pool(pool, beside, calibration, place)
    return {
        **pool,
        KEY: str(path.absolute()),
        "latency": {**calibration.latency.model_dump(), **beside},
        "engine": _engine(pool.get("engine"), calibration),
    }


def _engine(given: Any, calibration: Calibration) -> Any:
    """Return the settings of the engine, its calibrated sections below what is *given*."""
    if given is not None and not isinstance(given, Mapping):
        return given
    engine: dict[str, Any] = {"version": calibration.measured.engine_version, **(given or {})}
    for section, values in calibration.engine.items():
        ours = {key: value for key, value in (engine.get(section) or {}).items() if value is not None}
        engine[section] = {**values, **ours}
    return engine


def _check_pool(
    pool: Mapping[str, Any], latency: Mapping[str, Any], calibration: Calibration, place: tuple[str, ...]
) -> None:
    """Refuse a calibration of another GPU, engine or latency model."""
    measured = calibration.measured
    engine = pool.get("engine")
    version = engine.get("version") if isinstance(engine, Mapping) else None
    compared = [
        ("GPU", pool.get("gpu"), measured.gpu),
        ("engine", version, measured.engine_version),
        ("latency model", latency.get("name"), calibration.latency.name),
    ]
    problems = [
        Problem(place, f"measured with another {what} (got {theirs}). expected {ours}, the pool's.")
        for what, ours, theirs in compared
        if ours is not None and ours != theirs
    ]
    if problems:
        raise Problems(problems)
