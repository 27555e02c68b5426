"""What a reader or generator of serverless logs returns: some of the frames, and what it noticed."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl


@dataclass(frozen=True, slots=True, eq=False)
class ServerlessLog:
    """The frames of a log, read only when they are used; None: the log has none of the kind.

    Their columns are those of `servesim.serverless.schema`.

    Attributes
    ----------
    format
        Name of the format that it was read from, or of the generator.
    cold_starts, invocations, functions, series
        The frames, checked; in order of time.
    notes
        Counts worth telling: rows read, rows sorted, totals that are not the sum of their parts, failures.
    """

    format: str
    cold_starts: pl.LazyFrame | None = None
    invocations: pl.LazyFrame | None = None
    functions: pl.LazyFrame | None = None
    series: pl.LazyFrame | None = None
    notes: dict[str, int | float | str] = field(default_factory=dict)
