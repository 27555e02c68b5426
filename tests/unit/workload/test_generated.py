"""What a plugin's generator yields is checked while a run consumes it: the message names the generator."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from workloads import build

from servesim.errors import PluginError
from servesim.workload.generated import generated
from servesim.workload.registries import GENERATORS
from servesim.workload.schema import SCHEMA

GOOD = {"arrival_s": [0.0, 1.0], "prompt_tokens": [1, 2], "output_tokens": [3, 4]}
LATER = {"arrival_s": [1.0, 2.0], "prompt_tokens": [1, 2], "output_tokens": [3, 4]}


class Handmade:
    """A generator as a third party might write it: it yields what it is given."""

    requests = 4
    duration_s = None

    def __init__(self, *frames: Any) -> None:
        self.made = frames

    def frames(self, seed: int) -> Iterator[Any]:
        """Yield the given frames, dicts as polars frames; raise an exception among them."""
        for frame in self.made:
            if isinstance(frame, Exception):
                raise frame
            yield pl.DataFrame(frame) if isinstance(frame, dict) else frame


def requests(*frames: Any) -> pl.DataFrame:
    """Return what passes the check."""
    return pl.concat(list(generated(Handmade(*frames), "workload generator 'handmade'", 0)))


def test_good_frames_get_the_schema() -> None:
    """Any type of number will do; arrivals at the same time, and empty frames, are in order."""
    narrow = pl.DataFrame(LATER).with_columns(pl.col("prompt_tokens", "output_tokens").cast(pl.UInt8))
    frame = requests(GOOD, pl.DataFrame(GOOD).clear(), narrow)
    assert dict(frame.schema) == SCHEMA
    assert frame["arrival_s"].to_list() == [0.0, 1.0, 1.0, 2.0]
    assert frame["priority"].to_list() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrival_s": [1.5, float("nan")]}, "row 4: arrival_s: unusable value (got nan). expected a number"),
        ({"arrival_s": [1.5, None]}, "row 4: arrival_s: unusable value (got an empty cell)"),
        ({"arrival_s": [-1.0, 2.0]}, "arrival_s: before time 0 (got -1.0)"),
        ({"arrival_s": ["1", "2"]}, "arrival_s: not numbers (got type String)"),
        ({"arrival_s": [3.0, 2.0]}, "row 4: arrival_s is out of order (got 2.0 after 3.0)"),
        ({"arrival_s": [0.5, 2.0]}, "row 3: arrival_s is out of order (got 0.5 after 1.0)"),
        ({"prompt_tokens": [1, 0]}, "row 4: prompt_tokens: unusable value (got 0)"),
        ({"output_tokens": [-5, 1]}, "row 3: output_tokens: unusable value (got -5)"),
        ({"output_tokens": [1.5, 1.0]}, "row 3: output_tokens: unusable value (got 1.5)"),
        ({"output_tokens": [1, 2**31]}, "row 4: output_tokens: unusable value (got 2147483648)"),
        ({"prompt_tokens": [True, True]}, "prompt_tokens: not numbers (got type Boolean)"),
        ({"priority": [1, 2**40]}, "row 4: priority: unusable value (got 1099511627776)"),
        ({"session": [[1], [2]]}, "session: not text (got type List(Int64))"),
        ({"prefix_blocks": [["a"], []]}, "prefix_blocks: not lists of block ids (got type List(String))"),
        ({"colour": ["red", "blue"]}, "columns do not follow the schema"),
    ],
)
def test_bad_frames_are_refused(change: dict[str, Any], message: str) -> None:
    """At the first wrong row of all, counted over frames; unsorted rows too, since a stream may be endless."""
    with pytest.raises(PluginError) as caught:
        requests(GOOD, LATER | change)
    assert str(caught.value).startswith(f"workload generator 'handmade': {message}")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            {"arrival_s": [1.0], "prompt_tokens": [1]},
            "columns do not follow the schema (got arrival_s, prompt",
        ),
        (pl.LazyFrame(LATER), "not a frame (got LazyFrame). expected a polars DataFrame"),
        (None, "not a frame (got NoneType)"),
        (ZeroDivisionError("rate"), "frames failed (got ZeroDivisionError: rate, at "),
    ],
    ids=["missing column", "lazy frame", "nothing", "exception"],
)
def test_what_is_no_frame_of_requests_is_refused(frame: Any, message: str) -> None:
    """A column too few, another type, an exception on the way."""
    with pytest.raises(PluginError) as caught:
        requests(GOOD, frame)
    assert str(caught.value).startswith(f"workload generator 'handmade': {message}")


class Unsorted:
    """A plugin in a scenario, which yields what it must not."""

    requests = 2
    duration_s = None

    def frames(self, seed: int) -> Iterator[pl.DataFrame]:
        """Yield two requests, the later one first."""
        yield pl.DataFrame({"arrival_s": [5.0, 1.0], "prompt_tokens": [1, 1], "output_tokens": [1, 1]})


def test_a_scenarios_generator_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the name that the scenario gives it, in a mix too."""
    monkeypatch.setitem(GENERATORS.builtin, "unsorted", f"{__name__}:Unsorted")
    one = {"generator": {"name": "unsorted"}}
    for spec in (one, {"sources": [one, one]}):
        with pytest.raises(PluginError, match=r"workload generator 'unsorted': row 2: arrival_s is out of"):
            list(build(spec).frames())


class Endless:
    """A plugin that does not tell where it ends."""

    requests = 3

    def frames(self, seed: int) -> Iterator[pl.DataFrame]:
        """Yield nothing."""
        return iter(())


@pytest.mark.parametrize("cut", [{}, {"max_requests": 2}])
def test_a_generator_must_tell_where_it_ends(cut: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether something else ends the stream or not."""
    monkeypatch.setitem(GENERATORS.builtin, "endless", f"{__name__}:Endless")
    with pytest.raises(PluginError, match="workload generator 'endless': has no attribute duration_s"):
        build({"generator": {"name": "endless"}, **cut})


def test_decimals_are_numbers() -> None:
    """As arrivals and as lengths."""
    frame = requests({"arrival_s": [Decimal("0.25")], "prompt_tokens": [Decimal(3)], "output_tokens": [1]})
    assert frame.select("arrival_s", "prompt_tokens").rows() == [(0.25, 3)]
