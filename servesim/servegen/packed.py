"""Client pools as two Parquet files, ``NAME.trace.parquet`` and ``NAME.dataset.parquet``.

The trace has a row per client and active window: ``client``, ``window``, ``requests``, ``cv``, ``weibull``,
``shape``, ``scale``. The dataset has a row per client, six hours and field: ``client``, ``window6h``, ``field``,
``n``, ``dvalues`` (the first value, then differences) and ``counts``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.errors import TraceError
from servesim.servegen.lengths import length_table
from servesim.servegen.pool import ACTIVITY, ClientPool, client_pool
from servesim.workload.checks import ROW
from servesim.workload.files import read_parquet

TRACE_END, DATASET_END = ".trace.parquet", ".dataset.parquet"

DATASET_COLUMNS = ("client", "window6h", "field", "dvalues", "counts")
"""Columns that a dataset must have."""


def read_packed(trace: Path) -> ClientPool:
    """Return the pool of *trace* and of the dataset beside it.

    Raises
    ------
    TraceError
        If a file is missing or its content cannot be taken as it is.
    """
    if not trace.exists():
        raise TraceError(f"{trace}: no such file or folder. expected a client pool")
    if not trace.name.endswith(TRACE_END):
        raise TraceError(
            f"{trace}: not a client pool (got {trace.name!r}). expected NAME{TRACE_END}, or a folder"
        )
    dataset = dataset_beside(trace)
    name = trace.name.removesuffix(TRACE_END)
    activity = read_parquet(trace, list(ACTIVITY)).with_columns(pl.col("client").cast(pl.String))
    found = read_parquet(dataset, list(DATASET_COLUMNS))
    found = found.drop(ROW).with_columns(pl.col("client").cast(pl.String))
    clients = tuple(dict.fromkeys(activity["client"].to_list() + found["client"].to_list()))
    numbers = pl.Enum(clients)
    number = pl.col("client").cast(numbers).to_physical().cast(pl.Int64)
    sizes = found["dvalues"].list.len().cast(pl.Int64)
    counts = found["counts"].filter(sizes > 0).explode().cast(pl.Float64).to_numpy()
    lengths = length_table(
        found.select(number, "window6h", "field", size=sizes),
        _sums(found["dvalues"], sizes.to_numpy()),
        counts,
        dataset,
    )
    return client_pool(name, clients, activity.with_columns(number), lengths, where=trace)


def dataset_beside(trace: Path) -> Path:
    """Return the path of the dataset that belongs to *trace*.

    Raises
    ------
    TraceError
        If the name of *trace* has another end than ``.trace.parquet``.
    """
    if not trace.name.endswith(TRACE_END):
        raise TraceError(
            f"{trace}: not the name of a client pool (got {trace.name!r}). expected NAME{TRACE_END}"
        )
    return trace.with_name(trace.name.removesuffix(TRACE_END) + DATASET_END)


def write_packed(pool: ClientPool, trace: Path) -> Path:
    """Write *pool* as the two files, *trace* and the dataset beside it; return the path of the latter.

    Raises
    ------
    TraceError
        If the name of *trace* has another end than ``.trace.parquet``.
    """
    dataset = dataset_beside(trace)
    for frame, path in zip(packed_frames(pool), (trace, dataset), strict=True):
        frame.write_parquet(path)
    return dataset


def packed_frames(pool: ClientPool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return what the two files of *pool* hold: its trace and its dataset."""
    ids = pl.Series(pool.clients)
    activity = pool.activity.sort("client", "window")
    rows, table = pool.lengths.rows, pool.lengths
    places = [slice(start, stop) for start, stop in rows.select("start", "stop").iter_rows()]
    dataset = rows.select(
        ids.gather(rows["client"]).alias("client"),
        "window6h",
        "field",
        pl.Series("n", [float(table.weights[place].sum()) for place in places]),
        pl.Series("dvalues", [pl.Series(np.diff(table.values[place], prepend=0)) for place in places]),
        pl.Series("counts", [pl.Series(table.weights[place]) for place in places]),
    )
    return activity.with_columns(ids.gather(activity["client"]).alias("client")), dataset


def _sums(differences: pl.Series, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the values of all lists of *differences*, one behind the other: the sums within each list."""
    total = np.cumsum(differences.filter(pl.Series(sizes > 0)).explode().cast(pl.Int64).to_numpy())
    starts = np.cumsum(sizes) - sizes
    before = np.concatenate(([0], total))[starts]
    values: NDArray[np.int64] = total - np.repeat(before, sizes)
    return values
