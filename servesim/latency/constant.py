"""Every step takes the same time: for tests, queueing theory, and step times that were measured elsewhere."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from servesim.latency.api import UNLIMITED_STEPS, BatchShape, LatencyContext


class Constant:
    """Every engine step takes *step_s*, whatever it works on.

    Parameters
    ----------
    step_s
        Duration of a step in seconds, strictly positive.
    """

    def __init__(self, *, step_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]) -> None:
        self.step_s = step_s

    def __repr__(self) -> str:
        return f"Constant(step_s={self.step_s})"

    def reset(self, context: LatencyContext) -> None:
        """Prepare nothing: the price depends on no replica."""

    def price(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return ``(step_s, 0, unlimited)``; see `servesim.latency.api.LatencyModel.price`."""
        return self.step_s, 0.0, UNLIMITED_STEPS
