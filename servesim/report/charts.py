"""The charts of a report: which series of which run go into which chart.

One run shows what belongs together in one chart (arrivals and completions). Several runs show one quantity per
chart, and a line per run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from servesim.report.specs import Axis, Spec, curve_chart, heat_chart, histogram_chart, time_chart
from servesim.results.distributions import SHARES, histogram, histogram_edges, quantile_curve
from servesim.results.run_series import RunSeries
from servesim.results.time_series import TimeGrid
from servesim.results.units import latency_unit, time_unit

LATENCIES = {
    "ttft_s": "Time to first token",
    "tpot_s": "Time per output token",
    "e2e_s": "End-to-end latency",
}

_EVENTS = (
    "A preempted request loses its KV blocks, is readmitted to compute them again, and resumes its output."
)

Runs = Mapping[str, RunSeries]
"""Label to series; all with bins of one width."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with its heading.

    Attributes
    ----------
    title
        Heading.
    spec
        Vega-Lite specification.
    zooms_with
        Charts of one group zoom together; None: it has no zoom.
    note
        A sentence on what is shown.
    """

    title: str
    spec: Spec
    zooms_with: str | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Quantity:
    """What a chart over time shows: a frame with ``bin``, and its columns by label, each times *scale*."""

    title: str
    unit: str
    frame: Callable[[RunSeries], pl.DataFrame]
    columns: Mapping[str, str]
    scale: float = 1.0
    note: str = ""
    grid: Callable[[RunSeries], TimeGrid] = lambda run: run.grid


_OVER_TIME = {
    "Load": [
        _Quantity(
            "Requests per second",
            "requests/s",
            lambda run: run.load,
            {"arrivals": "arrivals_per_s", "completions": "completions_per_s"},
        ),
        _Quantity(
            "Tokens per second",
            "tokens/s",
            lambda run: run.load,
            {"output tokens": "output_tokens_per_s", "prefill tokens": "prefill_tokens_per_s"},
            note="Output tokens emitted, prompt tokens computed.",
        ),
        _Quantity(
            "Requests in the system",
            "requests",
            lambda run: run.queue,
            {"running": "running_requests", "waiting": "waiting_requests"},
            note="Means over each bin. A preempted request waits.",
        ),
    ],
    "Engine": [
        _Quantity(
            "Batch size",
            "sequences in a step",
            lambda run: run.batch,
            {"decode": "decode_sequences", "prefill": "prefill_sequences"},
            note="Mean over the steps of all replicas, weighted by their time.",
        ),
        _Quantity(
            "KV cache",
            "% of blocks used",
            lambda run: run.kv,
            {"fullest replica": "max_ratio", "mean of replicas": "mean_ratio"},
            scale=100.0,
            note="At the sampling times; a peak between two of them does not show.",
        ),
    ],
}


def distribution_charts(runs: Runs) -> Iterator[Chart]:
    """Yield histogram and cumulative distribution of each latency."""
    for metric, name in LATENCIES.items():
        samples = {label: run.latencies_s(metric) for label, run in runs.items()}
        edges = histogram_edges(list(samples.values()))
        if not len(edges):
            continue
        unit, scale = latency_unit([float(np.quantile(s, 0.99)) for s in samples.values() if len(s)])
        log = bool(edges[0] > 0)
        axis = Axis(f"{name.lower()} ({unit})", float(edges[0]) * scale, float(edges[-1]) * scale, log=log)
        stairs = {  # a last point at zero closes the area
            label: histogram(sample, edges)["share"].append(pl.Series([0.0])) * 100
            for label, sample in samples.items()
        }
        curves = {
            label: quantile_curve(sample)["latency_s"] * scale
            for label, sample in samples.items()
            if len(sample)
        }
        yield Chart(f"{name}: distribution", histogram_chart(edges * scale, stairs, x_axis=axis), metric)
        yield Chart(f"{name}: cumulative", curve_chart(SHARES * 100, curves, x_axis=axis), metric)


def latency_over_time_charts(runs: Runs) -> Iterator[Chart]:
    """Yield median and 99 % quantile of each latency by time of arrival."""
    for metric, name in LATENCIES.items():
        values = pl.concat([run.latency(metric)["p99"] for run in runs.values()])
        unit, scale = latency_unit(values.to_list())
        quantity = _Quantity(
            f"{name} by arrival",
            unit,
            lambda run, metric=metric: run.latency(metric),  # type: ignore[misc]
            {"median": "p50", "p99": "p99"},
            scale,
            grid=lambda run: run.coarse_grid,
        )
        yield from _charts(runs, quantity)


def section_charts(section: str, runs: Runs) -> Iterator[Chart]:
    """Yield the charts over time of ``"Load"`` or ``"Engine"``."""
    for quantity in _OVER_TIME[section]:
        yield from _charts(runs, quantity)


def event_charts(runs: Runs) -> Iterator[Chart]:
    """Yield how many events of each kind there were in each bin; nothing where nothing happened."""
    every_kind = next(iter(runs.values())).events.columns[1:]
    kinds = [kind for kind in every_kind if any(run.events[kind].sum() for run in runs.values())]
    if kinds:
        width = _width_text(next(iter(runs.values())).grid.width_s)
        columns = {kind: kind for kind in kinds}
        yield from _charts(
            runs, _Quantity("Events", f"events per {width}", lambda run: run.events, columns, note=_EVENTS)
        )


def heat_charts(runs: Runs) -> Iterator[Chart]:
    """Yield the utilization of every replica over time, and the requests it had, for each run."""
    requests = {label: run.requests_map() for label, run in runs.items() if run.grid.bins}
    most = max((float(table.values.max()) for table in requests.values()), default=0.0)
    for label, table in requests.items():
        run = runs[label]
        unit, unit_s = time_unit(_end_s(runs))
        axis = Axis(f"time ({unit})", 0.0, _end_s(runs) / unit_s)
        where = f", {label}" if len(runs) > 1 else ""
        busy = run.utilization_map()
        percent = replace(busy, values=busy.values * 100.0)
        for title, values, color, note in (
            (
                "Utilization (%)",
                percent,
                Axis("utilization (%)", high=100.0),
                "Share of time that it computes.",
            ),
            (
                "Requests",
                table,
                Axis("requests", high=most or 1.0, root=len(runs) > 1),
                "Waiting and running, mean over a bin.",
            ),
        ):
            spec = heat_chart(values, width=run.grid.width_s / unit_s, x_axis=axis, color=color)
            yield Chart(f"{title} by replica{where}", spec, "time", note)


def _charts(runs: Runs, quantity: _Quantity) -> Iterator[Chart]:
    """Yield one chart of all columns for a single run, or one per column with a line per run.

    A chart without a single value is left out.
    """
    frames = {label: quantity.frame(run) for label, run in runs.items()}
    bins = max(quantity.grid(run).bins for run in runs.values())
    series = {
        name: {
            label: _on_grid(frame[column] * quantity.scale, frame["bin"], bins)
            for label, frame in frames.items()
        }
        for name, column in quantity.columns.items()
    }
    if len(runs) == 1:
        (label,) = runs
        shown = {quantity.title: {name: by_run[label] for name, by_run in series.items()}}
    else:
        shown = {f"{quantity.title}: {name}": by_run for name, by_run in series.items()}
    for title, lines in shown.items():
        if any(values.count() for values in lines.values()):
            yield _time_chart(runs, title, quantity, lines)


def _time_chart(runs: Runs, title: str, quantity: _Quantity, series: Mapping[str, pl.Series]) -> Chart:
    grid = max((quantity.grid(run) for run in runs.values()), key=lambda grid: grid.bins)
    unit, unit_s = time_unit(_end_s(runs))
    x_axis = Axis(f"time ({unit})", 0.0, _end_s(runs) / unit_s)
    spec = time_chart(grid.middles_s / unit_s, series, x_axis=x_axis, y_axis=Axis(quantity.unit))
    note = f"{quantity.note} Bins of {_width_text(grid.width_s)}.".lstrip()
    return Chart(title, spec, "time", note)


def _on_grid(values: pl.Series, bins: pl.Series, count: int) -> pl.Series:
    """Return *values*, which belong to *bins*, with a place for each of *count* bins: null where there is none."""
    placed = pl.repeat(None, count, dtype=pl.Float64, eager=True)
    return placed.scatter(bins, values) if len(bins) else placed


def _end_s(runs: Runs) -> float:
    return max(run.grid.end_s for run in runs.values())


def _width_text(width_s: float) -> str:
    if width_s < 1.0:
        return f"{width_s * 1e3:g} ms"
    unit, unit_s = time_unit(width_s * 10)
    return f"{width_s / unit_s:g} {unit}"
