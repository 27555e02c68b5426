"""Attention under the roofline: lines, knots, windows and chunks by hand, at coefficients that make it easy."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesim.catalog import Parallelism, model
from servesim.latency.api import UNLIMITED_STEPS, BatchShape
from servesim.latency.attention import AttentionPrices
from servesim.latency.efficiency import Decode, Mixed, Peaks, Prefill
from servesim.latency.operators import operators

PEAKS = Peaks(flops_per_s=1e15, bytes_per_s=4.096e12, multiprocessors=100, cache_bytes=50e6)
AT_PEAK = Decode(
    launch_s=0.0, ramp_share=1.0, ramp_s=0.0, bandwidth_share=1.0, least_tokens=1, flops_share=1.0
)
IDEAL = Prefill(launch_s=0.0, flops_share=1.0, softmax_width=0.0, critical_share=0.0, io_share=1.0)
LLAMA = operators(model("llama-3.1-8b"), Parallelism()).attention  # 4,096 bytes a token: 1 ns
TOKEN_S = 1e-9


def prices(
    decode: Decode = AT_PEAK, prefill: Prefill = IDEAL, reread: float = 0.0, window: int | None = None
) -> AttentionPrices:
    """Return one layer of Llama-3.1-8B."""
    mixed = Mixed(reread_share=reread)
    return AttentionPrices(LLAMA, PEAKS, decode=decode, prefill=prefill, mixed=mixed, layers=1, window=window)


def test_decode_reads_the_cache() -> None:
    """A thousand tokens of 4 kB at 4.096 TB/s take a microsecond, ten more per step ten nanoseconds."""
    assert prices().price(BatchShape(10, 1000)) == (
        pytest.approx(1000 * TOKEN_S),
        pytest.approx(10 * TOKEN_S),
        UNLIMITED_STEPS,
    )


def test_short_sequences_take_a_block_each_until_they_fill_it() -> None:
    """Ten sequences of 20 tokens cost 64 each for 45 steps, then grow."""
    blocks = prices(replace(AT_PEAK, least_tokens=64.0))
    assert blocks.price(BatchShape(10, 200)) == (pytest.approx(640 * TOKEN_S), 0.0, 45)
    assert blocks.price(BatchShape(10, 640))[1] == pytest.approx(10 * TOKEN_S)


def test_ramp_ends_at_a_knot() -> None:
    """Half the rate up to 1,000 tokens, the full rate after 1 us more; 900 are eleven steps of ten before."""
    ramp = prices(replace(AT_PEAK, ramp_share=0.5, ramp_s=1e-6))
    first_s, growth_s, steps = ramp.price(BatchShape(10, 900))
    assert (first_s, growth_s) == (pytest.approx(1800 * TOKEN_S), pytest.approx(20 * TOKEN_S))
    assert steps in (10, 11)  # the knot itself belongs to both lines
    assert ramp.price(BatchShape(10, 1010))[0] == pytest.approx(1e-6 + 1010 * TOKEN_S)


def test_window_fills_and_then_stops_growing() -> None:
    """A window of 128 at a mean context of 100: 29 steps until it is full, then no growth."""
    windowed = prices(window=128)
    assert windowed.price(BatchShape(10, 1000)) == (
        pytest.approx(1000 * TOKEN_S),
        pytest.approx(10 * TOKEN_S),
        29,
    )
    assert windowed.price(BatchShape(10, 1280)) == (pytest.approx(1280 * TOKEN_S), 0.0, UNLIMITED_STEPS)


@given(tokens=st.integers(1, 300), start=st.integers(0, 300), window=st.none() | st.just(128))
def test_chunk_attends_what_counting_says(tokens: int, start: int, window: int | None) -> None:
    """Pairs are the sum of positions, cut at the window; its past and itself are read once; queries move."""
    first_s, _, _ = prices(window=window).price(BatchShape(0, 0, [(tokens, start)]))
    pairs = sum(min(position, window or position) for position in range(start + 1, start + tokens + 1))
    read = min(start, window or start) + tokens
    moved_s = tokens * 2 * 32 * 128 * 2 / 4.096e12
    assert first_s == pytest.approx(pairs * 4 * 32 * 128 / 1e15 + read * TOKEN_S + moved_s)


def test_longest_chunk_stands_for_idle_multiprocessors() -> None:
    """Its last tile attends 1,000 tokens: half of that tile's time on one of 100 multiprocessors comes on top."""
    plain, uneven = prices(), prices(prefill=replace(IDEAL, critical_share=0.5))
    batch = BatchShape(0, 0, [(500, 500), (300, 0)])
    tile_s = 128 * 1000 * 4 * 128 / (1e15 / 100)
    assert uneven.price(batch)[0] - plain.price(batch)[0] == pytest.approx(0.5 * tile_s - 1000 * TOKEN_S)
    assert uneven.price(batch)[2] == 1


def test_heads_of_a_group_read_one_by_one_beside_chunks() -> None:
    """Llama's four heads per group read four times in a mixed step if the cache catches nothing, else once."""
    decode, chunk = BatchShape(10, 1000), BatchShape(0, 0, [(64, 0)])
    both = BatchShape(10, 1000, [(64, 0)])
    for reread, times in ((0.0, 1), (1.0, 4)):
        apart_s = prices(reread=reread).price(decode)[0], prices(reread=reread).price(chunk)[0]
        assert apart_s[0] == pytest.approx(1000 * TOKEN_S)
        mixed_s = prices(reread=reread).price(both)[0]
        assert mixed_s == pytest.approx(times * apart_s[0] + apart_s[1])


def test_latent_decode_is_bound_by_computing_with_many_heads() -> None:
    """DeepSeek-V3's 128 heads multiply 1,088 numbers twice for each of 576 that are read: computing binds."""
    latent = operators(model("deepseek-v3"), Parallelism()).attention
    slow = replace(PEAKS, flops_per_s=0.5e15)
    layer = AttentionPrices(
        latent, slow, decode=AT_PEAK, prefill=IDEAL, mixed=Mixed(reread_share=0.0), layers=1, window=None
    )
    assert layer.price(BatchShape(1, 1000))[0] == pytest.approx(1000 * 2 * 128 * (512 + 576) / 0.5e15)
