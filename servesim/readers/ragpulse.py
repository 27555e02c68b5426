"""Reader of RAGPulse: requests of a retrieval-augmented question service, with the ids of the chunks in their prompts.

JSON lines with ``timestamp`` (s, as text), ``input_length``, ``output_length``, ``session_id`` and ``hash_ids``, which
lists the chunks of each part of the prompt. An id names a chunk's content wherever it stands, so ids are chained here:
a block is the same only if everything before it is. How long chunks are is in files of their own. The format:
https://github.com/flashserve/RAGPulse.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from servesim.errors import TraceError
from servesim.workload.api import Signature
from servesim.workload.checks import ROW, ZeroOutput, check_numbers, check_tokens, settle_zero_output
from servesim.workload.files import jsonl_keys, read_jsonl, read_parquet
from servesim.workload.paths import TracePath
from servesim.workload.prefixes import segment_blocks

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
        self.left_out: list[str] = []

    def read(self) -> pl.LazyFrame:
        """Return arrivals from 0, lengths, sessions and, where chunks are known, prefix blocks.

        Raises
        ------
        TraceError
            If a file cannot be taken as it is.
        """
        told = set(self.signature.needs) - ({"hash_ids"} if self.chunks is None else set())
        self.left_out = [name for name in jsonl_keys(self.path) if name not in told]
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

    def _blocks(self, frame: pl.DataFrame, chunks: Path) -> pl.Series:
        """Return the block ids of each prompt, put together from its chunks in their order."""
        lengths = read_parquet(chunks, ["id", "tokens"]).select(
            chunk="id", tokens=pl.col("tokens").cast(pl.Int64)
        )
        parts = [pl.col("hash_ids").struct.field(part).fill_null([]) for part in PARTS]
        listed = frame.select(ROW, chunk=pl.concat_list(parts)).explode("chunk").drop_nulls("chunk")
        listed = listed.join(lengths, on="chunk", how="left", maintain_order="left")
        if (unknown := listed.filter(pl.col("tokens").is_null())).height:
            row, chunk, _ = unknown.row(0)
            raise TraceError(
                f"{chunks}: no length of chunk {chunk} (row {row} of {self.path}). expected one for every chunk"
            )
        rows = frame[ROW].to_numpy()
        row = np.searchsorted(rows, listed[ROW].to_numpy())
        place = np.arange(len(row)) - np.searchsorted(row, row)
        shape = (frame.height, int(place.max(initial=0)) + 1)
        contents, tokens = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        contents[row, place], tokens[row, place] = listed["chunk"].to_numpy(), listed["tokens"].to_numpy()
        room = frame["input_length"].to_numpy().astype(np.int64)[:, None] - (
            np.cumsum(tokens, axis=1) - tokens
        )
        return segment_blocks(contents, np.minimum(tokens, np.maximum(room, 0)), self.prefix_block_tokens)
