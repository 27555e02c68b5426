"""Copies of requests and sources of a mix share neither sessions nor block ids; within each, all is as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workloads import collect, frame, stream_of

from servesim.workload.merge import merge
from servesim.workload.prefixes import prefix_hit_ratio
from servesim.workload.resample import bootstrap_blocks
from servesim.workload.spec import TransformSpec
from servesim.workload.transforms import transform

BLOCKS = st.lists(st.one_of(st.none(), st.lists(st.integers(0, 8), max_size=4)), min_size=2, max_size=12)


def requests(blocks: list[list[int] | None]) -> pl.DataFrame:
    """Return a request a second, numbered by the prompts' lengths, in three sessions; every fourth without one."""
    return frame(
        range(len(blocks)),
        prompt_tokens=range(1, len(blocks) + 1),
        session=[[*"abc", None][row % 4] for row in range(len(blocks))],
        prefix_blocks=pl.Series(blocks, dtype=pl.List(pl.Int64)),
    )


def played(spec: dict[str, Any], whole: pl.DataFrame) -> pl.DataFrame:
    """Return what *spec* makes of a stream of *whole*."""
    return pl.concat(list(transform(stream_of(whole), TransformSpec.model_validate(spec), 0).frames()))


def check_apart(made: list[pl.DataFrame], original: pl.DataFrame) -> None:
    """Check that no two frames share an id or a session, and that each shares within itself what *original* does."""
    seen: set[int | str] = set()
    for one in made:
        for column in ("session", "prefix_blocks"):
            new, old = one[column], original[column]
            assert new.is_null().equals(old.is_null())
            if column == "prefix_blocks":
                assert new.list.len().equals(old.list.len())
                new, old = new.explode(), old.explode()
            same = set(zip(new, old, strict=True)) - {(None, None)}
            names = {name for name, _ in same}
            assert len(names) == len({was for _, was in same}) == len(same)
            assert not names & seen
            seen |= names


@settings(deadline=None)
@given(BLOCKS, st.integers(2, 4))
def test_repetitions_share_nothing(blocks: list[list[int] | None], times: int) -> None:
    """Each is the original under other names."""
    whole = requests(blocks)
    check_apart(list(played({"repeat": times}, whole).iter_slices(whole.height)), whole)


@settings(deadline=None)
@given(BLOCKS)
def test_repetitions_of_sources_that_are_repeated_share_nothing(blocks: list[list[int] | None]) -> None:
    """Two repetitions of a mix of a source that plays twice and one that plays once: six copies."""
    whole = requests(blocks)
    twice = transform(stream_of(whole), TransformSpec(repeat=2), 0)
    spec = TransformSpec.model_validate({"repeat": 2, "window": {"end_s": 1000.0}})
    both = merge([twice, stream_of(whole.with_columns(tenant=pl.lit("once")))])
    made = pl.concat(list(transform(both, spec, 0).frames()))
    parts = []
    for mix in made.iter_slices(3 * whole.height):
        once = mix["tenant"].is_not_null()
        parts += [mix.filter(once), *mix.filter(~once).iter_slices(whole.height)]
    check_apart(parts, whole)


@settings(deadline=None)
@given(BLOCKS, st.sampled_from([1.5, 3.0, 7.0]), st.integers(0, 50))
def test_a_request_that_is_drawn_again_is_another_one(
    blocks: list[list[int] | None], block_s: float, seed: int
) -> None:
    """The n-th copies of requests share what the requests did; those of different n share nothing."""
    whole = requests(blocks)
    drawn = pl.concat(
        [whole.clear(), *bootstrap_blocks(iter([whole]), block_s=block_s, period_s=None, seed=seed)]
    ).with_columns(copy=pl.int_range(pl.len()).over("prompt_tokens"))
    assert drawn.select("prompt_tokens", "copy").is_unique().all()
    owners: dict[int, tuple[int, int]] = {}
    for number, copy, ids in drawn.select("prompt_tokens", "copy", "prefix_blocks").iter_rows():
        old = blocks[number - 1]
        assert (ids is None) == (old is None)
        for new, was in zip(ids or [], old or [], strict=True):
            assert owners.setdefault(new, (copy, was)) == (copy, was)
    assert len(set(owners.values())) == len(owners)


def test_copies_of_a_copy_are_no_copies_of_the_original() -> None:
    """A sample that is repeated: no session of one repetition has the name of one of the other."""
    whole = requests([[1], [2], [3]] * 4)
    twice = played({"resample": {"block_s": 2.0}, "repeat": 2, "window": {"end_s": 12.0}}, whole)
    half = twice.height // 2
    for column in ("session", "prefix_blocks"):
        values = twice[column].explode() if column == "prefix_blocks" else twice[column]
        size = len(values) // 2
        assert not set(values[:size].drop_nulls()) & set(values[size:].drop_nulls())
    assert twice[:half].height == half


@settings(deadline=None)
@given(BLOCKS)
def test_requests_without_names_pass_unchanged(blocks: list[list[int] | None]) -> None:
    """Without sessions and block ids, a repetition differs by its time only."""
    whole = requests(blocks).with_columns(
        session=pl.lit(None, dtype=pl.String), prefix_blocks=pl.lit(None, dtype=pl.List(pl.Int64))
    )
    again = played({"repeat": 2, "window": {"end_s": 100.0}}, whole)
    assert again.tail(whole.height).drop("arrival_s").equals(whole.drop("arrival_s"))
    assert again.head(whole.height).equals(whole)
    assert pl.concat(list(merge([stream_of(whole)]).frames())).equals(whole)


def test_the_mooncake_trace_played_twice_has_the_reuse_of_one(shared: Callable[[str], Path]) -> None:
    """The published 36.6 % of blocks, for two repetitions and for two sources; a sample has less, not more."""
    source = {
        "source": {"reader": "mooncake", "path": str(shared("traces/mooncake/conversation_trace.jsonl"))}
    }
    once = prefix_hit_ratio(collect(source))
    assert once == pytest.approx(0.366, abs=5e-4)
    assert prefix_hit_ratio(collect(source | {"repeat": 2})) == pytest.approx(once)
    assert prefix_hit_ratio(collect({"sources": [source, source]})) == pytest.approx(once)
    sample = prefix_hit_ratio(collect(source | {"resample": {"block_s": 300.0}}))
    assert sample is not None
    assert 0.2 < sample < once
