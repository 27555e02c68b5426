"""What each replica did when, as a table that fits on a page: replicas down, time across."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from servesim.results.steps import Floats
from servesim.results.time_series import TimeGrid

ROWS_MAX = 32


@dataclass(frozen=True, slots=True)
class ReplicaMap:
    """A table of numbers: a row per replica or group of neighbouring replicas, a column per bin of time.

    Attributes
    ----------
    rows
        ``"3"``, or ``"6-8"`` for the mean of some replicas.
    values
        Rows by columns.
    """

    rows: list[str]
    values: Floats


def replica_map(frame: pl.DataFrame, value: str, grid: TimeGrid) -> ReplicaMap:
    """Return a column for every replica and bin, as means over neighbouring replicas where there are many.

    Parameters
    ----------
    frame
        ``replica``, ``bin`` and *value*: a row per replica and bin, in this order, as `time_series` makes them.
    value
        The column.
    grid
        The bins.
    """
    replicas = frame["replica"].n_unique()
    matrix = frame[value].to_numpy().reshape(replicas, grid.bins)
    starts = np.arange(0, replicas, -(-replicas // ROWS_MAX) or 1)
    counts = np.diff(starts, append=replicas)
    rows = [
        f"{start}" if count == 1 else f"{start}-{start + count - 1}"
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True)
    ]
    return ReplicaMap(rows, np.add.reduceat(matrix, starts, axis=0) / counts[:, np.newaxis])
