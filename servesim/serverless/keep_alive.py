"""Which invocations are cold: the rule of a fixed keep-alive."""

from __future__ import annotations

import polars as pl


def cold_by_gap(invocations: pl.DataFrame, keep_alive_s: float) -> pl.Series:
    """Return which invocations find no warm pod, if a function has one pod that takes all its requests at once.

    A pod is kept for *keep_alive_s* after its last request has ended: an invocation is cold if its function's
    earlier ones have all ended longer ago than that. So is the first one. With a pod for every request in
    progress there are more cold starts than this; see docs/model/serverless.md.

    Parameters
    ----------
    invocations
        Columns ``function``, ``arrival_s`` and, where they are known, ``wait_s`` and ``duration_s``; single
        invocations in any order.
    keep_alive_s
        How long an idle pod is kept.

    Returns
    -------
    polars.Series
        A Boolean for each row, in their order.
    """
    spent = [pl.col(name).fill_null(0.0) for name in ("wait_s", "duration_s") if name in invocations.columns]
    rows = invocations.select(
        "function", "arrival_s", end_s=pl.sum_horizontal("arrival_s", *spent), row=pl.int_range(pl.len())
    ).sort("function", "arrival_s", maintain_order=True)
    busy_until_s = pl.col("end_s").cum_max().shift(1).over("function")
    cold = (pl.col("arrival_s") - busy_until_s > keep_alive_s).fill_null(value=True)
    return rows.with_columns(cold=cold).sort("row")["cold"]
