"""Which files a scenario reads, and whether they are there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from servesim.catalog import model_names
from servesim.registry import ComponentSpec
from servesim.scenario.problems import Path as KeyPath
from servesim.scenario.problems import Problem
from servesim.scenario.schema import Scenario
from servesim.scenario.slots import SLOTS
from servesim.workload.paths import FOLDER_TOO
from servesim.workload.spec import MixSpec, SourceSpec, WorkloadSpec

_Input = tuple[KeyPath, Path, bool]
"""Key and path of what is read, and whether that may be a folder."""


def input_files(scenario: Scenario) -> Iterator[tuple[KeyPath, Path]]:
    """Yield the key and the path of every file that the workload of *scenario* reads; of a folder, of each in it."""
    for key, path, folder_too in _inputs(scenario):
        if folder_too and os.path.isdir(path):
            yield from ((key, file) for file in sorted(path.rglob("*")) if file.is_file())
        else:
            yield key, path


def model_files(scenario: Scenario) -> Iterator[tuple[KeyPath, Path]]:
    """Yield the key and the path of every model description that is not the catalog's."""
    for index, pool in enumerate(scenario.cluster.pools):
        if pool.model not in model_names():
            path = Path(pool.model)
            key = ("cluster", "pools", index, "model")
            yield key, path / "config.json" if path.is_dir() else path


def calibration_files(scenario: Scenario) -> Iterator[tuple[KeyPath, Path]]:
    """Yield the key and the path of every calibration that a pool of *scenario* takes."""
    for index, pool in enumerate(scenario.cluster.pools):
        if pool.calibration is not None:
            yield ("cluster", "pools", index, "calibration"), pool.calibration


def missing_files(scenario: Scenario) -> list[Problem]:
    """Return a problem for every file that the workload of *scenario* reads and that is not there."""
    return [
        Problem(
            key,
            f"{'a folder' if os.path.isdir(path) else 'no such file'} (got {str(path)!r}). expected a trace.",
            "a relative path starts from the scenario file's folder",
        )
        for key, path, folder_too in _inputs(scenario)
        if not (
            os.path.exists(path) and (folder_too or not os.path.isdir(path))
        )  # unlike Path's, these never raise
    ]


def _inputs(scenario: Scenario) -> Iterator[_Input]:
    yield from _of_part(scenario.workload, ("workload",))
    for index, part in enumerate(scenario.workload.sources or []):
        yield from _of_part(part, ("workload", "sources", index))


def _of_part(part: WorkloadSpec | MixSpec, prefix: KeyPath) -> Iterator[_Input]:
    origins: dict[str, SourceSpec | ComponentSpec | None] = {
        "source": part.source,
        "generator": part.generator,
    }
    for key, spec in origins.items():
        if spec is not None:
            slot = SLOTS[type(part).__name__, key]
            model = slot.registry.parameters(getattr(spec, slot.name_key))
            yield from _paths(model.model_validate(spec.parameters), (*prefix, key))


def _paths(value: Any, key: KeyPath, *, folder_too: bool = False) -> Iterator[_Input]:
    if isinstance(value, Path):
        yield key, value, folder_too
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from _paths(getattr(value, name), (*key, name), folder_too=FOLDER_TOO in field.metadata)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _paths(item, (*key, index))
