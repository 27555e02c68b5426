"""Check files: a scenario, variants of it, seeds, and what is expected of their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from servesim.errors import ScenarioError, nearest
from servesim.experiments.axes import Variant, grid
from servesim.experiments.files import ExperimentSpec, Section, axes_of

Number = Annotated[float, Field(strict=False)]


class Published(Section):
    """The number that an expectation reproduces, as its source states it."""

    value: str | float = Field(description="The published number, in the words of its source.")
    source: str = Field(min_length=1, description="Paper, page or datasheet, precise enough to find it.")


class Named(Section):
    """What every expectation may say beside what it expects."""

    name: str | None = Field(default=None, min_length=1, description="How reports call it; null: made up.")
    published: Published | None = Field(default=None, description="The number that this reproduces.")


class Bounds(Named):
    """Bounds of a number."""

    at_least: float | None = Field(default=None, description="Smallest value that passes.")
    at_most: float | None = Field(default=None, description="Largest value that passes.")

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("no bound (got neither). expected at_least, at_most or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(
                f"at_least above at_most (got {self.at_least!r} and {self.at_most!r}). expected at_least <= at_most"
            )
        return self


class _Expectation(Named):
    metric: str = Field(min_length=1, description="A key of the summary; with dots for tables in it.")


class _Bounded(_Expectation, Bounds):
    pass


class Bound(_Bounded):
    """The mean of a metric over seeds lies within bounds."""

    kind: Literal["bound"] = Field(description="bound")
    variant: str | None = Field(default=None, description="Of which variant; null: of the only one.")


class Ratio(_Bounded):
    """The ratio of a metric's means in two variants lies within bounds."""

    kind: Literal["ratio"] = Field(description="ratio")
    of: str = Field(description="Variant above the line.")
    to: str = Field(description="Variant below the line.")


class Trend(_Expectation):
    """A metric rises, or falls, from each variant to the next."""

    kind: Literal["trend"] = Field(description="trend")
    direction: Literal["increasing", "decreasing"] = Field(description="Which way it goes.")
    along: list[str] | None = Field(
        default=None, min_length=2, description="Variants in order; null: all, in the order of the file."
    )
    tolerance: float = Field(
        default=0.0,
        ge=0,
        description="How far a step may go the other way, as a share of the value before it.",
    )


class Equal(_Expectation):
    """A metric is the same in two variants: seed by seed, or its means within a tolerance."""

    kind: Literal["equal"] = Field(description="equal")
    of: str = Field(description="One variant.")
    to: str = Field(description="The other variant.")
    tolerance: float = Field(
        default=0.0, ge=0, description="Share by which the means may differ; 0: not at all, at any seed."
    )


class NoRegression(_Expectation):
    """A metric is not worse than in the stored baseline, seed by seed the same arrivals."""

    kind: Literal["no_regression"] = Field(description="no_regression")
    variant: str | None = Field(default=None, description="Of which variant; null: of the only one.")
    tolerance: float = Field(
        default=0.0, ge=0, description="Share by which the mean may be worse than the baseline's."
    )
    better: Literal["lower", "higher"] | None = Field(
        default=None, description="Which way is better; null: as the metric's meaning says."
    )


Expectation = Annotated[Bound | Ratio | Trend | Equal | NoRegression, Field(discriminator="kind")]


class CheckSpec(ExperimentSpec):
    """A check file."""

    name: str | None = Field(default=None, min_length=1, description="Name in reports; null: the file's.")
    variants: dict[str, dict[str, Any]] | None = Field(
        default=None,
        min_length=1,
        description="Name to the keys of the scenario that it changes; {} is the scenario as it is.",
    )
    axes: dict[str, list[Any]] | None = Field(
        default=None,
        min_length=1,
        description="Instead of variants: keys of the scenario to their values; every combination is a variant.",
    )
    confidence: float = Field(default=0.95, ge=0.5, lt=1, description="Of every interval.")
    baseline: str | None = Field(
        default=None, min_length=1, description="File of stored numbers; written by --update-baseline."
    )
    expect: list[Expectation] = Field(min_length=1, description="What must hold.")

    @field_validator("baseline", mode="after")
    @classmethod
    def _baseline_from_the_folder(cls, value: str | None, info: ValidationInfo) -> str | None:
        folder = (info.context or {}).get("base_dir", Path.cwd())
        return None if value is None else str(Path(folder) / value)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.variants is not None and self.axes is not None:
            raise ValueError("variants and axes (got both). expected one of them, or neither")
        try:
            names = [variant.name for variant in self.all_variants()]
        except ScenarioError as error:
            raise ValueError(str(error)) from error
        for number, expectation in enumerate(self.expect):
            for variant in named_variants(expectation, names):
                if variant not in names:
                    hint = nearest(variant, names)
                    raise ValueError(
                        f"expect.{number}: unknown variant (got {variant!r}). "
                        f"expected one of {', '.join(names)}" + (f"\n  hint: {hint}" if hint else "")
                    )
            check_trend(expectation, number, names)
            if isinstance(expectation, NoRegression) and self.baseline is None:
                raise ValueError(f"expect.{number}: no baseline to compare with. expected the key baseline")
            if getattr(expectation, "variant", names[0]) is None and len(names) > 1:
                raise ValueError(
                    f"expect.{number}: which variant? expected the key variant with one of {', '.join(names)}"
                )
        return self

    def all_variants(self) -> list[Variant]:
        """Return the variants; without any the scenario itself, called ``base``."""
        if self.variants is not None:
            return [Variant(name, values) for name, values in self.variants.items()]
        return grid(axes_of(self.axes or {}))


def check_trend(expectation: object, number: int, names: list[str]) -> None:
    """Refuse a trend along a single one of *names*: it cannot fail."""
    if isinstance(expectation, Trend) and expectation.along is None and len(names) < 2:
        raise ValueError(f"expect.{number}: a trend along one (got {names[0]}). expected two or more")


def named_variants(expectation: Expectation, every: list[str]) -> list[str]:
    """Return the variants that *expectation* is about; *every* names those of the file."""
    if isinstance(expectation, Ratio | Equal):
        return [expectation.of, expectation.to]
    if isinstance(expectation, Trend):
        return expectation.along or every
    return [expectation.variant or every[0]]
