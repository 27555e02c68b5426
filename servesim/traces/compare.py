"""How far two files are apart: two traces of requests, or a client pool and requests of its clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from servesim.errors import TraceError
from servesim.servegen.read import read_pool
from servesim.traces.distances import distances
from servesim.traces.kinds import kind_of
from servesim.traces.pool_distances import pool_distances
from servesim.traces.source import read_requests


def is_pool(path: Path, *, reader: str | None = None) -> bool:
    """Return whether *path* is a client pool."""
    return kind_of(path, reader=reader) == "client pool"


def compare_files(one: Path, other: Path) -> dict[str, Any]:
    """Return how far *one* and *other* are apart.

    Returns
    -------
    dict
        `servesim.traces.distances.distances` of two traces; where one of the two, the first or the second, is a client
        pool, `servesim.traces.pool_distances.pool_distances`.

    Raises
    ------
    ServesimError
        If a file cannot be taken as it is, or both are pools.
    """
    pools = [is_pool(path) for path in (one, other)]
    if all(pools):
        raise TraceError(f"{other}: a client pool, as {one} is. expected requests, to compare with the pool")
    if not any(pools):
        return distances(read_requests(one).frame, read_requests(other).frame)
    pool, requests = (one, other) if pools[0] else (other, one)
    return pool_distances(read_pool(pool), read_requests(requests).frame)
