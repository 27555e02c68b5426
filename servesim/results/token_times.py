"""Exact emission times of the tokens of one request, expanded from the segments of its replica.

The steps of a segment emit one token for every request that decodes in it. So a request's tokens are: the
first, at the end of its prefill; one per decode step of its replica from then on; and after a preemption, one
at the end of the prefill that recomputes what was lost, while the steps between belong to others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from servesim.errors import InvariantError, ServesimError
from servesim.results.frames import Frames
from servesim.results.steps import Floats, boundaries_s


def token_times(frames: Frames, request_id: int) -> Floats:
    """Return when each token of a request was emitted.

    Parameters
    ----------
    frames
        Frames of the run.
    request_id
        The request, whatever became of it.

    Returns
    -------
    numpy.ndarray
        Seconds since the start of the run, ``output_tokens`` of them, increasing; the last equals
        ``finished_s``.

    Raises
    ------
    ServesimError
        If there is no such request.
    InvariantError
        If the segments do not account for the request's tokens.
    """
    request = _request(frames, request_id)
    if request["first_token_s"] is None:
        return np.empty(0)
    spans = _own_spans(frames, request_id, request["first_token_s"])
    segments = _decode_segments(frames, request["replica"], request["first_token_s"], request["finished_s"])
    pieces = []
    for start_s, end_s in spans:
        own = segments.filter((pl.col("start_s") >= start_s) & (pl.col("start_s") < end_s))
        columns = (own[name].to_numpy() for name in ("start_s", "step_s", "growth_s", "steps"))
        pieces += [np.array([start_s]), boundaries_s(*columns)]
    times_s = np.concatenate(pieces)
    finished_s = request["finished_s"]
    if len(times_s) != request["output_tokens"] or (finished_s is not None and times_s[-1] != finished_s):
        raise InvariantError(
            f"request {request_id}: its segments expand to {len(times_s)} tokens until {times_s[-1]} s. "
            f"expected {request['output_tokens']} tokens until {finished_s} s"
        )
    return times_s


def _request(frames: Frames, request_id: int) -> dict[str, Any]:
    """Return the row of a request: rows are in order of their ids."""
    columns = ("request_id", "replica", "first_token_s", "finished_s", "output_tokens")
    requests = frames.lazy("requests").select(columns)
    row = requests.slice(request_id, 1).collect() if request_id >= 0 else pl.DataFrame()
    if row.is_empty():
        count = requests.select(pl.len()).collect().item()
        raise ServesimError(
            f"request_id: no such request (got {request_id!r}). expected an integer from 0 to {count - 1}"
        )
    return row.row(0, named=True)


def _own_spans(frames: Frames, request_id: int, first_token_s: float) -> list[tuple[float, float]]:
    """Return the spans in which the request decodes: each begins with a token, at the end of a prefill."""
    events = (
        frames.lazy("events")
        .filter((pl.col("request_id") == request_id) & pl.col("kind").is_in(["preempted", "resumed"]))
        .select("time_s", pl.col("kind").cast(pl.String), "output_tokens")
        .collect()
    )
    spans = []
    start_s: float | None = first_token_s
    for time_s, kind, emitted in events.iter_rows():
        if kind == "preempted" and emitted > 0 and start_s is not None:
            spans.append((start_s, time_s))
            start_s = None
        elif kind == "resumed" and emitted > 1:  # the one that emits token 1 is the first token itself
            start_s = time_s
    if start_s is not None:
        spans.append((start_s, np.inf))
    return spans


def _decode_segments(
    frames: Frames, replica: int, first_token_s: float, finished_s: float | None
) -> pl.DataFrame:
    """Return the segments in which the replica decodes while the request is there."""
    segments = frames.lazy("segments").filter(
        (pl.col("replica") == replica) & (pl.col("sequences") > 0) & (pl.col("start_s") >= first_token_s)
    )
    if finished_s is not None:
        segments = segments.filter(pl.col("start_s") < finished_s)
    return segments.select("start_s", "step_s", "growth_s", "steps").collect()
