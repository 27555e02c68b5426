"""The form of the Mooncake traces: JSON lines with ids of prefix blocks of 512 tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from servesim.traces.forms import Form, Taken, taken, text_facts
from servesim.workload.checks import check_numbers, check_tokens
from servesim.workload.files import jsonl_keys, read_jsonl
from servesim.workload.timestamps import seconds

BLOCK_TOKENS = 512
_NUMBERS = ["timestamp", "input_length", "output_length"]


def take(path: Path) -> Taken:
    """Return a file with everything in it.

    Raises
    ------
    TraceError
        If it cannot be read.
    """
    keys = jsonl_keys(path)
    blocks = {"hash_ids": pl.List(pl.Int64())} if "hash_ids" in keys else {}
    frame = read_jsonl(path, numbers=_NUMBERS, others=blocks)
    times = check_numbers(frame, "timestamp", path)
    check_tokens(frame, "input_length", path)
    check_tokens(frame, "output_length", path, least=0)
    first_ms = float(times.min())  # type: ignore[arg-type]  # checked to be numbers
    facts = {"form": "mooncake", "origin_ms": first_ms, **text_facts(path)}
    frame = frame.with_columns(arrival_s=seconds(times - first_ms, 1e3)).drop("timestamp")
    names = {"input_length": "prompt_tokens", "output_length": "output_tokens"}
    frame = frame.rename(names | ({"hash_ids": "prefix_blocks"} if blocks else {}))
    if blocks:
        frame = frame.with_columns(prefix_block_tokens=pl.lit(BLOCK_TOKENS, pl.Int32))
    lost = [f"the file's {key!r}" for key in keys if key not in (*_NUMBERS, "hash_ids")]
    return taken(frame.cast({"prompt_tokens": pl.Int32, "output_tokens": pl.Int32}), facts, lost)


def rows(frame: pl.DataFrame, facts: Mapping[str, Any]) -> pl.DataFrame:
    """Return one column of JSON objects; times are rounded to ms."""
    time = (pl.col("arrival_s") * 1e3 + facts["origin_ms"]).round().cast(pl.Int64)
    parts = [
        *(pl.lit('{"timestamp": '), time.cast(pl.String)),
        *(pl.lit(', "input_length": '), pl.col("prompt_tokens").cast(pl.String)),
        *(pl.lit(', "output_length": '), pl.col("output_tokens").cast(pl.String)),
    ]
    if "prefix_blocks" in frame.columns and not _other_blocks(frame):
        ids = pl.col("prefix_blocks").cast(pl.List(pl.String)).list.join(", ")
        listed = pl.concat_str(pl.lit(', "hash_ids": ['), ids, pl.lit("]"))
        parts.append(listed.fill_null(', "hash_ids": null'))
    return frame.select(pl.concat_str(*parts, pl.lit("}")).alias("json"))


def _other_blocks(frame: pl.DataFrame) -> list[str]:
    """Tell of prefix blocks that are not of 512 tokens."""
    if "prefix_blocks" not in frame.columns or "prefix_block_tokens" not in frame.columns:
        return []
    sizes = frame.filter(pl.col("prefix_blocks").is_not_null())["prefix_block_tokens"]
    other = sizes.filter(sizes != BLOCK_TOKENS)
    return [] if other.is_empty() else [f"prefix blocks of {other[0]} tokens ({len(other):,} requests)"]


MOONCAKE = Form(
    name="mooncake",
    reader="mooncake",
    ending=".jsonl",
    holds=frozenset({"prefix_blocks", "prefix_block_tokens"}),
    tick_s=1e-3,
    header=None,
    rows=rows,
    take=take,
    facts={"form": "mooncake", "origin_ms": 0.0, "line_end": "\n", "final_newline": True},
    check=_other_blocks,
)
"""The FAST'25 traces and the earlier one."""
