"""Workloads whose prompts share prefixes: the structure, its ceiling, and that framing does not matter."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError
from workloads import build, collect, frame

from servesim.errors import ScenarioError
from servesim.workload.prefix_spec import PrefixSpec
from servesim.workload.prefixes import prefix_hit_ratio
from servesim.workload.shared_prefixes import SharedPrefixes

POISSON = {
    "name": "poisson",
    "rate_per_s": 10.0,
    "prompt_tokens": {"distribution": "lognormal", "mean": 600, "sigma": 0.8},
    "output_tokens": {"distribution": "constant", "value": 50},
}
SYSTEM = {"count": 20, "tokens_mean": 300.0, "tokens_sigma": 0.5}
CHUNKS = {"count": 200, "tokens_mean": 100.0, "per_request": 3}


def requests(prefixes: dict[str, Any], rows: int = 5000, seed: int = 0) -> pl.DataFrame:
    """Return Poisson requests with such prefixes."""
    return collect({"generator": {**POISSON, "requests": rows}, "prefixes": prefixes}, seed=seed)


def blocks_of(frame: pl.DataFrame, **spec: Any) -> list[list[int]]:
    """Return the block ids that *spec* gives the requests of *frame*."""
    made = PrefixSpec.model_validate(spec)
    return next(SharedPrefixes(made, 0).frames([frame], made.shared_ratio))["prefix_blocks"].to_list()


def shared(one: list[int], other: list[int]) -> int:
    """Return how many blocks two prompts begin with alike."""
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def test_one_system_prompt_is_in_all_prompts() -> None:
    """50 tokens in blocks of 16 are 3 whole blocks; lengths stay, whole blocks only have ids."""
    given = frame([0.0, 1.0, 2.0], prompt_tokens=[100, 100, 40])
    one, other, short = blocks_of(given, system_prompts={"count": 1, "tokens_mean": 50.0})
    assert (len(one), len(other), len(short)) == (6, 6, 2)
    assert (shared(one, other), shared(one, short)) == (3, 2)


def test_a_session_goes_on_with_its_history_until_it_is_cut() -> None:
    """Prompts of 64, 160, 100 and 400 tokens: the second has all of the first, the third nothing of either."""
    given = frame(
        [0.0, 1.0, 2.0, 3.0, 4.0],
        prompt_tokens=[64, 160, 100, 400, 64],
        output_tokens=[32, 32, 32, 32, 32],
        session=["a", "a", "a", "a", "b"],
    )
    first, grown, cut, again, other = blocks_of(given, history=True)
    assert shared(first, grown) == 4
    assert shared(grown, cut) == 0
    assert shared(cut, again) == 6
    assert shared(first, other) == 0


def test_a_system_prompt_stays_when_the_history_is_cut() -> None:
    """All requests of a session have the same one."""
    given = frame([0.0, 1.0], prompt_tokens=[500, 400], session=["a", "a"])
    one, cut = blocks_of(
        given, history=True, system_prompts={"count": 1000, "zipf": 0.0, "tokens_mean": 64.0}
    )
    assert shared(one, cut) == 4


def test_the_order_of_chunks_matters() -> None:
    """Three of three equally long chunks: ranked, every prompt begins alike; drawn, one in six does."""
    given = frame([0.0] * 400, prompt_tokens=[4000] * 400)
    # A request draws with repetition, so most have all three chunks only after many draws.
    chunks = {"count": 3, "zipf": 0.0, "tokens_mean": 32.0, "per_request": 40}
    ranked = {tuple(each[:6]) for each in blocks_of(given, chunks={**chunks, "order": "ranked"})}
    drawn = {tuple(each[:6]) for each in blocks_of(given, chunks=chunks)}
    assert (len(ranked), len(drawn)) == (1, 6)


def test_popularity_follows_zipf() -> None:
    """First blocks of 20,000 prompts: the i-th of five system prompts is taken in proportion to 1/i."""
    given = frame([0.0] * 20_000, prompt_tokens=[64] * 20_000)
    firsts = pl.Series(
        [each[0] for each in blocks_of(given, system_prompts={"count": 5, "tokens_mean": 64.0})]
    )
    shares = sorted((firsts.value_counts()["count"] / 20_000).to_list(), reverse=True)
    harmonic = sum(1 / i for i in range(1, 6))
    assert shares == pytest.approx([1 / i / harmonic for i in range(1, 6)], abs=0.015)


@pytest.mark.parametrize("block_tokens", [16, 64, 512])
@pytest.mark.parametrize("hit_ratio", [0.02, 0.1, 0.2])
def test_the_ceiling_is_the_one_asked_for(block_tokens: int, hit_ratio: float) -> None:
    """Of the requests that it is calibrated on: exactly, but for requests with the same level."""
    structure = {
        "system_prompts": {**SYSTEM, "tokens_mean": 400.0},
        "chunks": CHUNKS,
        "block_tokens": block_tokens,
    }
    if block_tokens == 512 and hit_ratio >= 0.1:
        structure["system_prompts"] = {"count": 1, "tokens_mean": 3000.0}
    made = requests({**structure, "hit_ratio": hit_ratio})
    assert prefix_hit_ratio(made) == pytest.approx(hit_ratio, abs=0.002)
    assert made["prefix_block_tokens"].unique().to_list() == [block_tokens]


def test_the_ceiling_of_a_longer_run_stays_near() -> None:
    """Calibrated on the first 65,536 requests; 130,000 have some more hits, since first occurrences get rarer."""
    workload = build(
        {
            "generator": {"name": "burstgpt", "services": ["chatgpt_conversation"], "requests": 130_000},
            "prefixes": {"history": True, "system_prompts": SYSTEM, "hit_ratio": 0.4, "block_tokens": 64},
        }
    )
    made = pl.concat(list(workload.frames()))
    assert 0 < workload.notes["prefix_shared_ratio"] < 1  # type: ignore[operator]
    assert prefix_hit_ratio(made.head(65_536)) == pytest.approx(0.4, abs=0.001)
    assert prefix_hit_ratio(made) == pytest.approx(0.4, abs=0.01)


def test_who_shares_is_a_part_of_all() -> None:
    """shared_ratio 0: no two prompts begin alike; 0.5: half of what all would have, or less."""
    whole, half, none = (
        prefix_hit_ratio(requests({"system_prompts": SYSTEM, "shared_ratio": ratio}))
        for ratio in (1.0, 0.5, 0.0)
    )
    assert none == 0.0
    assert whole is not None and half == pytest.approx(whole / 2, rel=0.05)


def test_frames_do_not_matter() -> None:
    """Sessions over frames of 7 and of 1,000 requests get the same ids."""
    spec = PrefixSpec.model_validate({"history": True, "system_prompts": SYSTEM, "chunks": CHUNKS})
    made = collect({"generator": {"name": "burstgpt", "requests": 1000, "start_hour": 12}})
    whole = pl.concat(SharedPrefixes(spec, 5).frames([made], 0.7))
    parts = pl.concat(SharedPrefixes(spec, 5).frames(made.iter_slices(7), 0.7))
    assert whole.equals(parts)


def test_a_longer_run_begins_with_the_shorter_one() -> None:
    """And another seed has other ids."""
    structure = {"system_prompts": SYSTEM, "chunks": CHUNKS}
    long = requests(structure, rows=3000)
    assert requests(structure, rows=1000).equals(long.head(1000))
    assert not requests(structure, rows=1000, seed=1)["prefix_blocks"].equals(
        long.head(1000)["prefix_blocks"]
    )


def test_sources_of_a_mix_have_ids_of_their_own() -> None:
    """Two sources with the same block share nothing with each other; a block beside them is for both."""
    part = {
        "generator": {**POISSON, "requests": 200},
        "prefixes": {"system_prompts": {"count": 1, "tokens_mean": 64.0}},
    }
    apart = collect({"sources": [{**part, "tenant": "a"}, {**part, "tenant": "b"}]})
    ids = {
        tenant: set(apart.filter(pl.col("tenant") == tenant)["prefix_blocks"].explode().drop_nulls())
        for tenant in ("a", "b")
    }
    assert not ids["a"] & ids["b"]


def test_too_high_a_ratio_is_refused_with_the_highest() -> None:
    """The message tells what all sharing would give."""
    with pytest.raises(
        ScenarioError, match=r"hit_ratio: .*got 0\.99\).*expected at most 0\.\d+.*\n.*history share more"
    ):
        requests({"system_prompts": SYSTEM, "hit_ratio": 0.99})


@pytest.mark.parametrize(
    ("prefixes", "message"),
    [
        ({}, "nothing to share"),
        ({"history": True, "hit_ratio": 0.3, "shared_ratio": 0.5}, "both hit_ratio and shared_ratio"),
        ({"history": True, "hit_ratio": 1.0}, "less than 1"),
        ({"system_prompts": {"count": 0, "tokens_mean": 5.0}}, "greater than or equal to 1"),
        ({"chunks": {"count": 5, "tokens_mean": 5.0}}, "per_request"),
        ({"history": True, "block_tokens": 0}, "greater than or equal to 1"),
    ],
)
def test_wrong_blocks_are_refused(prefixes: dict[str, Any], message: str) -> None:
    """What shares nothing, says two things, or is out of range."""
    with pytest.raises(ValidationError, match=message):
        requests(prefixes)
