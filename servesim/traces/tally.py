"""What a rubric needs to know of requests, counted frame by frame: memory holds none of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from servesim.traces.arrival_checks import rate_checks
from servesim.traces.finding import Finding, Level
from servesim.traces.left_out import outputs_kept, without_output
from servesim.traces.length_checks import clipped, tail
from servesim.traces.sample import Sample
from servesim.traces.statistics import open_arrivals
from servesim.traces.time_bins import TimeBins
from servesim.workload.source import SORTED, STEPS_BACK

LENGTHS = ("prompt_tokens", "output_tokens")

PART_ROWS = 100
"""Rows out of order are parts of a file, one after the other, if so many in the mean follow a step back of time."""

DRAWN = "starts_drawn"
"""Note of a reader that drew the begins of so many sessions: arrivals are no part of the trace."""


class Tally:
    """Requests that are counted."""

    def __init__(self) -> None:
        self.requests = 0
        self._lengths = dict.fromkeys(LENGTHS, Sample.of(np.empty(0)))
        self._bins = TimeBins()
        self._empty: Counter[str] = Counter()
        self._repeats = _Repeats()

    def add(self, frame: pl.DataFrame) -> None:
        """Count the requests of *frame*, which go on where those before ended."""
        self.requests += frame.height
        for name in LENGTHS:
            self._lengths[name] += Sample.of(frame[name].to_numpy())
        self._bins.add(open_arrivals(frame))
        self._empty.update({name: frame[name].null_count() for name in frame.columns})
        self._repeats.add(frame)

    def findings(self, notes: Mapping[str, Any]) -> list[Finding]:
        """Return the findings on the requests; *notes* are those of their reader."""
        return [
            self._missing(),
            self._monotone(notes),
            self._duplicates(notes),
            self._zero_outputs(notes),
            *(clipped(self._lengths[name], name) for name in LENGTHS),
            *(tail(self._lengths[name], name) for name in LENGTHS),
            *([] if notes.get(DRAWN) else rate_checks(self._bins, self.requests)),
        ]

    def _missing(self) -> Finding:
        gaps = {name: count for name, count in self._empty.items() if 0 < count < self.requests}
        if not gaps:
            return Finding("missing values", "ok", "every column that is there is filled")
        told = ", ".join(f"{name} in {count / self.requests:.1%}" for name, count in gaps.items())
        return Finding("missing values", "note", f"empty: {told} of the requests")

    def _monotone(self, notes: Mapping[str, Any]) -> Finding:
        check = "monotone time"
        if drawn := int(notes.get(DRAWN, 0)):
            text = f"the trace does not tell when sessions began (here {drawn:,}): their arrivals are drawn at random"
            return Finding(check, "note", text)
        moved = int(notes.get(SORTED, 0))
        if not moved:
            return Finding(check, "ok", "rows are in order of arrival")
        level: Level = "note" if moved < 0.01 * self.requests else "warning"
        back = int(notes.get(STEPS_BACK, moved))
        if level == "warning" and back * PART_ROWS <= moved:
            return Finding(
                check,
                level,
                f"time starts over ({back:,} {'time' if back == 1 else 'times'}): {moved:,} rows stand behind a later "
                f"arrival. They are sorted, so that the {back + 1:,} parts of the file lie over each other, and the "
                "rate is the sum of theirs",
            )
        return Finding(check, level, f"{moved:,} rows stand behind a later arrival; they are sorted")

    def _duplicates(self, notes: Mapping[str, Any]) -> Finding:
        repeated, told = self._repeats.count, []
        if rows := int(notes.get("rows_duplicated", 0)):
            sessions = int(notes.get("sessions_duplicated", 0))
            told.append(f"{sessions:,} sessions, with {rows:,} rows, are there before, and left out")
        if repeated:
            told.append(f"{repeated:,} of {self.requests:,} requests equal an earlier one in every column")
        if not told:
            return Finding("duplicates", "ok", "no request is there twice")
        return Finding(
            "duplicates", "warning" if repeated > 0.01 * self.requests else "note", "; ".join(told)
        )

    def _zero_outputs(self, notes: Mapping[str, Any]) -> Finding:
        zero = without_output(notes)
        if not zero:
            return Finding("zero outputs", "ok", "every request has output")
        rows = int(notes.get("rows_read", self.requests))
        fate = "which count as 1 token" if outputs_kept(notes, self.requests) else "which are left out"
        return Finding("zero outputs", "note", f"{zero:,} of {rows:,} rows have no output: failures, {fate}")


class _Repeats:
    """Counts requests that equal an earlier one: equal ones arrive at one time, so they stand together."""

    def __init__(self) -> None:
        self.count = 0
        self._last_s = -1.0
        self._seen = pl.Series("hash", dtype=pl.UInt64)

    def add(self, frame: pl.DataFrame) -> None:
        """Count those of *frame*. Requests that wait for others are told apart by their place."""
        if "think_s" in frame.columns:
            frame = frame.filter(pl.col("think_s").is_null())
        times = frame["arrival_s"].to_numpy()
        if not len(times):
            return
        same = np.append(times[1:] == times[:-1], [False])
        together = same | np.roll(same, 1) | (times == times[-1]) | (times == self._last_s)
        marks = _marks(frame.filter(together))
        different = marks.unique()
        again = different.filter(pl.col("arrival_s") == self._last_s)["hash"]
        self.count += marks.height - different.height + int(again.is_in(self._seen.implode()).sum())
        last_s = float(times[-1])
        latest = different.filter(pl.col("arrival_s") == last_s)["hash"]
        self._seen = pl.concat([self._seen, latest]).unique() if last_s == self._last_s else latest
        self._last_s = last_s


def _marks(frame: pl.DataFrame) -> pl.DataFrame:
    """Return time and hash of each request."""
    lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List)]
    hashes = frame.with_columns(pl.col(name).hash() for name in lists).hash_rows()
    return frame.select("arrival_s", hash=hashes)
