"""Reader of Mooncake traces: requests with the ids of their prompts' blocks, as JSON lines.

Times are milliseconds; an id stands for a block of 512 tokens and everything before it, and is global to the
trace. The format is described in https://github.com/kvcache-ai/Mooncake and in Qin et al., "Mooncake", FAST
2025.
"""

from __future__ import annotations

from typing import Annotated

import polars as pl
from pydantic import Field

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
from servesim.workload.timestamps import seconds

_BLOCK_TOKENS = 512


class MooncakeReader:
    """Mooncake traces with prefix block ids (JSON lines).

    Parameters
    ----------
    path
        The file.
    spread_s
        The conversation trace has its times on a grid of 3 s, with about ten requests at each. Null replays
        it as it is recorded; ``3.0`` spreads the n requests of a grid time evenly over the 3 s that follow
        it, or over the time to the next one if that is nearer: the i-th moves by i/n of it, so nothing is
        random and the order stays. How many requests share their time with an earlier one is counted in
        ``arrival_ties``.
    zero_output
        What to do with requests that emitted no token: ``error``, ``drop`` or ``keep_as_one``.
    """

    signature = Signature(
        forms=("jsonl",),
        needs=("timestamp", "input_length", "output_length"),
        reading={"zero_output": "drop"},
    )

    def __init__(
        self,
        *,
        path: TracePath,
        spread_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None,
        zero_output: ZeroOutput = "error",
    ) -> None:
        self.path = path
        self.spread_s = spread_s
        self.zero_output = zero_output
        self.notes: dict[str, int | float | str] = {}
        self.left_out: list[str] = []

    def read(self) -> pl.LazyFrame:
        """Return arrivals from 0, lengths and, where the file has them, prefix blocks.

        Raises
        ------
        TraceError
            If the file cannot be taken as it is.
        """
        found = jsonl_keys(self.path)
        blocks = {"hash_ids": pl.List(pl.Int64)} if "hash_ids" in found else {}
        self.left_out = [name for name in found if name not in (*self.signature.needs, *blocks)]
        frame = read_jsonl(self.path, numbers=["timestamp", "input_length", "output_length"], others=blocks)
        check_numbers(frame, "timestamp", self.path)
        check_tokens(frame, "input_length", self.path)
        if blocks:
            check_block_counts(
                frame, "hash_ids", self.path, prompt="input_length", block_tokens=_BLOCK_TOKENS
            )
        frame = frame.with_columns(seconds(frame["timestamp"] - frame["timestamp"].min(), 1e3))
        self.notes = {"rows_read": frame.height, "arrival_ties": frame.height - frame["timestamp"].n_unique()}
        if self.spread_s is not None:
            frame = frame.with_columns(_spread(frame["timestamp"], self.spread_s))
        frame, self.notes["zero_output"] = settle_zero_output(
            frame, "output_length", self.path, self.zero_output
        )
        if blocks:
            self.notes["prefix_block_tokens"] = _BLOCK_TOKENS
        return frame.lazy().select(
            row=ROW,
            arrival_s="timestamp",
            prompt_tokens="input_length",
            output_tokens="output_length",
            prefix_blocks=pl.col("hash_ids") if blocks else pl.lit(None, dtype=pl.List(pl.Int64)),
            prefix_block_tokens=pl.lit(_BLOCK_TOKENS if blocks else None, dtype=pl.Int32),
        )


def _spread(times: pl.Series, cell_s: float) -> pl.Series:
    """Return *times* in seconds with those that are equal spread over *cell_s*, or over the gap to the next
    time.
    """
    grid = times.unique().sort().alias("time")
    cells = grid.to_frame().with_columns(
        cell=(grid.shift(-1) - grid).fill_null(float("inf")).clip(upper_bound=cell_s)
    )
    members = times.alias("time").to_frame().join(cells, on="time", how="left", maintain_order="left")
    position = pl.int_range(pl.len()).over("time") / pl.len().over("time")
    return members.select((pl.col("time") + pl.col("cell") * position).alias(times.name)).to_series()
