"""The linear model, by hand."""

from __future__ import annotations

import pytest

from servesim.latency.api import UNLIMITED_STEPS, BatchShape
from servesim.latency.linear import Linear


def test_hand_computed_mixed_batch() -> None:
    """Base 1; 3 sequences at 0.1; 40 attended at 0.01; 6 prefilled at 0.2; 50 and 3 pairs at 0.001."""
    linear = Linear(
        base_s=1.0,
        per_sequence_s=0.1,
        per_context_token_s=0.01,
        per_prefill_token_s=0.2,
        per_prefill_pair_s=0.001,
    )
    first_s, growth_s, steps = linear.price(BatchShape(1, 40, [(4, 10), (2, 0)]))
    assert first_s == pytest.approx(1 + 0.3 + 0.4 + 1.2 + 0.053)
    assert growth_s == pytest.approx(0.01 * 1 + 0.001 * (16 + 4))
    assert steps == UNLIMITED_STEPS


def test_pairs_add_up_over_chunks_of_a_prompt() -> None:
    """However a prompt is cut, its tokens attend n * (n + 1) / 2 pairs."""
    linear = Linear(base_s=1.0, per_prefill_pair_s=1.0)
    for cuts in ([100], [50, 50], [1, 98, 1], [7] * 14 + [2]):
        start, pairs = 0, 0.0
        for tokens in cuts:
            pairs += linear.price(BatchShape(0, 0, [(tokens, start)]))[0] - 1.0
            start += tokens
        assert pairs == pytest.approx(100 * 101 / 2)
