"""The mooncake reader: milliseconds, block ids, the 3 s grid, the real trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from workloads import build, collect, rows

from servesim.errors import TraceError
from servesim.readers.mooncake import MooncakeReader


def line(time_ms: float | str, prompt: int = 600, output: int = 5, blocks: str = "[0, 7]") -> str:
    """Return one request in the native form."""
    lengths = f'"input_length": {prompt}, "output_length": {output}'
    return f'{{"timestamp": {time_ms}, {lengths}, "hash_ids": {blocks}}}'


def test_the_conversation_trace_is_read_whole(shared: Callable[[str], Path]) -> None:
    """The real trace: 12,031 requests in 3,537 s, 182,790 blocks, ceil(prompt/512) of them in each
    request.
    """
    workload = build(
        {"source": {"reader": "mooncake", "path": shared("traces/mooncake/conversation_trace.jsonl")}}
    )
    requests = pl.concat(list(workload.frames()))
    assert requests.height == 12_031
    assert requests["arrival_s"].max() == pytest.approx(3537, abs=0.01)
    assert requests["prompt_tokens"].mean() == pytest.approx(12_035, abs=0.5)
    assert requests["output_tokens"].mean() == pytest.approx(343, abs=0.5)
    assert requests["arrival_s"].n_unique() == 1180
    assert workload.notes["arrival_ties"] == 12_031 - 1180
    assert requests["prefix_blocks"].explode().n_unique() == 182_790
    assert (requests["prefix_blocks"].list.len() == (requests["prompt_tokens"] + 511) // 512).all()


def test_spreading_the_real_grid_leaves_no_ties_and_keeps_the_order(shared: Callable[[str], Path]) -> None:
    """Each request moves by less than 3 s, and all times become distinct."""
    source = {"reader": "mooncake", "path": shared("traces/mooncake/conversation_trace.jsonl")}
    as_recorded, spread = collect({"source": source}), collect({"source": {**source, "spread_s": 3.0}})
    moved = spread["arrival_s"] - as_recorded["arrival_s"]
    assert spread["arrival_s"].n_unique() == 12_031
    assert spread["prompt_tokens"].equals(as_recorded["prompt_tokens"])
    assert moved.min() == 0.0
    assert moved.max() < 3.0  # type: ignore[operator]


def test_spreading_is_even_and_stops_at_the_next_time(tmp_path: Path) -> None:
    """Three at 0 share 3 s, two at 3 share the 1 s until the next time, the last one stays."""
    text = "\n".join(line(t) for t in (0, 0, 0, 3000, 3000, 4000))
    requests = MooncakeReader(path=rows(tmp_path / "m.jsonl", text), spread_s=3.0).read().collect()
    assert requests["arrival_s"].to_list() == [0.0, 1.0, 2.0, 3.0, 3.5, 4.0]


def test_times_are_milliseconds_and_may_be_strings(tmp_path: Path) -> None:
    """Time 0 is the first arrival; a blank line at the end is no request."""
    text = "\n".join([line(1500), line('"1750"')]) + "\n\n"
    requests = MooncakeReader(path=rows(tmp_path / "m.jsonl", text)).read().collect()
    assert requests["arrival_s"].to_list() == [0.0, 0.25]
    assert requests["prefix_blocks"].to_list() == [[0, 7], [0, 7]]


def test_a_last_part_of_a_block_may_have_an_id_or_none(tmp_path: Path) -> None:
    """A prompt of 600 tokens has one whole block and a part: one id (floor) or two (ceil)."""
    text = "\n".join([line(0, blocks="[0]"), line(1, blocks="[0, 7]"), line(2, prompt=100, blocks="[]")])
    requests = MooncakeReader(path=rows(tmp_path / "m.jsonl", text)).read().collect()
    assert requests["prefix_blocks"].to_list() == [[0], [0, 7], []]


def test_a_trace_without_block_ids_has_none(tmp_path: Path) -> None:
    """The lengths alone are a trace too."""
    text = '{"timestamp": 0, "input_length": 4, "output_length": 2}\n'
    requests = collect({"source": {"reader": "mooncake", "path": rows(tmp_path / "m.jsonl", text)}})
    assert requests["prefix_blocks"].to_list() == [None]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (line(5, prompt=0), "row 2: input_length"),
        (line(5, output=0), r"row 2: output_length[\s\S]*zero_output"),
        (line(5, output=-3), "row 2: output_length"),
        (line('"soon"'), "row 2: timestamp: .*'soon'"),
        (line(5, blocks='{"system": [1]}'), r"row 2: hash_ids: not a list of whole numbers"),
        (
            line(5, prompt=600, blocks="[0, 1, 2, 3, 4, 5]"),
            r"row 2: hash_ids: more blocks .*got 6.*at most 2",
        ),
        (line(5, prompt=512, blocks="[0, 7]"), r"row 2: hash_ids: more blocks .*got 2.*at most 1"),
    ],
)
def test_a_bad_value_is_named(bad: str, message: str, tmp_path: Path) -> None:
    """Row and key are in the message; block ids must be a list."""
    with pytest.raises(TraceError, match=r"m\.jsonl: " + message):
        MooncakeReader(path=rows(tmp_path / "m.jsonl", f"{line(0)}\n{bad}\n")).read()
