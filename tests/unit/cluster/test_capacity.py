"""What a replica can serve: cases that are exact by hand, and what binds."""

from __future__ import annotations

import pytest
from harness import Linear, engine

from servesim.catalog import FrontEndCosts
from servesim.cluster.capacity import RequestMix, capacity_requests_per_s
from servesim.errors import PluginError


def mix(prompt: float, output: float, *, encoder: float = 0.0) -> RequestMix:
    """Return the mix of requests that are all alike."""
    return RequestMix(
        prompt_tokens=prompt,
        prompt_of_token_tokens=prompt,
        output_tokens=output,
        context_tokens=prompt + output / 2 if output > 1 else 0.0,
        encoder_tokens=encoder,
    )


def capacity(of, *, latency=None, front_end=None, **settings) -> float:
    """Return the capacity of a replica with these settings; a step takes 1 s unless *latency* says otherwise."""
    return capacity_requests_per_s(
        engine(**settings), latency or Linear(1.0), of, front_end=front_end or FrontEndCosts()
    )


@pytest.mark.parametrize(
    ("seats", "output", "expected"),
    [(1, 1, 1.0), (1, 10, 0.1), (4, 10, 0.4), (7, 3, 7 / 3)],
)
def test_seats_bind(seats, output, expected):
    """With steps of constant length, N seats serve N requests per output length in steps."""
    assert capacity(mix(1, output), max_num_seqs=seats) == pytest.approx(expected, rel=1e-9)


def test_the_token_budget_binds():
    """Each request takes 1,000 prompt tokens and 4 decodes of the budget: 64 / 1,004 requests per step."""
    assert capacity(mix(1000, 5), max_num_batched_tokens=64) == pytest.approx(64 / 1004, rel=1e-9)


def test_the_kv_cache_binds():
    """A request takes 99 decode steps of 150 / 10 + 0.5 blocks and one step of 100 / 10 + 0.5: of 1,545 blocks."""
    per_request = 99 * (150 / 10 + 0.5) + 1 * (100 / 10 + 0.5)
    expected = 1545 / per_request
    assert capacity(mix(100, 100), kv_block_tokens=10, kv_blocks=1545) == pytest.approx(expected, rel=1e-9)


def test_a_lone_request_that_fills_the_cache_is_served_all_the_same():
    """A cache that one sequence more than fills on average serves one at a time."""
    assert capacity(mix(100, 60), kv_block_tokens=10, kv_blocks=13) == pytest.approx(1 / 60, rel=1e-9)


def test_steps_with_and_without_a_prompt_are_averaged():
    """One seat, 100 prompt tokens of 0.05 s each, 4 decode steps of 1 s: (1 + 5) + 4 s for a request."""
    served = capacity(mix(100, 5), latency=Linear(1.0, per_token_s=0.05), max_num_seqs=1)
    assert served == pytest.approx(1 / 10, rel=1e-9)


def test_chunks_attend_to_what_came_before():
    """A prompt of 4 chunks of 64 attends to 0, 64, 128 and 192 tokens before each: 96 on average."""
    latency = Linear(1.0, per_pair_s=2.0**-10)
    served = capacity(mix(256, 1), latency=latency, max_num_seqs=1, max_num_batched_tokens=64)
    assert served == pytest.approx(1 / (4 * (1 + 2.0**-10 * 64 * 96)), rel=1e-9)


def test_separate_steps():
    """Four seats, prompts in steps of their own: 9 decode steps and one prompt step for four requests."""
    settings = {"chunked_prefill": False, "prefill_only_steps": True}
    assert capacity(mix(100, 10), max_num_seqs=4, **settings) == pytest.approx(0.4, rel=1e-9)
    assert capacity(mix(1500, 10), max_num_seqs=4, **settings) == pytest.approx(1 / (9 / 4 + 1), rel=1e-9)


def test_the_encoder_comes_on_top():
    """Images of 100 tokens of 0.01 s each take 1 s of the engine, beside the step of the request."""
    served = capacity(mix(100, 1, encoder=100), max_num_seqs=1, encoder_s_per_token=0.01)
    assert served == pytest.approx(0.5, rel=1e-9)


def test_the_front_end_binds():
    """Two workers that need 5 s each serve 0.4 per second, where the engine could serve 256."""
    slow = FrontEndCosts(workers=2, request_s=4.0, prompt_token_s=0.01)
    assert capacity(mix(100, 1), front_end=slow) == pytest.approx(0.4, rel=1e-9)
    assert capacity(mix(1, 1), front_end=FrontEndCosts(stream_s=9.0)) == pytest.approx(256.0, rel=1e-9)


def test_more_of_anything_serves_no_less():
    """Seats, budget and blocks never lower the capacity, where steps cost the same whatever is in them."""
    few = {"max_num_seqs": 8, "max_num_batched_tokens": 64, "kv_blocks": 200}
    served = capacity(mix(300, 40), **few)
    for name, value in few.items():
        assert capacity(mix(300, 40), **(few | {name: 2 * value})) >= served * (1 - 1e-9)


@pytest.mark.parametrize("step_s", [0.0, -1.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_refused(step_s):
    """A latency model that prices the full batch with nonsense is named."""
    with pytest.raises(PluginError, match="Linear"):
        capacity(mix(100, 10), latency=Linear(step_s))
