"""Which files a scenario reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from servesim.registry import ComponentSpec
from servesim.scenario.schema import Scenario
from servesim.scenario.slots import SLOTS
from servesim.workload.spec import MixSpec, SourceSpec, WorkloadSpec


def input_files(scenario: Scenario) -> Iterator[tuple[str, Path]]:
    """Yield the key and the path of every file that the workload of *scenario* reads."""
    yield from _of_part(scenario.workload, "workload")
    for index, part in enumerate(scenario.workload.sources or []):
        yield from _of_part(part, f"workload.sources.{index}")


def _of_part(part: WorkloadSpec | MixSpec, prefix: str) -> Iterator[tuple[str, Path]]:
    origins: dict[str, SourceSpec | ComponentSpec | None] = {
        "source": part.source,
        "generator": part.generator,
    }
    for key, spec in origins.items():
        if spec is not None:
            slot = SLOTS[type(part).__name__, key]
            model = slot.registry.parameters(getattr(spec, slot.name_key))
            yield from _paths(model.model_validate(spec.parameters), f"{prefix}.{key}")


def _paths(value: Any, key: str) -> Iterator[tuple[str, Path]]:
    if isinstance(value, Path):
        yield key, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _paths(getattr(value, name), f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _paths(item, f"{key}.{index}")
