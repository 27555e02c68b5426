"""Generated requests: independent gaps between arrivals, independent lengths.

Every distribution of gaps has the mean 1/rate exactly. Bursts that last are in `servesim.generators.mmpp`.
Numbers are drawn in blocks of `CHUNK_ROWS` from streams of their own for arrivals, prompt and output lengths,
always whole blocks, so that a longer run begins with the requests of a shorter one.
"""

# No `from __future__ import annotations` here: a dataclass hands its fields' annotations on to the
# constructor, whose parameters the registry reads, and subclasses in other modules could not resolve them as
# strings.

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from servesim.errors import ScenarioError
from servesim.generators.lengths import LengthDistribution
from servesim.rng import stream
from servesim.workload.schema import CHUNK_ROWS

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Duration = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class GeneratedRequests:
    """What all generators share: lengths, and where the stream ends.

    Attributes
    ----------
    prompt_tokens, output_tokens
        Distributions of the lengths.
    requests
        Stop after this many requests.
    duration_s
        Stop at this time; an arrival at it is out. With both, what comes first ends the stream.
    """

    prompt_tokens: LengthDistribution
    output_tokens: LengthDistribution
    requests: Count | None = None
    duration_s: Duration | None = None

    def frames(self, seed: int) -> Iterator[pl.DataFrame]:
        """Yield frames with arrivals and lengths, in order of arrival."""
        prompt_rng, output_rng = stream(seed, "prompt_tokens"), stream(seed, "output_tokens")
        left = CHUNK_ROWS if self.requests is None else self.requests
        for arrivals in self._arrivals(stream(seed, "arrivals")):
            prompts = self.prompt_tokens.sample(prompt_rng, CHUNK_ROWS)
            outputs = self.output_tokens.sample(output_rng, CHUNK_ROWS)
            rows = min(CHUNK_ROWS, left)
            if self.duration_s is not None:
                rows = min(rows, int(np.searchsorted(arrivals, self.duration_s)))
            yield pl.DataFrame(
                {
                    "arrival_s": arrivals[:rows],
                    "prompt_tokens": prompts[:rows],
                    "output_tokens": outputs[:rows],
                }
            )
            if self.requests is not None:
                left -= rows
            if rows < CHUNK_ROWS or left == 0:
                return

    def _arrivals(self, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
        """Yield arrival times for ever, `CHUNK_ROWS` at a time: sums of gaps, from the first one on."""
        last_s = 0.0
        while True:
            arrivals = self._gaps(rng, CHUNK_ROWS)
            arrivals[0] += last_s
            np.cumsum(arrivals, out=arrivals)
            last_s = arrivals[-1]
            yield arrivals

    def _gaps(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        """Return *n* gaps between arrivals in seconds."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Poisson(GeneratedRequests):
    """Poisson arrivals: exponential gaps of mean 1/rate_per_s.

    Attributes
    ----------
    rate_per_s
        Requests per second.
    """

    rate_per_s: Rate

    def _gaps(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        return rng.standard_exponential(n) / self.rate_per_s


@dataclass(frozen=True, kw_only=True)
class Gamma(GeneratedRequests):
    """Gamma-distributed gaps of mean 1/rate_per_s: burstier than Poisson with cv > 1, smoother with cv < 1.

    Attributes
    ----------
    rate_per_s
        Requests per second.
    cv
        Coefficient of variation of the gaps; the shape is 1/cv^2.
    """

    rate_per_s: Rate
    cv: Annotated[float, Field(gt=0, le=1000)] = 1.0

    def _gaps(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        shape = self.cv**-2
        return rng.standard_gamma(shape, n) / (shape * self.rate_per_s)


@dataclass(frozen=True, kw_only=True)
class Weibull(GeneratedRequests):
    """Weibull-distributed gaps of mean 1/rate_per_s, given by exactly one of cv and shape.

    Attributes
    ----------
    rate_per_s
        Requests per second.
    cv
        Coefficient of variation of the gaps; the shape that has it is found numerically.
    shape
        Weibull shape; 1 is Poisson, less is burstier.
    """

    rate_per_s: Rate
    cv: Annotated[float, Field(ge=0.05, le=100)] | None = None
    shape: Annotated[float, Field(ge=0.1, le=30)] | None = None

    def __post_init__(self) -> None:
        if (self.cv is None) == (self.shape is None):
            raise ScenarioError(
                f"generator weibull: not one of cv and shape (got cv {self.cv!r}, shape {self.shape!r}). "
                "expected exactly one"
            )

    def _gaps(self, rng: np.random.Generator, n: int) -> NDArray[np.float64]:
        shape = self.shape
        if shape is None:
            assert self.cv is not None, "the constructor lets exactly one of them pass"
            shape = weibull_shape(self.cv)
        return rng.weibull(shape, n) / (math.gamma(1 + 1 / shape) * self.rate_per_s)


@dataclass(frozen=True, kw_only=True)
class Constant(GeneratedRequests):
    """Evenly spaced arrivals at 0, 1/rate_per_s, 2/rate_per_s, ...

    Attributes
    ----------
    rate_per_s
        Requests per second.
    """

    rate_per_s: Rate

    def _arrivals(self, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
        first = 0
        while True:
            yield np.arange(first, first + CHUNK_ROWS) / self.rate_per_s
            first += CHUNK_ROWS


def weibull_shape(cv: float) -> float:
    """Return the shape of a Weibull distribution whose coefficient of variation is *cv*.

    Solves 1 + cv^2 = Gamma(1 + 2/k) / Gamma(1 + 1/k)^2 for k; the right side falls as k grows.
    """
    target = math.log1p(cv * cv)
    low, high = 1e-2, 1e2
    for _ in range(200):
        middle = math.sqrt(low * high)
        above = math.lgamma(1 + 2 / middle) - 2 * math.lgamma(1 + 1 / middle) > target
        low, high = (middle, high) if above else (low, middle)
    return math.sqrt(low * high)
