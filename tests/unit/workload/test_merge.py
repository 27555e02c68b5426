"""Merging streams: complete, in order, stable, and without holding them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from workloads import build, collect, frame, stream_of

from servesim.workload.merge import merge
from servesim.workload.stream import RequestStream

# Few distinct times, so that ties within and between streams, and across frames, are the rule.
streams = st.lists(st.lists(st.lists(st.integers(0, 6), max_size=4), max_size=4), min_size=1, max_size=4)


def framed(parts: list[list[int]], tenant: str) -> RequestStream:
    """Return a stream with the given times, sorted, in frames as long as *parts*; the prompts number its
    requests.
    """
    arrivals = iter(sorted(itertools.chain.from_iterable(parts)))
    number = itertools.count(1)
    return stream_of(
        *(
            frame(
                list(itertools.islice(arrivals, len(part))),
                tenant=[tenant] * len(part),
                prompt_tokens=list(itertools.islice(number, len(part))),
            )
            for part in parts
        )
    )


@settings(deadline=None)
@given(streams)
def test_merging_is_a_stable_sort_of_everything(parts: list[list[list[int]]]) -> None:
    """The result is what sorting all requests at once gives, ties in the order of the streams."""
    sources = [framed(part, str(index)) for index, part in enumerate(parts)]
    everything = pl.concat([piece for source in sources for piece in (frame([]), *source.frames())])
    merged = pl.concat([frame([]), *merge(sources).frames()])
    assert merged.equals(everything.sort("arrival_s", maintain_order=True))


def test_an_endless_stream_can_be_merged() -> None:
    """Nothing is read further ahead than one frame."""
    read = []

    def endless() -> Iterator[pl.DataFrame]:
        for second in itertools.count():
            read.append(second)
            yield frame([second + 0.5], tenant=["endless"])

    parts = [
        RequestStream(frames=endless, requests=None),
        stream_of(frame([0, 1], tenant=["a"] * 2), frame([2], tenant=["a"])),
    ]
    merged = merge(parts)
    taken = pl.concat(list(itertools.islice(merged.frames(), 8)))
    assert merged.requests is None
    assert taken["arrival_s"].head(5).to_list() == [0, 0.5, 1, 1.5, 2]
    assert max(read) < 10


def test_tenants_are_merged_with_their_own_transforms() -> None:
    """Each source keeps its tags and its rate; max_requests counts the whole."""
    one = {"distribution": "constant", "value": 1}
    generator = {
        "name": "constant",
        "rate_per_s": 1,
        "requests": 4,
        "prompt_tokens": one,
        "output_tokens": one,
    }
    spec = {
        "sources": [
            {"generator": generator, "tenant": "slow", "slo_class": "batch"},
            {"generator": generator, "tenant": "fast", "rate_scale": 2.0, "max_requests": 3},
        ],
        "max_requests": 6,
        "priority": 1,
    }
    assert collect(spec).select("arrival_s", "tenant", "slo_class", "priority").rows() == [
        (0.0, "slow", "batch", 1),
        (0.0, "fast", None, 1),
        (0.5, "fast", None, 1),
        (1.0, "slow", "batch", 1),
        (1.0, "fast", None, 1),
        (2.0, "slow", "batch", 1),
    ]
    assert build(spec).requests == 6


def test_equal_generators_of_a_mix_draw_different_numbers() -> None:
    """Two tenants with the same description must not arrive in lockstep."""
    length = {"distribution": "uniform", "low": 1, "high": 1000}
    generator = {
        "name": "poisson",
        "rate_per_s": 1,
        "requests": 50,
        "prompt_tokens": length,
        "output_tokens": length,
    }
    requests = collect({"sources": [{"generator": generator, "tenant": t} for t in "ab"]})
    a, b = (requests.filter(pl.col("tenant") == tenant) for tenant in "ab")
    assert not a["arrival_s"].is_in(b["arrival_s"].to_list()).any()
    assert not a["prompt_tokens"].equals(b["prompt_tokens"])
