"""The page of ``servesim trace info`` for a serverless log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servesim.cli.trace_page import findings_lines, span_text
from servesim.results.units import count_text, number_text, ratio_text, seconds_text
from servesim.serverless.schema import COMPONENTS

if TYPE_CHECKING:
    import polars as pl

    from servesim.traces.log_info import LogInfo

_QUANTILES = ("mean", "p50", "p90", "p99")
_MEASURED = {"total_s": "cold start", "gap_s": "gap of cold starts", "duration_s": "duration"}
_HEADS = {
    "total_s_mean": "mean",
    **{f"total_s_{name}": name for name in _QUANTILES[1:]},
    "pod_allocation_s_mean": "pod",
    "deploy_code_s_mean": "code",
    "deploy_dependency_s_mean": "dependency",
    "scheduling_s_mean": "scheduling",
    "pod_utility_ratio_p50": "utility p50",
    "pod_utility_below_1_ratio": "below 1",
    "share_ratio": "share",
    "cold_ratio": "cold",
    **{f"value_{name}": name for name in (*_QUANTILES, "max")},
}
"""Column of a table to its head; other names are said as they are. Times are in s."""

_RATIOS = ("share_ratio", "cold_ratio", "pod_utility_below_1_ratio")
_ROWS = 8
"""So many rows of a table are shown; --json has all."""


def log_text(info: LogInfo) -> str:
    """Return the page of a serverless log."""
    from rich.markup import escape

    from servesim.cli.summary import facts_table, numbers_table, rendered

    figures = info.summary.figures
    parts: list[Any] = [
        f"[bold]{escape(str(info.path))}[/bold]  ({info.format}, told by {info.by})",
        "",
        facts_table({name: escape(text) for name, text in _facts(info).items()}),
    ]
    rows = [
        [title, *(number_text(figures[f"{name}_{key}"]) for key in _QUANTILES), "s"]
        for name, title in _MEASURED.items()
        if figures.get(f"{name}_mean") is not None
    ]
    if rows:
        parts += ["", numbers_table(["", *_QUANTILES, "unit"], rows)]
    for table in _shown(info.summary.tables):
        parts += ["", numbers_table(*_table(table))]
    return rendered([*parts, "", *findings_lines(info.findings)])


def _shown(tables: dict[str, pl.DataFrame]) -> list[pl.DataFrame]:
    """Return the tables of the page; the triggers of functions are in that of their invocations, if there is one."""
    left_out = {"component_correlation"}
    if "invocations_by_trigger" in tables:
        left_out.add("functions_by_trigger")
    return [table for name, table in tables.items() if name not in left_out]


def _facts(info: LogInfo) -> dict[str, str]:
    from servesim.traces.log_info import rows_of

    facts = {"values" if "values" in info.notes else "rows": count_text(rows_of(info.notes))}
    figures = info.summary.figures
    if int(info.notes.get("files", 1)) > 1:
        facts["files"] = count_text(int(info.notes["files"]))
    if "cold_starts" in figures:
        facts |= _cold_starts(figures)
    if "invocations" in figures:
        facts |= _invocations(figures)
    if "functions" in figures:
        facts |= _functions(figures)
    return facts


def _cold_starts(figures: dict[str, Any]) -> dict[str, str]:
    told = [
        f"{name.removesuffix('_s').replace('_', ' ')} {seconds_text(figures[f'{name}_mean'])}"
        for name in COMPONENTS
        if figures[f"{name}_mean"] is not None
    ]
    facts = {
        "cold starts": _many(figures["cold_starts"], figures["span_s"], figures["cold_starts_per_s"]),
        "gaps": f"CV {number_text(figures['gap_cv'])}",
    }
    if figures["cold_starts_per_h_peak_to_trough"] is not None:
        facts["hours"] = (
            f"the busiest has {number_text(figures['cold_starts_per_h_peak_to_trough'])} times the quietest"
        )
    facts["parts"] = f"{', '.join(told)} on average" if told else "not told by this log"
    if (ratio := figures["large_to_small_total_s_p50"]) is not None:
        facts["large pods"] = f"median {number_text(ratio)} times that of small ones"
    utility = figures["pod_utility_ratio_p50"]
    facts["pod utility"] = (
        "not told by this log: it lacks the pods' ends"
        if utility is None
        else f"p50 {number_text(utility)}, p90 {number_text(figures['pod_utility_ratio_p90'])}, "
        f"below 1 for {ratio_text(figures['pod_utility_below_1_ratio'])}"
    )
    return facts


def _invocations(figures: dict[str, Any]) -> dict[str, str]:
    facts = {
        "invocations": _many(
            figures["invocations"], figures["invocations_span_s"], figures["invocations_per_s"]
        ),
        "invoked": f"{count_text(figures['functions_invoked'])} functions; the busiest tenth has "
        f"{ratio_text(figures['top_tenth_of_functions_ratio'])} of the invocations",
    }
    if figures["invocation_gap_cv"] is not None:
        facts["burstiness"] = f"CV {number_text(figures['invocation_gap_cv'])}"
    if figures["cold_ratio"] is not None:
        facts["cold"] = f"{ratio_text(figures['cold_ratio'])} of the invocations"
    return facts


def _functions(figures: dict[str, Any]) -> dict[str, str]:
    facts = {"functions": f"{count_text(figures['functions'])} of {count_text(figures['users'])} owners"}
    if figures["function_invocations"] is not None:
        facts["requests"] = (
            f"{count_text(figures['function_invocations'])}, {ratio_text(figures['busiest_function_ratio'])} of them "
            "to the busiest function"
        )
    return facts


def _many(count: int, span_s: float, per_s: float | None) -> str:
    return f"{count_text(count)} in {span_text(span_s)}: {number_text(per_s)}/s"


def _table(table: pl.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table; columns that say nothing are left out."""
    shown = [name for name in table.columns if table[name].null_count() < table.height]
    head = [_HEADS.get(name, name.replace("_", " ")) for name in shown]
    rows = [
        [_cell(name, value) for name, value in zip(shown, row, strict=True)]
        for row in table.select(shown).head(_ROWS).rows()
    ]
    if table.height > _ROWS:
        rows.append([f"... {table.height - _ROWS:,} more", *[""] * (len(shown) - 1)])
    return head, rows


def _cell(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if column in _RATIOS:
        return ratio_text(value)
    return count_text(value) if isinstance(value, int) else number_text(value)
