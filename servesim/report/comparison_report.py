"""The report of a comparison that ``servesim compare --out`` saved: differences with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from servesim.errors import ServesimError
from servesim.experiments.saved import COMPARISON
from servesim.report.charts import Chart
from servesim.report.html import Content, table, tag, value_text
from servesim.report.page import Section, page_html
from servesim.report.specs import interval_chart
from servesim.results.saving import read_json

_KEYS = ("baseline", "variants", "random", "confidence", "methods", "warnings", "conclusions", "table")


def comparison_report(directory: Path) -> str:
    """Return the page of the comparison saved in *directory*.

    Raises
    ------
    ServesimError
        If it cannot be read.
    """
    found = read_json(directory / COMPARISON.file)
    missing = [key for key in _KEYS if key not in found]
    if missing:
        raise ServesimError(
            f"{directory / COMPARISON.file}: not a comparison (got none of {', '.join(missing)}). expected the file "
            "as it was saved"
        )
    title = f"{directory.resolve().name}: {len(found['variants'])} variants"
    warnings = [tag("li", f"warning: {line}", class_="warning") for line in found["warnings"]]
    conclusions = [tag("li", line) for line in [*found["conclusions"], *found["methods"]]]
    head = [tag("header", tag("h1", title), tag("ul", *warnings, *conclusions, class_="notes"))]
    sections = [
        Section("Differences", charts=_charts(found)),
        Section("Numbers", [_numbers(found)]),
    ]
    return page_html(f"{title} · servesim", head, sections)


def _charts(found: Mapping[str, Any]) -> list[Chart]:
    means = {row["metric"]: row["mean"] for row in found["table"] if row["difference"] is None}
    rows = [
        {
            "metric": row["metric"],
            "variant": row["variant"],
            **{
                name: (row[key] if row[key] is not None else row["difference"])
                / abs(means[row["metric"]])
                * 100
                for name, key in (
                    ("value", "difference"),
                    ("low", "difference_low"),
                    ("high", "difference_high"),
                )
            },
        }
        for row in found["table"]
        if row["difference"] is not None and means[row["metric"]]
    ]
    if not rows:
        return []
    others = [variant for variant in found["variants"] if variant != found["baseline"]]
    spec = interval_chart(rows, others, title="difference (% of the baseline's mean)")
    kind = (
        f"{found['confidence']:.0%} intervals of paired differences."
        if found["random"]
        else "Nothing is random."
    )
    return [Chart(f"Differences to {found['baseline']}", spec, None, kind)]


def _numbers(found: Mapping[str, Any]) -> Content:
    head = ["metric", "variant", "mean", "difference", f"{found['confidence']:.0%} interval", "relative", ""]
    return table(head, [_row(row) for row in found["table"]], kind="numbers named")


def _row(row: Mapping[str, Any]) -> Sequence[Content]:
    key = row["metric"].rpartition(".")[2]

    def text(number: float | None) -> str:
        return "" if number is None else value_text(key, float(number))

    interval = ""
    if row["difference_low"] is not None:
        interval = f"{text(row['difference_low'])} to {text(row['difference_high'])}"
    relative = "" if row["relative"] is None else f"{row['relative']:+.1%}"
    verdict = f"{row['verdict'] or ''}{' *' if row['significant'] else ''}"
    if row["difference"] is None:
        verdict = "baseline"
    return [
        row["metric"],
        row["variant"],
        text(row["mean"]),
        text(row["difference"]),
        interval,
        relative,
        verdict,
    ]
