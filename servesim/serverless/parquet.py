"""servesim's own form of serverless logs: a Parquet file of one frame, marked with its kind.

Its columns are those of `servesim.serverless.schema`; the bytes depend on the rows alone.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from servesim.errors import TraceError
from servesim.serverless.contract import check, conform, totals_off
from servesim.serverless.log import ServerlessLog
from servesim.serverless.schema import FRAMES, dtypes
from servesim.workload.files import parquet_columns, read_parquet
from servesim.workload.source import rows_behind

MARK = "servesim.serverless"
"""Key of the file's metadata that holds the kind of its frame."""

PREFIX = "servesim_"

FORMS = {f"{PREFIX}{kind}": kind for kind in FRAMES}
"""Name of a form to the kind of frame that it holds."""

_TIMES = {"cold_starts": "start_s", "invocations": "arrival_s", "series": "start_s"}
"""Kind of frame to the column that its rows are in order of."""


def write_frame(frame: pl.DataFrame, path: Path, kind: str) -> None:
    """Write a frame of a log to *path*.

    Raises
    ------
    OSError
        If the disk is full or not writable.
    """
    import pyarrow.parquet as pq

    table = frame.to_arrow().replace_schema_metadata({MARK: kind})
    texts = [name for name, dtype in frame.schema.items() if not dtype.is_float()]
    pq.write_table(table, path, compression="zstd", use_dictionary=texts)


def form_of(path: Path) -> str | None:
    """Return the name of the form of a Parquet file, None if `write_frame` did not write it.

    Raises
    ------
    TraceError
        If it is no Parquet file.
    """
    parquet_columns(path)  # tells what is wrong with it
    kind = pl.read_parquet_metadata(path).get(MARK)
    return f"{PREFIX}{kind}" if kind in FRAMES else None


def read_frame(path: Path) -> ServerlessLog:
    """Return the log in a file that `write_frame` wrote; rows out of order are sorted and counted.

    Raises
    ------
    TraceError
        If it is another file, or has a value that its frame must not have.
    """
    form = form_of(path)
    if form is None:
        raise TraceError(
            f"{path}: not servesim's form of serverless logs (got another Parquet file). expected what it wrote"
        )
    kind = FORMS[form]
    rows = read_parquet(path, list(dtypes(kind)))
    check(rows, kind, path)
    frame = conform(rows.lazy(), kind).collect()
    notes: dict[str, int | float | str] = {"files": 1, "rows_read": frame.height}
    if (time := _TIMES.get(kind)) is not None:
        notes["rows_sorted"] = rows_behind(frame[time])
        frame = frame.sort(time, maintain_order=True)
    if kind == "cold_starts":
        notes["totals_off"] = totals_off(frame)
    return ServerlessLog(format=form, notes=notes, **{kind: frame.lazy()})
