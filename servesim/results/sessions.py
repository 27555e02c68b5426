"""Sessions of a run: how many there were, how many at once, and how long they took.

A session is under way from the arrival of its first request to the end of its last one, think times included.
"""

from __future__ import annotations

from typing import Any

import polars as pl


def session_statistics(requests: pl.LazyFrame, end_s: float) -> dict[str, Any] | None:
    """Return the table of sessions, or None where no request belongs to one.

    Parameters
    ----------
    requests
        The ``requests`` frame.
    end_s
        When the run ended: a session with an unfinished request is under way until then.

    Returns
    -------
    dict
        ``sessions``; ``requests`` in them and their ``prompt_tokens_mean``; ``session_s_mean``, how long a session
        is under way; and ``active_mean``, how many are, as a mean over the run: by Little's law ``sessions`` /
        *end_s* times ``session_s_mean``.
    """
    received_s = pl.col("finished_s")
    if "stream_s" in requests.collect_schema():  # the last token is with the client that much later
        received_s += pl.col("stream_s").fill_null(0.0)
    ended_s = pl.when(pl.col("state") == "rejected").then("arrival_s").otherwise(received_s).fill_null(end_s)
    spans = (
        requests.filter(pl.col("session").is_not_null())
        .group_by("session")
        .agg(
            requests=pl.len(),
            prompt_tokens=pl.col("prompt_tokens").cast(pl.Int64).sum(),
            span_s=ended_s.max() - pl.col("arrival_s").min(),
        )
        .select("requests", "prompt_tokens", "span_s")
        .collect(engine="streaming")
    )
    if spans.is_empty():
        return None
    count = int(spans["requests"].sum())
    span_s = float(spans["span_s"].sort().sum())  # in order, so that the sum is the same to the last bit
    return {
        "sessions": spans.height,
        "requests": count,
        "prompt_tokens_mean": int(spans["prompt_tokens"].sum()) / count,
        "session_s_mean": span_s / spans.height,
        "active_mean": span_s / end_s if end_s > 0.0 else None,
    }
