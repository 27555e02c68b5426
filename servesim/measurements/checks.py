"""Is a measurement to be believed? What cannot be is refused with file, row and column; what is odd gets a note."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from servesim.errors import TraceError
from servesim.measurements.workload import STATISTICS, time_per_output_token
from servesim.workload.checks import ROW, check_tokens

TPOT_TOLERANCE = 0.25
"""Share by which a reported TPOT may differ from what TTFT and E2E imply before it is not believed."""


def settled(frame: pl.DataFrame, where: Path, columns: dict[str, str]) -> tuple[pl.DataFrame, list[str]]:
    """Return *frame* with checked latencies, in order of arrival from 0 s, and notes.

    Parameters
    ----------
    frame
        ``arrival_s``, ``first_token_s`` and ``finished_s`` on one clock, ``prompt_tokens``, ``output_tokens``, and the
        row numbers `ROW`.
    where
        The file, for messages.
    columns
        What the file calls those columns, for messages.

    Raises
    ------
    TraceError
        At the first time that is before the one that must precede it, or the first length that is none.
    """
    whole = frame.filter(pl.col("output_tokens") > 0)
    notes = _left_out(frame.height - whole.height, "without output tokens")
    if whole.is_empty():
        raise TraceError(f"{where}: no completed request (got {frame.height} rows). expected at least one")
    check_tokens(whole, "prompt_tokens", where)
    check_tokens(whole, "output_tokens", where)
    for before, after in (("arrival_s", "first_token_s"), ("first_token_s", "finished_s")):
        _check_order(whole, before, after, where, columns)
    if float(whole["finished_s"].max()) <= float(whole["arrival_s"].min()):  # type: ignore[arg-type]
        raise TraceError(
            f"{where}: a run of no length (got 0 s). expected a time from first arrival to last token"
        )
    requests = whole.sort("arrival_s", maintain_order=True).select(
        arrival_s=pl.col("arrival_s") - pl.col("arrival_s").min(),
        prompt_tokens=pl.col("prompt_tokens").cast(pl.Int32),
        output_tokens=pl.col("output_tokens").cast(pl.Int32),
        ttft_s=pl.col("first_token_s") - pl.col("arrival_s"),
        e2e_s=pl.col("finished_s") - pl.col("arrival_s"),
    )
    return requests.with_columns(time_per_output_token()), notes


def _left_out(count: int, what: str) -> list[str]:
    return [f"{count} requests {what} are left out"] if count else []


def failed_left_out(count: int) -> list[str]:
    """Return the note about failed requests, if there are any."""
    return _left_out(count, "that failed")


def _check_order(frame: pl.DataFrame, before: str, after: str, where: Path, columns: dict[str, str]) -> None:
    wrong = frame.filter(~(pl.col(after) >= pl.col(before)).fill_null(value=False))
    if not wrong.is_empty():
        row = wrong.row(0, named=True)
        raise TraceError(
            f"{where}: row {row[ROW]}: {columns[after]}: before {columns[before]}, in {wrong.height} rows "
            f"(got {row[after]!r} and {row[before]!r}). expected times of one clock that only goes forward"
        )


def check_increasing(times_s: pl.Series, where: Path, column: str) -> None:
    """Refuse a time series whose clock goes back or stands still.

    Raises
    ------
    TraceError
        At the first such row.
    """
    wrong = (~(times_s.diff().drop_nulls() > 0)).arg_true()
    if len(wrong):
        row = int(wrong[0]) + 1
        raise TraceError(
            f"{where}: row {row + 1}: {column}: not after the row before (got {times_s[row]!r} after "
            f"{times_s[row - 1]!r}). expected times that increase"
        )


def believed(metrics: dict[str, float], output_tokens: float, notes: list[str]) -> dict[str, float]:
    """Return aggregate *metrics* without a TPOT that TTFT and E2E contradict; say so in *notes*.

    A client that counts streamed chunks twice, or several tokens of a chunk as one, reports a TPOT that is off by a
    factor. The end-to-end latency is not touched by that, and tells the mean: (e2e - ttft) / (output tokens - 1).
    """
    needed = ("ttft_s_mean", "e2e_s_mean", "tpot_s_mean")
    if output_tokens <= 1 or not all(name in metrics for name in needed):
        return metrics
    implied_s = (metrics["e2e_s_mean"] - metrics["ttft_s_mean"]) / (output_tokens - 1)
    reported_s = metrics["tpot_s_mean"]
    if implied_s <= 0 or abs(reported_s / implied_s - 1) <= TPOT_TOLERANCE:
        return metrics
    notes.append(
        f"TPOT of the file ({reported_s * 1e3:.3g} ms) contradicts E2E and TTFT, which imply {implied_s * 1e3:.3g} ms: "
        "are streamed chunks counted as tokens? its TPOT and ITL are not used, the implied mean is"
    )
    unused = {f"{name}_{statistic}" for name in ("tpot_s", "itl_s") for statistic in STATISTICS}
    return {name: value for name, value in metrics.items() if name not in unused} | {"tpot_s_mean": implied_s}


def check_measured(metrics: dict[str, float], where: Path, expected: Sequence[str] = ()) -> None:
    """Refuse a file that has none of the metrics, lacks one of *expected*, or has one that is no positive number.

    Raises
    ------
    TraceError
        At the first such metric.
    """
    missing = [name for name in expected if name not in metrics]
    if missing or not metrics:
        raise TraceError(
            f"{where}: no {', '.join(missing) or 'metrics'} (got {', '.join(metrics) or 'none'}). "
            "expected the results of a benchmark"
        )
    for name, value in metrics.items():
        if not 0 < value < float("inf"):
            raise TraceError(f"{where}: {name}: no measurement (got {value!r}). expected a number > 0")
