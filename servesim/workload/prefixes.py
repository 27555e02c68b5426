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
    return int(hits) / int(requests["prompt_tokens"].cast(pl.Int64).sum())


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


def stretched(
    requests: pl.DataFrame, prompt_tokens: pl.Series, factor: float, *, first_row: int
) -> pl.Series:
    """Return block ids for the same prompts, of which each piece is *factor* times as long.

    Prompts that had m blocks in common, then have those in common that end within factor times these. A prompt has ids
    for whole blocks only, unless it had one for its last block that was not full. Blocks that reach beyond what had
    an id are the request's own.

    Parameters
    ----------
    requests
        ``prompt_tokens``, ``prefix_blocks`` and ``prefix_block_tokens``, as they were.
    prompt_tokens
        How long the prompts are now: what is more than factor times the old length is new, what is less is cut off.
    factor
        How much longer pieces are.
    first_row
        Number of the first request in its stream, which tells requests of different frames apart.
    """
    blocks = requests["prefix_blocks"]
    counts = blocks.list.len().fill_null(0).to_numpy().astype(np.int64)
    size = requests["prefix_block_tokens"].fill_null(1).to_numpy().astype(np.int64)
    before, after = (
        column.to_numpy().astype(np.int64) for column in (requests["prompt_tokens"], prompt_tokens)
    )
    not_full = counts * size > before
    whole = np.where(
        counts == before // size, after // size, np.minimum(after // size, _floor(counts * factor))
    )
    counts_after = np.where(not_full, -(-after // size), whole)
    row = np.repeat(np.arange(len(counts)), counts_after)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts_after) - counts_after, counts_after)
    old = -_floor(-(place + 1) / factor)  # blocks of the old prompt up to the end of the new block
    beyond = old > counts[row]
    ids = np.append(blocks.drop_nulls().explode(empty_as_null=False).to_numpy(), 0)
    origin = ids[(np.cumsum(counts) - counts)[row] + np.minimum(old, counts[row]) - 1].astype(np.uint64)
    origin = np.where(beyond & ~not_full[row], mixed(first_row + row), origin)
    made = (mixed(origin ^ mixed(place)) >> np.uint64(1)).astype(np.int64)
    kept = origin.astype(np.int64)
    return _in_place_of(blocks, np.where(beyond | (factor > 1.0), made, kept), counts_after)


def relabelled(blocks: pl.Series, labels: Integers) -> pl.Series:
    """Return block ids of which those of requests with the same label, and only those, are equal where they were."""
    counts = blocks.list.len().fill_null(0).to_numpy().astype(np.int64)
    ids = blocks.drop_nulls().explode(empty_as_null=False).to_numpy().astype(np.uint64)
    bits = mixed(ids ^ np.repeat(mixed(labels), counts)) >> np.uint64(1)
    return _in_place_of(blocks, bits.astype(np.int64), counts)


def _floor(values: NDArray[np.floating]) -> Integers:
    """Return *values* rounded down, those that rounding put just below a whole number excepted."""
    down: Integers = np.floor(values + 1e-9).astype(np.int64)
    return down


def _in_place_of(blocks: pl.Series, ids: Integers, counts: Integers) -> pl.Series:
    """Return a column of so many of the *ids*, null where *blocks* is."""
    new = lists("prefix_blocks", ids, counts)
    return pl.select(pl.when(blocks.is_not_null()).then(new).alias("prefix_blocks")).to_series()


def lists(name: str, values: Integers, counts: Integers) -> pl.Series:
    """Return a column of lists, each of so many of the *values*."""
    import pyarrow as pa

    offsets = np.concatenate(([0], np.cumsum(counts)))
    return pl.Series(name, pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))))
