"""Sessions of a recorded trace as follow-ups: each request some time after the one before it has ended.

What a follow-up is, is told in `servesim.workload.schema`. A trace tells when requests arrived in the system that it
was recorded in; replayed in a slower or faster one, a user or an agent would have sent the next request later or
earlier.
"""

from __future__ import annotations

import polars as pl

END = "end_s"
"""Column of the times at which requests ended where they were recorded; `follow_ups` takes it away."""


def follow_ups(requests: pl.DataFrame) -> pl.DataFrame:
    """Return *requests* with all but the first of each session as follow-ups.

    The time between is from the end of the session's previous request to this one's arrival, as recorded, at least 0.
    Where the trace does not tell ends (no column `END`, or null), it is from that one's arrival, which takes the time
    that serving took then for a part of the pause.

    Parameters
    ----------
    requests
        ``arrival_s`` and ``session``; null: a session of its own. Requests of a session follow each other in order of
        arrival, ties as they stand.

    Returns
    -------
    polars.DataFrame
        With ``think_s``, in order of the sessions' first arrivals, each session in one piece.
    """
    alone = pl.col("session").is_null()
    ordered = requests.sort("arrival_s", maintain_order=True).with_row_index("position")
    ended = pl.coalesce(END, "arrival_s") if END in requests.columns else pl.col("arrival_s")
    within = pl.when(~alone).then(pl.col("session"))
    gap_s = (pl.col("arrival_s") - ended.shift(1).over("session")).clip(lower_bound=0.0)
    first = pl.when(alone).then(pl.col("position")).otherwise(pl.col("position").min().over("session"))
    start_s = pl.when(alone).then(pl.col("arrival_s")).otherwise(pl.col("arrival_s").min().over("session"))
    return (
        ordered.with_columns(
            think_s=pl.when(within.is_not_null()).then(gap_s), arrival_s=start_s, first=first
        )
        .sort("first", "position")
        .drop("first", "position", END, strict=False)
    )
