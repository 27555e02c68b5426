"""The summary of a run as a page of text."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from servesim.cli.units import bytes_text, count_text, latency_unit, number_text, ratio_text, seconds_text

LATENCIES = {"ttft_s": "ttft", "tpot_s": "tpot", "e2e_s": "e2e", "queue_s": "queue"}
STATISTICS = ("mean", "p50", "p90", "p99")
_WIDTH = 1000
"""Columns where there is no terminal: nothing is folded or cut."""


def summary_text(
    name: str,
    summary: Mapping[str, Any],
    host: Mapping[str, Any],
    *,
    provenance: Mapping[str, Any] | None = None,
    saved: Path | None = None,
) -> str:
    """Return the page that ``servesim run`` prints.

    Parameters
    ----------
    name
        Name of the scenario.
    summary
        ``RunResult.summary``.
    host
        ``RunResult.host``: facts about this execution.
    provenance
        ``RunResult.provenance``; None leaves out the notes that need it.
    saved
        Where the result was saved, or None.
    """
    parts: list[RenderableType] = [
        f"[bold]{escape(name)}[/bold]{_host_text(host)}",
        "",
        _headline(summary),
        "",
    ]
    parts += [_latencies(summary), "", _use(summary, provenance or {})]
    for title, key in (("class", "slo_classes"), ("model", "models"), ("tenant", "tenants")):
        if summary.get(key):
            parts += ["", _groups(title, summary[key])]
    notes = _notes(summary, provenance or {})
    parts += ["", *notes] if notes else []
    parts += [f"saved in {escape(str(saved))}"] if saved is not None else []
    return rendered(parts)


def rendered(parts: list[RenderableType]) -> str:
    """Return *parts* as text for stdout: styled on a terminal, plain and unfolded elsewhere."""
    terminal = sys.stdout.isatty()
    text = io.StringIO()
    console = Console(
        file=text,
        force_terminal=terminal,
        no_color="NO_COLOR" in os.environ,
        width=None if terminal else _WIDTH,
        highlight=False,
        emoji=False,
    )
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))
    return "".join(line.rstrip() + "\n" for line in text.getvalue().splitlines())


def _host_text(host: Mapping[str, Any]) -> str:
    facts = []
    if host.get("wall_s") is not None:
        facts.append(f"simulated in {seconds_text(host['wall_s'])}")
    if host.get("peak_memory_bytes") is not None:
        facts.append(f"peak memory {bytes_text(host['peak_memory_bytes'])}")
    return f"  ({', '.join(facts)})" if facts else ""


def _facts(rows: Mapping[str, str]) -> Table:
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in rows.items():
        table.add_row(f"  {label}", text)
    return table


def _headline(summary: Mapping[str, Any]) -> Table:
    states = ("arrived", "completed", "rejected", "unfinished")
    requests = ", ".join(f"{count_text(summary[f'requests_{state}'])} {state}" for state in states)
    throughput = (
        f"{number_text(summary['requests_per_s'])} requests/s, "
        f"{number_text(summary['output_tokens_per_s'])} output tokens/s, "
        f"{number_text(summary.get('prompt_tokens_per_s'))} prompt tokens/s"
    )
    return _facts(
        {
            "requests": requests,
            "duration": f"{seconds_text(summary['duration_s'])} simulated",
            "throughput": throughput,
            "preemptions": count_text(summary["preemptions"]),
        }
    )


def _latencies(summary: Mapping[str, Any]) -> Table:
    """Return the table of latencies; a row has one unit, so that its numbers compare at a glance."""
    table = _table("latency", *STATISTICS, "unit")
    for metric, label in LATENCIES.items():
        values = [summary.get(f"{metric}_{statistic}") for statistic in STATISTICS]
        unit, scale = latency_unit(values)
        cells = ["-" if value is None else number_text(value * scale) for value in values]
        table.add_row(f"  {label}", *cells, unit)
    return table


def _use(summary: Mapping[str, Any], provenance: Mapping[str, Any]) -> Table:
    rows = {}
    if summary.get("slo_met_ratio") is not None:
        goodput = number_text(summary.get("goodput_requests_per_s"))
        rows["slo met"] = f"{ratio_text(summary['slo_met_ratio'])}, goodput {goodput} requests/s"
    rows["kv cache"] = f"{ratio_text(summary['kv_used_ratio_max'])} at most"
    rows["utilization"] = ratio_text(summary.get("utilization_ratio"))
    rows["gpu hours"] = number_text(summary.get("gpu_hours"))
    if summary.get("cost_usd") is not None:
        per_million = number_text(summary.get("usd_per_million_output_tokens"))
        rows["cost"] = f"{number_text(summary['cost_usd'])} USD, {per_million} USD per million output tokens"
    elif unpriced := [pool["gpu"] for pool in provenance.get("pools", []) if not pool["gpu_price_source"]]:
        names = ", ".join(dict.fromkeys(unpriced))
        rows["cost"] = f"unknown: no list price of {names}; cost.gpu_usd_per_h sets one"
    return _facts(rows)


def _groups(title: str, groups: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return a row per group; whether it met its targets is told where a group has any."""
    have_targets = any(group.get("slo_met_ratio") is not None for group in groups.values())
    names = ("requests", "completed", "ttft p50", "ttft p99", "tpot p50", "tpot p99")
    table = _table(title, *names, *(["slo met"] if have_targets else []))
    for name, group in groups.items():
        counts = (group.get("requests"), group.get("requests_completed"))
        times = (group.get(f"{metric}_{q}") for metric in ("ttft_s", "tpot_s") for q in ("p50", "p99"))
        cells = [*map(count_text, counts), *map(seconds_text, times)]
        cells += [ratio_text(group.get("slo_met_ratio"))] if have_targets else []
        table.add_row(f"  {escape(str(name))}", *cells)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column(f"  {first}", overflow="fold")
    for name in others:
        table.add_column(name, justify="left" if name == "unit" else "right", no_wrap=True)
    return table


def _notes(summary: Mapping[str, Any], provenance: Mapping[str, Any]) -> list[str]:
    """Return what a reader should know before trusting the numbers."""
    notes = [*_workload_notes(summary.get("workload") or {}), *_oracle_notes(provenance)]
    if summary.get("cost_usd"):
        notes += _price_notes(provenance)
    if summary.get("requests_completed") and summary.get("requests_measured") == 0:
        notes.append("warning: nothing was measured: every completed request arrived before run.warm_up_s")
    for reason, count in (summary.get("requests_rejected_by_reason") or {}).items():
        limit = _context_limits(provenance) if reason == "prompt_too_long" else ""
        notes.append(f"warning: {count_text(count)} requests rejected: {reason}{limit}")
    if summary.get("requests_cut"):
        notes.append(f"note: {count_text(summary['requests_cut'])} outputs were cut at the context limit")
    if summary.get("backlog_growing"):
        notes.append(
            "warning: the backlog grew until the end: the cluster is likely saturated, and latencies depend "
            "on the length of the run"
        )
    if summary.get("interrupted"):
        notes.append("warning: interrupted: partial results")
    return [escape(note) for note in notes]


def _workload_notes(counts: Mapping[str, Any]) -> list[str]:
    counted = [
        f"{key} {_counted(value)}" for key, value in counts.items() if value and key != "first_arrival_s"
    ]
    notes = [f"note: workload: {', '.join(counted)}"] if counted else []
    if (first_s := counts.get("first_arrival_s")) is not None:
        notes.append(
            f"warning: the first request arrives at {seconds_text(first_s)}, long after time 0: the cluster "
            "idles until then, at its full cost, and the duration counts from 0"
        )
    return notes


def _oracle_notes(provenance: Mapping[str, Any]) -> list[str]:
    notes = []
    for place in provenance.get("oracle_policies", []):
        policy = provenance["policies"][place]
        name = policy.get("name") or policy["class"]  # an object that was passed has no name
        notes.append(f"note: oracle: {place} {name} sees true output lengths")
    return notes


def _price_notes(provenance: Mapping[str, Any]) -> list[str]:
    sources = {pool.get("gpu"): pool.get("gpu_price_source") for pool in provenance.get("pools", [])}
    return [
        f"note: price of {gpu}: {source}"
        for gpu, source in sources.items()
        if source not in (None, "", "scenario")
    ]


def _context_limits(provenance: Mapping[str, Any]) -> str:
    """Return what sequences were limited to, for the end of a line; nothing if that is not known."""
    limits = {pool["pool"]: count_text(pool["context_limit_tokens"]) for pool in provenance.get("pools", [])}
    if len(set(limits.values())) > 1:
        return f"; the context limit in tokens is {', '.join(f'{pool} {n}' for pool, n in limits.items())}"
    return f"; the context limit is {next(iter(limits.values()))} tokens" if limits else ""


def _counted(value: Any) -> str:
    return count_text(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)
