"""Check files of traces: files, or what is generated from descriptions, and what is expected of their statistics.

A number is what ``servesim trace info --json`` tells of one file, or ``servesim trace compare --json`` of two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from servesim.checks.spec import Bound, Bounds, Equal, Named, Ratio, Trend, check_trend, named_variants
from servesim.errors import nearest
from servesim.experiments.files import Section, Seeds
from servesim.traces.laws import Law, Points
from servesim.workload.paths import TracePath


class TraceFile(Section):
    """A file, as it is or converted; or one that is generated."""

    file: TracePath | None = Field(
        default=None, strict=False, description="A trace, a client pool or a serverless log."
    )
    reader: str | None = Field(
        default=None, min_length=1, description="Who takes the file; null: told from it."
    )
    convert: list[str] = Field(
        default_factory=list,
        description="Forms that the file is written in, one after the other, nothing lost; the last is looked at.",
    )
    generate: TracePath | None = Field(
        default=None,
        strict=False,
        description="Instead of file: a YAML file with a workload: or serverless: block, or a scenario.",
    )
    set: dict[str, Any] = Field(
        default_factory=dict, description="Keys of that YAML file, separated by dots, to their new values."
    )
    to: str | None = Field(default=None, description="Form of what is generated; null: servesim's.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.file is None) == (self.generate is None):
            raise ValueError(
                f"file and generate (got {'neither' if self.file is None else 'both'}). expected one"
            )
        stray = ("set", "to") if self.generate is None else ("reader", "convert")
        if given := [name for name in stray if getattr(self, name)]:
            other = "generate" if self.generate is None else "file"
            raise ValueError(f"{given[0]} (got {getattr(self, given[0])!r}). expected it with {other} only")
        return self


class Ks(Bounds):
    """The Kolmogorov-Smirnov distance of a column to a law or to measured points lies within bounds."""

    kind: Literal["ks"] = Field(description="ks")
    variant: str | None = Field(default=None, description="Of which trace; null: of the only one.")
    column: str = Field(min_length=1, description="A column of numbers; gap_s: times between arrivals.")
    law: Law | None = Field(default=None, description="The law; or points.")
    points: Points | None = Field(default=None, description="Points of a distribution function; or law.")

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.law is None) == (self.points is None):
            raise ValueError(
                f"law and points (got {'neither' if self.law is None else 'both'}). expected one"
            )
        return self


class Distance(Bounds):
    """A number that tells two traces apart lies within bounds."""

    kind: Literal["distance"] = Field(description="distance")
    of: str = Field(description="One trace.")
    to: str = Field(description="The other one, or a client pool.")
    metric: str = Field(min_length=1, description="A number of servesim trace compare --json, with dots.")


class Identical(Named):
    """Two files are the same to the last byte."""

    kind: Literal["identical"] = Field(description="identical")
    of: str = Field(description="One file.")
    to: str = Field(description="The other one.")
    same: bool = Field(default=True, description="false: they differ.")


TraceExpectation = Annotated[
    Bound | Ratio | Trend | Equal | Ks | Distance | Identical, Field(discriminator="kind")
]


class TraceCheckSpec(Section):
    """A check file of traces."""

    name: str | None = Field(default=None, min_length=1, description="Name in reports; null: the file's.")
    traces: dict[str, TraceFile] = Field(min_length=1, description="Name to file.")
    seeds: Seeds = Field(
        default=1,
        union_mode="left_to_right",
        description="Of what is generated: how many seeds, from each description's own on; or a list of seeds.",
    )
    confidence: float = Field(default=0.95, ge=0.5, lt=1, description="Of every interval.")
    expect: list[TraceExpectation] = Field(min_length=1, description="What must hold.")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        names = list(self.traces)
        for number, expectation in enumerate(self.expect):
            for name in names_in(expectation, names):
                if name not in names:
                    hint = nearest(name, names)
                    raise ValueError(
                        f"expect.{number}: unknown trace (got {name!r}). expected one of {', '.join(names)}"
                        + (f"\n  hint: {hint}" if hint else "")
                    )
            check_trend(expectation, number, names)
            if getattr(expectation, "variant", names[0]) is None and len(names) > 1:
                raise ValueError(
                    f"expect.{number}: which trace? expected the key variant with one of {', '.join(names)}"
                )
        return self


def names_in(expectation: TraceExpectation, every: list[str]) -> list[str]:
    """Return the traces that *expectation* is about; *every* names those of the file."""
    if isinstance(expectation, Distance | Identical):
        return [expectation.of, expectation.to]
    if isinstance(expectation, Ks):
        return [expectation.variant or every[0]]
    return named_variants(expectation, every)


def path_of(trace: TraceFile) -> Path:
    """Return the file that *trace* starts from."""
    path = trace.file or trace.generate
    assert path is not None, "the validator lets exactly one of them pass"
    return path
