"""Built-in schedulers: the order in which a replica admits the requests of its queue."""

from __future__ import annotations

from typing import Annotated

from servesim.policies import PREDICTORS
from servesim.policies.api import LengthPredictor, PolicyContext, RequestView
from servesim.registry import component


class FirstComeFirstServed:
    """Admit in order of arrival."""

    def reset(self, context: PolicyContext) -> None:
        """Keep no state."""

    def key(self, request: RequestView) -> float:
        """Return the time of arrival."""
        return request.arrival_s


class Priority:
    """Admit by priority, the lowest number first, equal ones in order of arrival (as vLLM's priority policy)."""

    def reset(self, context: PolicyContext) -> None:
        """Keep no state."""

    def key(self, request: RequestView) -> float:
        """Return the priority."""
        return request.priority


class ShortestJobFirst:
    """Admit the request with the fewest predicted output tokens first.

    Parameters
    ----------
    predictor
        The length predictor, named: there is no default, because what a scheduler knows decides what it is worth.
    """

    def __init__(self, *, predictor: Annotated[LengthPredictor, component(PREDICTORS)]) -> None:
        self.predictor = predictor

    def reset(self, context: PolicyContext) -> None:
        """Reset the predictor."""
        self.predictor.reset(context)

    def key(self, request: RequestView) -> float:
        """Return the predicted output length in tokens."""
        return self.predictor.predict(request)
