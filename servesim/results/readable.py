"""A summary as people read it: labels and texts with units, for the terminal and for notebooks alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from servesim.results.schema import LATENCY_METRICS, STATISTICS, VISIBLE_METRIC
from servesim.results.units import count_text, latency_unit, number_text, ratio_text, seconds_text

GROUP_TABLES = {"class": "slo_classes", "model": "models", "tenant": "tenants"}
"""Title of a table of groups to its key of the summary."""

GROUPS_MAX = 12
"""Most groups that a table shows; client-composed load has hundreds of tenants."""

Row = list[str]


def headline_facts(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return how many requests there were, and how fast they were served."""
    states = ("arrived", "completed", "rejected", "unfinished")
    requests = ", ".join(f"{count_text(summary[f'requests_{state}'])} {state}" for state in states)
    throughput = (
        f"{number_text(summary['requests_per_s'])} requests/s, "
        f"{number_text(summary['output_tokens_per_s'])} output tokens/s, "
        f"{number_text(summary.get('prompt_tokens_per_s'))} prompt tokens/s"
    )
    return {
        "requests": requests,
        "duration": f"{seconds_text(summary['duration_s'])} simulated",
        "throughput": throughput,
        "preemptions": count_text(summary["preemptions"]),
    }


def use_facts(summary: Mapping[str, Any], provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return whether targets were met, and what that took."""
    facts = {}
    if summary.get("slo_met_ratio") is not None:
        goodput = number_text(summary.get("goodput_requests_per_s"))
        facts["slo met"] = f"{ratio_text(summary['slo_met_ratio'])}, goodput {goodput} requests/s"
    facts["kv cache"] = f"{ratio_text(summary['kv_used_ratio_max'])} at most"
    facts["utilization"] = ratio_text(summary.get("utilization_ratio"))
    facts["gpu hours"] = number_text(summary.get("gpu_hours"))
    if summary.get("cost_usd") is not None:
        per_million = number_text(summary.get("usd_per_million_output_tokens"))
        facts["cost"] = f"{number_text(summary['cost_usd'])} USD, {per_million} USD per million output tokens"
    elif unpriced := [pool["gpu"] for pool in provenance.get("pools", []) if not pool["gpu_price_source"]]:
        names = ", ".join(dict.fromkeys(unpriced))
        facts["cost"] = f"unknown: no list price of {names}; cost.gpu_usd_per_h sets one"
    return facts


def latency_table(summary: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Return head and rows of the table of latencies; a row has one unit, so that its numbers compare at a glance."""
    rows = []
    for metric in (*LATENCY_METRICS, VISIBLE_METRIC):
        if f"{metric.name}_mean" not in summary:
            continue  # nothing reasons
        values = [summary.get(f"{metric.name}_{statistic}") for statistic in STATISTICS]
        unit, scale = latency_unit(values)
        cells = ["-" if value is None else number_text(value * scale) for value in values]
        rows.append([metric.name.removesuffix("_s"), *cells, unit])
    return ["latency", *STATISTICS, "unit"], rows


def busiest(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return *groups*, or as many as a table shows of them, by their requests, if there are more."""
    if len(groups) <= GROUPS_MAX:
        return dict(groups)
    ranked = sorted(groups.items(), key=lambda item: item[1].get("requests") or 0, reverse=True)
    return dict(ranked[:GROUPS_MAX])


def group_table(title: str, groups: Mapping[str, Mapping[str, Any]]) -> tuple[Row, list[Row]]:
    """Return head and rows of a table of groups; whether each met its targets is told where one has any."""
    have_targets = any(group.get("slo_met_ratio") is not None for group in groups.values())
    rows = []
    for name, group in groups.items():
        counts = (group.get("requests"), group.get("requests_completed"))
        times = (group.get(f"{metric}_{q}") for metric in ("ttft_s", "tpot_s") for q in ("p50", "p99"))
        cells = [*map(count_text, counts), *map(seconds_text, times)]
        if have_targets:
            cells += [
                ratio_text(group.get("slo_met_ratio")),
                number_text(group.get("goodput_requests_per_s")),
            ]
        rows.append([str(name), *cells])
    head = [title, "requests", "completed", "ttft p50", "ttft p99", "tpot p50", "tpot p99"]
    return head + (["slo met", "goodput/s"] if have_targets else []), rows
