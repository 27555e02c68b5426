"""The lmcache reader: texts and lengths of agents' calls, both forms, the real calls, and what breaks them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from workloads import build, collect

from servesim.errors import TraceError
from servesim.readers.lmcache import LmCacheReader
from servesim.traces.detect import detect
from servesim.workload.prefixes import prefix_hit_ratio

START_US = 1_760_000_000_000_000
REAL = "traces/lmcache_agent/requests.parquet"
BLOCK = {"chars_per_token": 2.0, "prefix_block_tokens": 16}
"""32 characters are a block."""


def call(time_s: float, text: str, output: str = "abcd", session: str = "s") -> dict[str, Any]:
    """Return a line of the native form."""
    return {
        "timestamp": START_US + round(time_s * 1e6),
        "input": text,
        "output": output,
        "session_id": session,
    }


def native(path: Path, calls: list[Any]) -> Path:
    """Write *calls* as JSON lines and return the path."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in calls))
    return path


def packed(path: Path, rows: list[tuple[Any, ...]]) -> Path:
    """Write rows of session, time in s, characters of input and output, and those in common; return the path."""
    names = ["session", "timestamp_us", "input_chars", "output_chars", "lcp_prev_chars"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    micro = (pl.col("timestamp_us") * 1_000_000 + START_US).cast(pl.Int64)
    frame.with_columns(micro, agent=pl.lit("swe"), turn=pl.int_range(pl.len())).write_parquet(path)
    return path


def blocks(frame: pl.DataFrame) -> list[list[int]]:
    """Return block ids with small numbers in place of hashes, in the order in which they occur."""
    known: dict[int, int] = {}
    return [
        [known.setdefault(block, len(known)) for block in ids] for ids in frame["prefix_blocks"].to_list()
    ]


def test_characters_become_tokens(tmp_path: Path) -> None:
    """Rounded up by the mean of 3.94 characters or another; no text at all is one token."""
    path = native(tmp_path / "swe" / "a.jsonl", [call(0, "x" * 394, "y"), call(1, ""), call(2, "é" * 395)])
    reader = LmCacheReader(path=path)
    frame = reader.read().collect()
    assert frame["prompt_tokens"].to_list() == [100, 1, 101]
    assert frame["output_tokens"].to_list() == [1, 2, 2]
    assert frame["tenant"].to_list() == ["swe"] * 3
    assert reader.notes == {"rows_read": 3, "sessions": 1, "empty_inputs": 1, "zero_output": 0}
    assert LmCacheReader(path=path, chars_per_token=4.0).read().collect()["prompt_tokens"].to_list() == [
        99,
        1,
        99,
    ]


def test_blocks_are_equal_where_texts_are(tmp_path: Path) -> None:
    """Whole blocks of 32 characters; a difference changes its block and all after it; sessions share what is equal."""
    text = "".join(chr(33 + place % 90) for place in range(130))
    calls = [
        call(0, text[:100]),
        call(1, text),
        call(2, text[:40] + "?" + text[41:]),
        call(3, text[:31]),
        call(4, text[:70], session="t"),
    ]
    path = native(tmp_path / "a.jsonl", calls)
    frame = LmCacheReader(path=path, **BLOCK).read().collect()
    assert blocks(frame) == [[0, 1, 2], [0, 1, 2, 3], [0, 4, 5, 6], [], [0, 1]]


def test_blocks_in_common_with_the_line_before(tmp_path: Path) -> None:
    """The packed form: 70 characters in common are two whole blocks; the line before is that of the session."""
    rows = [("a", 0, 100, 4, 0), ("b", 1, 100, 4, 0), ("a", 9, 130, 4, 70), ("a", 5, 64, 4, 64)]
    frame = LmCacheReader(path=packed(tmp_path / "a.parquet", rows), **BLOCK).read().collect()
    assert blocks(frame) == [[0, 1, 2], [3, 4, 5], [0, 1, 6, 7], [0, 1]]
    assert frame["arrival_s"].to_list() == [0.0, 1.0, 9.0, 5.0]
    assert set(frame["tenant"]) == {"swe"}


def test_both_forms_agree_on_growing_prompts(tmp_path: Path) -> None:
    """Where each prompt continues the one before, the packed form loses nothing."""
    texts = [("ab" * 300)[:length] for length in (90, 250, 251, 600)]
    calls = [call(number, text) for number, text in enumerate(texts)]
    rows = [
        ("s", number, len(text), 4, len(texts[number - 1]) if number else 0)
        for number, text in enumerate(texts)
    ]
    one = LmCacheReader(path=native(tmp_path / "swe" / "a.jsonl", calls), **BLOCK).read().collect()
    other = LmCacheReader(path=packed(tmp_path / "a.parquet", rows), **BLOCK).read().collect()
    assert blocks(one) == blocks(other)
    assert one.drop("prefix_blocks").equals(other.drop("prefix_blocks"))


def test_folders_are_agents(tmp_path: Path) -> None:
    """A folder of folders holds several agents; time 0 is the earliest call of all; the format is told by the files."""
    native(tmp_path / "swe" / "a.jsonl", [call(100, "x")])
    native(tmp_path / "tau" / "b.jsonl", [call(40, "x", session="t"), call(39.5, "x", session="t")])
    assert detect(tmp_path).reader == detect(tmp_path / "swe").reader == "lmcache"
    assert detect(tmp_path / "swe" / "a.jsonl").reader == "lmcache"
    frame = LmCacheReader(path=tmp_path).read().collect()
    assert frame.select("tenant", "session", "arrival_s").rows() == [
        ("swe", "s", 60.5),
        ("tau", "t", 0.5),
        ("tau", "t", 0.0),
    ]


def test_times_in_seconds_must_be_told(tmp_path: Path) -> None:
    """Some files count seconds from 0; as microseconds they are refused."""
    lines = [{**call(0, "x"), "timestamp": time_s} for time_s in (0, 120)]
    path = native(tmp_path / "a.jsonl", lines)
    with pytest.raises(TraceError, match=r"row 1: timestamp: no microseconds since 1970 \(got 0\)") as error:
        LmCacheReader(path=path).read()
    assert "time_unit: s" in str(error.value)
    assert LmCacheReader(path=path, time_unit="s").read().collect()["arrival_s"].to_list() == [0.0, 120.0]


def test_calls_of_a_session_follow_in_order_of_time(tmp_path: Path) -> None:
    """Lines are not in order of time; closed loop has the pauses between arrivals, since ends are not known."""
    path = native(tmp_path / "a.jsonl", [call(9, "x" * 40), call(0, "x"), call(2, "x" * 8)])
    frame = collect({"source": {"reader": "lmcache", "path": path}, "closed_loop": True})
    assert frame["think_s"].to_list() == [None, 2.0, 7.0]
    assert frame["prompt_tokens"].to_list() == [1, 3, 11]


@pytest.mark.parametrize(("policy", "expected"), [("drop", [2]), ("keep_as_one", [1, 2])])
def test_an_output_without_text(policy: str, expected: list[int], tmp_path: Path) -> None:
    """A call of a tool has none: it is left out or one token, and counted."""
    path = native(tmp_path / "a.jsonl", [call(0, "x", ""), call(1, "x")])
    workload = build({"source": {"reader": "lmcache", "path": path, "zero_output": policy}})
    assert pl.concat(list(workload.frames()))["output_tokens"].to_list() == expected
    assert workload.notes["zero_output"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"input": None}, "row 2: input: no text (got null)"),
        ({"session_id": None}, "row 2: session_id: no text (got null)"),
        ({"timestamp": None}, "row 2: timestamp: unusable value (got an empty cell)"),
        ({"timestamp": "soon"}, "row 2: timestamp: not a number (got 'soon')"),
        ({"timestamp": -1}, "row 2: timestamp: no microseconds since 1970 (got -1)"),
    ],
)
def test_a_bad_line_is_named(line: dict[str, Any], message: str, tmp_path: Path) -> None:
    """File, row and key stand in the message."""
    path = native(tmp_path / "a.jsonl", [call(0, "x"), call(1, "x") | line])
    with pytest.raises(TraceError) as error:
        LmCacheReader(path=path).read()
    assert f"{path}: {message}" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"timestamp": 1, "input": "x"}\n', "missing column 'output'"),
        (json.dumps(call(0, "x") | {"input": [{"role": "user"}]}), "row 1: input: no text"),
        ("[1]\n", "not a JSON object"),
        ("", "empty"),
        ("version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_what_is_no_trace(text: str, message: str, tmp_path: Path) -> None:
    """Keys that lack, chats in place of texts, other data."""
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    with pytest.raises(TraceError, match=message):
        LmCacheReader(path=path).read()


def test_an_empty_folder(tmp_path: Path) -> None:
    """A folder without JSON lines files is refused."""
    with pytest.raises(TraceError, match="no JSON lines file"):
        LmCacheReader(path=tmp_path).read()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("a", 1, 50, 4, 60), "row 2: lcp_prev_chars: unusable value (got 60). expected at most input_chars"),
        (("a", 1, 90, 4, 80), "row 2: lcp_prev_chars: more than the session's input before it has (got 80)"),
        (("b", 1, 90, 4, 1), "expected at most 0"),
        (("a", 1, 90, 4, None), "row 2: lcp_prev_chars: more than"),
        (("a", 1, -5, 4, 0), "row 2: input_chars: unusable value (got -5)"),
        (("a", 1, 5, -4, 0), "row 2: output_chars: unusable value (got -4)"),
        (("a", None, 5, 4, 0), "row 2: timestamp_us: unusable value (got an empty cell)"),
    ],
)
def test_a_bad_packed_row_is_named(row: tuple[Any, ...], message: str, tmp_path: Path) -> None:
    """Negative lengths, and more in common than there is."""
    path = packed(tmp_path / "a.parquet", [("a", 0, 70, 4, 0), row])
    with pytest.raises(TraceError) as error:
        LmCacheReader(path=path).read()
    assert message in str(error.value)


def test_the_published_calls(shared: Callable[[str], Path]) -> None:
    """1,619 calls in 69 sessions of three agents; lengths and blocks as the file's characters make them."""
    path = shared(REAL)
    raw = pl.read_parquet(path)
    reader = LmCacheReader(path=path)
    frame = reader.read().collect()
    assert reader.notes == {"rows_read": 1619, "sessions": 69, "empty_inputs": 53, "zero_output": 283}
    assert dict(frame["tenant"].value_counts().rows()) == {"magagent": 746, "taubench": 471, "miniswe": 402}
    assert frame["prompt_tokens"].to_list() == [max(1, math.ceil(n / 3.94)) for n in raw["input_chars"]]
    size = 16 * 3.94
    assert frame["prefix_blocks"].list.len().to_list() == [int(n / size) for n in raw["input_chars"]]
    shared_blocks = sum(int(n / size) for n in raw["lcp_prev_chars"])
    total = sum(int(n / size) for n in raw["input_chars"])
    assert prefix_hit_ratio(frame) == shared_blocks / total == pytest.approx(0.7225, abs=0.0005)
    swe = raw.filter(pl.col("agent") == "miniswe")
    assert swe["lcp_prev_chars"].sum() / swe["input_chars"].sum() == pytest.approx(0.911, abs=0.0005)
