"""Packed rows to frames: whole columns at a time, no Python object per row.

The layout of the rows is `servesim.cluster.records`, the columns are declared in `schema`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.cluster.records import RowFormat
from servesim.results.schema import EXTRAS, SPECULATION_COLUMNS, frame_schema
from servesim.results.steps import Floats

Rows = NDArray[np.void]
"""A structured array with the fields of one `RowFormat`."""

ARRIVAL_COLUMNS = (
    "arrival_s",
    "prompt_tokens",
    "output_tokens",
    "model",
    "tenant",
    "priority",
    "session",
    "slo_class",
)
"""Workload columns that a result keeps; prefix blocks are by far the largest and are not among them."""


def take_rows(buffer: bytearray, layout: RowFormat) -> Rows:
    """Return the rows in *buffer* and empty it in place."""
    rows = np.frombuffer(bytes(buffer), dtype=layout.dtype)
    del buffer[:]
    return rows


def rows_frame(name: str, rows: Rows) -> pl.DataFrame:
    """Return *rows* as the frame *name* (``segments``, ``replicas`` or ``events``), in the same order."""
    return pl.DataFrame([_column(key, rows[key], dtype) for key, dtype in frame_schema(name).items()])


def requests_frame(
    first_id: int,
    arrivals: pl.DataFrame,
    outcomes: Rows,
    *,
    visible_s: Floats | None = None,
    front_end: Rows | None = None,
    speculation: Rows | None = None,
) -> pl.DataFrame:
    """Return the ``requests`` frame of consecutive requests.

    Parameters
    ----------
    first_id
        ``request_id`` of the first row.
    arrivals
        The `ARRIVAL_COLUMNS` of the workload.
    outcomes
        What became of each, row for row. Rejected requests have no latencies.
    visible_s
        Where the workload has ``reasoning_tokens``: when each request that reasons first emitted a token that the
        user sees, or NaN.
    front_end
        Where a pool has a front end: rows of `servesim.cluster.records.FRONT_END`, row for row, or NaN.
    speculation
        Where a pool decodes speculatively: rows of `servesim.cluster.records.SPECULATION`, row for row, or -1.
    """
    arrival_s = arrivals["arrival_s"].to_numpy()
    finished_s, first_token_s = outcomes["finished_s"], outcomes["first_token_s"]
    stream_s = 0.0 if front_end is None else np.nan_to_num(front_end["stream_s"])
    gaps = outcomes["output_tokens"] - 1.0
    gaps[gaps < 1.0] = np.nan
    computed = {
        "request_id": np.arange(first_id, first_id + len(outcomes)),
        "output_tokens_target": arrivals["output_tokens"].to_numpy(),
        "queue_s": outcomes["scheduled_s"] - arrival_s,
        "ttft_s": first_token_s + stream_s - arrival_s,
        "tpot_s": (finished_s - first_token_s) / gaps,
        "e2e_s": finished_s + stream_s - arrival_s,
    }
    if visible_s is not None:
        reasons = arrivals["reasoning_tokens"].fill_null(0).to_numpy() > 0
        computed["ttft_visible_s"] = np.where(reasons, visible_s, first_token_s) + stream_s - arrival_s
    if front_end is not None:
        enqueued_s = front_end["enqueued_s"]
        computed |= {
            "enqueued_s": enqueued_s,
            "stream_s": front_end["stream_s"],
            "front_end_s": enqueued_s - arrival_s,
        }
    if speculation is not None:
        for name in SPECULATION_COLUMNS:
            steps = speculation[name].astype(np.float64)
            computed[name] = np.where(steps < 0.0, np.nan, steps)
    extras = [name for name in EXTRAS if name in arrivals.columns or name in computed]
    columns = []
    for name, dtype in frame_schema("requests", extras).items():
        if name in computed:
            columns.append(_column(name, computed[name], dtype))
        elif name in (outcomes.dtype.names or ()):
            columns.append(_column(name, outcomes[name], dtype))
        else:
            columns.append(arrivals[name].cast(dtype))
    return pl.DataFrame(columns)


def _column(name: str, values: NDArray[Any], dtype: pl.DataType) -> pl.Series:
    """Return one column: NaN, negative codes and replica -1 become null."""
    contiguous = np.ascontiguousarray(values)
    if isinstance(dtype, pl.Enum):
        return pl.Series(name, contiguous).cast(pl.UInt8, strict=False).cat.to(dtype)
    column = pl.Series(name, contiguous, nan_to_null=True).cast(dtype)
    if name == "replica" and len(contiguous) and contiguous.min() < 0:
        return pl.select(pl.when(column >= 0).then(column).alias(name)).to_series()
    return column
