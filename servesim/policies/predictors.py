"""Built-in length predictors, for schedulers and routers that order by work.

A class with ``oracle = True`` looks at the true length; results are labelled with it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from servesim.policies.api import PolicyContext, RequestView, reveal_output_tokens


class Oracle:
    """Know the true output length: the bound of what any predictor can reach."""

    oracle: ClassVar[bool] = True

    def reset(self, context: PolicyContext) -> None:
        """Keep no state."""

    def predict(self, request: RequestView) -> float:
        """Return the true output length."""
        return reveal_output_tokens(request)


class Noisy:
    """The true output length times a lognormal error of median 1.

    Parameters
    ----------
    sigma
        Standard deviation of the error's logarithm; 0 is the oracle.
    """

    oracle: ClassVar[bool] = True

    def __init__(self, *, sigma: Annotated[float, Field(ge=0)] = 0.5) -> None:
        self.sigma = sigma

    def reset(self, context: PolicyContext) -> None:
        """Seed the errors."""
        self._rng = context.rng()

    def predict(self, request: RequestView) -> float:
        """Return a noisy output length."""
        return reveal_output_tokens(request) * float(self._rng.lognormal(0.0, self.sigma))


class Constant:
    """The same length for every request, which makes shortest-job-first serve in order of arrival.

    Parameters
    ----------
    tokens
        The length.
    """

    def __init__(self, *, tokens: Annotated[float, Field(gt=0)] = 256.0) -> None:
        self.tokens = tokens

    def reset(self, context: PolicyContext) -> None:
        """Keep no state."""

    def predict(self, request: RequestView) -> float:
        """Return the constant."""
        return self.tokens
