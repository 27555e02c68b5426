"""The report of one run, or of several side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from servesim.report import charts, tables
from servesim.report.html import Content, Markup, folded, table, tag
from servesim.report.page import Section, page_html
from servesim.report.settings import differing_settings
from servesim.results.notes import run_notes, validation_note
from servesim.results.run_series import RunSeries
from servesim.results.units import seconds_text

if TYPE_CHECKING:
    from servesim.results import RunResult

_SINGLE_RUNS = (
    "note: these are single runs: differences may be chance, and servesim compare tells intervals over several "
    "seeds"
)
_NO_TIME = "The run ended at time 0: there is nothing to draw."
_NO_LATENCY = "No request was measured: there are no latencies."
_HOW = (
    "Drag across a chart to zoom, double-click to go back; charts over time zoom together. Click a name in a legend "
    "to show it alone, others to add them. Point at a chart for numbers."
)


def run_report(runs: Mapping[str, RunResult]) -> str:
    """Return the page of *runs*, by their labels."""
    summaries = {label: run.summary for label, run in runs.items()}
    span_s = max(run.summary["duration_s"] for run in runs.values())
    series = {label: RunSeries(run, span_s) for label, run in runs.items()}
    names = [run.provenance.get("scenario") for run in runs.values()]
    title = _listed(list(runs)) if len(runs) > 1 else str(names[0] or next(iter(runs)))
    drawn = _charts(series) if span_s > 0 else {}
    sections = [
        Section(
            "Settings that differ", differing_settings({label: run.settings for label, run in runs.items()})
        ),
        Section("Summary", _numbers(summaries)),
        Section("Latency", [tag("p", _hint(drawn), class_="soft")], drawn.get("Latency", ())),
        Section("Latency over time", charts=drawn.get("Latency over time", ())),
        Section("Load", charts=drawn.get("Load", ())),
        Section("Engine", charts=drawn.get("Engine", ())),
        Section("Replicas", _replicas(summaries), drawn.get("Replicas", ())),
        Section("Events", _events(runs, series), drawn.get("Events", ())),
        *(Section(name.capitalize(), [groups]) for name, groups in tables.groups(summaries)),
        Section("About", _about(runs)),
    ]
    return page_html(f"{title} · servesim", _head(title, runs), sections)


def _charts(series: charts.Runs) -> dict[str, list[charts.Chart]]:
    """Return the charts by the titles of their sections."""
    return {
        "Latency": [*charts.distribution_charts(series)],
        "Latency over time": [*charts.latency_over_time_charts(series)],
        "Load": [*charts.section_charts("Load", series)],
        "Engine": [*charts.section_charts("Engine", series)],
        "Replicas": [*charts.heat_charts(series)],
        "Events": [*charts.event_charts(series)],
    }


def _hint(drawn: Mapping[str, Sequence[charts.Chart]]) -> str:
    """Return how to use the charts, or why there are none."""
    if not drawn:
        return _NO_TIME
    return _HOW if drawn["Latency"] else f"{_NO_LATENCY} {_HOW}"


def _head(title: str, runs: Mapping[str, RunResult]) -> list[Markup]:
    facts = [
        tag("p", f"{label}: {_identity(run)}" if len(runs) > 1 else _identity(run), class_="soft")
        for label, run in runs.items()
    ]
    items = [tag("li", note, class_=note.partition(":")[0]) for note in _notes(runs)]
    return [tag("header", tag("h1", title), *facts, tag("ul", *items, class_="notes"))]


def _notes(runs: Mapping[str, RunResult]) -> list[str]:
    """Return what qualifies the numbers, warnings first; what does not hold for all runs names its own."""
    holds_for: dict[str, list[str]] = {}
    for label, run in runs.items():
        for note in [*run_notes(run.summary, run.provenance), validation_note(run.provenance)]:
            if note:
                holds_for.setdefault(note, []).append(label)
    notes = [_SINGLE_RUNS] if len(runs) > 1 else []
    notes += [
        note if len(labels) == len(runs) else f"{note} ({', '.join(labels)})"
        for note, labels in holds_for.items()
    ]
    return sorted(notes, key=lambda note: not note.startswith("warning"))


def _listed(labels: Sequence[str]) -> str:
    return f"{', '.join(labels[:-1])} and {labels[-1]}"


def _identity(run: RunResult) -> str:
    """Return which scenario was run, and the targets that it sets."""
    known = run.provenance
    slo = run.settings.get("slo") or {}
    targets = [
        _targets(slo),
        *(f"{name} {_targets(own)}" for name, own in (slo.get("classes") or {}).items()),
    ]
    told = "; ".join(filter(None, targets))
    return (
        f"scenario {known.get('scenario', '?')} ({known.get('scenario_hash', 'no hash')}), "
        f"seed {known.get('seed', '?')}, servesim {known.get('servesim_version', '?')}"
        + (f". Targets: {told}" if told else "")
        + (f". Warm-up of {seconds_text(run.warm_up_s)} left out of latencies" if run.warm_up_s else "")
    )


def _targets(slo: Mapping[str, float | None]) -> str:
    limits = {name: slo.get(f"{name}_s") for name in ("ttft", "tpot", "e2e")}
    return ", ".join(
        f"{name} {seconds_text(limit_s)}" for name, limit_s in limits.items() if limit_s is not None
    )


def _numbers(summaries: tables.Summaries) -> list[Content]:
    if len(summaries) > 1:
        return [tables.side_by_side(summaries), tables.every_number(summaries)]
    (summary,) = summaries.values()
    return [tables.cards(summary), tables.latencies(summary), tables.every_number(summaries)]


def _replicas(summaries: tables.Summaries) -> list[Content]:
    count = max(len(summary["replicas"]) for summary in summaries.values())
    return [
        tables.pools(summaries),
        folded(f"Every replica ({count:,})", tables.replicas(summaries)),
    ]


def _events(runs: Mapping[str, RunResult], series: charts.Runs) -> list[Content]:
    kinds = next(iter(series.values())).events.columns[1:]
    counts = {label: [int(run.events[kind].sum()) for kind in kinds] for label, run in series.items()}
    if not any(map(any, counts.values())):
        return [tag("p", "No request was preempted, and none was rejected.")]
    several = len(runs) > 1
    rows = [
        [label if several else "events", *(f"{count:,}" for count in told)] for label, told in counts.items()
    ]
    return [table(["run" if several else "", *kinds], rows)]


def _about(runs: Mapping[str, RunResult]) -> list[Content]:
    """Return what the numbers rest on: pools with their sources, inputs, and the resolved scenario."""
    contents: list[Content] = []
    for label, run in runs.items():
        where = f" of {label}" if len(runs) > 1 else ""
        known = {key: item for key, item in run.provenance.items() if key != "pools"}
        rows = [[key, _plain(item)] for key, item in known.items()]
        for pool in run.provenance.get("pools", []):
            rows += [[f"{pool['pool']}: {key}", _plain(item)] for key, item in pool.items() if key != "pool"]
        contents.append(folded(f"Provenance{where}", table(["what", "value"], rows, kind="text")))
        contents.append(folded(f"Resolved scenario{where}", tag("pre", run.scenario.to_yaml())))
    return contents


def _plain(item: object) -> str:
    return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
