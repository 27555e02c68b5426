"""What the pages of ``servesim trace info`` share: findings, spans, spreads, and the rate as a line of bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from servesim.results.units import number_text, seconds_text, time_unit

if TYPE_CHECKING:
    from servesim.traces.finding import Finding
    from servesim.traces.statistics import Floats

SPREAD = ("mean", "p50", "p90", "p95", "p99", "max")
BINS = 60

_BARS = "▁▂▃▄▅▆▇█"


def findings_lines(findings: Sequence[Finding]) -> list[str]:
    """Return the findings that are worth a line: warnings first."""
    from rich.markup import escape

    order = {"warning": 0, "note": 1}
    worth = sorted((each for each in findings if each.level in order), key=lambda each: order[each.level])
    return [escape(f"{finding.level}: {finding.check}: {finding.text}") for finding in worth]


def span_text(span_s: float) -> str:
    """Return a time in s, and in the unit that suits it."""
    unit, scale = time_unit(span_s)
    text = seconds_text(span_s)
    return text if unit == "s" else f"{text} ({number_text(span_s / scale)} {unit})"


def spread_row(name: str, values: Mapping[str, Any], unit: str) -> list[str]:
    """Return a row of a table of `SPREAD`."""
    return [name, *(number_text(values[key]) for key in SPREAD), unit]


def sparkline(edges: Floats, rates: Floats) -> str | None:
    """Return *rates* per s in bins with these *edges* as a line of bars, with the largest; None of none."""
    if not len(rates):
        return None
    most = float(rates.max())
    bars = "".join(
        _BARS[min(int(rate / most * len(_BARS)), len(_BARS) - 1)] if rate else " " for rate in rates
    )
    return f"rate  {bars}  full bar {number_text(most)}/s, {seconds_text(float(edges[1] - edges[0]))} each"
