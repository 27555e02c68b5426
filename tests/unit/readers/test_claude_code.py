"""The claude_code reader: native sessions with agents that start agents, the packed form, the real sessions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from workloads import build, collect

from servesim.errors import TraceError
from servesim.readers.claude_code import ClaudeCodeReader


def request(t: float, ids: list[int], *, api: float = 2.0, out: int = 5) -> dict[str, Any]:
    """Return a request of the native form."""
    return {"t": t, "type": "n", "model": "m", "in": 64 * len(ids) + 1, "out": out, "hash_ids": ids} | {
        "api_time": api,
        "think_time": 0.0,
    }


def session(path: Path, entries: list[dict[str, Any]], name: str = "s") -> Path:
    """Write a session and return its path."""
    path.write_text(json.dumps({"id": name, "models": ["m"], "block_size": 64, "requests": entries}))
    return path


def test_a_session_with_an_agent_beside(tmp_path: Path) -> None:
    """Each agent is a session of its own."""
    entries = [
        request(0.0, [1, 2]),
        {"type": "subagent", "requests": [request(1.0, [9]), request(4.0, [9, 10])]},
        request(5.0, [1, 2, 3]),
    ]
    frame = ClaudeCodeReader(path=session(tmp_path / "a.json", entries), prefix_blocks=True).read().collect()
    assert frame["session"].to_list() == ["s/0", "s/0", "s/0.1", "s/0.1"]
    assert frame["arrival_s"].to_list() == [0.0, 5.0, 1.0, 4.0]
    assert frame["end_s"].to_list() == [2.0, 7.0, 3.0, 6.0]
    assert frame["prefix_blocks"].to_list() == [[1, 2], [1, 2, 3], [9], [9, 10]]
    assert frame["prompt_tokens"].to_list() == [129, 193, 65, 129]


def test_closed_loop_waits_for_the_end(tmp_path: Path) -> None:
    """The pause runs from the end of the request before, 2 s after its arrival."""
    entries = [request(0.0, [1]), request(7.5, [1, 2])]
    path = session(tmp_path / "a.json", entries)
    frame = collect({"source": {"reader": "claude_code", "path": path}, "closed_loop": True})
    assert frame["arrival_s"].to_list() == [0.0, 0.0]
    assert frame["think_s"].to_list() == [None, 5.5]


def test_sessions_of_a_folder_have_blocks_of_their_own(tmp_path: Path) -> None:
    """Local ids that are equal in two sessions are different blocks; the same session twice is kept once."""
    session(tmp_path / "a.json", [request(0.0, [1, 2])], "a")
    session(tmp_path / "b.json", [request(0.0, [1, 2]), request(9.0, [1, 7])], "b")
    session(tmp_path / "c.json", [request(0.0, [5, 6])], "c")
    reader = ClaudeCodeReader(path=tmp_path, prefix_blocks=True)
    frame = reader.read().collect()
    assert reader.notes["sessions_duplicated"] == 1
    blocks = {row["session"]: row["prefix_blocks"] for row in frame.iter_rows(named=True)}
    assert set(blocks) == {"a/0", "b/0"}
    assert not set(blocks["a/0"]) & set(blocks["b/0"])
    both = frame.filter(pl.col("session") == "b/0")["prefix_blocks"].to_list()
    assert both[0][0] == both[1][0]
    assert both[0][1] != both[1][1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a session"),
        ('{"id": "x"}', "no 'requests'"),
        ('{"requests": [{"t": 0}]}', "agent 0, request 1: no 'model'"),
        ('{"requests": [5]}', "not a session"),
        ('{"block_size": "64", "requests": []}', "block_size .got '64'"),
        (
            '{"hash_id_scope": "tenant", "requests": []}',
            "hash_id_scope .got 'tenant'.. expected local or global",
        ),
        ('{"requests": []}', "no requests"),
        ("version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_what_is_no_session(tmp_path: Path, text: str, message: str) -> None:
    """The file and what is wrong with it are named."""
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(TraceError, match=message):
        ClaudeCodeReader(path=path).read()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"in": "x"}, r"agent 0.1, request 2: in: not a number \(got 'x'\)"),
        ({"out": None}, r"agent 0.1, request 2: out: not a number \(got None\)"),
        ({"t": True}, r"agent 0.1, request 2: t: not a number \(got True\)"),
        ({"hash_ids": [1, "2"]}, r"agent 0.1, request 2: hash_ids: unusable id \(got '2'\)"),
        ({"hash_ids": [1 << 32]}, r"agent 0.1, request 2: hash_ids: unusable id \(got 4294967296\)"),
        (
            {"in": 100},
            r"row 3: n_blocks: more blocks than the prompt of 100 tokens has \(got 3\)\. expected at most 2",
        ),
        ({"in": 64.5}, r"row 3: in_tokens: unusable value \(got 64.5\)"),
        ({"out": -1}, r"row 3: out_tokens: unusable value \(got -1\)"),
    ],
)
def test_a_bad_value_of_a_session_is_named(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    """By file, agent, request and key; of values out of range the row is the request's, agent by agent."""
    requests = [request(1.0, [9]), request(4.0, [1, 2, 3]) | changed]
    session(tmp_path / "good.json", [request(0.0, [1])], "good")
    session(tmp_path / "bad.json", [request(0.0, [1]), {"type": "subagent", "requests": requests}], "bad")
    with pytest.raises(TraceError, match=r"bad\.json: " + message):
        ClaudeCodeReader(path=tmp_path).read()


def test_blocks_are_as_long_as_the_file_says(tmp_path: Path) -> None:
    """16 tokens in one session, 64 in another, as without the key; floor and ceil counts are taken."""
    short = request(0.0, [1, 2, 3]) | {"in": 40}
    document = {"id": "a", "block_size": 16, "hash_id_scope": "local", "requests": [short]}
    (tmp_path / "a.json").write_text(json.dumps(document))
    (tmp_path / "b.json").write_text(json.dumps({"id": "b", "requests": [request(0.0, [1])]}))
    frame = ClaudeCodeReader(path=tmp_path, prefix_blocks=True).read().collect()
    assert dict(frame.select("session", "prefix_block_tokens").rows()) == {"a/0": 16, "b/0": 64}
    workload = collect({"source": {"reader": "claude_code", "path": tmp_path, "prefix_blocks": True}})
    assert sorted(workload["prefix_block_tokens"]) == [16, 64]


def test_global_ids_are_shared_by_sessions(tmp_path: Path) -> None:
    """Two sessions of global scope share block 1; one of local scope has a block of its own."""
    for name, scope in (("a", "global"), ("b", "global"), ("c", "local")):
        requests = [request(0.0, [1, ord(name)])]
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"id": name, "hash_id_scope": scope, "requests": requests})
        )
    reader = ClaudeCodeReader(path=tmp_path, prefix_blocks=True, duplicates=True)
    blocks = dict(reader.read().collect().select("session", "prefix_blocks").rows())
    assert blocks["a/0"][0] == blocks["b/0"][0]
    assert len({block for ids in blocks.values() for block in ids}) == 5


def test_companions_of_macos_are_no_sessions(tmp_path: Path) -> None:
    """Archives made there have an AppleDouble file beside each file."""
    session(tmp_path / "a.json", [request(0.0, [1])])
    (tmp_path / "._a.json").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X" + bytes(16))
    assert ClaudeCodeReader(path=tmp_path).read().collect().height == 1


def test_an_empty_folder(tmp_path: Path) -> None:
    """A folder without JSON files is refused."""
    with pytest.raises(TraceError, match="no JSON file"):
        ClaudeCodeReader(path=tmp_path).read()


def test_the_published_sessions(shared: Callable[[str], Path]) -> None:
    """49,334 requests, prompts of 122,379 tokens on average, 97.3 % of blocks those of the request before.

    The first request of each agent has none before it and is left out.
    """
    path = shared("traces/claude_code/requests.parquet")
    source = {"reader": "claude_code", "path": path, "duplicates": True}
    workload = build({"source": source, "closed_loop": True})
    requests = pl.concat(list(workload.frames()))
    assert requests.height == 49_334
    assert requests["prompt_tokens"].mean() == pytest.approx(122_379, abs=0.5)
    assert requests["think_s"].null_count() == requests["session"].n_unique() == 773
    assert requests["think_s"].quantile(0.5) == pytest.approx(10.0, abs=1.0)
    packed = pl.read_parquet(path).filter(pl.col("idx") > 0)
    assert packed["lcp_prev"].sum() / packed["n_blocks"].sum() == pytest.approx(0.973, abs=0.0005)


def test_duplicates_of_the_published_sessions(shared: Callable[[str], Path]) -> None:
    """25 of its files are 6 sessions: 19 are left out."""
    workload = build(
        {"source": {"reader": "claude_code", "path": shared("traces/claude_code/requests.parquet")}}
    )
    assert workload.notes["sessions_duplicated"] == 19


def test_blocks_of_the_published_sessions(shared: Callable[[str], Path], tmp_path: Path) -> None:
    """Of the first sessions: as many as the trace tells, and those shared with the request before come first."""
    packed = pl.read_parquet(shared("traces/claude_code/requests.parquet")).filter(pl.col("conv") <= 12)
    packed.write_parquet(tmp_path / "few.parquet")
    reader = ClaudeCodeReader(path=tmp_path / "few.parquet", prefix_blocks=True)
    frame = reader.read().collect()
    assert frame["prefix_blocks"].list.len().to_list() == packed["n_blocks"].to_list()
    latest: dict[str, pl.Series] = {}
    for session, own, blocks in zip(
        frame["session"], packed["lcp_prev"], frame["prefix_blocks"], strict=True
    ):
        if session in latest:
            assert blocks.head(own).to_list() == latest[session].head(own).to_list()
        latest[session] = blocks
