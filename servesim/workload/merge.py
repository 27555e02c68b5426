"""Merge streams of requests in order of arrival, holding little more than one frame of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from servesim.workload.apart import of_source
from servesim.workload.schema import SCHEMA
from servesim.workload.stream import RequestStream


def merge(parts: Sequence[RequestStream]) -> RequestStream:
    """Return all requests of *parts* in order of arrival; ties in the order of *parts*.

    Session ``a`` of part i becomes ``i/a``, and block ids are made anew: no two parts share any. Notes of part i are
    kept under ``sources.<i>.<note>``.
    """
    counts = [part.requests for part in parts]
    periods = [part.period_s for part in parts]
    extras = frozenset[str]().union(*(part.extras for part in parts))

    def frames(index: int, part: RequestStream) -> Iterator[pl.DataFrame]:
        return (of_source(frame, index) for frame in part.frames())

    return RequestStream(
        frames=lambda: _merged([frames(index, part) for index, part in enumerate(parts)]),
        requests=None if None in counts else sum(count for count in counts if count is not None),
        period_s=None if None in periods else max(period for period in periods if period is not None),
        extras=extras,
        notes={
            f"sources.{index}.{name}": value
            for index, part in enumerate(parts)
            for name, value in part.notes.items()
        },
        left=lambda: [f"sources.{index}: {', '.join(part.left())}" for index, part in enumerate(parts)],
    )


def _merged(streams: list[Iterator[pl.DataFrame]]) -> Iterator[pl.DataFrame]:
    """Yield what is known to come before everything that is still to be read.

    Every later request of a stream arrives at or after the last one held of it. So the smallest of those last
    arrivals, the frontier, is safe to pass: what arrives strictly before it goes out, and the stream that
    sets it is read on. Requests exactly at the frontier wait, because an earlier stream may still bring a
    tie.
    """
    held = [pl.DataFrame(schema=SCHEMA) for _ in streams]
    unread = [index for index in range(len(streams)) if _read_on(streams, held, index)]
    while unread:
        frontier, slowest = min((held[index]["arrival_s"][-1], index) for index in unread)
        ready: list[pl.DataFrame] = []
        for index, frame in enumerate(held):
            cut = int(frame["arrival_s"].search_sorted(frontier, side="left"))
            ready.append(frame.head(cut))
            held[index] = frame.slice(cut)
        yield pl.concat(ready).sort("arrival_s", maintain_order=True)
        if not _read_on(streams, held, slowest):
            unread.remove(slowest)
    yield pl.concat(held).sort("arrival_s", maintain_order=True)


def _read_on(streams: list[Iterator[pl.DataFrame]], held: list[pl.DataFrame], index: int) -> bool:
    """Append the next frame of a stream to what is held of it; return False at its end."""
    for frame in streams[index]:
        if not frame.is_empty():
            held[index] = pl.concat([held[index], frame])
            return True
    return False
