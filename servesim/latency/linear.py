"""Step time as a linear function of what the step works on: for tests, theory and simple fits."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from servesim.latency.api import UNLIMITED_STEPS, BatchShape, LatencyContext

_Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Linear:
    """Sum of a base time and a cost for each sequence, attended token, prefilled token and attended pair.

    With B decoding sequences that attend C tokens and chunks of t tokens that start at x, a step takes::

        base_s + per_sequence_s * (B + chunks) + per_context_token_s * C
               + sum over chunks of (per_prefill_token_s * t + per_prefill_pair_s * (t*x + t*(t+1)/2))

    Parameters
    ----------
    base_s
        Cost of any step in seconds, strictly positive.
    per_sequence_s
        Cost of each sequence in the batch, decoding or prefilling.
    per_context_token_s
        Cost of each token that the decoding sequences attend to.
    per_prefill_token_s
        Cost of each token of a prompt chunk.
    per_prefill_pair_s
        Cost of each pair of a chunk's token and a token that it attends to, itself included.
    """

    def __init__(
        self,
        *,
        base_s: Annotated[float, Field(gt=0, allow_inf_nan=False)],
        per_sequence_s: _Cost = 0.0,
        per_context_token_s: _Cost = 0.0,
        per_prefill_token_s: _Cost = 0.0,
        per_prefill_pair_s: _Cost = 0.0,
    ) -> None:
        self.base_s = base_s
        self.per_sequence_s = per_sequence_s
        self.per_context_token_s = per_context_token_s
        self.per_prefill_token_s = per_prefill_token_s
        self.per_prefill_pair_s = per_prefill_pair_s

    def __repr__(self) -> str:
        return (
            f"Linear(base_s={self.base_s}, per_sequence_s={self.per_sequence_s}, "
            f"per_context_token_s={self.per_context_token_s}, "
            f"per_prefill_token_s={self.per_prefill_token_s}, per_prefill_pair_s={self.per_prefill_pair_s})"
        )

    def reset(self, context: LatencyContext) -> None:
        """Prepare nothing: the price depends on no replica."""

    def price(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return the price of *batch*; see `servesim.latency.api.LatencyModel.price`.

        The context grows by one token per sequence and step, a chunk's pairs by the square of its tokens.
        """
        sequences = batch.sequences
        first_s = (
            self.base_s + self.per_sequence_s * sequences + self.per_context_token_s * batch.context_tokens
        )
        growth_s = self.per_context_token_s * sequences
        for tokens, start in batch.chunks:
            pairs = tokens * start + tokens * (tokens + 1) * 0.5
            first_s += (
                self.per_sequence_s + self.per_prefill_token_s * tokens + self.per_prefill_pair_s * pairs
            )
            growth_s += self.per_prefill_pair_s * tokens * tokens
        return first_s, growth_s, UNLIMITED_STEPS
