"""Reader of RAGPulse: requests of a retrieval-augmented question service, with the ids of the chunks in their prompts.

JSON lines with ``timestamp`` (s, as text), ``input_length``, ``output_length``, ``session_id`` and ``hash_ids``, which
lists the chunks of each part of the prompt. An id names a chunk's content wherever it stands, so ids are chained here:
a block is the same only if everything before it is. How long chunks are is in files of their own. The format:
https://github.com/flashserve/RAGPulse.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from servesim.errors import TraceError
from servesim.workload.api import Signature
from servesim.workload.checks import ROW, ZeroOutput, check_numbers, check_tokens, settle_zero_output
from servesim.workload.files import read_jsonl, read_parquet
from servesim.workload.paths import TracePath

PARTS = ("sys_prompt", "passages_ids", "history", "web_search", "user_input")
"""Parts of a prompt, in their order in it."""


class RagPulseReader:
    """RAGPulse traces (JSON lines).

    Parameters
    ----------
    path
        The file.
    chunks
        Parquet file with the columns ``id`` and ``tokens``: how long each chunk is. Null: prompts have no
        prefix blocks.
    prefix_block_tokens
        Tokens of a prefix block.
    zero_output
        What to do with requests that emitted no token: ``error``, ``drop`` or ``keep_as_one``.
    """

    signature = Signature(
        forms=("jsonl",),
        needs=("timestamp", "input_length", "output_length", "session_id", "hash_ids"),
        reading={"zero_output": "drop"},
    )

    def __init__(
        self,
        *,
        path: TracePath,
        chunks: TracePath | None = None,
        prefix_block_tokens: Literal[16, 64, 512] = 16,
        zero_output: ZeroOutput = "error",
    ) -> None:
        self.path = path
        self.chunks = chunks
        self.prefix_block_tokens = prefix_block_tokens
        self.zero_output = zero_output
        self.notes: dict[str, int | float | str] = {}

    def read(self) -> pl.LazyFrame:
        """Return arrivals from 0, lengths, sessions and, where chunks are known, prefix blocks.

        Raises
        ------
        TraceError
            If a file cannot be taken as it is.
        """
        parts = pl.Struct(dict.fromkeys(PARTS, pl.List(pl.Int64)))
        frame = read_jsonl(
            self.path,
            numbers=["timestamp", "input_length", "output_length"],
            others={"session_id": pl.String(), "hash_ids": parts},
        )
        check_numbers(frame, "timestamp", self.path)
        check_tokens(frame, "input_length", self.path)
        self.notes = {"rows_read": frame.height, "sessions": frame["session_id"].n_unique()}
        start_s = frame["timestamp"].min()
        frame, self.notes["zero_output"] = settle_zero_output(
            frame, "output_length", self.path, self.zero_output
        )
        requests = frame.select(
            row=ROW,
            arrival_s=pl.col("timestamp") - start_s,
            prompt_tokens=pl.col("input_length").cast(pl.Int32),
            output_tokens="output_length",
            session="session_id",
        )
        if self.chunks is not None:
            requests = requests.with_columns(
                self._blocks(frame, self.chunks),
                prefix_block_tokens=pl.lit(self.prefix_block_tokens, dtype=pl.Int32),
            )
            self.notes["prefix_block_tokens"] = self.prefix_block_tokens
        return requests.lazy()

    def _blocks(self, frame: pl.DataFrame, chunks: TracePath) -> pl.Series:
        """Return the block ids of each prompt: a number per chain of chunks, and the block's place in the prompt."""
        tokens = dict(read_parquet(chunks, ["id", "tokens"]).select("id", "tokens").iter_rows())
        chains: dict[tuple[int, int], int] = {}
        blocks = []
        for row, most, parts in frame.select(ROW, "input_length", "hash_ids").iter_rows():
            chain, ends, numbers = 0, [], []
            end = 0
            for part in PARTS:
                for chunk in parts[part] or ():
                    if chunk not in tokens:
                        raise TraceError(
                            f"{chunks}: no length of chunk {chunk} (row {row} of {self.path}: {part}). "
                            "expected one for every chunk"
                        )
                    chain = chains.setdefault((chain, chunk), len(chains) + 1)
                    end += tokens[chunk]
                    ends.append(end)
                    numbers.append(chain)
            count = min(end, int(most)) // self.prefix_block_tokens
            last = np.arange(1, count + 1) * self.prefix_block_tokens - 1  # each block's last token
            chain_of = np.array(numbers, dtype=np.int64)[np.searchsorted(ends, last, side="right")]
            blocks.append((chain_of << 20) | np.arange(count))
        return pl.Series("prefix_blocks", blocks, dtype=pl.List(pl.Int64))
