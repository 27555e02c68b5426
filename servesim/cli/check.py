"""``servesim check``: expectations of experiments as a gate for CI."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesim.cli.exits import GATE_FAILED, OK
from servesim.cli.output import write, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from servesim.checks.report import CheckReport

_STYLES = {"passed": "green", "failed": "bold red", "undecided": "yellow"}


def check_files(
    files: Sequence[Path],
    *,
    strict: bool,
    junit: Path | None,
    markdown: Path | None,
    update_baseline: bool,
    workers: int | None,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run check files, print what was expected and measured, and return 1 if the gate is closed."""
    from servesim.checks.baseline import write_text
    from servesim.checks.output import junit_text, markdown_text
    from servesim.checks.run import check_all
    from servesim.cli.progress import PointsProgress

    with PointsProgress(enabled=not quiet and sys.stderr.isatty()) as progress:
        reports = check_all(files, workers=workers, update_baseline=update_baseline, on_done=progress)
    if junit is not None:
        write_text(junit, junit_text(reports, strict=strict))
    if markdown is not None:
        append_text(markdown, markdown_text(reports))
    if as_json:
        write_json([report_data(report, strict=strict) for report in reports])
    else:
        write(checks_text(reports, strict=strict))
    return OK if all(report.passed(strict=strict) for report in reports) else GATE_FAILED


def append_text(path: Path, text: str) -> None:
    """Add *text* to a file: a job summary on GitHub may hold what other steps wrote.

    Raises
    ------
    ServesimError
        If it cannot be written.
    """
    from servesim.results.frames import disk_errors

    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(text)


def checks_text(reports: Sequence[CheckReport], *, strict: bool) -> str:
    """Return the page that ``servesim check`` prints."""
    from rich.markup import escape

    from servesim.checks.output import seeds_text
    from servesim.cli.summary import rendered

    parts: list[Any] = []
    for report in reports:
        parts += [f"[bold]{escape(report.name)}[/bold]  ({seeds_text(report)})", _table(report), ""]
        if report.updated is not None:
            parts += [f"baseline: {escape(line)}" for line in report.updated or ["nothing moved"]] + [""]
    verdicts = [verdict for report in reports for verdict in report.verdicts]
    counts = [
        f"{count} {outcome}"
        for outcome in ("passed", "failed", "undecided")
        if (count := sum(verdict.outcome == outcome for verdict in verdicts))
    ]
    closed = [report for report in reports if not report.passed(strict=strict)]
    strictly = " (undecided counts as failed: --strict)" if strict else ""
    parts.append(f"{', '.join(counts)}: {'FAILED' if closed else 'passed'}{strictly}")
    return rendered(parts)


def _table(report: CheckReport) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from servesim.checks.output import note_of

    published = any(verdict.published for verdict in report.verdicts)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in (
        "  expectation",
        "expected",
        *(("published",) if published else ()),
        "measured",
        "verdict",
    ):
        table.add_column(heading, overflow="fold")
    for verdict in report.verdicts:
        style, note = _STYLES[verdict.outcome], note_of(verdict)
        cells = [f"  {verdict.name}", verdict.expected, *([verdict.published] if published else [])]
        mark = f"[{style}]{verdict.outcome}[/{style}]" + (f" ({note})" if note else "")
        table.add_row(*map(escape, [*cells, verdict.measured]), mark)
    return table


def report_data(report: CheckReport, *, strict: bool) -> dict[str, Any]:
    """Return *report* as plain data, for JSON."""
    return {
        "name": report.name,
        "file": str(report.file),
        "passed": report.passed(strict=strict),
        "seeds": report.seeds,
        "random": report.random,
        "verdicts": [
            {
                "name": verdict.name,
                "expected": verdict.expected,
                "published": verdict.published or None,
                "measured": verdict.measured,
                "verdict": verdict.outcome,
                "seeds_to_decide": verdict.seeds_to_decide,
            }
            for verdict in report.verdicts
        ],
        "updated": report.updated,
    }
