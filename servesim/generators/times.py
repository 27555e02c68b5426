"""How long something takes: distributions over seconds, such as those of think times."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

MeanTime = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Times(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Return *n* times in seconds, each >= 0, drawn from *rng*."""
        raise NotImplementedError


class ConstantTime(_Times):
    """The same time every time."""

    distribution: Literal["constant"] = "constant"
    value_s: float = Field(ge=0, allow_inf_nan=False, description="Seconds.")

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Return *n* times it."""
        return np.full(n, self.value_s)


class ExponentialTime(_Times):
    """An exponential time."""

    distribution: Literal["exponential"] = "exponential"
    mean_s: MeanTime = Field(description="Mean in seconds.")

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Return *n* times in seconds, drawn from *rng*."""
        return rng.standard_exponential(n) * self.mean_s


class LognormalTime(_Times):
    """exp(N(mu, sigma^2)) with mu = ln(mean_s) - sigma^2/2."""

    distribution: Literal["lognormal"] = "lognormal"
    mean_s: MeanTime = Field(description="Arithmetic mean in seconds.")
    sigma: float = Field(ge=0, le=10, description="Standard deviation of the logarithm.")

    def sample(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Return *n* times in seconds, drawn from *rng*."""
        return np.exp(rng.standard_normal(n) * self.sigma + (math.log(self.mean_s) - self.sigma**2 / 2))


TimeDistribution = Annotated[
    ConstantTime | ExponentialTime | LognormalTime, Field(discriminator="distribution")
]
"""Any distribution of times, told apart by its key ``distribution``."""
