"""Transforms of a stream: what each does, in which order, and that framing never matters."""

from __future__ import annotations

import itertools
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workloads import frame, stream_of

from servesim.errors import ScenarioError
from servesim.workload.spec import TransformSpec
from servesim.workload.transforms import rebatch, transform

times = st.lists(st.floats(0, 1e6), min_size=1, max_size=40).map(sorted)


def applied(spec: dict[str, Any], *frames: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    """Return what *spec* makes of a stream of *frames*."""
    whole = transform(stream_of(*frames), TransformSpec.model_validate(spec), seed)
    return pl.concat(list(whole.frames()))


def times_of(spec: dict[str, Any], *frames: pl.DataFrame) -> list[float]:
    """Return the arrival times that *spec* makes."""
    return applied(spec, *frames)["arrival_s"].to_list()


def split(whole: pl.DataFrame, cuts: list[int]) -> list[pl.DataFrame]:
    """Return *whole* in pieces that end at *cuts*."""
    ends = [0, *sorted(min(cut, whole.height) for cut in cuts), whole.height]
    return [whole.slice(start, end - start) for start, end in itertools.pairwise(ends)]


def test_twice_the_rate_halves_every_time() -> None:
    """rate_scale 2 means twice the request rate."""
    assert times_of({"rate_scale": 2.0}, frame([0, 1, 5])) == [0, 0.5, 2.5]


@settings(deadline=None)
@given(times, st.floats(0.01, 100))
def test_rate_scale_keeps_the_shape_of_bursts(arrivals: list[float], scale: float) -> None:
    """Every gap shrinks by the same factor."""
    scaled = times_of({"rate_scale": scale}, frame(arrivals))
    assert scaled == pytest.approx([arrival / scale for arrival in arrivals], rel=1e-15)


def test_a_window_is_half_open_and_begins_at_zero() -> None:
    """An arrival at the start is in, one at the end is out; frames after the end are not asked for."""

    def frames() -> Any:
        yield frame([0, 10, 12])
        yield frame([19.5, 20, 30])
        yield frame([31])
        raise AssertionError("the window has ended")

    stream = stream_of()
    object.__setattr__(stream, "frames", frames)
    spec = TransformSpec.model_validate({"window": {"start_s": 10, "end_s": 20}})
    assert pl.concat(list(transform(stream, spec, 0).frames()))["arrival_s"].to_list() == [0, 2, 9.5]


def test_the_window_is_in_time_before_rate_scale() -> None:
    """Order: the window cuts the source's own time."""
    spec = {"window": {"start_s": 10, "end_s": 20}, "rate_scale": 2.0}
    assert times_of(spec, frame([0, 10, 14, 20])) == [0, 2]


def test_repetition_continues_one_mean_gap_after_the_last() -> None:
    """Arrivals at 0, 1, 4 have a mean gap of 2 s, so the second round starts at 6 s."""
    assert times_of({"repeat": 3}, frame([0, 1, 4])) == [0, 1, 4, 6, 7, 10, 12, 13, 16]


def test_repetition_of_a_window_starts_where_it_ends() -> None:
    """A window of 10 s repeats every 10 s."""
    spec = {"repeat": 2, "window": {"start_s": 0, "end_s": 10}}
    assert times_of(spec, frame([0, 1, 4, 30])) == [0, 1, 4, 10, 11, 14]


def test_repetition_needs_a_gap() -> None:
    """One request alone says nothing about when the next would come."""
    with pytest.raises(ScenarioError, match="repeat: no gap"):
        times_of({"repeat": 2}, frame([3]))


def test_lengths_are_scaled_rounded_and_clipped() -> None:
    """3 * 0.4 is 1; nothing falls below 1; min and max hold after scaling; the other length stays."""
    spec = {"prompt_tokens": {"scale": 0.4, "max": 30}, "output_tokens": {"min": 5}}
    requests = applied(spec, frame([0, 1, 2, 3], prompt_tokens=[1, 3, 4, 1000], output_tokens=[1, 5, 6, 7]))
    assert requests["prompt_tokens"].to_list() == [1, 1, 2, 30]
    assert requests["output_tokens"].to_list() == [5, 5, 6, 7]
    assert requests.schema == frame([]).schema


def test_a_length_never_leaves_32_bits() -> None:
    """The largest length that the schema holds is where scaling ends."""
    spec = {"prompt_tokens": {"scale": 1e9}}
    assert applied(spec, frame([0], prompt_tokens=[1000]))["prompt_tokens"].to_list() == [2**31 - 1]


def test_tags_replace_what_the_source_says() -> None:
    """Model wins over model_map; tags not given stay."""
    requests = frame([0, 1], model=["a", None], tenant=["x", None], priority=[1, 2])
    spec: dict[str, Any] = {"model_map": {"a": "b"}, "tenant": "t", "slo_class": "chat"}
    tagged = applied(spec, requests)
    assert tagged.select("model", "tenant", "slo_class", "priority").rows() == [
        ("b", "t", "chat", 1),
        (None, "t", "chat", 2),
    ]
    assert (
        applied(spec | {"model": "m", "priority": -3}, requests).select("model", "priority").rows()
        == [("m", -3)] * 2
    )


@settings(deadline=None)
@given(st.integers(1, 30), st.lists(st.integers(0, 20), max_size=4))
def test_max_requests_is_the_head_after_all_else(limit: int, cuts: list[int]) -> None:
    """Of two rounds of 20, the first *limit* requests are left, however they were framed."""
    whole = frame(range(20))
    kept = times_of({"max_requests": limit, "repeat": 2}, *split(whole, cuts))
    assert kept == [*map(float, range(20)), *map(float, range(20, 40))][:limit]


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), max_size=5), st.integers(0, 5))
def test_thinning_depends_on_the_seed_and_not_on_the_frames(cuts: list[int], seed: int) -> None:
    """The same requests stay however the stream is cut into frames."""
    whole = frame(range(50))
    spec = {"resample": {"thin_ratio": 0.5}}
    assert applied(spec, *split(whole, cuts), seed=seed).equals(applied(spec, whole, seed=seed))


def test_thinning_keeps_the_asked_share() -> None:
    """10,000 requests at 0.3: within five standard errors of 3,000."""
    kept = applied({"resample": {"thin_ratio": 0.3}}, frame(range(10_000))).height
    assert abs(kept - 3000) < 5 * (10_000 * 0.3 * 0.7) ** 0.5


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 12))
def test_rebatching_loses_nothing(heights: list[int], rows: int) -> None:
    """All frames but the last have the asked height; there is no empty one."""
    whole = frame(range(sum(heights)))
    parts = split(whole, list(itertools.accumulate(heights)))
    batches = list(rebatch(iter(parts), rows))
    assert [batch.height for batch in batches[:-1]] == [rows] * (len(batches) - 1)
    assert all(0 < batch.height <= rows for batch in batches)
    assert pl.concat([whole.clear(), *batches]).equals(whole)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, 5),
        ({"repeat": 3}, 15),
        ({"max_requests": 2}, 2),
        ({"max_requests": 9}, 5),
        ({"resample": {"thin_ratio": 0.5}}, None),
    ],
)
def test_the_number_of_requests_is_told_where_it_is_known(spec: dict[str, Any], expected: int | None) -> None:
    """What is announced is what comes."""
    whole = transform(stream_of(frame(range(5))), TransformSpec.model_validate(spec), 0)
    assert whole.requests == expected
    if expected is not None:
        assert sum(part.height for part in whole.frames()) == expected
