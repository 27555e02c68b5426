"""Reports of checks for others to read: JUnit XML for CI systems, Markdown for job summaries and pages."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence

from servesim.checks.report import CheckReport
from servesim.checks.verdicts import Verdict

_MARKS = {"passed": "✅ passed", "failed": "❌ failed", "undecided": "❔ undecided"}
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Characters that XML cannot hold."""


def note_of(verdict: Verdict) -> str:
    """Return what to do about an undecided *verdict*, else nothing."""
    if verdict.outcome != "undecided":
        return ""
    if verdict.seeds_to_decide is None:
        return "no number of seeds can be told that would decide"
    return f"some {verdict.seeds_to_decide:,} seeds would decide"


def junit_text(reports: Sequence[CheckReport], *, strict: bool) -> str:
    """Return *reports* as JUnit XML: a suite per file, a case per expectation.

    An undecided expectation is a failure with *strict* and skipped otherwise, with the reason.
    """
    from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

    document = JUnitXml("servesim check")
    for report in reports:
        suite = TestSuite(_xml(report.name))
        for verdict in report.verdicts:
            case = TestCase(_xml(verdict.name), classname=_xml(report.name), time=0.0)
            message = _xml(
                f"expected {verdict.expected}, measured {verdict.measured} {note_of(verdict)}".strip()
            )
            if verdict.outcome == "failed" or (strict and verdict.outcome == "undecided"):
                case.result = [Failure(message, verdict.outcome)]
            elif verdict.outcome == "undecided":
                case.result = [Skipped(message)]
            else:
                case.system_out = message
            suite.add_testcase(case)
        document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    buffer = io.BytesIO()
    document.write(buffer, pretty=True)
    return buffer.getvalue().decode("utf-8")


def markdown_text(reports: Iterable[CheckReport]) -> str:
    """Return *reports* as Markdown: a heading and a table per file."""
    lines = []
    for report in reports:
        counts = ", ".join(
            f"{sum(verdict.outcome == outcome for verdict in report.verdicts)} {outcome}"
            for outcome in _MARKS
        )
        published = any(verdict.published for verdict in report.verdicts)
        heads = ["expectation", "expected", *(["published"] if published else []), "measured", "verdict"]
        lines += [f"### {_cell(report.name)}", "", f"{counts}; {seeds_text(report)}", ""]
        lines += [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
        for verdict in report.verdicts:
            note = note_of(verdict)
            cells = [verdict.name, verdict.expected, *([verdict.published] if published else [])]
            cells += [verdict.measured, _MARKS[verdict.outcome] + (f" ({note})" if note else "")]
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
        lines.append("")
    return "\n".join(lines)


def seeds_text(report: CheckReport) -> str:
    """Return what the numbers of *report* rest on."""
    if len(report.seeds) > 1:
        return f"means over {len(report.seeds)} seeds with their intervals"
    return "a single seed" if report.random else "nothing is random: the numbers are exact"


def _xml(text: str) -> str:
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _cell(text: str) -> str:
    """Return *text* as it is to be read in a cell of a table, whatever characters it has."""
    text = " ".join(text.split())
    return re.sub(r"([\\`*_{}\[\]<>#|~&!])", r"\\\1", text)
