"""``servesim compare``: variants side by side, with paired differences and their intervals."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesim.cli.exits import OK
from servesim.cli.output import write, write_json
from servesim.errors import ScenarioError

if TYPE_CHECKING:
    from rich.table import Table

    from servesim.experiments.compare import Comparison, Options

BASELINE = "baseline"


def compare_scenarios(
    files: Sequence[Path],
    vary: Sequence[str],
    overrides: Sequence[str],
    *,
    seeds: int,
    baseline: str | None,
    options: Options,
    workers: int | None,
    how: Output,
) -> int:
    """Compare variants of the scenarios in *files* and print the table; return the exit code."""
    from servesim.cli.progress import PointsProgress
    from servesim.experiments.axes import parse_axis
    from servesim.experiments.backends import local_backend
    from servesim.experiments.compare import cases_of, compare_cases
    from servesim.experiments.points import seeds_from
    from servesim.experiments.saved import COMPARISON

    cases = cases_of(list(files), [parse_axis(text) for text in vary], overrides=overrides)
    if len(cases) < 2:
        raise ScenarioError(
            "compare: a single variant (got one file and no axis). expected two or more",
            hint="say --vary policies.router.name=round_robin,least_tokens, or give a second file",
        )
    if how.out is not None:
        COMPARISON.check_destination(how.out)
    numbers = seeds_from(cases[0].scenario, seeds)
    backend = local_backend(workers, len(cases) * len(numbers))
    if not how.quiet:
        print(f"{len(cases)} variants x {len(numbers)} seeds", file=sys.stderr, flush=True)
    with PointsProgress(enabled=not how.quiet and sys.stderr.isatty()) as progress:
        comparison = compare_cases(
            cases, numbers, backend, baseline=baseline, options=options, on_done=progress
        )
    if how.as_json:
        write_json(comparison.to_dict())
    else:
        write(comparison_text(comparison))
    if how.out is not None:  # after the answer, which a full disk must not cost
        COMPARISON.save(comparison.to_dict(), comparison.values, how.out)
    return OK


def compare_options(
    metrics: Sequence[str] | None, *, interval: str, confidence: float, warm_up: str
) -> Options:
    """Return the options of a comparison from the words of the command line.

    Raises
    ------
    ScenarioError
        If a word is unknown.
    """
    from servesim.experiments.compare import Options

    if interval not in ("t", "bootstrap"):
        raise ScenarioError(f"--interval: unknown method (got {interval!r}). expected t or bootstrap")
    rule: Any = warm_up
    if warm_up not in ("scenario", "auto"):
        try:
            rule = float(warm_up)
        except ValueError:
            rule = -1.0
        if not 0.0 <= rule < float("inf"):
            raise ScenarioError(
                f"--warm-up: not a rule (got {warm_up!r}). expected scenario, auto or a time in s"
            )
    method: Any = interval
    return Options(metrics=metrics or None, interval=method, confidence=confidence, warm_up=rule)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where and how a comparison is shown.

    Attributes
    ----------
    as_json
        Print JSON instead of a table.
    quiet
        Print nothing on stderr.
    out
        Directory for ``comparison.json`` and ``values.parquet``, or None.
    """

    as_json: bool
    quiet: bool
    out: Path | None


def comparison_text(comparison: Comparison) -> str:
    """Return the page that ``servesim compare`` prints."""
    from rich.markup import escape

    from servesim.cli.summary import rendered

    parts: list[Any] = [_table(comparison), ""]
    parts += [escape(line) for line in comparison.conclusions]
    parts += [""] if comparison.conclusions else []
    parts += [f"warning: {escape(line)}" for line in comparison.warnings]
    parts += [escape(line) for line in comparison.methods]
    return rendered(parts)


def _table(comparison: Comparison) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from servesim.results.units import latency_unit, number_text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    table.add_column("mean", justify="right")
    interval = [f"{comparison.confidence:.0%} interval"] if comparison.random else []
    for heading in ("difference", *interval, "relative", ""):
        table.add_column(heading, justify="left" if not heading else "right")
    for metric in comparison.table["metric"].unique(maintain_order=True):
        rows = [row for row in comparison.table.iter_rows(named=True) if row["metric"] == metric]
        unit, scale = rows[0]["unit"], 1.0
        if unit == "s":
            unit, scale = latency_unit([row["mean"] for row in rows])
        elif unit == "0-1":
            unit, scale = "%", 100.0
        table.add_row(f"{metric} ({unit})")

        def text(value: float | None, scale: float = scale, sign: str = "") -> str:
            plain = "-" if value is None else number_text(value * scale)
            return f"+{plain}" if sign and value is not None and value > 0 else plain

        for row in rows:
            cells = [f"  {escape(row['variant'])}", text(row["mean"])]
            if row["difference"] is None:
                cells.append(BASELINE)
            else:
                relative = "-" if row["relative"] is None else f"{row['relative']:+.1%}"
                ends = f"\\[{text(row['difference_low'])}, {text(row['difference_high'])}]"
                verdict = f"{row['verdict'] or ''} *" if row["significant"] else ""
                cells.append(text(row["difference"], sign="+"))
                cells += [ends, relative, verdict] if comparison.random else [relative]
            table.add_row(*cells)
    return table
