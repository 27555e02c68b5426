"""How far values are from a distribution: a law, or points of a measured distribution function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from servesim.errors import TraceError
from servesim.traces.statistics import Floats
from servesim.workload.checks import check_numbers
from servesim.workload.files import read_parquet
from servesim.workload.paths import TracePath

Positive = Annotated[float, Field(gt=0)]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Lognormal(_Block):
    """A lognormal distribution."""

    name: Literal["lognormal"] = Field(description="lognormal")
    mu: float = Field(description="Mean of the logarithm.")
    sigma: Positive = Field(description="Standard deviation of the logarithm.")

    def cdf(self, values: Floats) -> Floats:
        """Return the probability of at most each of *values*, which are not negative."""
        from scipy.special import ndtr

        with np.errstate(divide="ignore"):
            return np.asarray(ndtr((np.log(values) - self.mu) / self.sigma))


class Weibull(_Block):
    """A Weibull distribution; with shape 1 an exponential one."""

    name: Literal["weibull"] = Field(description="weibull")
    shape: Positive = Field(description="Its shape.")
    scale: Positive = Field(description="Its scale, in the unit of the values.")

    def cdf(self, values: Floats) -> Floats:
        """Return the probability of at most each of *values*, which are not negative."""
        return np.asarray(-np.expm1(-((values / self.scale) ** self.shape)))


class Gamma(_Block):
    """A gamma distribution."""

    name: Literal["gamma"] = Field(description="gamma")
    shape: Positive = Field(description="Its shape.")
    scale: Positive = Field(description="Its scale, in the unit of the values.")

    def cdf(self, values: Floats) -> Floats:
        """Return the probability of at most each of *values*, which are not negative."""
        from scipy.special import gammainc

        return np.asarray(gammainc(self.shape, values / self.scale))


Law = Annotated[Lognormal | Weibull | Gamma, Field(discriminator="name")]


class Points(_Block):
    """Points of a distribution function, in a Parquet file."""

    path: TracePath = Field(description="The file.", strict=False)
    x: str = Field(default="x", min_length=1, description="Column of the values.")
    cdf: str = Field(default="cdf", min_length=1, description="Column of the shares up to each.")
    where: dict[str, Any] = Field(
        default_factory=dict, description="Column to the value that the rows of this distribution have in it."
    )
    above: float | None = Field(
        default=None, description="Leave out points up to this x, say those on a figure's edge."
    )

    def read(self) -> tuple[Floats, Floats]:
        """Return values and shares.

        Raises
        ------
        TraceError
            If the file lacks a column, or has no such rows.
        """
        rows = read_parquet(Path(self.path), [self.x, self.cdf, *self.where])
        for name, value in self.where.items():
            rows = rows.filter(pl.col(name) == value)
        x, shares = (check_numbers(rows, name, self.path).to_numpy() for name in (self.x, self.cdf))
        kept = x > (-np.inf if self.above is None else self.above)
        if not kept.any():
            raise TraceError(f"{self.path}: no such points (got where {self.where}). expected at least one")
        if ((shares < 0) | (shares > 1)).any():
            raise TraceError(f"{self.path}: {self.cdf}: no shares (got {shares.max()}). expected 0 to 1")
        return x[kept], shares[kept]


def ks_to_law(values: Floats, law: Lognormal | Weibull | Gamma) -> float:
    """Return the largest difference between the distribution function of *values* and that of *law*.

    Examples
    --------
    >>> round(ks_to_law(np.array([np.log(2)]), Weibull(name="weibull", shape=1.0, scale=1.0)), 6)
    0.5
    """
    expected = law.cdf(np.sort(values))
    n = len(values)
    above, below = np.arange(1, n + 1) / n - expected, expected - np.arange(n) / n
    return float(max(above.max(), below.max()))


def ks_to_points(values: Floats, points: Points) -> float:
    """Return the largest difference, at the points, between the distribution function of *values* and theirs."""
    x, shares = points.read()
    at = np.searchsorted(np.sort(values), x, side="right") / len(values)
    return float(np.abs(at - shares).max())
