"""The requests that commands look at: those of a trace file, or those that a YAML file describes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from servesim.errors import TraceError
from servesim.scenario import Scenario
from servesim.scenario.components import resolve_workload
from servesim.scenario.document import read_document
from servesim.scenario.load import checked
from servesim.scenario.overrides import apply_overrides
from servesim.traces.detect import Detected, detect
from servesim.traces.log_spec import LogSpec
from servesim.workload.build import build_workload
from servesim.workload.registries import READERS
from servesim.workload.source import load
from servesim.workload.spec import WorkloadSpec

SPEC_ENDINGS = (".yaml", ".yml")


class TraceSpec(BaseModel):
    """A file that describes requests and no cluster: the workload of a scenario, with its seed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(default="trace", min_length=1, description="Name of the trace in its datasheet.")
    seed: int = Field(default=0, ge=0, description="Seed of every random number.")
    workload: WorkloadSpec = Field(description="Where requests come from, and what is done to them.")

    @field_validator("workload", mode="wrap")
    @classmethod
    def _resolve_workload(
        cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> WorkloadSpec:
        return resolve_workload(value, handler, info)


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Requests in order of arrival.

    Attributes
    ----------
    frame
        Columns of `servesim.workload.schema.SCHEMA`: those of the trace, or all of a described workload.
    notes
        What the reader or the workload counted.
    detected
        The format of the file; None for a workload.
    """

    frame: pl.DataFrame
    notes: dict[str, int | float | str]
    detected: Detected | None


def read_spec(path: Path, overrides: list[str] | None = None) -> TraceSpec | Scenario | LogSpec:
    """Return what the YAML file at *path* describes: a scenario, if it has a cluster, requests alone, or a log.

    Raises
    ------
    ScenarioError
        If anything in it is wrong.
    """
    document = read_document(path, what="a file with a workload: or serverless: block, or a scenario")
    apply_overrides(document, overrides or [])
    keys = document.data if isinstance(document.data, dict) else {}
    if "serverless" in keys:
        return checked(document, LogSpec, what="a serverless log", base_dir=path.absolute().parent)
    model: type[TraceSpec] | type[Scenario] = Scenario if "cluster" in keys else TraceSpec
    return checked(document, model, what="a workload", base_dir=path.absolute().parent)


def spec_frames(spec: TraceSpec | Scenario) -> Iterator[pl.DataFrame]:
    """Yield the requests that *spec* describes, frame by frame."""
    return build_workload(spec.workload, seed=spec.seed).frames()


def read_requests(path: Path, *, reader: str | None = None) -> Requests:
    """Return the requests of a trace, or of a YAML file that describes a workload.

    Parameters
    ----------
    path
        The file.
    reader
        Name of the trace's reader; None: told from the file.

    Raises
    ------
    ServesimError
        If the file cannot be taken as it is.
    """
    if path.suffix.lower() in SPEC_ENDINGS and path.is_file():
        spec = read_spec(path)
        if isinstance(spec, LogSpec):
            raise TraceError(
                f"{path}: describes a serverless log. expected requests, or the description of some",
                hint="servesim trace generate makes a file of it, and servesim trace info tells what is in that",
            )
        workload = build_workload(spec.workload, seed=spec.seed)
        frame = pl.concat(list(workload.frames()))
        return Requests(frame=without_empty(frame), notes=workload.notes, detected=None)
    found = detect(path, reader=reader)
    frame, notes = load(build_reader(path, found), found.reader)
    return Requests(frame=without_empty(frame), notes=notes, detected=found)


def build_reader(path: Path, found: Detected) -> Any:
    """Return the reader of *path*.

    Raises
    ------
    TraceError
        If its parameters do not suffice, or are wrong.
    """
    parameters = {"path": path, **found.reading, **found.parameters}
    try:
        return READERS.build(found.reader, parameters)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise TraceError(
            f"{path}: reader {found.reader!r} does not take it so ({key}: {first['msg']}). expected its parameters",
            hint="a YAML file with a workload: block can give them, in place of the trace",
        ) from error


def without_empty(frame: pl.DataFrame) -> pl.DataFrame:
    """Return *frame* without optional columns that say nothing: all null, or priority 0 throughout."""
    empty = [name for name in frame.columns if frame[name].null_count() == frame.height]
    if "priority" in frame.columns and not (frame["priority"] != 0).any():
        empty.append("priority")
    return frame.drop(empty)
