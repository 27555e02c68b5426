"""Block ids and the prefix-hit ceiling: hand-made prompts, brute force, and the Mooncake trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from workloads import frame

from servesim.readers.mooncake import MooncakeReader
from servesim.workload.prefixes import mixed, prefix_hit_ratio, segment_blocks, uniform


def test_the_ceiling_of_the_mooncake_trace_is_the_published_one(shared: Callable[[str], Path]) -> None:
    """An unlimited cache has 36.6 % of the blocks of the conversation trace."""
    trace = MooncakeReader(path=shared("traces/mooncake/conversation_trace.jsonl")).read().collect()
    assert prefix_hit_ratio(trace) == pytest.approx(0.366, abs=0.0005)
    assert trace["prefix_blocks"].explode().n_unique() == 182_790


def test_hits_are_all_occurrences_but_the_first() -> None:
    """Blocks 1 2 3, then 1 2 4, then none: 2 of 6 blocks."""
    requests = frame([0.0, 1.0, 2.0, 3.0], prefix_blocks=[[1, 2, 3], [1, 2, 4], [], None])
    assert prefix_hit_ratio(requests) == pytest.approx(2 / 6)


def test_the_last_block_has_only_the_tokens_that_there_are() -> None:
    """Prompts of 40 and 36 tokens in blocks of 16 with ids for the partial ones: 16 + 16 + 4 of 76 tokens are hits."""
    requests = frame(
        [0.0, 1.0],
        prompt_tokens=[40, 36],
        prefix_blocks=[[1, 2, 3], [1, 2, 3]],
        prefix_block_tokens=[16, 16],
    )
    assert prefix_hit_ratio(requests, of="tokens") == pytest.approx(36 / 76)


def test_billions_of_tokens_are_counted() -> None:
    """More than 32 bits hold: three prompts of 1.5 billion, of which two begin with 16 known tokens."""
    requests = frame(
        [0.0, 1.0, 2.0],
        prompt_tokens=[1_500_000_000] * 3,
        prefix_blocks=[[1]] * 3,
        prefix_block_tokens=[16] * 3,
    )
    assert prefix_hit_ratio(requests, of="tokens") == pytest.approx(32 / 4_500_000_000)


def test_without_block_ids_there_is_no_ceiling() -> None:
    """Neither without the column, nor with nothing in it."""
    assert prefix_hit_ratio(pl.DataFrame({"arrival_s": [0.0]})) is None
    assert prefix_hit_ratio(frame([0.0])) is None
    assert prefix_hit_ratio(frame([0.0]), of="tokens") is None


def test_blocks_are_equal_exactly_where_the_prompts_are() -> None:
    """300 random prompts of three segments: an id for each block's whole past, as comparing the tokens tells."""
    rng = np.random.default_rng(0)
    contents = rng.integers(0, 3, (300, 3))
    tokens = rng.integers(0, 40, (300, 3))
    ids = segment_blocks(contents, tokens, 8).to_list()
    seen: dict[tuple[tuple[int, int], ...], int] = {}
    for row, blocks in enumerate(ids):
        text = [
            (int(content), place)
            for content, length in zip(contents[row], tokens[row], strict=True)
            for place in range(length)
        ]
        assert len(blocks) == len(text) // 8
        for number, block in enumerate(blocks):
            assert seen.setdefault(tuple(text[: 8 * (number + 1)]), block) == block
    assert len(set(seen.values())) == len(seen)
    assert min(seen.values()) >= 0


def test_mixed_bits_look_random() -> None:
    """Consecutive numbers: every bit is one half of the time, and numbers in [0, 1) are uniform."""
    bits = mixed(np.arange(100_000))
    ones = [(bits >> np.uint64(place) & np.uint64(1)).mean() for place in range(64)]
    assert np.abs(np.array(ones) - 0.5).max() < 5 * 0.5 / 100_000**0.5
    assert np.histogram(uniform(np.arange(100_000)), bins=10, range=(0, 1))[0] == pytest.approx(
        10_000, rel=0.05
    )
    assert int(mixed(np.array([0]))[0]) == 0xE220A8397B1DCDAF  # the generator's first number, as published
