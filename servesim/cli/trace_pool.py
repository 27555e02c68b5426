"""The page of ``servesim trace info`` for a client pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servesim.cli.trace_page import BINS, SPREAD, findings_lines, span_text, sparkline, spread_row
from servesim.results.units import count_text, number_text, ratio_text

if TYPE_CHECKING:
    from servesim.traces.pool_info import PoolInfo
    from servesim.traces.statistics import Floats


def pool_text(info: PoolInfo) -> str:
    """Return the page of a client pool."""
    from rich.markup import escape

    from servesim.cli.summary import facts_table, numbers_table, rendered

    numbers = info.statistics
    parts: list[Any] = [
        f"[bold]{escape(str(info.path))}[/bold]  (ServeGen client pool, {info.form})",
        "",
        facts_table(_facts(numbers)),
        "",
        numbers_table(["", *SPREAD, "unit"], _spreads(numbers)),
        "",
        numbers_table(
            ["busiest clients", "of requests", "of windows", "most per s", "CV p50"], _busiest(numbers)
        ),
    ]
    if (line := sparkline(*_coarse(*info.rates()))) is not None:
        parts += ["", f"  {line}"]
    return rendered([*parts, "", *findings_lines(info.findings)])


def _facts(numbers: dict[str, Any]) -> dict[str, str]:
    rate, active, top, cv = (
        numbers[name] for name in ("rate_per_s", "active_clients", "top_ratio", "window_cv")
    )
    shares = ", ".join(f"{share:.1%}" for share in top.values())
    quantiles = "/".join(number_text(value) for value in cv.values())
    patterns = ", ".join(
        f"{name.capitalize()} {ratio_text(share)}" for name, share in numbers["pattern_ratio"].items()
    )
    own = numbers["clients"] - numbers["clients_without_lengths"]
    return {
        "clients": f"{count_text(numbers['clients'])}, {active['p50']:g} active in a window of 10 min "
        f"(at most {active['max']:g})",
        "requests": f"{number_text(numbers['requests'])} in {span_text(numbers['span_s'])}",
        "rate": f"{number_text(rate['mean'])} requests/s, from {number_text(rate['min'])} to "
        f"{number_text(rate['max'])} in a window",
        "load": f"the busiest 1, 5, 10 clients send {shares}; "
        f"{count_text(numbers['clients_for_90_percent'])} send 90%",
        "burstiness": f"CV of a window p10/p50/p90/p99 {quantiles}, above 1 for "
        f"{ratio_text(numbers['cv_above_1_ratio'])} of the requests",
        "gaps": patterns,
        "lengths": f"of {count_text(own)} of the clients",
    }


def _spreads(numbers: dict[str, Any]) -> list[list[str]]:
    units = {"reason_ratio": "of the output"}
    rows = [
        spread_row("rate", numbers["rate_per_s"], "requests/s"),
        spread_row("active clients", numbers["active_clients"], ""),
    ]
    for field, values in numbers["lengths"].items():
        unit = units.get(field, "tokens" if field.endswith("_tokens") else "")
        rows.append(spread_row(field.replace("_", " "), values, unit))
    return rows


def _busiest(numbers: dict[str, Any]) -> list[list[str]]:
    return [
        [
            each["client"],
            ratio_text(each["requests_ratio"]),
            ratio_text(each["active_ratio"]),
            number_text(each["rate_per_s_max"]),
            number_text(each["window_cv_p50"]),
        ]
        for each in numbers["busiest"]
    ]


def _coarse(edges: Floats, rates: Floats) -> tuple[Floats, Floats]:
    """Return at most `BINS` bins of several windows each; windows at the end that fill no bin are left out."""
    each = -(-len(rates) // BINS)
    bins = len(rates) // each
    return edges[::each][: bins + 1], rates[: bins * each].reshape(bins, each).mean(axis=1)
