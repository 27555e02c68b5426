"""A stream of requests that can be started again: what transforms and merging take and return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import polars as pl


@dataclass(frozen=True, kw_only=True)
class RequestStream:
    """Frames in order of arrival, and what is known of them beforehand.

    Attributes
    ----------
    frames
        Starts the stream anew; every start yields the same requests, with the columns of `SCHEMA`.
    requests
        How many requests there will be, or None when that is not known in advance.
    period_s
        Length of the observed time, from 0 to the end of a window or of a generator's duration; None where
        only the arrivals themselves are known.
    extras
        Those of `servesim.workload.schema.ANNOUNCED` that requests may have.
    notes
        Counts worth telling the user.
    left
        How many requests there were at the origin and after each transform that can drop some, in words: as
        far as the stream was taken since its last start.
    """

    frames: Callable[[], Iterator[pl.DataFrame]]
    requests: int | None
    period_s: float | None = None
    extras: frozenset[str] = frozenset()
    notes: dict[str, int | float | str] = field(default_factory=dict)
    left: Callable[[], list[str]] = list


def counted(frames: Iterator[pl.DataFrame], counts: dict[str, int], stage: str) -> Iterator[pl.DataFrame]:
    """Pass *frames* on, counting their rows in *counts* under *stage*."""
    counts[stage] = 0

    def count(frame: pl.DataFrame) -> pl.DataFrame:
        counts[stage] += frame.height
        return frame

    return map(count, frames)


def in_words(counts: dict[str, int]) -> list[str]:
    """Return what `counted` counted, such as ``12 in the window``."""
    return [f"{rows:,} {stage}" for stage, rows in counts.items()]
