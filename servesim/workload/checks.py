"""Is a number in a trace usable? The first one that is not becomes a `TraceError` that names its row and
column.

Frames may have a column `ROW`: the number of the row in its file, from 1, the header not counted. It is used
in messages only.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import polars as pl

from servesim.errors import TraceError, nearest
from servesim.workload.schema import PRIORITY_MAX, PRIORITY_MIN, TOKENS_MAX

ROW = "number of the row"
"""Name of the column of row numbers while a file is read: no file's own column shall have it."""

ZeroOutput = Literal["error", "drop", "keep_as_one"]
"""What a reader does with a request that emitted nothing: refuse the trace, leave the request out, or take
its output as one token, since a request that reaches the engine emits at least one."""


def require_columns(
    required: Iterable[str], found: Iterable[str], where: str | Path, *, hint: str | None = None
) -> None:
    """Raise unless every name of *required* is in *found*; *hint* stands where no name is near."""
    required, found = list(required), list(found)
    for name in required:
        if found.count(name) > 1:
            raise TraceError(
                f"{where}: column {name!r} more than once (got {', '.join(map(repr, found))}). expected one"
            )
        if name not in found:
            raise TraceError(
                f"{where}: missing column {name!r} (got {', '.join(map(repr, found))}). "
                f"expected {', '.join(map(repr, required))}",
                hint=nearest(name, found) or hint,
            )


def check_numbers(frame: pl.DataFrame, column: str, where: str | Path) -> pl.Series:
    """Raise unless *column* holds finite numbers only; return them as Float64."""
    if not frame[column].dtype.is_numeric():
        raise TraceError(f"{where}: {column}: not numbers (got type {frame[column].dtype}). expected numbers")
    values = frame[column].cast(pl.Float64)
    _raise_first(frame, column, ~values.is_finite().fill_null(value=False), where, "a number")
    return values


def check_tokens(frame: pl.DataFrame, column: str, where: str | Path, *, least: int = 1) -> None:
    """Raise unless *column* holds whole numbers from *least* to what 32 bits hold."""
    values = check_numbers(frame, column, where)
    _check_whole(frame, column, values, where, f"a whole number of tokens >= {least}", least=least)
    _raise_first(frame, column, values > TOKENS_MAX, where, f"at most {TOKENS_MAX} tokens")


def check_some_tokens(
    frame: pl.DataFrame, column: str, where: str | Path, *, least: int, of: str | None
) -> None:
    """Raise unless *column* holds whole numbers from *least* on or nothing, none above the column *of* beside it."""
    given = frame.filter(pl.col(column).is_not_null())
    if given.is_empty():
        return
    check_tokens(given, column, where, least=least)
    if of is not None:
        values = given[column].cast(pl.Float64)
        _raise_first(given, column, values > given[of].cast(pl.Float64), where, f"at most {of}")


def check_block_counts(
    frame: pl.DataFrame, blocks: str, where: str | Path, *, prompt: str, block_tokens: str | int
) -> None:
    """Raise unless no prompt has more *blocks* (lists, or how many) than it fills: the last one may be a part of one.

    *block_tokens* is the length of a block, or the column that has it. Fewer blocks are fine: some traces leave out a
    last part of one, and not every prompt's blocks are known.
    """
    counts = frame[blocks].list.len() if isinstance(frame[blocks].dtype, pl.List) else frame[blocks]
    size = frame[block_tokens] if isinstance(block_tokens, str) else pl.Series([block_tokens])
    most = (frame[prompt].cast(pl.Int64) + size - 1) // size
    if wrong := first_wrong(frame, (counts > most).fill_null(value=False)):
        raise TraceError(
            f"{where}: row {wrong[1]}: {blocks}: more blocks than the prompt of {frame[prompt][wrong[0]]:.0f} tokens "
            f"has (got {counts[wrong[0]]}). expected at most {most[wrong[0]]}"
        )


def check_follow_ups(frame: pl.DataFrame, where: str | Path) -> None:
    """Raise unless every ``think_s`` is a time >= 0 or nothing, and has a session."""
    given = frame.filter(pl.col("think_s").is_not_null())
    if given.is_empty():
        return
    values = check_numbers(given, "think_s", where)
    _raise_first(given, "think_s", values < 0, where, "a time >= 0")
    if "session" not in given.columns or given["session"].null_count():
        raise TraceError(
            f"{where}: think_s: a follow-up without a session (got none). expected the session that it goes on with"
        )


def check_priorities(frame: pl.DataFrame, column: str, where: str | Path) -> None:
    """Raise unless *column* holds whole numbers of 32 bits, or nothing."""
    given = frame.filter(pl.col(column).is_not_null())
    if given.is_empty():
        return
    values = check_numbers(given, column, where)
    expected = f"a whole number from {PRIORITY_MIN} to {PRIORITY_MAX}"
    _check_whole(given, column, values, where, expected, least=PRIORITY_MIN)
    _raise_first(given, column, values > PRIORITY_MAX, where, expected)


def _check_whole(
    frame: pl.DataFrame, column: str, values: pl.Series, where: str | Path, expected: str, *, least: int
) -> None:
    wrong = values < least
    if not frame[column].dtype.is_integer():
        wrong |= values != values.floor()
    _raise_first(frame, column, wrong, where, expected)


def settle_zero_output(
    frame: pl.DataFrame, column: str, where: str | Path, policy: ZeroOutput
) -> tuple[pl.DataFrame, int]:
    """Apply *policy* to the rows whose *column* is 0; return the frame and how many there were."""
    check_tokens(frame, column, where, least=0)
    zero = frame[column] == 0
    count = int(zero.sum())
    if count and policy == "error":
        row = _row(frame, zero)
        raise TraceError(
            f"{where}: row {row}: {column}: no output tokens (got 0, in {count} rows). expected >= 1",
            hint="set zero_output: drop leaves such requests out, keep_as_one takes them as 1 token",
        )
    if policy == "drop":
        return frame.filter(~zero), count
    return frame.with_columns(pl.col(column).clip(lower_bound=1)), count


def first_wrong(frame: pl.DataFrame, wrong: pl.Series) -> tuple[int, int] | None:
    """Return position and row number of the first True in *wrong*, or None."""
    position = wrong.arg_max() if wrong.any() else None
    return None if position is None else (position, _row(frame, wrong))


def _row(frame: pl.DataFrame, wrong: pl.Series) -> int:
    position = wrong.arg_max() or 0
    return int(frame[ROW][position]) if ROW in frame.columns else position + 1


def _raise_first(
    frame: pl.DataFrame, column: str, wrong: pl.Series, where: str | Path, expected: str
) -> None:
    if wrong.any():
        got: Any = frame[column][wrong.arg_max() or 0]
        shown = "an empty cell" if got is None else repr(int(got) if float(got).is_integer() else got)
        cell = f"{where}: row {_row(frame, wrong)}: {column}"
        raise TraceError(f"{cell}: unusable value (got {shown}). expected {expected}")
