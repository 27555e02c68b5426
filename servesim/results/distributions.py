"""How latencies are distributed: quantile curves and histograms, a few hundred numbers for any number of requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from servesim.results.latencies import measured
from servesim.results.steps import Floats

HISTOGRAM_BINS = 60

SHARES: Floats = np.concatenate([np.arange(198) / 200.0, np.arange(990, 1000) / 1000.0, [0.9999, 1.0]])
"""Shares of requests at which a quantile curve is told: every half percent, and finer in the last one."""


def sorted_latencies(requests: pl.LazyFrame, metric: str, warm_up_s: float) -> Floats:
    """Return the values of a latency in s over the measured requests, ascending."""
    column = measured(requests, warm_up_s).select(metric).collect(engine="streaming").to_series()
    return column.drop_nulls().sort().to_numpy()


def quantile_curve(ascending: Floats) -> pl.DataFrame:
    """Return the quantiles of a distribution, interpolated linearly as in the summary.

    Returns
    -------
    polars.DataFrame
        ``share`` (0-1) and ``latency_s``; no rows for no values.
    """
    if not len(ascending):
        return pl.DataFrame(schema={"share": pl.Float64, "latency_s": pl.Float64})
    ranks = np.arange(len(ascending))
    return pl.DataFrame(
        {"share": SHARES, "latency_s": np.interp(SHARES * (len(ascending) - 1), ranks, ascending)}
    )


def histogram_edges(samples: Sequence[Floats]) -> Floats:
    """Return edges of bins that hold all *samples* (ascending each): in geometric progression, equal widths from 0 on.

    Latencies spread over orders of magnitude; bins of equal width would put most of them into one. No edges where
    there is nothing.
    """
    filled = [sample for sample in samples if len(sample)]
    if not filled:
        return np.empty(0)
    low, high = min(sample[0] for sample in filled), max(sample[-1] for sample in filled)
    if high <= low * 1.001:  # all alike: one bar in the middle
        side_s = 0.01 * high or 1e-3
        return np.array([low - 5.0 * side_s, low - side_s, high + side_s, high + 5.0 * side_s])
    spaced = np.geomspace if low > 0 else np.linspace
    edges: Floats = spaced(low, high, HISTOGRAM_BINS + 1)
    edges[0], edges[-1] = low, high
    return edges


def histogram(ascending: Floats, edges: Floats) -> pl.DataFrame:
    """Return the share of the values in each bin; the last bin contains its upper edge.

    Returns
    -------
    polars.DataFrame
        ``low_s, high_s, share``; the shares add up to 1 where there are values within *edges*.
    """
    below = np.searchsorted(ascending, edges)
    if len(below):
        below[-1] = np.searchsorted(ascending, edges[-1], side="right")
    return pl.DataFrame(
        {"low_s": edges[:-1], "high_s": edges[1:], "share": np.diff(below) / max(len(ascending), 1)}
    )
