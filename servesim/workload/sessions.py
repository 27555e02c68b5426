"""Sessions as closed loops: each request waits for the end of the one before it.

`follow_ups` makes them of recorded times; a reader that knows sessions returns those times, the session and, where
the trace has it, ``end_s``, and the scenario's ``workload.closed_loop`` decides. `whole_sessions` keeps them whole
where a stream is cut. What a follow-up is: `SCHEMA`.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from servesim.errors import TraceError
from servesim.workload.checks import check_numbers, first_wrong

END = "end_s"
"""Column that a reader may return beside those of `SCHEMA`: when the request ended in the trace, in the time of
``arrival_s``; null where that is not known."""

Notes = dict[str, int | float | str]


def follow_ups(requests: pl.DataFrame, where: str) -> tuple[pl.DataFrame, Notes]:
    """Return *requests* with every one of a session but its first as a follow-up, in the order of a stream.

    The think time is the recorded gap: from the end of the session's previous request, or where that is not
    known from its arrival, to this request's arrival. A request that was recorded before its predecessor had
    ended follows at once.

    Parameters
    ----------
    requests
        At least ``arrival_s`` and ``session``; ``end_s`` is used and left out. Requests without a session stay
        as they are.
    where
        What messages call the trace.

    Returns
    -------
    requests
        Ordered by the arrival of the session's first request, of a session by their own; ``think_s`` is set and
        ``arrival_s`` that of the session's first request.
    notes
        ``sessions``, ``follow_ups``, and ``overlaps``: how many follow at once because they had not waited.

    Raises
    ------
    TraceError
        If there is no session, or ``think_s`` is there already.

    Examples
    --------
    >>> trace = pl.DataFrame({"arrival_s": [0.0, 1.0, 9.0], "session": ["a", "b", "a"], "end_s": [4.0, 2.0, 9.5]})
    >>> follow_ups(trace, "trace")[0].rows()
    [(0.0, 'a', None), (0.0, 'a', 5.0), (1.0, 'b', None)]
    """
    if "session" not in requests.columns or requests["session"].null_count() == requests.height:
        raise TraceError(f"{where}: closed_loop: no sessions (got none). expected a trace with sessions")
    if "think_s" in requests.columns and requests["think_s"].null_count() < requests.height:
        raise TraceError(
            f"{where}: closed_loop: the trace has think times itself (got think_s). expected closed_loop: false"
        )
    in_order = requests.sort("arrival_s", maintain_order=True)
    arrival, previous = pl.col("arrival_s"), pl.col("arrival_s")
    if END in requests.columns:
        previous = pl.coalesce(END, "arrival_s")
    gap = (arrival - previous.shift(1)).over("session")
    of_session = pl.col("session").is_not_null()
    linked = in_order.with_columns(
        think_s=pl.when(of_session).then(gap.clip(lower_bound=0.0)),
        arrival_s=pl.when(of_session).then(arrival.first().over("session")).otherwise(arrival),
    )
    overlaps = in_order.select(((gap < 0.0) & of_session).sum()).item()
    notes: Notes = {
        "sessions": linked["session"].drop_nulls().n_unique(),
        "follow_ups": linked["think_s"].count(),
        "overlaps": int(overlaps),
    }
    return linked.drop(END, strict=False).sort("arrival_s", maintain_order=True), notes


def ends(requests: pl.DataFrame, where: str) -> pl.Series:
    """Return the column ``end_s`` of a trace as seconds, null where the end is not known.

    Raises
    ------
    TraceError
        At the first value that is no time at or after the request's arrival.
    """
    given = requests.filter(pl.col(END).is_not_null())
    if not given.is_empty():
        early = check_numbers(given, END, where) < given["arrival_s"].cast(pl.Float64)
        if wrong := first_wrong(given, early):
            raise TraceError(
                f"{where}: row {wrong[1]}: {END}: before the request arrives (got {given[END][wrong[0]]!r}). "
                f"expected >= {given['arrival_s'][wrong[0]]!r}"
            )
    return requests[END].cast(pl.Float64)


def whole_sessions(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield the same requests with none of a session in another frame than its first: none of a time, for that."""
    held: list[pl.DataFrame] = []
    for frame in frames:
        if frame.is_empty():
            continue
        last_s = frame["arrival_s"][-1]
        cut = int(frame["arrival_s"].search_sorted(last_s, side="left"))
        if cut or (held and held[-1]["arrival_s"][-1] < last_s):
            yield pl.concat([*held, frame.head(cut)], rechunk=True)
            held = []
        held.append(frame.slice(cut))
    if held:
        yield pl.concat(held, rechunk=True)
