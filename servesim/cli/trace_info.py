"""``servesim trace info``: a trace as a page of text, JSON, a figure or a datasheet."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesim.cli.exits import OK
from servesim.cli.output import write, write_json
from servesim.results.units import count_text, number_text, ratio_text, seconds_text, time_unit

if TYPE_CHECKING:
    from servesim.traces.info import TraceInfo

_BARS = "▁▂▃▄▅▆▇█"
_BINS = 60
_SPREAD = ("mean", "p50", "p90", "p95", "p99", "max")


def show_info(
    file: Path, *, reader: str | None, plot: Path | None, datasheet: Path | None, as_json: bool
) -> int:
    """Print what the trace at *file* is; return the exit code."""
    from servesim.traces.info import datasheet_of, trace_info

    info = trace_info(file, reader=reader)
    if plot is not None:
        from servesim.traces.plot import write_plot

        write_plot(info, plot)
    if datasheet is not None:
        from servesim.traces.datasheets import write_datasheet

        write_datasheet(datasheet_of(info), datasheet)
    if as_json:
        write_json(info.to_dict())
    else:
        write(info_text(info))
    for written in (plot, datasheet):
        if written is not None:
            print(f"wrote {written}", file=sys.stderr)
    return OK


def info_text(info: TraceInfo) -> str:
    """Return the page that ``servesim trace info`` prints."""
    from rich.markup import escape

    from servesim.cli.summary import facts_table, numbers_table, rendered

    form = f"{info.detected.reader}, told by {info.detected.by}" if info.detected else "a workload"
    numbers = info.statistics
    parts: list[Any] = [
        f"[bold]{escape(str(info.path))}[/bold]  ({form})",
        "",
        facts_table({key: escape(text) for key, text in _facts(info).items()}),
        "",
        numbers_table(["", *_SPREAD, "unit"], _spreads(numbers)),
    ]
    if (line := sparkline(info)) is not None:
        parts += ["", f"  {line}"]
    parts += ["", *(escape(f"{finding.level}: {finding.check}: {finding.text}") for finding in _told(info))]
    return rendered(parts)


def _told(info: TraceInfo) -> list[Any]:
    """Return the findings that are worth a line: warnings first."""
    order = {"warning": 0, "note": 1}
    worth = [finding for finding in info.findings if finding.level in order]
    return sorted(worth, key=lambda finding: order[finding.level])


def _facts(info: TraceInfo) -> dict[str, str]:
    numbers, notes = info.statistics, info.notes
    left_out = [
        f"{count_text(int(notes[name]))} {text}"
        for name, text in (("failures", "failed"), ("zero_output", "without output"))
        if notes.get(name)
    ]
    rows = count_text(info.rows)
    if left_out:
        rows += f", of which {', '.join(left_out)}: {count_text(numbers['requests'])} requests"
    facts = {"rows": rows}
    facts["span"] = _span(numbers["span_s"])
    peak = count_text(numbers["peak_1s"])
    facts["rate"] = f"{number_text(numbers['rate_per_s'])} requests/s, at most {peak} in 1 s"
    facts["burstiness"] = (
        f"CV {number_text(numbers['gap_cv'])}, D@1s {number_text(numbers['dispersion_1s'])}, "
        f"{ratio_text(numbers['zero_gap_ratio'])} of gaps are 0"
    )
    if numbers["correlation"] is not None:
        facts["lengths"] = f"correlation of prompt and output {round(numbers['correlation'], 2) + 0.0:.2f}"
    facts |= _optional_facts(numbers)
    return facts


def _optional_facts(numbers: Mapping[str, Any]) -> dict[str, str]:
    facts = {}
    if (sessions := numbers["sessions"]) is not None:
        turns = sessions["turns"]
        facts["sessions"] = (
            f"{count_text(sessions['sessions'])} of {turns['mean']:.2f} turns (p50 {turns['p50']:g}, "
            f"max {turns['max']:g}), {ratio_text(sessions['multi_turn_ratio'])} have several"
        )
    if (prefix := numbers["prefix"]) is not None:
        size = f" of {prefix['block_tokens']} tokens" if prefix["block_tokens"] else ""
        facts["prefixes"] = (
            f"{count_text(prefix['blocks'])} blocks{size}, {count_text(prefix['distinct_blocks'])} distinct: "
            f"hit ceiling {ratio_text(prefix['hit_ceiling_ratio'])}"
        )
    for name in ("models", "tenants"):
        if numbers[name]:
            shares = [f"{value} {ratio_text(share)}" for value, share in numbers[name].items()]
            facts[name] = ", ".join(shares[:6]) + (", ..." if len(shares) > 6 else "")
    return facts


def _span(span_s: float) -> str:
    unit, scale = time_unit(span_s)
    text = seconds_text(span_s)
    return text if unit == "s" else f"{text} ({number_text(span_s / scale)} {unit})"


def _spreads(numbers: Mapping[str, Any]) -> list[list[str]]:
    sessions = numbers["sessions"] or {}
    shown = {
        "gap": (numbers["gap_s"], "s"),
        "prompt": (numbers["prompt_tokens"], "tokens"),
        "output": (numbers["output_tokens"], "tokens"),
        "turn gap": (sessions.get("turn_gap_s"), "s"),
        "think time": (sessions.get("think_s"), "s"),
    }
    return [
        [name, *(number_text(values[key]) for key in _SPREAD), unit]
        for name, (values, unit) in shown.items()
        if values is not None
    ]


def sparkline(info: TraceInfo) -> str | None:
    """Return the rate over time in a line of bars, with its largest value; None where there is no time."""
    from servesim.traces.info import rate_series

    edges, rates = rate_series(info.requests, _BINS)
    if not len(rates):
        return None
    most = float(rates.max())
    bars = "".join(
        _BARS[min(int(rate / most * len(_BARS)), len(_BARS) - 1)] if rate else " " for rate in rates
    )
    return f"rate  {bars}  full bar {number_text(most)}/s, {seconds_text(float(edges[1] - edges[0]))} each"
