"""``servesim trace fit``: a client pool from a trace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from servesim.cli.exits import OK
from servesim.cli.output import write, write_json
from servesim.results.units import count_text, number_text, ratio_text

if TYPE_CHECKING:
    from servesim.traces.fit import By, Fitted


def fit_trace(file: Path, out: Path, *, by: By, reader: str | None, as_json: bool) -> int:
    """Fit a client pool to the trace at *file* and write it to *out*; return the exit code."""
    from servesim.traces.datasheets import datasheet_path
    from servesim.traces.fit import fit

    fitted = fit(file, out, by=by, reader=reader)
    if as_json:
        write_json(fitted.info.to_dict() | fitted.counts)
    else:
        write(fit_text(fitted, by))
    for written in (out, fitted.dataset, datasheet_path(out)):
        print(f"wrote {written}", file=sys.stderr)
    return OK


def fit_text(fitted: Fitted, by: str) -> str:
    """Return what ``servesim trace fit`` prints: what was fitted, and the lines of a scenario that use it."""
    from rich.markup import escape

    from servesim.cli.summary import facts_table, rendered
    from servesim.cli.trace_page import span_text
    from servesim.servegen.fit import FEWEST_REQUESTS

    numbers, counts = fitted.info.statistics, fitted.counts
    top, shares = numbers["top_ratio"], numbers["pattern_ratio"]
    gamma = max(shares["gamma"] - counts["poisson_ratio"], 0.0)
    facts = {
        "clients": f"{count_text(numbers['clients'])} {by}s, {numbers['active_clients']['p50']:g} active in a window "
        f"of 10 min (at most {numbers['active_clients']['max']:g})",
        "requests": f"{count_text(numbers['requests'])} in {span_text(numbers['span_s'])}: "
        f"{number_text(numbers['rate_per_s']['mean'])}/s",
        "load": f"the busiest 1, 5, 10 clients send {', '.join(map(ratio_text, top.values()))}; "
        f"{count_text(numbers['clients_for_90_percent'])} send 90%",
        "gaps": f"Gamma {ratio_text(gamma)}, Weibull {ratio_text(shares['weibull'])} of the requests, Poisson "
        f"{ratio_text(counts['poisson_ratio'])}: windows of fewer than {FEWEST_REQUESTS}",
        "lengths": f"of {count_text(numbers['clients'])} clients, by six hours",
    }
    return rendered(
        [
            f"[bold]{escape(str(fitted.info.path))}[/bold]  (ServeGen client pool)",
            "",
            facts_table(facts),
            "",
            *_warnings(fitted),
            *(escape(line) for line in _scenario(fitted)),
        ]
    )


def _warnings(fitted: Fitted) -> list[str]:
    from servesim.servegen.fit import FEWEST_REQUESTS
    from servesim.servegen.pool import WINDOW_S

    counts, clients = fitted.counts, fitted.info.statistics["clients"]
    lines = []
    if counts["clients_poisson"]:
        lines.append(
            f"note: {count_text(counts['clients_poisson'])} of {count_text(clients)} clients never send "
            f"{FEWEST_REQUESTS} requests in a window: their gaps are taken as Poisson"
        )
    if counts["clients_few_lengths"]:
        lines.append(
            f"note: {count_text(counts['clients_few_lengths'])} of {count_text(clients)} clients send fewer than "
            f"{FEWEST_REQUESTS} requests in all: theirs are the only lengths they can have"
        )
    if counts["last_window_s"] < WINDOW_S / 2:
        lines.append(
            f"note: the trace ends {counts['last_window_s']:.0f} s into the last window of {WINDOW_S} s, which is "
            "less busy so"
        )
    return [*lines, ""] if lines else []


def _scenario(fitted: Fitted) -> list[str]:
    """Return the lines of a scenario that generate from the pool, over the time that it is known for."""
    span_s = fitted.info.statistics["span_s"]
    return [
        "to generate from it, in a scenario beside it:",
        "  workload:",
        f"    generator: {{name: servegen, path: {fitted.info.path.name}, span: {{end_s: {span_s}}}}}",
    ]
