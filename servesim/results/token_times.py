"""Exact emission times of the tokens of one request, expanded from the segments of its replica.

The steps of a segment emit one token for every request that decodes in it; with speculative decoding, some. So
a request's tokens are: the first, at the end of its prefill; those of each decode step of its replica from then on; and
after a preemption, one at the end of the prefill that recomputes what was lost, while the steps between belong to
others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.cluster.speculative import FRACTION_BITS, spread
from servesim.errors import InvariantError, ServesimError
from servesim.results.frames import Frames
from servesim.results.speculation import decodes_speculatively
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
    drawn = request.get("decode_steps_drawn")
    segments = _decode_segments(frames, request["replica"], request["first_token_s"], request["finished_s"])
    pieces = []
    for start_s, end_s, emitted in spans:
        own = segments.filter((pl.col("start_s") >= start_s) & (pl.col("start_s") < end_s))
        columns = (own[name].to_numpy() for name in ("start_s", "step_s", "growth_s", "steps"))
        ends_s = boundaries_s(*columns)
        pieces += [
            np.array([start_s]),
            ends_s if drawn is None else np.repeat(ends_s, _per_step(request, emitted, len(ends_s))),
        ]
    times_s = np.concatenate(pieces)
    finished_s = request["finished_s"]
    if len(times_s) != request["output_tokens"] or (finished_s is not None and times_s[-1] != finished_s):
        raise InvariantError(
            f"request {request_id}: its segments expand to {len(times_s)} tokens until {times_s[-1]} s. "
            f"expected {request['output_tokens']} tokens until {finished_s} s"
        )
    return times_s


def _per_step(request: dict[str, Any], emitted: int, steps: int) -> NDArray[np.int64]:
    """Return how many tokens each of the next *steps* decode steps of a request emits that has *emitted* so many."""
    decoded, drawn = request["decode_tokens_drawn"], request["decode_steps_drawn"]
    if not steps:
        return np.empty(0, dtype=np.int64)
    pace = spread(decoded + 1 - emitted, decoded, drawn)[1]
    return np.diff((pace * np.arange(steps + 1, dtype=np.int64)) >> FRACTION_BITS)


def _request(frames: Frames, request_id: int) -> dict[str, Any]:
    """Return the row of a request: rows are in order of their ids."""
    columns = ("request_id", "replica", "first_token_s", "finished_s", "output_tokens")
    drawn = ("decode_steps_drawn", "decode_tokens_drawn") if decodes_speculatively(frames) else ()
    requests = frames.lazy("requests").select(*columns, *drawn)
    row = requests.slice(request_id, 1).collect() if request_id >= 0 else pl.DataFrame()
    if row.is_empty():
        count = requests.select(pl.len()).collect().item()
        raise ServesimError(
            f"request_id: no such request (got {request_id!r}). expected an integer from 0 to {count - 1}"
        )
    return row.row(0, named=True)


def _own_spans(frames: Frames, request_id: int, first_token_s: float) -> list[tuple[float, float, int]]:
    """Return the spans in which the request decodes, each with the tokens emitted by its start.

    A span begins with a token, at the end of a prefill.
    """
    events = (
        frames.lazy("events")
        .filter((pl.col("request_id") == request_id) & pl.col("kind").is_in(["preempted", "resumed"]))
        .select("time_s", pl.col("kind").cast(pl.String), "output_tokens")
        .collect()
    )
    spans = []
    start_s: float | None = first_token_s
    begun = 1
    for time_s, kind, emitted in events.iter_rows():
        if kind == "preempted" and emitted > 0 and start_s is not None:
            spans.append((start_s, time_s, begun))
            start_s = None
        elif kind == "resumed" and emitted > 1:  # the one that emits token 1 is the first token itself
            start_s, begun = time_s, emitted
    if start_s is not None:
        spans.append((start_s, np.inf, begun))
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
