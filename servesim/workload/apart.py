"""Names of sessions and block ids that mean something in one stream only, kept apart where streams come together.

A request that is played again is another request: its session is another one, and its prompt has other blocks, all of
them. So is a trace in another source of a mix. docs/decisions/0008-copies-share-no-prefixes.md tells why.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from servesim.workload.prefixes import Integers, relabelled


def of_copy(frame: pl.DataFrame, copy: int | Integers) -> pl.DataFrame:
    """Return *frame* with the number of a *copy*, or one for each request, behind the name of each session.

    All copies have one, the first one too: so a copy of a copy is no copy of the original.
    """
    copies = np.broadcast_to(np.asarray(copy, dtype=np.int64), frame.height)
    name = pl.col("session") + "#" + pl.Series(copies).cast(pl.String)
    return _apart(frame, name, copies)


def of_source(frame: pl.DataFrame, index: int) -> pl.DataFrame:
    """Return *frame* with the number of its source in front of the name of each session."""
    return _apart(frame, pl.lit(f"{index}/") + pl.col("session"), np.full(frame.height, index))


def _apart(frame: pl.DataFrame, session: pl.Expr, labels: Integers) -> pl.DataFrame:
    if frame["session"].null_count() < frame.height:
        frame = frame.with_columns(session.alias("session"))
    if frame["prefix_blocks"].null_count() < frame.height:
        frame = frame.with_columns(relabelled(frame["prefix_blocks"], labels))
    return frame
