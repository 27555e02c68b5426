"""How long prompts and outputs are: distributions over whole numbers of tokens.

Every distribution is drawn as it is defined, made a whole number >= 1, then clipped to ``min`` and ``max``;
so ``mean`` is the arithmetic mean before clipping. Prompt and output lengths of a request are drawn
independently.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from servesim.errors import TraceError
from servesim.workload.checks import check_numbers, check_tokens, require_columns
from servesim.workload.files import csv_header, parquet_columns, read_csv, read_parquet
from servesim.workload.paths import TracePath
from servesim.workload.schema import TOKENS_MAX
from servesim.workload.spec import Tokens

Mean = Annotated[float, Field(ge=1, le=TOKENS_MAX, allow_inf_nan=False)]


class _Clipped(BaseModel):
    """What all length distributions have: the clip."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    min: Tokens | None = Field(default=None, description="Shorter lengths become this many tokens.")
    max: Tokens | None = Field(default=None, description="Longer lengths become this many tokens.")

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min above max (got {self.min!r} and {self.max!r}). expected min <= max")
        return self

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.int32]:
        """Return *n* lengths in tokens, each >= 1, drawn from *rng*."""
        return np.clip(self._draw(rng, n), self.min or 1, self.max or TOKENS_MAX).astype(np.int32)

    def _draw(self, rng: np.random.Generator, n: int) -> NDArray[np.float64] | NDArray[np.int64]:
        """Return *n* whole numbers, not clipped yet."""
        raise NotImplementedError


class ConstantLength(_Clipped):
    """The same length every time."""

    distribution: Literal["constant"] = "constant"
    value: Tokens = Field(description="Tokens.")

    def _draw(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        return np.full(n, self.value)


class LognormalLength(_Clipped):
    """exp(N(mu, sigma^2)) with mu = ln(mean) - sigma^2/2, rounded to the nearest whole number.

    Rounding leaves the mean as it is; lengths below 1 become 1, which matters only for means of a few tokens.
    """

    distribution: Literal["lognormal"] = "lognormal"
    mean: Mean = Field(description="Arithmetic mean in tokens, before clipping.")
    sigma: float = Field(ge=0, le=10, description="Standard deviation of the logarithm.")

    def _draw(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        drawn = rng.standard_normal(n)
        drawn *= self.sigma
        drawn += math.log(self.mean) - self.sigma**2 / 2
        np.exp(drawn, out=drawn)
        return np.rint(drawn, out=drawn)


class ExponentialLength(_Clipped):
    """An exponential variable rounded up, which is a geometric one; its mean is met exactly."""

    distribution: Literal["exponential"] = "exponential"
    mean: Mean = Field(description="Arithmetic mean in tokens, before clipping.")

    def _draw(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        # ceil(Exp(scale)) has mean 1/(1 - exp(-1/scale)); solved for the scale. A mean of 1 leaves no spread.
        scale = -1 / math.log1p(-1 / self.mean) if self.mean > 1 else 0.0
        drawn = rng.standard_exponential(n)
        drawn *= scale
        return np.ceil(drawn, out=drawn)


class ZipfLength(_Clipped):
    """A truncated Zipf law: P(k) proportional to k^-a for k = 1 ... max."""

    distribution: Literal["zipf"] = "zipf"
    a: float = Field(gt=0, le=100, description="Exponent; at most 1 is fine, since the support is bounded.")
    max: Annotated[int, Field(ge=1, le=10_000_000)] = Field(description="Largest length; the law ends there.")

    @cached_property
    def _cumulative(self) -> NDArray[np.float64]:
        return _cumulative(np.arange(1, self.max + 1, dtype=np.float64) ** -self.a)

    def _draw(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        return np.searchsorted(self._cumulative, rng.random(n), side="right") + 1


class UniformLength(_Clipped):
    """Every whole number from low to high is equally likely."""

    distribution: Literal["uniform"] = "uniform"
    low: Tokens = Field(description="Smallest length.")
    high: Tokens = Field(description="Largest length; it can occur.")

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low above high (got {self.low!r} and {self.high!r}). expected low <= high")
        return self

    def _draw(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        return rng.integers(self.low, self.high, size=n, endpoint=True)


class EmpiricalLength(_Clipped):
    """Lengths of a table: with columns ``value`` and ``count``, or one column of observed lengths."""

    distribution: Literal["empirical"] = "empirical"
    file: Annotated[TracePath, Field(strict=False)] = Field(
        description="CSV or Parquet file; counts may be probabilities."
    )
    column: str | None = Field(
        default=None,
        description="Column of observed lengths; null: the file has value and count, or one column.",
    )

    @cached_property
    def _table(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Values and the cumulative probabilities that belong to them."""
        parquet = self.file.name.lower().endswith(".parquet")
        names = parquet_columns(self.file) if parquet else csv_header(self.file)
        if self.column is not None:
            require_columns([self.column], names, self.file)
            names = [self.column]
        columns = [name for name in ("value", "count") if name in names] or names
        if columns not in (["value", "count"], ["value"]) and len(columns) != 1:
            raise TraceError(
                f"{self.file}: not a table of lengths (got columns {', '.join(map(repr, names))}). "
                "expected 'value' and 'count', or one column"
            )
        frame = read_parquet(self.file, columns) if parquet else read_csv(self.file, numbers=columns)
        check_tokens(frame, columns[0], self.file)
        values = frame[columns[0]].cast(pl.Int64).to_numpy()
        if len(columns) == 1:
            return values, _cumulative(np.ones(len(values)))
        counts = check_numbers(frame, "count", self.file).to_numpy()
        if counts.min() < 0 or counts.sum() <= 0:
            got = f"{float(counts.min())!r} at least, a sum of {float(counts.sum())!r}"
            raise TraceError(f"{self.file}: count: not weights (got {got}). expected >= 0, some > 0")
        return values, _cumulative(counts)

    def _draw(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        values, cumulative = self._table
        return values[np.searchsorted(cumulative, rng.random(n), side="right")]


class MixturePart(BaseModel):
    """One distribution of a mixture."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    weight: float = Field(
        gt=0, allow_inf_nan=False, description="Share, relative to the other components' weights."
    )
    tokens: LengthDistribution = Field(description="The component's length distribution.")


class MixtureLength(_Clipped):
    """Each length is drawn from one of several distributions, chosen by weight."""

    distribution: Literal["mixture"] = "mixture"
    # A list in the file; a tuple here, because a distribution never changes.
    components: Annotated[tuple[MixturePart, ...], Field(strict=False)] = Field(
        min_length=1, description="Weighted length distributions."
    )

    def _draw(self, rng: np.random.Generator, n: int) -> NDArray[np.int64]:
        cumulative = _cumulative(np.array([part.weight for part in self.components]))
        chosen = np.searchsorted(cumulative, rng.random(n), side="right")
        drawn = np.empty(n, dtype=np.int64)
        for index, part in enumerate(self.components):
            where = np.flatnonzero(chosen == index)
            drawn[where] = part.tokens.sample(rng, len(where))
        return drawn


LengthDistribution = Annotated[
    ConstantLength
    | LognormalLength
    | ExponentialLength
    | ZipfLength
    | UniformLength
    | EmpiricalLength
    | MixtureLength,
    Field(discriminator="distribution"),
]
"""Any length distribution, told apart by its key ``distribution``."""

MixturePart.model_rebuild()
MixtureLength.model_rebuild()


def _cumulative(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return cumulative probabilities whose last one is exactly 1, so that no draw falls behind the table."""
    total = np.cumsum(weights)
    total /= total[-1]
    return total
