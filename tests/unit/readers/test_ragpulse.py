"""The ragpulse reader: chunks in chained blocks, times as text, the real trace."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from workloads import build, collect, rows

from servesim.errors import TraceError
from servesim.readers.ragpulse import RagPulseReader


def line(time_s: str, session: str = "s", **parts: list[int]) -> str:
    """Return a request whose prompt has 64 tokens."""
    empty: dict[str, Any] = {
        "sys_prompt": [],
        "passages_ids": [],
        "history": [],
        "web_search": [],
        "user_input": [],
    }
    row = {"timestamp": time_s, "input_length": 64, "output_length": 5, "hash_ids": empty | parts}
    return json.dumps(row | {"session_id": session})


@pytest.fixture
def chunks(tmp_path: Path) -> Path:
    """Return the lengths of chunks: 1 and 2 of 24 tokens, 3 of 16."""
    path = tmp_path / "chunks.parquet"
    pl.DataFrame({"id": [1, 2, 3], "tokens": [24, 24, 16]}).write_parquet(path)
    return path


def test_blocks_are_equal_as_far_as_prompts_are(tmp_path: Path, chunks: Path) -> None:
    """Chunks 1 (24 tokens), 2 (24), 3 (16): blocks of 16 end at 16, 32, 48, 64.

    A prompt that has chunk 1 first and then chunk 3 shares the block within chunk 1 only: the second block has
    tokens of the next chunk. The same chunks in another order share nothing.
    """
    text = "\n".join(
        [
            line("0", sys_prompt=[1], passages_ids=[2], user_input=[3]),
            line("1", sys_prompt=[1], passages_ids=[2], user_input=[3]),
            line("2", sys_prompt=[1], user_input=[3]),
            line("3", sys_prompt=[2], passages_ids=[1], user_input=[3]),
        ]
    )
    reader = RagPulseReader(path=rows(tmp_path / "r.jsonl", text), chunks=chunks)
    first, again, shorter, swapped = reader.read().collect()["prefix_blocks"].to_list()
    assert first == again
    assert len(first) == 4
    assert len(shorter) == 2
    assert shorter[0] == first[0]
    assert shorter[1] != first[1]
    assert not set(swapped) & set(first)


def test_a_chunk_of_unknown_length(tmp_path: Path, chunks: Path) -> None:
    """It is named with its row."""
    reader = RagPulseReader(path=rows(tmp_path / "r.jsonl", line("0", history=[9])), chunks=chunks)
    with pytest.raises(TraceError, match=r"no length of chunk 9 \(row 1 of .*\)"):
        reader.read()


def test_sessions_in_closed_loop(tmp_path: Path) -> None:
    """A question waits as long after the one before as it came after it."""
    text = "\n".join([line("10", "a"), line("12", "b"), line("40", "a")])
    source = {"reader": "ragpulse", "path": rows(tmp_path / "r.jsonl", text)}
    frame = collect({"source": source, "closed_loop": True})
    found = frame.select("arrival_s", "session", "think_s").rows()
    assert found == [(0.0, "a", None), (0.0, "a", 30.0), (2.0, "b", None)]


def test_the_published_trace(shared: Callable[[str], Path]) -> None:
    """7,106 requests in 7.0 days, 1 inversion, prompts of 2,944 and outputs of 283 tokens, 3,990 sessions."""
    folder = shared("traces/ragpulse")
    source = {"reader": "ragpulse", "path": folder / "0_trace.jsonl", "chunks": folder / "chunks.parquet"}
    workload = build({"source": source})
    requests = pl.concat(list(workload.frames()))
    assert requests.height == 7106
    recorded = RagPulseReader(path=folder / "0_trace.jsonl").read().collect()["arrival_s"]
    assert (recorded.diff() < 0).sum() == 1
    assert workload.notes["sessions"] == 3990
    assert requests["arrival_s"].max() == pytest.approx(7.0 * 86400, rel=0.01)
    assert requests["prompt_tokens"].mean() == pytest.approx(2944, abs=0.5)
    assert requests["prompt_tokens"].median() == pytest.approx(3140, abs=1)
    assert requests["output_tokens"].mean() == pytest.approx(283, abs=0.5)
    turns = requests.group_by("session").len()["len"]
    assert (turns > 1).mean() == pytest.approx(0.41, abs=0.005)
    assert turns.max() == 25
    covered = requests["prefix_blocks"].list.len() * 16 / requests["prompt_tokens"]
    assert covered.min() > 0.97  # type: ignore[operator]
