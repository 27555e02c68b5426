"""The plain form: a CSV table with servesim's own names of columns, for other tools and for the reader ``table``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from servesim.traces.forms import ALWAYS, Form, Taken, taken
from servesim.workload.checks import ROW
from servesim.workload.contract import typed
from servesim.workload.schema import SCHEMA

_TAGS = ("model", "tenant", "priority", "session", "slo_class")


def take(path: Path) -> Taken:
    """Return a table with the columns that requests have, failures included; what else it has is told as lost.

    Raises
    ------
    TraceError
        If it cannot be read.
    """
    from servesim.readers.table import TableReader

    reader = TableReader(path=path, start_at_zero=False)
    whole = reader.whole()
    outputs = whole["output_tokens"].cast(pl.Int32)
    frame = typed(whole.with_columns(outputs.clip(lower_bound=1)), str(path))
    lost = [f"the file's {name!r}" for name in reader.left_out]
    return taken(frame.with_columns(outputs, whole["row"].alias(ROW)), {"form": "table"}, lost)


def rows(frame: pl.DataFrame, facts: Mapping[str, Any]) -> pl.DataFrame:
    """Return every column that the table holds; a tag that no request has stays empty."""
    present = [
        pl.col(name) if name in frame.columns else pl.lit(None, SCHEMA[name]).alias(name) for name in _TAGS
    ]
    return frame.select(*ALWAYS, *present)


TABLE = Form(
    name="table",
    reader="table",
    ending=".csv",
    holds=frozenset(_TAGS),
    tick_s=None,
    header=(*ALWAYS, *_TAGS),
    rows=rows,
    take=take,
    facts={"form": "table", "line_end": "\n", "final_newline": True},
    reading={"start_at_zero": False},
)
"""CSV with the columns arrival_s, prompt_tokens, output_tokens and the tags."""
