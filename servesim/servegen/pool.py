"""The form of a client pool: when each client sends how many requests, with what gaps and what lengths.

Where pools come from is in `packed`, `native`, `parametric` and `fit`; what is made of them in `compose`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.errors import TraceError
from servesim.servegen.lengths import LengthTable
from servesim.workload.checks import ROW, check_numbers, first_wrong

WINDOW_S = 600
"""Rate and gaps of a client are constant for this long."""

WINDOWS_PER_6H = 36
"""Lengths are for six hours each."""

ACTIVITY = {
    "client": pl.Int64,  # number of the client in the pool
    "window": pl.Int64,  # number of the window of 600 s
    "requests": pl.Float64,  # in the window
    "cv": pl.Float64,  # coefficient of variation of the gaps, as measured
    "weibull": pl.Boolean,  # whether gaps are Weibull, otherwise Gamma
    "shape": pl.Float64,
    "scale": pl.Float64,  # seconds
}
"""Columns of `ClientPool.activity`."""

_SHAPE_MIN = 1e-3
"""Gaps of smaller shapes are all 0 in floating point."""


@dataclass(frozen=True, eq=False)
class ClientPool:
    """What each of many clients sends over some days.

    Attributes
    ----------
    name
        What messages call it.
    clients
        Their ids; elsewhere a client is its place in here.
    windows
        Number of windows of 600 s, a multiple of 36.
    activity
        A row per client and window in which it sends anything, with the columns of `ACTIVITY`, sorted by window, then
        client.
    lengths
        Histograms of the lengths; clients that have none borrow them from `lenders`.
    lenders
        Client without lengths of its own to the client whose lengths it has.
    """

    name: str
    clients: tuple[str, ...]
    windows: int
    activity: pl.DataFrame
    lengths: LengthTable
    lenders: dict[int, int] = field(default_factory=dict)

    def histograms(self, name: str) -> NDArray[np.int64]:
        """Return the number of the histogram of field *name* by client and six hours, borrowed ones included."""
        numbers = self.lengths.numbers(name, len(self.clients), self.windows // WINDOWS_PER_6H)
        for client, lender in self.lenders.items():
            numbers[client] = numbers[lender]
        return numbers


def client_pool(
    name: str, clients: tuple[str, ...], activity: pl.DataFrame, lengths: LengthTable, *, where: str | Path
) -> ClientPool:
    """Return a pool of checked parts; *activity* has the columns of `ACTIVITY` and perhaps row numbers.

    Raises
    ------
    TraceError
        At the first value that is out of range, or where no client has lengths.
    """
    activity = activity.filter(pl.col("requests") > 0)
    if activity.is_empty():
        raise TraceError(f"{where}: no client is ever active (got no requests). expected at least one")
    check_activity(activity, where)
    if lengths.rows.is_empty():
        raise TraceError(f"{where}: no client has lengths (got none). expected histograms of at least one")
    if ROW in activity.columns:
        activity = activity.drop(ROW)
    activity = activity.select(pl.col(column).cast(kind) for column, kind in ACTIVITY.items())
    if (twice := activity.select("client", "window").is_duplicated()).any():
        row = activity.filter(twice).row(0, named=True)
        raise TraceError(
            f"{where}: client {clients[row['client']]!r} has window {row['window']} more than once. expected one row"
        )
    last = max(
        int(activity["window"].to_numpy().max()),
        int(lengths.rows["window6h"].to_numpy().max()) * WINDOWS_PER_6H,
    )
    return ClientPool(
        name=name,
        clients=clients,
        windows=(last // WINDOWS_PER_6H + 1) * WINDOWS_PER_6H,
        activity=activity.sort("window", "client"),
        lengths=lengths,
        lenders=_lenders(activity, lengths),
    )


def check_activity(activity: pl.DataFrame, where: str | Path) -> None:
    """Raise at the first number in active windows that is missing or out of range.

    Raises
    ------
    TraceError
        It names *where*, row and column.
    """
    for column in ("window", "requests", "cv", "shape", "scale"):
        check_numbers(activity, column, where)
    for column, least in (("cv", 0.0), ("shape", _SHAPE_MIN), ("scale", 0.0), ("window", 0)):
        if wrong := first_wrong(activity, activity[column] < least):
            got = activity[column][wrong[0]]
            raise TraceError(
                f"{where}: row {wrong[1]}: {column}: too small (got {got!r}). expected >= {least:g}"
            )


def _lenders(activity: pl.DataFrame, lengths: LengthTable) -> dict[int, int]:
    """Return whose lengths a client without any takes: those of the nearest in logarithms of rate and CV."""
    profile = (
        activity.group_by("client")
        .agg(rate=pl.col("requests").mean().log(), cv=pl.col("cv").median().clip(1e-3).log())
        .sort("client")
    )
    owners = profile.filter(pl.col("client").is_in(lengths.rows["client"].unique().implode()))
    if owners.is_empty():
        return {}
    points, numbers = owners.select("rate", "cv").to_numpy(), owners["client"].to_numpy()
    return {
        client: int(numbers[np.argmin((points[:, 0] - rate) ** 2 + (points[:, 1] - cv) ** 2)])
        for client, rate, cv in profile.iter_rows()
        if client not in numbers
    }
