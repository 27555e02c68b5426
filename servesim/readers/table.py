"""Reader of any table of requests: CSV, Parquet or JSON lines, with a map of its columns."""

from __future__ import annotations

from typing import Literal

import polars as pl

from servesim.errors import TraceError, nearest
from servesim.workload.api import Signature
from servesim.workload.checks import (
    ROW,
    ZeroOutput,
    check_numbers,
    check_priorities,
    check_tokens,
    require_columns,
    settle_zero_output,
)
from servesim.workload.files import (
    as_numbers,
    csv_header,
    jsonl_keys,
    parquet_columns,
    read_csv,
    read_jsonl,
    read_parquet,
)
from servesim.workload.paths import TracePath
from servesim.workload.schema import SCHEMA
from servesim.workload.sessions import END
from servesim.workload.timestamps import nanoseconds, seconds

TimeUnit = Literal["s", "ms", "us", "ns", "datetime"]

_TICKS_PER_S = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_REQUIRED = ("arrival_s", "prompt_tokens", "output_tokens")
_COLUMNS_HINT = "columns: {arrival_s: NAME, ...} says what the file calls them"
_TEXTS = ("model", "tenant", "session", "slo_class")
_WORDS = {"csv": csv_header, "jsonl": jsonl_keys, "parquet": parquet_columns}
_SECONDS = "arrival in seconds"
_END_SECONDS = "end in seconds"
"""Names of the columns of times while a table is read: the file's own may serve as others too."""


class TableReader:
    """Any table of requests: CSV, Parquet or JSON lines, by the file's name.

    Parameters
    ----------
    path
        A file named ``.csv``, ``.jsonl``, ``.ndjson``, one of them with ``.gz`` behind, or ``.parquet``.
    columns
        Name of servesim's column to name of the file's: ``{arrival_s: ts, prompt_tokens: input_len}``. A
        column that has servesim's name need not be listed, and one column of the file may serve as several.
        Arrival and both lengths must be there; model, tenant, session, slo_class, priority (0 where it is
        empty), think_s, the counts of image, audio and reasoning tokens and (not in CSV) prefix_blocks are taken
        where they are; and end_s, when the request ended on the clock of arrival_s, for ``closed_loop``.
    time_unit
        Unit of the arrival column: ``s``, ``ms``, ``us`` or ``ns`` for numbers, ``datetime`` for dates and
        times.
    start_at_zero
        Whether time 0 is the first arrival. False keeps numbers as they are, so that several files stay
        aligned.
    zero_output
        What to do with requests that emitted no token: ``error``, ``drop`` or ``keep_as_one``.
    """

    signature = Signature(forms=("csv", "jsonl", "parquet"), needs=_REQUIRED, reading={"zero_output": "drop"})

    def __init__(
        self,
        *,
        path: TracePath,
        columns: dict[str, str] | None = None,
        time_unit: TimeUnit = "s",
        start_at_zero: bool = True,
        zero_output: ZeroOutput = "error",
    ) -> None:
        self.path = path
        self.columns = columns
        self.time_unit = time_unit
        self.start_at_zero = start_at_zero
        self.zero_output = zero_output
        self.notes: dict[str, int | float | str] = {}
        self.left_out: list[str] = []

    def read(self) -> pl.LazyFrame:
        """Return the columns of `SCHEMA` that the file has.

        Raises
        ------
        TraceError
            If the file cannot be taken as it is, or *columns* names what there is not.
        """
        names = self._column_names()
        frame = self._checked(names)
        rows = frame.height
        frame, zero = settle_zero_output(frame, names["output_tokens"], self.path, self.zero_output)
        self.notes = {"rows_read": rows, "zero_output": zero}
        return _selected(frame, names).lazy()

    def whole(self) -> pl.DataFrame:
        """Return the same with the lengths that the file has: an output of 0 tokens is 0.

        Raises
        ------
        TraceError
            As `read`.
        """
        names = self._column_names()
        frame = self._checked(names)
        check_tokens(frame, names["output_tokens"], self.path, least=0)
        return _selected(frame, names)

    def _checked(self, names: dict[str, str]) -> pl.DataFrame:
        """Return the file's columns, all but the outputs checked, and its times in seconds."""
        frame = self._frame(names)
        frame = frame.with_columns(self._seconds(frame, names))
        if "priority" in names:
            check_priorities(frame, names["priority"], self.path)
        check_tokens(frame, names["prompt_tokens"], self.path)
        return frame

    def _column_names(self) -> dict[str, str]:
        """Return servesim's name and the file's for every column to read."""
        found = _WORDS[_form(self.path)](self.path)
        mapped = self.columns or {}
        known = [*SCHEMA, END]
        for name in mapped:
            if name not in known:
                raise TraceError(
                    f"{self.path}: columns: unknown name (got {name!r}). expected any of {', '.join(known)}",
                    hint=nearest(name, known),
                )
        names = {name: mapped.get(name, name) for name in known}
        names = {
            name: file_name
            for name, file_name in names.items()
            if name in _REQUIRED or name in mapped or file_name in found
        }
        require_columns(names.values(), found, self.path, hint=_COLUMNS_HINT)
        told = {file_name for name, file_name in names.items() if name != END}
        self.left_out = [name for name in found if name not in told]
        return names

    def _frame(self, names: dict[str, str]) -> pl.DataFrame:
        """Return the file's columns, numbers as numbers; those that are tags too, also as text."""
        texts = [names[name] for name in _TEXTS if name in names]
        tags = list(dict.fromkeys(texts))
        numbers = [names[name] for name, kind in SCHEMA.items() if kind.is_numeric() and name in names]
        times = [names[name] for name in ("arrival_s", END) if name in names]
        if self.time_unit == "datetime":
            numbers.remove(names["arrival_s"])
            texts += times
        else:
            numbers += times
        texts, numbers = list(dict.fromkeys(texts)), list(dict.fromkeys(numbers))
        frame = self._columns(names, texts, [name for name in numbers if name not in texts])
        frame = frame.with_columns(pl.col(name).alias(_as_text(name)) for name in tags)
        return as_numbers(frame, numbers, self.path)

    def _columns(self, names: dict[str, str], texts: list[str], numbers: list[str]) -> pl.DataFrame:
        """Return the file's columns as its format has them."""
        form = _form(self.path)
        if form == "csv" and "prefix_blocks" in names:
            raise TraceError(f"{self.path}: prefix_blocks: a list in CSV. expected Parquet or JSON lines")
        if form == "csv":
            return read_csv(self.path, texts=texts, numbers=numbers)
        lists = [names["prefix_blocks"]] if "prefix_blocks" in names else []
        if form == "jsonl":
            others = dict.fromkeys(texts, pl.String()) | dict.fromkeys(lists, pl.List(pl.Int64()))
            return read_jsonl(self.path, numbers=numbers, others=others)
        return read_parquet(self.path, [*numbers, *texts, *lists])

    def _seconds(self, frame: pl.DataFrame, names: dict[str, str]) -> list[pl.Series]:
        """Return arrivals and, where the file has them, ends: in seconds on one clock."""
        arrivals = self._ticks(frame, names["arrival_s"])
        dates = self.time_unit == "datetime"
        origin = arrivals.min() if dates or self.start_at_zero else 0
        ticks_per_s = 1e9 if dates else _TICKS_PER_S[self.time_unit]
        series = [seconds(arrivals - origin, ticks_per_s).alias(_SECONDS)]
        if END in names:
            ends = self._ticks(frame, names[END])
            series.append(seconds(ends - origin, ticks_per_s).alias(_END_SECONDS))
        return series

    def _ticks(self, frame: pl.DataFrame, column: str) -> pl.Series:
        if self.time_unit == "datetime":
            return nanoseconds(frame, column, self.path)
        numbers = check_numbers(frame, column, self.path)
        return frame[column] if frame[column].dtype in (pl.Int64, pl.UInt64) else numbers


def _selected(frame: pl.DataFrame, names: dict[str, str]) -> pl.DataFrame:
    """Return the columns of a table under servesim's names."""
    texts = {name: _as_text(names[name]) for name in _TEXTS if name in names}
    times = {"arrival_s": _SECONDS} | ({END: _END_SECONDS} if END in names else {})
    return frame.select(row=ROW, **(names | times | texts))


def _as_text(name: str) -> str:
    """Return the name of a column's text while a table is read, since it may serve as a number too."""
    return f"{name} as text"


def _form(path: TracePath) -> str:
    texts = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
    forms = texts | {f"{ending}.gz": form for ending, form in texts.items()} | {".parquet": "parquet"}
    for ending, form in forms.items():
        if path.name.lower().endswith(ending):
            return form
    raise TraceError(
        f"{path}: unknown kind of file (got {path.name!r}). expected a name that ends in {', '.join(forms)}"
    )
