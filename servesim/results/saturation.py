"""A hint of saturation: does the backlog of a run grow with the requests that arrive?"""

from __future__ import annotations

import math

import polars as pl

NOISE_FACTOR = 3.0
"""Growth counts as such from this many standard deviations of a Poisson count of the arrivals on."""

SHARES = (0.75, 1.0)
"""Shares of the span of arrivals after which the backlog is counted: a burst is not seen at both."""


def backlog_growing(requests: pl.LazyFrame) -> bool:
    """Return whether the backlog grew, beyond noise, over the span of arrivals.

    The backlog is the number of requests that have arrived and were never scheduled yet (rejected ones left
    out); unlike the number in the system it is not raised by a batch that fills up at the start of a run. It
    is counted at three quarters of the span and at its end: a burst in the middle is gone by then, and one at
    the end is not seen before. It grows when at both times it is larger than at the first arrival by more than
    3*sqrt(A), where A is the number of arrivals until then: a queue that keeps up has a backlog that does not
    depend on A, one that does not a backlog in proportion to it.

    Parameters
    ----------
    requests
        The ``requests`` frame.
    """
    accepted = requests.filter(pl.col("state") != "rejected")
    arrival_s, scheduled_s = pl.col("arrival_s"), pl.col("scheduled_s")
    span = accepted.select(first=arrival_s.min(), last=arrival_s.max()).collect(engine="streaming")
    first_s, last_s = span.row(0)
    if first_s is None:
        return False
    counts: dict[str, pl.Expr] = {}
    for share in (0.0, *SHARES):
        time_s = first_s + share * (last_s - first_s)
        arrived = arrival_s <= time_s
        counts[f"arrived {share}"] = arrived.sum()
        counts[f"waiting {share}"] = (arrived & (scheduled_s.is_null() | (scheduled_s > time_s))).sum()
    found = accepted.select(**counts).collect(engine="streaming").row(0, named=True)
    return all(
        found[f"waiting {share}"] - found["waiting 0.0"] > NOISE_FACTOR * math.sqrt(found[f"arrived {share}"])
        for share in SHARES
    )


def queued_s(requests: pl.LazyFrame) -> pl.Expr:
    """Return when a request reached its engine's queue: as it arrived, or when its front end was done."""
    if "enqueued_s" not in requests.collect_schema():
        return pl.col("arrival_s")
    return pl.when(pl.col("stream_s").is_null()).then("arrival_s").otherwise("enqueued_s")
