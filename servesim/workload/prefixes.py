"""Block ids of prompts: what they are made from, and what share of them a prefix cache could have.

What an id means is told in `servesim.workload.schema`. How workloads get prompts that share prefixes is in
`servesim.workload.shared_prefixes`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Bits = NDArray[np.uint64]


def prefix_hit_ratio(requests: pl.DataFrame, *, of: Literal["blocks", "tokens"] = "blocks") -> float | None:
    """Return the share of the prompts that an unlimited prefix cache would have: the ceiling of any cache.

    An id stands for a block and all before it, so every occurrence but the first is a hit.

    Parameters
    ----------
    requests
        ``prefix_blocks``, in order of arrival; for tokens also ``prompt_tokens`` and ``prefix_block_tokens``.
    of
        Share of the blocks that have an id, or of all tokens of the prompts.

    Returns
    -------
    float or None
        None where no request has block ids.
    """
    if "prefix_blocks" not in requests.columns:
        return None
    if of == "blocks":
        blocks = requests["prefix_blocks"].drop_nulls().explode(empty_as_null=False)
        return 1.0 - blocks.n_unique() / len(blocks) if len(blocks) else None
    given = requests.select("prefix_blocks", "prefix_block_tokens", left="prompt_tokens").filter(
        pl.col("prefix_blocks").list.len() > 0
    )
    if given.is_empty():
        return None
    position = pl.int_ranges(pl.col("prefix_blocks").list.len())
    size = pl.col("prefix_block_tokens").cast(pl.Int64)
    blocks_of = given.with_columns(position=position).explode("prefix_blocks", "position")
    tokens = blocks_of.with_columns(tokens=(pl.col("left") - pl.col("position") * size).clip(0, size))
    hits = tokens.filter(~pl.col("prefix_blocks").is_first_distinct())["tokens"].sum()
    return int(hits) / int(requests["prompt_tokens"].sum())


def mixed(values: Integers | Bits) -> Bits:
    """Return 64 bits for each of *values* that look random and are equal for equal values: SplitMix64's finalizer.

    G. L. Steele, D. Lea and C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    bits = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def uniform(values: Integers | Bits) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each of *values*, equal for equal values."""
    return (mixed(values) >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def segment_blocks(contents: Bits | Integers, tokens: Integers, block_tokens: int) -> pl.Series:
    """Return the block ids of prompts that are put together from segments.

    A block's id is a hash of all that stands in the prompt up to its end: the sum, over the segments, of 64 bits
    mixed from content, place and the number of tokens up to there. Two blocks have the same id if they and all before
    them are the same, and otherwise by chance: with n distinct blocks at most once in 2^64 / n^2 workloads, 10^-4 of
    them with 30 million.

    Parameters
    ----------
    contents
        What each segment holds, a row per prompt and a column per segment, in their order in the prompt. Equal
        numbers stand for equal tokens, as far as the shorter of two segments goes.
    tokens
        How long each segment is; 0: it is not there.
    block_tokens
        Tokens of a block.

    Returns
    -------
    polars.Series
        ``prefix_blocks``, the whole blocks of each prompt.
    """
    ends = np.cumsum(tokens, axis=1)
    begins = ends - tokens
    counts = ends[:, -1] // block_tokens
    heads = mixed(mixed(contents) ^ mixed(begins))
    whole = np.where(tokens > 0, mixed(heads ^ mixed(tokens)), np.uint64(0))
    before = np.cumsum(whole, axis=1) - whole  # modulo 2^64, as all sums of hashes here
    row = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    last = (place + 1) * block_tokens  # tokens up to the block's end
    segment = np.zeros(len(row), dtype=np.int64)
    for column in range(tokens.shape[1] - 1):
        segment += ends[row, column] < last
    ids = before[row, segment] + mixed(heads[row, segment] ^ mixed(last - begins[row, segment]))
    return lists("prefix_blocks", (ids >> np.uint64(1)).astype(np.int64), counts)


def lists(name: str, values: Integers, counts: Integers) -> pl.Series:
    """Return a column of lists, each of so many of the *values*."""
    import pyarrow as pa

    offsets = np.concatenate(([0], np.cumsum(counts)))
    return pl.Series(name, pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))))
