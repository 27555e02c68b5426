"""What tests of client pools share: pools of literal numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from servesim.servegen.lengths import length_table
from servesim.servegen.packed import write_packed
from servesim.servegen.pool import ClientPool, client_pool

Row = tuple[str, int, float, bool, float, float]
"""Client, window, requests, whether Weibull, shape, scale."""

FULL: list[Row] = [
    row
    for window in range(36)
    for row in (
        ("a", window, 600, False, 1.0, 1.0),
        ("b", window, 300, False, 1.0, 2.0),
        ("c", window, 60, False, 1.0, 1.0),
    )
]
"""Three clients of Poisson arrivals over six hours; the gaps of c fill a tenth of each window."""

LENGTHS: dict[tuple[str, int, str], dict[int, float]] = {
    ("a", 0, "input_tokens"): {10: 3, 20: 1},
    ("a", 0, "output_tokens"): {4: 1},
    ("b", 0, "input_tokens"): {7: 1},
    ("b", 0, "output_tokens"): {3: 1},
    ("c", 0, "input_tokens"): {99: 1},
    ("c", 0, "output_tokens"): {2: 1},
}


def pool_of(
    *,
    activity: Sequence[Row] = FULL,
    lengths: Mapping[tuple[str, int, str], Mapping[int, float]] = LENGTHS,
    name: str = "three",
) -> ClientPool:
    """Return a pool; lengths are by client, six hours and field, as value to weight."""
    clients = tuple(dict.fromkeys(row[0] for row in activity))
    number = {client: index for index, client in enumerate(clients)}
    known = {key: histogram for key, histogram in lengths.items() if key[0] in number}
    frame = pl.DataFrame(
        [(number[row[0]], row[1], float(row[2]), 1.0, *row[3:]) for row in activity],
        schema=["client", "window", "requests", "cv", "weibull", "shape", "scale"],
        orient="row",
    )
    rows = pl.DataFrame(
        [
            (number[client], window, field, len(histogram))
            for (client, window, field), histogram in known.items()
        ],
        schema=["client", "window6h", "field", "size"],
        orient="row",
    )
    values = np.array([value for histogram in known.values() for value in histogram], dtype=np.int64)
    weights = np.array([weight for histogram in known.values() for weight in histogram.values()], dtype=float)
    return client_pool(name, clients, frame, length_table(rows, values, weights, name), where=name)


def write(path: Path, pool: ClientPool) -> Path:
    """Write *pool* packed and return the path of its trace."""
    write_packed(pool, path)
    return path
