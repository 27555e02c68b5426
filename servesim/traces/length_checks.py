"""Checks of lengths: cut at a maximum, a heavy tail."""

from __future__ import annotations

from servesim.traces.finding import Finding
from servesim.traces.sample import Sample
from servesim.traces.statistics import tail_index

_TAIL = 0.05
"""Share of the lengths that is the tail."""


def clipped(lengths: Sample, column: str) -> Finding:
    """Return whether many lengths are at the longest."""
    check = f"clipped {column}"
    longest = int(lengths.values[-1])
    at_most = int(lengths.counts[lengths.values >= 0.999 * longest].sum())
    if len(lengths) < 100 or at_most < max(10, 0.005 * len(lengths)):
        return Finding(check, "ok", f"longest {longest:,}: {at_most:,} of {len(lengths):,} requests")
    share = f"{at_most / len(lengths):.1%}"
    return Finding(
        check, "note", f"{share} of the requests are at the longest, {longest:,}: probably cut there"
    )


def tail(lengths: Sample, column: str) -> Finding:
    """Return whether the tail is so heavy that the variance is infinite."""
    index = tail_index(lengths.largest(int(len(lengths) * _TAIL) + 1))
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
