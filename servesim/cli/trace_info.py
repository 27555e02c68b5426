"""``servesim trace info``: what a file is, as a page of text, JSON, a figure or a datasheet; the page of requests."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesim.cli.exits import OK
from servesim.cli.output import write, write_json
from servesim.cli.trace_page import BINS, SPREAD, findings_lines, span_text, sparkline, spread_row
from servesim.errors import ServesimError
from servesim.results.units import count_text, number_text, ratio_text

if TYPE_CHECKING:
    from servesim.traces.info import TraceInfo
    from servesim.traces.look import Info


def show_info(
    file: Path, *, reader: str | None, plot: Path | None, datasheet: Path | None, as_json: bool
) -> int:
    """Print what the file at *file* is; return the exit code."""
    from servesim.traces.look import datasheet_for, look

    info = look(file, reader=reader)
    if plot is not None:
        _draw(info, plot)
    if datasheet is not None:
        from servesim.traces.datasheets import write_datasheet

        write_datasheet(datasheet_for(info), datasheet)
    if as_json:
        write_json(info.to_dict())
    else:
        write(page_of(info))
    for written in (plot, datasheet):
        if written is not None:
            print(f"wrote {written}", file=sys.stderr)
    return OK


def page_of(info: Info) -> str:
    """Return the page that ``servesim trace info`` prints."""
    from servesim.cli.trace_log import log_text
    from servesim.cli.trace_pool import pool_text
    from servesim.traces.log_info import LogInfo
    from servesim.traces.pool_info import PoolInfo

    if isinstance(info, PoolInfo):
        return pool_text(info)
    return log_text(info) if isinstance(info, LogInfo) else info_text(info)


def _draw(info: Info, plot: Path) -> None:
    from servesim.traces.info import TraceInfo
    from servesim.traces.plot import write_plot

    if not isinstance(info, TraceInfo):
        raise ServesimError(
            f"--plot: {info.path}: no requests (got format {info.to_dict()['format']!r}). expected a trace of requests"
        )
    write_plot(info, plot)


def info_text(info: TraceInfo) -> str:
    """Return the page of a trace of requests."""
    from rich.markup import escape

    from servesim.cli.summary import facts_table, numbers_table, rendered
    from servesim.traces.info import rate_series

    form = f"{info.detected.reader}, told by {info.detected.by}" if info.detected else "a workload"
    numbers = info.statistics
    parts: list[Any] = [
        f"[bold]{escape(str(info.path))}[/bold]  ({form})",
        "",
        facts_table({key: escape(text) for key, text in _facts(info).items()}),
        "",
        numbers_table(["", *SPREAD, "unit"], _spreads(numbers)),
    ]
    if (line := sparkline(*rate_series(info.requests, BINS))) is not None:
        parts += ["", f"  {line}"]
    parts += ["", *findings_lines(info.findings)]
    return rendered(parts)


def _facts(info: TraceInfo) -> dict[str, str]:
    from servesim.traces.left_out import rows_left_out

    numbers = info.statistics
    counts = rows_left_out(info.notes, numbers["requests"])
    left_out = [f"{count_text(count)} {what}" for what, count in counts.items()]
    rows = count_text(info.rows)
    if left_out:
        rows += f", of which {', '.join(left_out)}: {count_text(numbers['requests'])} requests"
    facts = {"rows": rows}
    facts["span"] = span_text(numbers["span_s"])
    peak = count_text(numbers["peak_1s"])
    facts["rate"] = f"{number_text(numbers['rate_per_s'])} requests/s, at most {peak} in 1 s"
    if numbers["arrivals"] < numbers["requests"]:
        facts["rate"] += f", of the {count_text(numbers['arrivals'])} that wait for no other"
    facts["burstiness"] = (
        f"CV {number_text(numbers['gap_cv'])}, D@1s {number_text(numbers['dispersion_1s'])}, "
        f"{ratio_text(numbers['zero_gap_ratio'])} of gaps are 0"
    )
    if numbers["correlation"] is not None:
        facts["lengths"] = f"correlation of prompt and output {round(numbers['correlation'], 2) + 0.0:.2f}"
    facts |= _optional_facts(numbers)
    if (prefixes := _prefixes(info)) is not None:
        facts["prefixes"] = prefixes
    return facts


def _prefixes(info: TraceInfo) -> str | None:
    """Return what is told of shared prefixes; None of a trace that has none."""
    if (prefix := info.statistics["prefix"]) is not None:
        size = f" of {prefix['block_tokens']} tokens" if prefix["block_tokens"] else ""
        return (
            f"{count_text(prefix['blocks'])} blocks{size}, {count_text(prefix['distinct_blocks'])} distinct: "
            f"hit ceiling {ratio_text(prefix['hit_ceiling_ratio'])}"
        )
    if (reused := info.notes.get("blocks_reused_ratio")) is not None:
        return f"{ratio_text(float(reused))} of the blocks are those of the agent's previous request"
    if info.detected is not None and info.detected.reader == "ragpulse":
        return "not told: the lengths of chunks are in a file of their own (chunks: of the reader ragpulse)"
    return None


def _optional_facts(numbers: Mapping[str, Any]) -> dict[str, str]:
    facts = {}
    if (sessions := numbers["sessions"]) is not None:
        turns = sessions["turns"]
        facts["sessions"] = (
            f"{count_text(sessions['sessions'])} of {turns['mean']:.2f} turns (p50 {turns['p50']:g}, "
            f"max {turns['max']:g}), {ratio_text(sessions['multi_turn_ratio'])} have several"
        )
    for name in ("models", "tenants"):
        if numbers[name]:
            shares = [f"{value} {ratio_text(share)}" for value, share in numbers[name].items()]
            facts[name] = ", ".join(shares[:6]) + (", ..." if len(shares) > 6 else "")
    return facts


def _spreads(numbers: Mapping[str, Any]) -> list[list[str]]:
    sessions = numbers["sessions"] or {}
    shown = {
        "gap": (numbers["gap_s"], "s"),
        "prompt": (numbers["prompt_tokens"], "tokens"),
        "output": (numbers["output_tokens"], "tokens"),
        "image": (numbers.get("image_tokens"), "tokens"),
        "audio": (numbers.get("audio_tokens"), "tokens"),
        "reasoning": (numbers.get("reasoning_tokens"), "tokens"),
        "turn gap": (sessions.get("turn_gap_s"), "s"),
        "think time": (sessions.get("think_s"), "s"),
    }
    return [spread_row(name, values, unit) for name, (values, unit) in shown.items() if values is not None]
