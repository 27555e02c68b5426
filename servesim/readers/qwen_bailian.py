"""Reader of Qwen-Bailian traces: chat and API requests of Alibaba Cloud with the ids of their prompts' blocks.

JSON lines with ``chat_id, parent_chat_id (-1: the first of its session), timestamp (s), input_length, output_length,
type, turn, hash_ids``. An id stands for a block of 16 tokens and everything before it. Two things to know, from the
trace's own documentation: reasoning of earlier turns is not part of later prompts, and the id of a prompt's last block
changes once the block fills. The format: https://github.com/alibaba-edu/qwen-bailian-usagetraces-anon.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from servesim.errors import TraceError
from servesim.workload.api import Signature
from servesim.workload.checks import (
    ROW,
    ZeroOutput,
    check_block_counts,
    check_numbers,
    check_tokens,
    settle_zero_output,
)
from servesim.workload.files import jsonl_keys, read_jsonl
from servesim.workload.paths import TracePath

_BLOCK_TOKENS = 16
_NUMBERS = ["chat_id", "parent_chat_id", "timestamp", "input_length", "output_length"]


class QwenBailianReader:
    """Qwen-Bailian traces (JSON lines). The session is the first chat of a chain of turns, the tenant the type.

    Parameters
    ----------
    path
        The file.
    zero_output
        What to do with requests that emitted no token: ``error``, ``drop`` or ``keep_as_one``.
    """

    signature = Signature(
        forms=("jsonl",), needs=(*_NUMBERS, "type", "hash_ids"), reading={"zero_output": "drop"}
    )

    def __init__(self, *, path: TracePath, zero_output: ZeroOutput = "error") -> None:
        self.path = path
        self.zero_output = zero_output
        self.notes: dict[str, int | float | str] = {}
        self.left_out: list[str] = []

    def read(self) -> pl.LazyFrame:
        """Return arrivals from 0, lengths, sessions, types and prefix blocks.

        Raises
        ------
        TraceError
            If the file cannot be taken as it is.
        """
        told = {"timestamp", "input_length", "output_length", "type", "hash_ids"}
        self.left_out = [name for name in jsonl_keys(self.path) if name not in told]
        others = {"type": pl.String(), "hash_ids": pl.List(pl.Int64)}
        frame = read_jsonl(self.path, numbers=_NUMBERS, others=others)
        for name in ("chat_id", "parent_chat_id", "timestamp"):
            check_numbers(frame, name, self.path)
        check_tokens(frame, "input_length", self.path)
        check_block_counts(frame, "hash_ids", self.path, prompt="input_length", block_tokens=_BLOCK_TOKENS)
        frame = frame.with_columns(root=self._roots(frame))
        self.notes = {
            "rows_read": frame.height,
            "sessions": frame["root"].n_unique(),
            "prefix_block_tokens": _BLOCK_TOKENS,
        }
        start_s = frame["timestamp"].min()
        frame, self.notes["zero_output"] = settle_zero_output(
            frame, "output_length", self.path, self.zero_output
        )
        requests = frame.select(
            row=ROW,
            arrival_s=pl.col("timestamp") - start_s,
            prompt_tokens="input_length",
            output_tokens="output_length",
            tenant="type",
            session=pl.col("root").cast(pl.String),
            prefix_blocks="hash_ids",
            prefix_block_tokens=pl.lit(_BLOCK_TOKENS, dtype=pl.Int32),
        )
        return requests.lazy()

    def _roots(self, frame: pl.DataFrame) -> pl.Series:
        """Return the first chat of the chain that each chat belongs to; a parent that is not in the file begins one."""
        chats = frame["chat_id"].cast(pl.Int64)
        if chats.n_unique() < len(chats):
            row = frame[ROW][int(chats.is_duplicated().arg_max() or 0)]
            raise TraceError(f"{self.path}: row {row}: chat_id: more than once. expected each chat once")
        places = pl.DataFrame({"chat": chats, "place": np.arange(len(chats))})
        parents = frame.select(chat=pl.col("parent_chat_id").cast(pl.Int64)).join(
            places, on="chat", how="left", maintain_order="left"
        )["place"]
        own = np.arange(len(chats))
        parent = np.where(parents.is_null().to_numpy(), own, parents.fill_null(0).to_numpy())
        up = parent
        for _ in range(max(len(chats), 1).bit_length()):  # each pass doubles how far a chat looks up
            up = up[up]
        if (parent[up] != up).any():
            raise TraceError(
                f"{self.path}: parent_chat_id: a chat is its own ancestor. expected chains with a begin"
            )
        return chats[up.astype(np.uint32)]
