"""Is a trace sound? Checks of its requests, each with a finding in a sentence.

What cannot be used at all (missing or negative numbers) is refused by the readers, with file, row and column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from servesim.traces.regularity import signs_of_fabrication
from servesim.traces.statistics import Floats, kpss, open_arrivals, tail_index

Level = Literal["ok", "note", "warning"]

ZERO_NOTES = ("failures", "zero_output")
"""Notes of readers that count requests without output."""

GRID_MATCH = 0.95
"""Share of the gaps that must be multiples of a step before times are said to lie on a grid."""

FEWEST_BINS = 20
"""Of fewer, drift is not tested."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes
    ----------
    check
        Name of the check.
    level
        ``ok``; ``note``: worth knowing; ``warning``: conclusions from the trace may be wrong.
    text
        The finding, a sentence without a full stop.
    """

    check: str
    level: Level
    text: str


def assess(requests: pl.DataFrame, notes: Mapping[str, Any]) -> list[Finding]:
    """Return the findings on *requests*, which are in order of arrival; *notes* are their reader's."""
    arrivals = open_arrivals(requests)
    return [
        _missing(requests),
        _monotone(notes, requests.height),
        _duplicates(requests),
        _zero_outputs(notes, requests.height),
        _grid(arrivals),
        *(_clipped(requests, name) for name in ("prompt_tokens", "output_tokens")),
        *(_tail(requests, name) for name in ("prompt_tokens", "output_tokens")),
        _stationary(arrivals),
        _fabricated(requests),
    ]


def _missing(requests: pl.DataFrame) -> Finding:
    gaps = {
        name: requests[name].null_count()
        for name in requests.columns
        if 0 < requests[name].null_count() < requests.height
    }
    told = ", ".join(f"{name} in {_share(count, requests.height)}" for name, count in gaps.items())
    if not gaps:
        return Finding("missing values", "ok", "every column that is there is filled")
    return Finding("missing values", "note", f"empty: {told} of the requests")


def _monotone(notes: Mapping[str, Any], rows: int) -> Finding:
    moved = int(notes.get("rows_sorted", 0))
    if not moved:
        return Finding("monotone time", "ok", "rows are in order of arrival")
    level: Level = "note" if moved < 0.01 * rows else "warning"
    return Finding("monotone time", level, f"{moved:,} rows stand behind a later arrival; they are sorted")


def _duplicates(requests: pl.DataFrame) -> Finding:
    lists = [name for name, kind in requests.schema.items() if isinstance(kind, pl.List)]
    plain = requests.with_columns(pl.col(name).hash() for name in lists)
    repeated = requests.height - plain.hash_rows().n_unique()
    if not repeated:
        return Finding("duplicates", "ok", "no request is there twice")
    level: Level = "warning" if repeated > 0.01 * requests.height else "note"
    return Finding(
        "duplicates",
        level,
        f"{repeated:,} of {requests.height:,} requests equal an earlier one in every column",
    )


def _zero_outputs(notes: Mapping[str, Any], requests: int) -> Finding:
    zero = sum(int(notes.get(name, 0)) for name in ZERO_NOTES)
    if not zero:
        return Finding("zero outputs", "ok", "every request has output")
    rows = int(notes.get("rows_read", requests))
    fate = "which count as 1 token" if zero_outputs_kept(notes, requests) else "which are left out"
    return Finding("zero outputs", "note", f"{zero:,} of {rows:,} rows have no output: failures, {fate}")


def zero_outputs_kept(notes: Mapping[str, Any], requests: int) -> bool:
    """Return whether requests without output are among the *requests*, as the reader's *notes* tell."""
    zero = sum(int(notes.get(name, 0)) for name in ZERO_NOTES)
    others = int(notes.get("rows_read", requests)) - int(notes.get("rows_duplicated", 0)) - zero
    return requests > others


def _grid(arrivals: Floats) -> Finding:
    gaps = np.diff(arrivals)
    together = float((gaps == 0).mean()) if len(gaps) else 0.0
    step_s = grid_step_s(gaps)
    shared = f"{together:.1%} of the requests arrive at the time of another"
    if step_s is None:
        level: Level = "note" if together > 0.05 else "ok"
        return Finding("time grid", level, shared if together else "no two requests arrive at once")
    # A grid much finer than the gaps moves nothing that matters; one that is coarser makes bursts that never were.
    level = "warning" if together > 0.5 else "note"
    advice = ": spread them before replay (mooncake: spread_s)" if level == "warning" else ""
    return Finding("time grid", level, f"times lie on a grid of {step_s:g} s, {shared}{advice}")


def grid_step_s(gaps: Floats) -> float | None:
    """Return the step in s of the grid that times lie on; None where there is none of 10 ms or more.

    It is the greatest common divisor of the gaps in ms, or, where times jitter around their grid, the median gap, if
    nearly all gaps are multiples of it to within 1 %.
    """
    positive = gaps[gaps > 1e-9]
    if len(positive) < 20:
        return None
    milliseconds = np.rint(positive * 1e3)
    if np.abs(positive * 1e3 - milliseconds).max() < 1e-3:
        step = int(np.gcd.reduce(milliseconds.astype(np.int64)))
        if step >= 10:
            return step / 1e3
    middle = float(np.median(positive))
    multiples = positive / middle
    matching = np.abs(multiples - np.rint(multiples)) < 0.01
    # Constant gaps are no grid: times must be shared or skipped on it.
    on_grid = matching.mean() >= GRID_MATCH and middle >= 0.01 and len(positive) < len(gaps)
    return float(f"{middle:.3g}") if on_grid else None


def _clipped(requests: pl.DataFrame, column: str) -> Finding:
    check = f"clipped {column}"
    values = requests[column].to_numpy()
    longest = int(values.max())
    at_most = int((values >= 0.999 * longest).sum())
    if requests.height < 100 or at_most < max(10, 0.005 * requests.height):
        return Finding(check, "ok", f"longest {longest:,}, in {at_most:,} requests")
    return Finding(
        check,
        "note",
        f"{_share(at_most, requests.height)} of the requests are at the longest, {longest:,}: probably cut there",
    )


def _tail(requests: pl.DataFrame, column: str) -> Finding:
    index = tail_index(requests[column].to_numpy())
    check = f"tail of {column}"
    if index is None:
        return Finding(check, "ok", "too few different values in the tail to estimate an index")
    if index >= 2:
        return Finding(check, "ok", f"tail index {index:.1f} (Hill, largest 5%)")
    return Finding(
        check,
        "note",
        f"heavy tail: index {index:.2f} (Hill, largest 5%), below 2: means converge slowly, take many requests",
    )


def _stationary(arrivals: Floats) -> Finding:
    bins = min(200, len(arrivals) // 10)
    span_s = float(arrivals[-1] - arrivals[0]) if len(arrivals) else 0.0
    if bins < FEWEST_BINS or span_s <= 0:
        return Finding("stationarity", "ok", "too few requests to test")
    counts, _ = np.histogram(arrivals, bins=bins)
    return drift(counts.astype(np.float64), span_s / bins)


def drift(counts: Floats, bin_s: float) -> Finding:
    """Return whether the rate drifts, by a KPSS test of *counts* in equal bins of *bin_s*."""
    if len(counts) < FEWEST_BINS:
        return Finding("stationarity", "ok", f"too few bins of {bin_s:.3g} s to test")
    statistic = kpss(counts)
    how = f"KPSS {statistic:.2f} over {len(counts):,} bins of {bin_s:.3g} s"
    if statistic <= 0.463:
        return Finding("stationarity", "ok", f"no drift of the rate shown ({how}; 5% level 0.463)")
    level = "1%" if statistic > 0.739 else "5%"
    return Finding("stationarity", "note", f"the rate drifts ({how}, above the {level} level)")


def _fabricated(requests: pl.DataFrame) -> Finding:
    signs = signs_of_fabrication(requests)
    if not signs:
        return Finding("regularity", "ok", "no sign of made-up rows")
    return Finding(
        "regularity",
        "warning",
        f"too regular to be recorded: {'; '.join(signs)}. Do not take it for measured data",
    )


def _share(count: int, of: int) -> str:
    return f"{count / of:.1%}"
