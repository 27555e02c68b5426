"""What requests must be, whoever brings them: the one check between a reader or a generator and the stream.

`typed` is that check. Order is looked at where it is known what to do about it: a trace is sorted
(`servesim.workload.source`), a generator must keep it (`servesim.workload.generated`).
"""

from __future__ import annotations

import polars as pl

from servesim.errors import PluginError, TraceError
from servesim.workload.checks import (
    ROW,
    check_block_counts,
    check_follow_ups,
    check_numbers,
    check_priorities,
    check_some_tokens,
    check_tokens,
    first_wrong,
)
from servesim.workload.schema import SCHEMA

_REQUIRED = ("arrival_s", "prompt_tokens", "output_tokens")
_PARTS = {
    "prefix_block_tokens": (1, None),
    "image_tokens": (0, "prompt_tokens"),
    "audio_tokens": (0, "prompt_tokens"),
    "reasoning_tokens": (0, "output_tokens"),
}
"""Counts that may be missing: the least, and the column that they are a part of."""


def check_columns(frame: pl.DataFrame, who: str) -> None:
    """Raise `PluginError` unless *frame* has the columns that it must have, and none that `SCHEMA` lacks."""
    names = [name for name in frame.columns if name != ROW]
    if not set(_REQUIRED) <= set(names) <= set(SCHEMA):
        raise PluginError(
            f"{who}: columns do not follow the schema (got {', '.join(names)}). "
            f"expected {', '.join(_REQUIRED)} and any of {', '.join(list(SCHEMA)[3:])}"
        )


def typed(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """Return the columns of `SCHEMA` that *frame* has, with its types; no priority is 0.

    Raises
    ------
    TraceError
        At the first value that is out of range, or that its type cannot hold.
    """
    arrivals = check_numbers(frame, "arrival_s", where)
    if not frame.is_empty() and arrivals.min() < 0:  # type: ignore[operator]  # checked to be numbers
        raise TraceError(f"{where}: arrival_s: before time 0 (got {arrivals.min()!r}). expected >= 0")
    for name in ("prompt_tokens", "output_tokens"):
        check_tokens(frame, name, where)
    if "priority" in frame.columns:
        check_priorities(frame, "priority", where)
    for name, (least, of) in _PARTS.items():
        if name in frame.columns:
            check_some_tokens(frame, name, where, least=least, of=of)
    if "think_s" in frame.columns:
        check_follow_ups(frame, where)
    _check_blocks(frame, where)
    present = {name: kind for name, kind in SCHEMA.items() if name in frame.columns}
    requests = pl.DataFrame([_cast(frame, name, kind, where) for name, kind in present.items()])
    return requests.with_columns(pl.col("priority").fill_null(0)) if "priority" in present else requests


def _check_blocks(frame: pl.DataFrame, where: str) -> None:
    """Raise if a prompt has more blocks than it fills; columns of other types are refused elsewhere."""
    names = ("prefix_blocks", "prefix_block_tokens")
    if set(names) <= set(frame.columns) and isinstance(frame["prefix_blocks"].dtype, pl.List):
        check_block_counts(frame, names[0], where, prompt="prompt_tokens", block_tokens=names[1])


def conform(frame: pl.DataFrame) -> pl.DataFrame:
    """Return *frame* with exactly the columns of `SCHEMA`: what is missing becomes null, the priority 0."""
    if frame.columns == list(SCHEMA):
        return frame
    present = frame.columns
    return frame.select(
        pl.col(column)
        if column in present
        else pl.lit(0 if column == "priority" else None, dtype=kind).alias(column)
        for column, kind in SCHEMA.items()
    )


def _cast(frame: pl.DataFrame, name: str, kind: pl.DataType, where: str) -> pl.Series:
    """Return a column as *kind*; numbers have been checked before."""
    values = frame[name]
    if values.dtype == pl.Null or kind.is_numeric():
        return values.cast(kind)
    return _as_blocks(frame, where) if name == "prefix_blocks" else _as_text(values, where)


def _as_text(values: pl.Series, where: str) -> pl.Series:
    try:
        if not values.dtype.is_nested():
            return values.cast(pl.String)
    except pl.exceptions.PolarsError:
        pass
    raise TraceError(f"{where}: {values.name}: not text (got type {values.dtype}). expected text")


def _as_blocks(frame: pl.DataFrame, where: str) -> pl.Series:
    values = frame["prefix_blocks"]
    inner = getattr(values.dtype, "inner", None)
    try:
        if inner is None or not (inner.is_integer() or inner == pl.Null):
            raise pl.exceptions.InvalidOperationError
        blocks = values.cast(pl.List(pl.Int64))
    except pl.exceptions.PolarsError as error:
        raise TraceError(
            f"{where}: prefix_blocks: not lists of block ids (got type {values.dtype}). "
            "expected lists of whole numbers below 2**63"
        ) from error
    wrong = first_wrong(frame, blocks.list.drop_nulls().list.len() < blocks.list.len())
    if wrong:
        raise TraceError(
            f"{where}: row {wrong[1]}: prefix_blocks: unusable value (got {blocks[wrong[0]].to_list()!r}). "
            "expected a number for every block"
        )
    return blocks
