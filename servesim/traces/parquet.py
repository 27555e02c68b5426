"""servesim's own form of requests: Parquet in order of arrival, dictionary and zstd, row groups with statistics.

Columns are those of `servesim.workload.schema.SCHEMA`, lengths as the source has them (0 for a failed request), and
``source.NAME`` for columns that only the source's form has. The metadata hold the version of the form and the facts of
the source, so that a native file can be written again. `servesim.readers.parquet` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from servesim.errors import TraceError
from servesim.readers.parquet import MARK, VERSION
from servesim.traces.forms import Taken
from servesim.workload.schema import CHUNK_ROWS, SCHEMA
from servesim.workload.transforms import rebatch

FACTS = "servesim.source"
"""Key of the metadata that holds the facts of the source, as JSON."""


def write_parquet(frames: Iterable[pl.DataFrame], path: Path, facts: dict[str, Any]) -> int:
    """Write requests to *path* and return how many; memory holds one row group.

    Parameters
    ----------
    frames
        In order of arrival, all with the columns of the first.
    path
        The file; the bytes depend on the requests and *facts* alone.
    facts
        What the source says beside its rows.

    Raises
    ------
    OSError
        If the disk is full or not writable.
    """
    import pyarrow.parquet as pq

    rows, writer = 0, None
    for frame in rebatch(iter(frames), CHUNK_ROWS):
        table = frame.to_arrow()
        if writer is None:
            marks = {MARK: VERSION, FACTS: json.dumps(facts, sort_keys=True)}
            floats = {name for name, kind in frame.schema.items() if kind.is_float()}
            writer = pq.ParquetWriter(
                path,
                table.schema.with_metadata(marks),
                compression="zstd",
                use_dictionary=[name for name in frame.columns if name not in floats],
                write_statistics=True,
                sorting_columns=[pq.SortingColumn(frame.get_column_index("arrival_s"))],
            )
        writer.write_table(table.replace_schema_metadata(marks), row_group_size=CHUNK_ROWS)
        rows += frame.height
    if writer is not None:
        writer.close()
    return rows


def take_parquet(path: Path) -> Taken:
    """Return a file that `write_parquet` wrote, with everything in it.

    Raises
    ------
    TraceError
        If another program, or a later version, wrote it.
    """
    from servesim.readers.parquet import ParquetReader

    ParquetReader(path=path).read()  # refuses what is not of this form
    frame = pl.read_parquet(path, glob=False)
    facts = json.loads(pl.read_parquet_metadata(path).get(FACTS, "{}"))
    if not isinstance(facts, dict):
        raise TraceError(f"{path}: not facts of a source (got {type(facts).__name__}). expected an object")
    return Taken(requests=frame, facts=facts)


def ordered(frame: pl.DataFrame) -> pl.DataFrame:
    """Return *frame* with the columns of `SCHEMA` first, in its order, then the source's own."""
    known = [name for name in SCHEMA if name in frame.columns]
    return frame.select(*known, *(name for name in frame.columns if name not in SCHEMA))
