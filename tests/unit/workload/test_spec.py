"""The workload block of a scenario: what it accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from servesim.workload.paths import TracePath
from servesim.workload.spec import MixSpec, SourceSpec, TransformSpec, WorkloadSpec

SOURCE = {"reader": "azure", "path": "conv.csv"}
GENERATOR = {"name": "poisson", "rate_per_s": 1}


def test_parameters_stand_beside_the_reader() -> None:
    """Everything but the reader's name is a parameter of the reader."""
    spec = WorkloadSpec.model_validate({"source": SOURCE})
    assert spec.source is not None
    assert (spec.source.reader, spec.source.parameters) == ("azure", {"path": "conv.csv"})
    assert spec.source == SourceSpec(reader="azure", path="conv.csv")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"source": SOURCE, "generator": GENERATOR},
        {"source": SOURCE, "sources": [{"source": SOURCE}]},
        {"sources": [{"source": SOURCE, "generator": GENERATOR}]},
        {"sources": [{}]},
    ],
)
def test_requests_come_from_exactly_one_place(spec: dict[str, Any]) -> None:
    """None is too few and two are too many, at the top as in a mix."""
    with pytest.raises(ValidationError, match="expected exactly one of source, generator"):
        WorkloadSpec.model_validate(spec)


@pytest.mark.parametrize(
    "change",
    [
        {"rate_scale": 0},
        {"rate_scale": float("nan")},
        {"rate_scale": float("inf")},
        {"max_requests": 0},
        {"resample": {"thin_ratio": 0}},
        {"resample": {"thin_ratio": 1.1}},
        {"repeat": 0},
        {"window": {"start_s": 5, "end_s": 5}},
        {"window": {"start_s": 5}},
        {"prompt_tokens": {"min": 0}},
        {"prompt_tokens": {"min": 5, "max": 4}},
        {"output_tokens": {"scale": -1}},
        {"rate": 3},
        {"priority": 2**31},
        {"sources": []},
    ],
)
def test_impossible_transforms_are_refused(change: dict[str, Any]) -> None:
    """Values out of range, empty windows, unknown keys."""
    with pytest.raises(ValidationError):
        WorkloadSpec.model_validate({"source": SOURCE} | change)


@pytest.mark.parametrize("model", [WorkloadSpec, MixSpec, TransformSpec])
def test_every_key_is_described(model: type[BaseModel]) -> None:
    """The scenario reference is generated from the descriptions."""
    assert [name for name, field in model.model_fields.items() if not field.description] == []


def test_a_relative_path_starts_from_the_base_folder() -> None:
    """An absolute path stays; without a base folder a relative one does too."""

    class Holder(BaseModel):
        path: TracePath

    context = {"base_dir": Path("/data/scenarios")}
    assert Holder.model_validate({"path": "../t.csv"}, context=context).path == Path(
        "/data/scenarios/../t.csv"
    )
    assert Holder.model_validate({"path": "/t.csv"}, context=context).path == Path("/t.csv")
    assert Holder.model_validate({"path": "t.csv"}).path == Path("t.csv")
