"""The one form in which requests travel: columns, units and the protocol of a workload.

A workload yields polars frames in order of arrival, each with exactly the columns of `SCHEMA`. Readers,
generators and transforms all speak this form; the cluster consumes it frame by frame, so a long trace is
never held as objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import polars as pl

SCHEMA: dict[str, pl.DataType] = {
    "arrival_s": pl.Float64(),  # seconds since the start of the run, non-decreasing, >= 0
    "prompt_tokens": pl.Int32(),  # >= 1
    "output_tokens": pl.Int32(),  # >= 1
    "model": pl.String(),  # tag: null where the source has none
    "tenant": pl.String(),
    "priority": pl.Int32(),  # 0 where the source has none; lower is served first
    "session": pl.String(),
    "slo_class": pl.String(),
    "prefix_blocks": pl.List(pl.Int64()),  # ids of the prompt's blocks; null where the source has none
    "prefix_block_tokens": pl.Int32(),  # tokens per such block
    "think_s": pl.Float64(),  # of a follow-up: from the end of its session's previous request to its arrival
    "image_tokens": pl.Int32(),  # of the prompt, from an image encoder; null: none
    "audio_tokens": pl.Int32(),  # of the prompt, from an audio encoder; null: none
    "reasoning_tokens": pl.Int32(),  # of the output, from its first token on, that the user does not see; null: none
}
"""Columns of a request.

A *block id* stands for the content of its block and of all before it (a chained hash, as in vLLM's prefix cache): equal
ids mean equal prefixes. Ids are unique over the whole workload.

A *follow-up* is a request with ``think_s``. It arrives that long after the previous request of its session has ended
(emitted its last token, or was rejected), so its time of arrival is known in the simulation only. In the stream it
stands behind its predecessor and has the ``arrival_s`` of its session's first request: the stream stays in order, and a
session is known when it begins.
"""

RESULT_EXTRAS = ("image_tokens", "audio_tokens", "reasoning_tokens")
"""Columns that a result has only where the workload has them."""

ANNOUNCED = (*RESULT_EXTRAS, "think_s")
"""Columns that a stream must announce before its first frame, because runs prepare for them."""

TOKENS_MAX = 2**31 - 1
"""Largest length that a column of `SCHEMA` holds."""

PRIORITY_MIN, PRIORITY_MAX = -(2**31), 2**31 - 1
"""Range of priorities."""

CHUNK_ROWS = 65_536
"""Rows of a frame: the unit of streaming through the whole program, and of Parquet row groups."""


class Workload(Protocol):
    """A stream of requests.

    Attributes
    ----------
    requests
        How many requests there will be, or None when that is not known in advance.
    extras
        Those of `ANNOUNCED` that requests may have.
    notes
        Counts worth telling the user (rows read, rows sorted, failures dropped, ...); complete after the last
        frame.
    """

    requests: int | None
    extras: frozenset[str]
    notes: dict[str, int | float | str]

    def frames(self) -> Iterator[pl.DataFrame]:
        """Yield frames of at most `CHUNK_ROWS` rows with the columns of `SCHEMA`, in order of arrival."""
