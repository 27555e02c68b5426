"""What a trace reader and a workload generator are: the two places where requests come from.

Both are plugins: a class with explicit keyword parameters, found by name through
`servesim.workload.registries`. What happens to their requests afterwards is in
`servesim.workload.transforms`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import polars as pl


class Reader(Protocol):
    """Read one trace format.

    One that leaves something of its file out may have ``left_out``: the names of those columns, or keys, that no column
    of its requests tells; complete when `read` has returned. ``servesim trace convert`` names them.

    Attributes
    ----------
    notes
        Counts worth telling the user (failures dropped, ...); complete when `read` has returned. With
        ``rows_sorted`` 0 among them, the reader promises that the rows are in order of arrival: then only as
        many are collected as the scenario needs.
    """

    notes: dict[str, int | float | str]

    def read(self) -> pl.LazyFrame:
        """Return the requests of the trace.

        Returns
        -------
        polars.LazyFrame
            Columns of `servesim.workload.schema.SCHEMA`, at least ``arrival_s``, ``prompt_tokens`` and
            ``output_tokens``; numbers of any type. Time 0 is the earliest arrival in the file, even where
            that request is left out, unless a parameter of the reader says otherwise. Rows may be out of
            order: they are sorted, and counted, afterwards. A column ``row`` (number of the row in the file)
            serves messages.

        Raises
        ------
        TraceError
            If the file cannot be taken as it is; the message names the file, the row and the column.
        """


@dataclass(frozen=True, kw_only=True)
class Signature:
    """How a file of a format is told from files of other formats.

    A reader that has one, or a tuple of them, as its class attribute ``signature`` is found by
    `servesim.traces.detect`, so that ``servesim trace`` takes its files without being told the format.

    Attributes
    ----------
    forms
        What kinds of files the format has: ``csv``, ``jsonl``, ``parquet`` or ``folder``, told by what is in them.
    needs
        Columns (CSV, Parquet) or keys (JSON lines) that every file has; for a folder, patterns that files in it
        match. Of several formats that fit, the one that needs most is taken.
    mark
        Key that a Parquet file has in its metadata; it counts as one more column.
    reading
        Parameters with which a file is looked at: those that leave failed requests out and count them, say.
    """

    forms: tuple[Literal["csv", "jsonl", "parquet", "folder"], ...]
    needs: tuple[str, ...]
    mark: str | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)


class Generator(Protocol):
    """Make requests from random numbers.

    One whose requests have images, audio, reasoning or follow-ups also has an attribute ``extras``: which of
    `servesim.workload.schema.ANNOUNCED` they may have.

    One that has something to tell the user may have ``notes``, as a reader has; they are read before its requests.
    """

    @property
    def requests(self) -> int | None:
        """How many requests there will be at most, or None."""

    @property
    def duration_s(self) -> float | None:
        """Time after which none arrives, or None."""

    def frames(self, seed: int) -> Iterator[pl.DataFrame]:
        """Yield frames in order of arrival, with the columns of `SCHEMA` or some of them.

        The requests depend on *seed* only: not on how many frames are taken, nor on how many requests were
        asked for: a longer run begins with the shorter one's requests, or where there are follow-ups each
        session does.
        """
