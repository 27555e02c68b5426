"""Decodes beside chunks of prompts in one kernel, from what each was measured to take alone.

Where FlashAttention 2 runs (Ampere, Ada, RTX boards) a step that does both is one kernel over tiles of 128 queries: a
decode takes a tile for every query head, as a short chunk after as many cached tokens does, and not what it takes in
the kernel for decodes, which splits contexts and shares keys within a group. Tiles are spread over the
multiprocessors. Tables that lack such steps tell what a tile takes: the prefill of one, after as many cached tokens.
docs/model/latency.md has the equations and the error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from servesim.latency.api import LatencyContext
from servesim.latency.coefficients import FLASH_ATTENTION_2, relative
from servesim.latency.operators import operators
from servesim.profiles.grid import Floats, Grid

TILE = 128
"""Query rows of a tile."""

LAUNCH_SHARE = 0.5
"""Of the time of an empty kernel, what it takes once and not for each wave of tiles."""

CRITICAL_SHARE = 0.5
"""Of the longest tile, what comes on top of evenly spread work: between none and all (Graham's bound, 1969)."""

CACHE_SHARE = 0.5
"""Of the second-level cache, what keys and values of one head may take until the next head reads them again."""

POINTS = 16
"""Points of an axis at most: beside finely measured ones every so many is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneKernel:
    """Shape of one layer's attention on one GPU, and the GPU.

    Attributes
    ----------
    heads, group
        Query heads on this GPU, and how many of them share keys and values.
    kv_bytes
        What one cached token takes.
    bytes_per_s
        Peak bandwidth of the memory.
    multiprocessors, cache_bytes
        Of the GPU.
    window
        Tokens of a sliding window, or None.
    """

    heads: float
    group: float
    kv_bytes: float
    bytes_per_s: float
    multiprocessors: int
    cache_bytes: float
    window: int | None

    def grid(self, prefill: Grid, decode: Grid) -> Grid:
        """Return the time of both by chunk, start, sequences and context, in s as those of *prefill* alone."""
        chunks, starts = (thinned(prefill.axes[name]) for name in ("chunk", "start"))
        counts, contexts = (thinned(decode.axes[name]) for name in ("sequences", "context"))
        launch_s = LAUNCH_SHARE * prefill(0, 0)
        waves = max(1.0, self.heads / self.multiprocessors)

        def tile_s(context: float) -> float:
            seen = context if self.window is None else min(context, self.window)
            return (prefill(min(TILE, chunks[-1]), seen) - launch_s) / waves

        alone_s = np.array([[prefill(chunk, start) for start in starts] for chunk in chunks]) - launch_s
        middle_s = np.array([[tile_s(start + chunk / 2) for start in starts] for chunk in chunks])
        tiles = np.ceil(np.array(chunks) / TILE)[:, None]
        # Of prompts and of decodes: the work of a multiprocessor, and its longest tile.
        chunk_s = np.minimum(alone_s, self.heads / self.multiprocessors * tiles * middle_s)[..., None, None]
        tile = np.array([tile_s(context) for context in contexts])
        decodes_s = self.heads / self.multiprocessors * np.array(counts)[:, None] * tile
        work_s = chunk_s + decodes_s
        longest_s = np.maximum(np.minimum(alone_s, middle_s)[..., None, None], tile)
        compute_s = np.maximum(
            np.maximum(alone_s[..., None, None], longest_s),
            work_s + CRITICAL_SHARE * np.minimum(longest_s, work_s),
        )
        return Grid(
            {"chunk": chunks, "start": starts, "sequences": counts, "context": contexts},
            launch_s + np.hypot(compute_s, self._read_s(counts, contexts)),
        )

    def _read_s(self, counts: list[float], contexts: list[float]) -> Floats:
        """Return what reading keys and values takes, by sequences and context.

        Heads of a group that run at once read them together. The others find them in the cache, as far as it holds
        one head's of all sequences: tiles are in the order of heads.
        """
        seen = np.minimum(contexts, self.window or np.inf)
        tokens = np.array(counts)[:, None] * seen
        head_bytes = tokens * self.kv_bytes * self.group / self.heads
        missed = np.clip(1.0 - CACHE_SHARE * self.cache_bytes / np.maximum(head_bytes, 1.0), 0.0, None)
        together = np.maximum(1.0, self.multiprocessors / np.array(counts))[:, None]
        reads = 1.0 + missed * np.maximum(0.0, self.group / together - 1.0)
        found: Floats = tokens * self.kv_bytes * reads / self.bytes_per_s
        return found


def one_kernel(context: LatencyContext, window: int | None) -> OneKernel | None:
    """Return the kernel of layers with sliding *window*, or None where decodes and chunks have one each."""
    device = relative(context.gpu)
    if device not in FLASH_ATTENTION_2 or context.model.mla:
        return None
    attention = operators(context.model, context.parallelism).attention
    return OneKernel(
        heads=attention.heads,
        group=attention.group,
        kv_bytes=attention.kv_bytes,
        bytes_per_s=context.gpu.memory_bandwidth_bytes_per_s,
        multiprocessors=context.gpu.multiprocessors,
        cache_bytes=context.gpu.cache_bytes,
        window=window,
    )


def thinned(points: list[float]) -> list[float]:
    """Return at most `POINTS` of *points*, first and last among them, evenly spaced in number."""
    if len(points) <= POINTS:
        return points
    places = np.linspace(0, len(points) - 1, POINTS).round().astype(int)
    return [points[place] for place in places]
