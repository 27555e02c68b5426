"""Prompts that share prefixes: block ids for the requests of any workload, as `PrefixSpec` describes them.

Nothing is drawn in sequence: what a request or a session has is hashed from its number in the stream, so it does not
depend on how the stream is cut into frames. The ids themselves are made in `servesim.workload.prefixes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.errors import ScenarioError
from servesim.rng import stream
from servesim.workload.prefix_spec import ChunksSpec, PrefixSpec, SharedPartSpec
from servesim.workload.prefixes import Bits, Integers, mixed, segment_blocks, uniform
from servesim.workload.schema import CHUNK_ROWS

_CALIBRATION_BLOCKS = 4_000_000


class SharedPrefixes:
    """Gives the requests of one stream their block ids, frame after frame.

    Parameters
    ----------
    spec
        What prompts share.
    seed
        What it is drawn from.
    """

    def __init__(self, spec: PrefixSpec, seed: int) -> None:
        self._spec = spec
        self._salt = int(stream(seed, "prefixes").integers(2**63))
        self._parts = {
            name: _Pool(part, stream(seed, "prefixes", name))
            for name, part in (("system_prompts", spec.system_prompts), ("chunks", spec.chunks))
            if part is not None
        }

    def frames(self, frames: Iterable[pl.DataFrame], shared_ratio: float) -> Iterator[pl.DataFrame]:
        """Yield *frames* with block ids; *shared_ratio* of the sessions share their parts."""
        rows, owners = 0, _Owners()
        for frame in frames:
            owner, epoch = owners.of(frame, first_row=rows)
            rows += frame.height
            shares = self._levels(owner) < shared_ratio
            yield frame.with_columns(
                self._blocks(frame, owner, epoch, first_row=rows - frame.height, shares=shares),
                prefix_block_tokens=pl.lit(self._spec.block_tokens, dtype=pl.Int32),
            )

    def calibrated(self, frames: Iterable[pl.DataFrame]) -> float:
        """Return the share of sessions that must share for the first requests to have the ratio of hits asked for.

        A block is a hit if its request and one before it with the same block share: so it becomes one as soon as the
        share is above a number known of each, and the answer is a quantile of these numbers.

        Raises
        ------
        ScenarioError
            If there are not enough hits even if all share.
        """
        assert self._spec.hit_ratio is not None
        owners, rows, total = _Owners(), 0, 0
        ids: list[Integers] = []
        counts: list[Integers] = []
        levels: list[NDArray[np.float64]] = []
        for whole in frames:
            sizes = total + (whole["prompt_tokens"].cast(pl.Int64) // self._spec.block_tokens).cum_sum()
            room = max(int(sizes.search_sorted(_CALIBRATION_BLOCKS)), 1)
            frame = whole.head(min(CHUNK_ROWS - rows, room))
            owner, epoch = owners.of(frame, first_row=rows)
            everyone = np.ones(frame.height, dtype=np.bool_)
            blocks = self._blocks(frame, owner, epoch, first_row=rows, shares=everyone)
            ids.append(blocks.explode(empty_as_null=False).to_numpy())
            counts.append(blocks.list.len().to_numpy().astype(np.int64))
            levels.append(self._levels(owner))
            rows, total = rows + frame.height, total + len(ids[-1])
            if rows == CHUNK_ROWS or frame.height < whole.height:
                break
        if not rows:
            return 0.0
        level = np.concatenate(levels)
        hits = _hit_levels(np.concatenate(ids), np.concatenate(counts), level)
        wanted = round(self._spec.hit_ratio * total)
        if wanted > len(hits):
            raise ScenarioError(
                f"workload.prefixes.hit_ratio: the prompts do not share so much (got {self._spec.hit_ratio!r}). "
                f"expected at most {len(hits) / max(total, 1):.3f}, what {rows:,} requests have if all share",
                hint="fewer or longer system prompts and chunks, a larger zipf, order: ranked or history share more",
            )
        return float(np.nextafter(np.partition(hits, wanted - 1)[wanted - 1], 1.0)) if wanted else 0.0

    def _levels(self, owner: Integers) -> NDArray[np.float64]:
        """Return the least share at which each owner shares; it does above it."""
        return uniform(mixed(owner) ^ self._bits("shares"))

    def _bits(self, name: str) -> np.uint64:
        word = int.from_bytes(name.encode()[:8].ljust(8), "little")
        return np.uint64(mixed(np.array([word ^ self._salt], dtype=np.uint64))[0])

    def _blocks(
        self,
        frame: pl.DataFrame,
        owner: Integers,
        epoch: Integers,
        *,
        first_row: int,
        shares: NDArray[np.bool_],
    ) -> pl.Series:
        """Return the block ids of a frame's prompts: segments of the shared parts, then the rest."""
        row = np.arange(first_row, first_row + frame.height)
        contents: list[Bits] = []
        tokens: list[Integers] = []
        for name, part in self._parts.items():
            draws = part.per_request
            of = mixed(row if name == "chunks" else owner) ^ self._bits(name)
            ranks = uniform(np.add.outer(mixed(of), np.arange(draws, dtype=np.uint64)))
            chosen, length = part.chosen(ranks)
            contents += list((mixed(chosen) ^ self._bits(name)).T)
            tokens += list(np.where(shares[:, None], length, 0).T)
        own = mixed(row) ^ self._bits("own")
        if self._spec.history:
            history = mixed(mixed(owner) + epoch.astype(np.uint64)) ^ self._bits("history")
            own = np.where(shares, history, own)
        prompts = frame["prompt_tokens"].to_numpy().astype(np.int64)
        contents.append(own)
        tokens.append(prompts)
        lengths = np.stack(tokens, axis=1)
        room = np.maximum(prompts[:, None] - (np.cumsum(lengths, axis=1) - lengths), 0)
        return segment_blocks(np.stack(contents, axis=1), np.minimum(lengths, room), self._spec.block_tokens)


def _hit_levels(ids: Integers, counts: Integers, levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, of every block that is not its id's first, the least share above which it is a hit.

    That is its own request's level, or the least level of an earlier request with the same block if that is higher.
    """
    by_level = np.argsort(levels)
    rank = np.empty(len(levels), dtype=np.int64)
    rank[by_level] = np.arange(len(levels))
    order = np.argsort(ids, kind="stable")
    ranks = np.repeat(rank, counts)[order]
    first = np.diff(ids[order], prepend=ids[order[:1]] - 1) != 0
    # Each id's ranks are shifted below those of the ids before it, so that one running minimum serves all of them.
    shift = np.cumsum(first) * len(levels)
    least = np.minimum.accumulate(ranks - shift) + shift
    again = np.flatnonzero(~first)
    hits: NDArray[np.float64] = levels[by_level[np.maximum(ranks[again], least[again - 1])]]
    return hits


class _Pool:
    """Texts with their popularity and lengths."""

    def __init__(self, spec: SharedPartSpec, rng: np.random.Generator) -> None:
        weights = np.arange(1, spec.count + 1, dtype=np.float64) ** -spec.zipf
        self._cumulative = np.cumsum(weights) / weights.sum()
        noise = spec.tokens_sigma * rng.standard_normal(spec.count) - spec.tokens_sigma**2 / 2
        self._tokens = np.maximum(np.rint(spec.tokens_mean * np.exp(noise)), 1).astype(np.int64)
        self._ranked = isinstance(spec, ChunksSpec) and spec.order == "ranked"
        self.per_request = spec.per_request if isinstance(spec, ChunksSpec) else 1

    def chosen(self, ranks: NDArray[np.float64]) -> tuple[Integers, Integers]:
        """Return the texts at these ranks of popularity, a row per request, and their lengths; again: 0."""
        chosen = np.minimum(np.searchsorted(self._cumulative, ranks, side="right"), len(self._tokens) - 1)
        if self._ranked:
            chosen = np.sort(chosen, axis=1)
        tokens = self._tokens[chosen]
        for column in range(1, chosen.shape[1]):
            tokens[(chosen[:, :column] == chosen[:, column : column + 1]).any(axis=1), column] = 0
        return chosen, tokens


class _Owners:
    """Numbers the sessions of a stream, and tells which prompts go on with their session's previous one."""

    def __init__(self) -> None:
        self._known = pl.DataFrame(
            schema={"session": pl.String, "number": pl.Int64, "said": pl.Int64, "epoch": pl.Int64}
        )

    def of(self, frame: pl.DataFrame, *, first_row: int) -> tuple[Integers, Integers]:
        """Return the owner of each request, its session or itself, and how often the session has begun anew."""
        alone = -1 - np.arange(first_row, first_row + frame.height)
        if frame["session"].null_count() == frame.height:
            return alone, np.zeros(frame.height, dtype=np.int64)
        named = frame.select(
            "session",
            pl.col("prompt_tokens").cast(pl.Int64),
            total=pl.col("prompt_tokens").cast(pl.Int64) + pl.col("output_tokens"),
        ).with_row_index("row")
        within = named.filter(pl.col("session").is_not_null())
        new = within.select(pl.col("session").unique(maintain_order=True)).join(
            self._known, on="session", how="anti", maintain_order="left"
        )
        numbered = new.with_columns(
            number=pl.int_range(pl.len(), dtype=pl.Int64) + self._known.height,
            said=pl.lit(0, dtype=pl.Int64),
            epoch=pl.lit(0, dtype=pl.Int64),
        )
        self._known = pl.concat([self._known, numbered])
        within = within.join(self._known, on="session", how="left", maintain_order="left").with_columns(
            before=pl.coalesce(pl.col("total").shift(1).over("session"), "said")
        )
        anew = (pl.col("prompt_tokens") < pl.col("before")).cast(pl.Int64)
        within = within.with_columns(epoch=pl.col("epoch") + anew.cum_sum().over("session"))
        last = within.group_by("session").agg(said=pl.col("total").last(), epoch=pl.col("epoch").last())
        self._known = self._known.update(last, on="session")
        owner, epoch = alone, np.zeros(frame.height, dtype=np.int64)
        rows = within["row"].to_numpy()
        owner[rows], epoch[rows] = within["number"].to_numpy(), within["epoch"].to_numpy()
        return owner, epoch
