"""``servesim capacity``: the highest rate, or the fewest replicas, at which objectives are met."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesim.cli.exits import INTERRUPTED, OK
from servesim.cli.output import write, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from servesim.experiments.capacity_question import Question
    from servesim.experiments.capacity_result import Capacity

THROUGHPUT = {"output_tokens_per_s": "output\ntokens/s", "goodput_requests_per_s": "goodput\n/s"}


def asked(
    file: Path,
    slo: Sequence[str],
    overrides: Sequence[str],
    *,
    find: str,
    pool: str | None,
    seeds: int,
    confidence: float,
) -> Question:
    """Return the question that the options of the command line are."""
    from servesim.experiments.capacity_question import question_of
    from servesim.experiments.points import seeds_from
    from servesim.scenario import load_scenario

    scenario = load_scenario(file, overrides=overrides, with_files=True)
    numbers = seeds_from(scenario, seeds)
    return question_of(scenario, slo, find=find, pool=pool, seeds=numbers, confidence=confidence)


def search_capacity(
    question: Question, *, workers: int | None, out: Path | None, as_json: bool, quiet: bool
) -> int:
    """Answer *question* and print it; return the exit code."""
    from servesim.cli.progress import PointsProgress
    from servesim.experiments.backends import local_backend
    from servesim.experiments.capacity import find_capacity
    from servesim.experiments.saved import CAPACITY

    if out is not None:
        CAPACITY.check_destination(out)
    if not quiet:
        count, objectives = len(question.seeds), ", ".join(map(str, question.slos))
        print(
            f"{question.find} for {objectives}, {count} seed{'s' if count > 1 else ''}",
            file=sys.stderr,
            flush=True,
        )
    told = 0

    def on_done(done: int, total: int | None) -> None:
        nonlocal told
        told = done
        progress(done, total)

    try:
        with PointsProgress(enabled=not quiet and sys.stderr.isatty()) as progress:
            found = find_capacity(question, local_backend(workers, len(question.seeds)), on_done=on_done)
    except KeyboardInterrupt:
        print(f"interrupted after {told} runs; no answer yet", file=sys.stderr)
        return INTERRUPTED
    if as_json:
        write_json(found.to_dict())
    else:
        write(capacity_text(found))
    if out is not None:  # last: a disk that is full does not cost the answer
        CAPACITY.save(found.to_dict(), found.curve, out)
    return OK


def capacity_text(found: Capacity) -> str:
    """Return the page that ``servesim capacity`` prints."""
    from rich.markup import escape

    from servesim.cli.summary import rendered

    parts: list[Any] = [_table(found), ""]
    parts += [f"[bold]{escape(line)}[/bold]" for line in found.conclusions]
    parts.append("")
    parts += [f"warning: {escape(line)}" for line in found.warnings]
    parts += [escape(line) for line in found.methods]
    return rendered(parts)


def _table(found: Capacity) -> Table:
    """Return the loads that were tried, a row each, the unloaded cluster first."""
    from rich.table import Table

    from servesim.results.units import number_text

    rows = found.curve.to_dicts()
    metrics = {metric: _unit(metric, rows) for metric in found.unloaded}
    throughput = {
        name: title for name, title in THROUGHPUT.items() if any(row[name] is not None for row in rows)
    }
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    titles = [found.unit]
    for metric, (unit, _) in metrics.items():
        titles.append(_title(metric, unit))
        if _has_interval(found):
            titles.append(f"{found.confidence:.0%} interval")
    for title in [*titles, *throughput.values()]:
        table.add_column(title, justify="right", vertical="bottom")
    table.add_column("")
    for row in [dict.fromkeys(rows[0]) | found.unloaded | {"verdict": ""}, *rows]:
        cells = [_level(row[found.level])]
        for metric, (_, scale) in metrics.items():
            cells.append(number_text(_scaled(row[metric], scale)))
            if _has_interval(found):
                cells.append(_interval(row, metric, scale))
        cells += [number_text(row[name]) for name in throughput]
        answer = row[found.level] == found.value
        verdict = row["verdict"] + (" *" if row["certain"] else "") + (" <- answer" if answer else "")
        table.add_row(*cells, verdict, style="bold" if answer else None)
    return table


def _level(value: float | None) -> str:
    """Return a rate, or a number of replicas."""
    from servesim.results.units import number_text

    if value is None:
        return "unloaded"
    return f"{value:,}" if isinstance(value, int) else number_text(value)


def _title(metric: str, unit: str) -> str:
    """Return the two lines above a metric's column: what it is, or where it is from, and its unit."""
    table, _, name = metric.rpartition(".")
    if table:
        return f"{table}\n{name}" + ("" if unit == "-" else f" ({unit})")
    return metric if unit == "-" else f"{metric}\n({unit})"


def _has_interval(found: Capacity) -> bool:
    return found.random and len(found.seeds) > 1


def _unit(metric: str, rows: Sequence[Mapping[str, Any]]) -> tuple[str, float]:
    """Return the unit in which the values of *metric* read best, and the factor to it."""
    from servesim.experiments.metrics import unit_of
    from servesim.results.units import latency_unit

    unit = unit_of(metric)
    if unit == "s":
        return latency_unit([row[metric] for row in rows])
    return ("%", 100.0) if unit == "0-1" else (unit, 1.0)


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _interval(row: Mapping[str, Any], metric: str, scale: float) -> str:
    from servesim.results.units import number_text

    low, high = row.get(f"{metric}_low"), row.get(f"{metric}_high")
    if low is None or high is None:
        return ""
    return f"\\[{number_text(low * scale)}, {number_text(high * scale)}]"
