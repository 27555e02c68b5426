"""A hint of saturation: does the backlog of a run grow for as long as requests arrive?"""

from __future__ import annotations

import math

import polars as pl

NOISE_FACTOR = 3.0
"""Growth counts as such from this many standard deviations of a Poisson count of the arrivals on."""

QUARTER_SHARE = 0.1
"""Least share of the growth in each of the two last quarters; steady growth has half of it in each."""


def backlog_growing(requests: pl.LazyFrame) -> bool:
    """Return whether the backlog grew, beyond noise, over the last half of the span of arrivals.

    The backlog is the number of requests that have arrived and were never scheduled yet (rejected ones left
    out); unlike the number in the system it is not raised by a batch that fills up at the start of a run. It
    is counted in the middle of the span, at three quarters and at its end. It grows when it has grown by more
    than 3*sqrt(A), where A is the number of arrivals in the last half, and each of the two quarters
    contributed at least a tenth of that growth (a single burst at the end of a trace is not saturation).

    Parameters
    ----------
    requests
        The ``requests`` frame.
    """
    accepted = requests.filter(pl.col("state") != "rejected")
    arrival_s = pl.col("arrival_s")
    span = accepted.select(first=arrival_s.min(), last=arrival_s.max()).collect(engine="streaming")
    first_s, last_s = span.row(0)
    if first_s is None:
        return False
    times_s = [first_s + share * (last_s - first_s) for share in (0.5, 0.75)] + [last_s]
    counts = accepted.select(
        *(
            ((arrival_s <= time_s) & (pl.col("scheduled_s").is_null() | (pl.col("scheduled_s") > time_s)))
            .sum()
            .alias(str(number))
            for number, time_s in enumerate(times_s)
        ),
        arrivals=(arrival_s > times_s[0]).sum(),
    )
    middle, late, end, arrivals = counts.collect(engine="streaming").row(0)
    growth = end - middle
    return bool(
        growth > NOISE_FACTOR * math.sqrt(arrivals)
        and min(late - middle, end - late) >= QUARTER_SHARE * growth
    )
