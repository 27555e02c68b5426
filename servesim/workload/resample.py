"""Another sample of a recorded trace: what differs between the seeds of an experiment on real data."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import polars as pl

from servesim.rng import stream
from servesim.workload.apart import of_copy
from servesim.workload.schema import CHUNK_ROWS
from servesim.workload.sessions import whole_sessions


def bootstrap_blocks(
    frames: Iterator[pl.DataFrame],
    *,
    block_s: float,
    period_s: float | None,
    seed: int,
) -> Iterator[pl.DataFrame]:
    """Yield a circular block bootstrap over time of the requests in *frames*.

    Time is laid out with blocks of *block_s*, each filled with the arrivals of a stretch of the same length
    that begins at a uniform random time of the original; a stretch that passes the end goes on at the begin.
    Requests keep their distances within a block, so that bursts shorter than *block_s* survive, and every
    request is as likely as any other (D. N. Politis and J. P. Romano, A circular block-resampling procedure
    for stationary data, 1992).

    One that is drawn again is a copy (`servesim.workload.apart`). First copies share prefixes among each other as the
    originals did, of the same stretch or not, and so do second copies.

    Parameters
    ----------
    frames
        All requests, in order of arrival; they are held in memory.
    block_s
        Length of a block. A longer one than the original leaves a single block: the original, shifted.
    period_s
        Length of the original; None: one mean gap beyond its last arrival.
    seed
        The scenario's seed.
    """
    parts = list(frames)
    if not sum(part.height for part in parts):
        yield from parts
        return
    whole = pl.concat(parts, rechunk=True)
    arrival_s = whole["arrival_s"].to_numpy()
    if period_s is None:
        gaps = len(arrival_s) - 1
        period_s = float(arrival_s[-1] + ((arrival_s[-1] - arrival_s[0]) / gaps if gaps else 0.0))
    if period_s <= 0.0:
        yield whole  # everything arrives at once: there is no time to resample
        return
    blocks = math.ceil(period_s / block_s)
    starts_s = stream(seed, "resample", "blocks").random(blocks) * period_s
    rows, times_s = _draw(arrival_s, starts_s, block_s=min(block_s, period_s), period_s=period_s)
    copies = pl.DataFrame({"row": rows}).select(copy=pl.int_range(pl.len()).over("row"))["copy"].to_numpy()
    resampled = whole[rows].with_columns(pl.Series("arrival_s", times_s, dtype=pl.Float64))
    yield from of_copy(resampled, copies).iter_slices(CHUNK_ROWS)


def _draw(
    arrival_s: np.ndarray[tuple[int], np.dtype[np.float64]],
    starts_s: np.ndarray[tuple[int], np.dtype[np.float64]],
    *,
    block_s: float,
    period_s: float,
) -> tuple[
    np.ndarray[tuple[int], np.dtype[np.int64]],
    np.ndarray[tuple[int], np.dtype[np.float64]],
]:
    """Return the rows that fill each block in turn, and when they arrive."""
    twice_s = np.concatenate([arrival_s, arrival_s + period_s])  # a stretch may pass the end
    first = np.searchsorted(twice_s, starts_s, side="left")
    places_s = np.arange(len(starts_s)) * block_s
    lengths_s = np.minimum(block_s, period_s - places_s)
    counts = np.searchsorted(twice_s, starts_s + lengths_s, side="left") - first
    offset = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn = np.repeat(first, counts) + offset
    times_s = twice_s[drawn] - np.repeat(starts_s - places_s, counts)
    # Subtracting rounds: order is restored here, by less than the clock resolves.
    return drawn % len(arrival_s), np.maximum.accumulate(np.maximum(times_s, 0.0))


def thin(
    frames: Iterator[pl.DataFrame], ratio: float, seed: int, *, by_session: bool = False
) -> Iterator[pl.DataFrame]:
    """Keep each request with probability *ratio*: one number per request, so that framing does not matter.

    With *by_session* the first request of a session decides for all that wait for it.
    """
    rng = stream(seed, "thinning")
    for frame in whole_sessions(frames) if by_session else frames:
        kept = pl.Series("kept", rng.random(frame.height) < ratio)
        if by_session:
            first = pl.col("kept").first().over("session", "arrival_s")
            waits = pl.col("think_s").is_not_null()
            columns = frame.select("session", "arrival_s", "think_s").with_columns(kept)
            kept = columns.select(pl.when(waits).then(first).otherwise("kept")).to_series()
        yield frame.filter(kept)
