"""The qwen_bailian reader: chains of chats, blocks of 16 tokens, loops and repetitions refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from workloads import collect, rows

from servesim.errors import TraceError
from servesim.readers.qwen_bailian import QwenBailianReader


def line(chat: int, parent: int, time_s: float, kind: str = "text") -> str:
    """Return a chat."""
    row = {
        "chat_id": chat,
        "parent_chat_id": parent,
        "timestamp": time_s,
        "input_length": 40,
        "output_length": 5,
    }
    return json.dumps(row | {"type": kind, "turn": 1, "hash_ids": [1, 2, chat + 10]})


def test_a_chain_is_a_session(tmp_path: Path) -> None:
    """Chats 1, 2 and 4 belong to chat 1, whatever the order of rows; chat 3's parent is not in the file."""
    text = "\n".join([line(4, 2, 9.0), line(1, -1, 5.0), line(2, 1, 7.0), line(3, 99, 8.0, "image")])
    reader = QwenBailianReader(path=rows(tmp_path / "q.jsonl", text))
    frame = reader.read().collect()
    assert frame["session"].to_list() == ["1", "1", "1", "3"]
    assert frame["arrival_s"].to_list() == [4.0, 0.0, 2.0, 3.0]
    assert frame["tenant"].to_list() == ["text", "text", "text", "image"]
    assert frame["prefix_blocks"].to_list()[1] == [1, 2, 11]
    assert frame["prefix_block_tokens"].to_list() == [16] * 4
    assert reader.notes["sessions"] == 2


def test_more_blocks_than_the_prompt_has(tmp_path: Path) -> None:
    """Three blocks of 16 tokens for a prompt of 32 are refused by row."""
    text = "\n".join([line(1, -1, 5.0), line(2, 1, 7.0).replace('"input_length": 40', '"input_length": 32')])
    with pytest.raises(TraceError, match=r"q\.jsonl: row 2: hash_ids: more blocks .*got 3.*at most 2"):
        QwenBailianReader(path=rows(tmp_path / "q.jsonl", text)).read()


def test_turns_in_closed_loop(tmp_path: Path) -> None:
    """A turn waits as long after the one before as it came after it."""
    text = "\n".join([line(1, -1, 5.0), line(2, 1, 7.0), line(4, 2, 9.5)])
    source = {"reader": "qwen_bailian", "path": rows(tmp_path / "q.jsonl", text)}
    frame = collect({"source": source, "closed_loop": True})
    assert frame["think_s"].to_list() == [None, 2.0, 2.5]
    assert frame["arrival_s"].to_list() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("chats", "message"),
    [
        ([(1, -1), (1, -1)], "row 1: chat_id: more than once"),
        ([(1, 2), (2, 1)], "its own ancestor"),
    ],
)
def test_chats_that_are_no_chains(tmp_path: Path, chats: list[tuple[int, int]], message: str) -> None:
    """A chat twice, and chats in a circle."""
    text = "\n".join(line(chat, parent, 1.0) for chat, parent in chats)
    with pytest.raises(TraceError, match=message):
        QwenBailianReader(path=rows(tmp_path / "q.jsonl", text)).read()


def test_a_long_chain(tmp_path: Path) -> None:
    """A thousand turns are one session."""
    text = "\n".join(line(chat, chat - 1 or -1, float(chat)) for chat in range(1, 1001))
    frame = QwenBailianReader(path=rows(tmp_path / "q.jsonl", text)).read().collect()
    assert frame["session"].unique().to_list() == ["1"]
