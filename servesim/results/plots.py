"""Figures of one run by matplotlib, for papers and notebooks: the same series as in the HTML report.

No global state of pyplot is touched: a figure lives as long as it is held. Colours are Okabe and Ito's, which
colour-blind readers can tell apart (M. Okabe and K. Ito, "Color Universal Design", 2008).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from servesim.results.distributions import histogram, histogram_edges, quantile_curve
from servesim.results.run_series import RunSeries
from servesim.results.schema import LATENCY_METRICS
from servesim.results.steps import Floats
from servesim.results.units import latency_unit, time_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from servesim.results.replica_map import ReplicaMap
    from servesim.results.run_result import RunResult
    from servesim.results.time_series import TimeGrid

BLUE, ORANGE = "#0072b2", "#d55e00"
SHOWN = ("ttft_s", "tpot_s", "e2e_s")
"""Latencies that a figure shows unless it is told which."""

_NAMES = {"ttft_s": "time to first token", "tpot_s": "time per output token"}
_NAMES |= {"e2e_s": "end-to-end latency", "queue_s": "queueing delay"}


class Plots:
    """Figures of a run: ``result.plot.queue().savefig("queue.svg")``.

    Each method returns a new `matplotlib.figure.Figure`, which notebooks show.

    Parameters
    ----------
    result
        The run.
    """

    def __init__(self, result: RunResult) -> None:
        self._series = RunSeries(result)

    def latency_cdf(self, *metrics: str) -> Figure:
        """Return the share of measured requests that are served within a time.

        Parameters
        ----------
        metrics
            Of ``ttft_s``, ``tpot_s``, ``e2e_s`` and ``queue_s``; the first three if none is named.
        """
        figure, panels = _latency_panels(self._series, metrics)
        for axes, values, scale in panels:
            curve = quantile_curve(values)
            axes.plot(curve["latency_s"] * scale, curve["share"] * 100, color=BLUE)
            axes.set_ylim(0, 100)
        panels[0][0].set_ylabel("requests (%)")
        return figure

    def latency_histogram(self, *metrics: str) -> Figure:
        """Return how latencies are distributed, in bins of equal ratio; parameters as for `latency_cdf`."""
        figure, panels = _latency_panels(self._series, metrics)
        for axes, values, scale in panels:
            bars = histogram(values, histogram_edges([values]))
            axes.stairs(
                bars["share"].to_numpy() * 100,
                np.append(bars["low_s"], bars["high_s"][-1:]) * scale if bars.height else np.zeros(1),
                fill=True,
                color=BLUE,
            )
        panels[0][0].set_ylabel("requests (%)")
        return figure

    def latency(self, metric: str = "ttft_s") -> Figure:
        """Return median and 99 % quantile of a latency by time of arrival."""
        series = self._series.latency(_known(metric))
        unit, scale = latency_unit(series["p99"].to_list())
        lines = {"p99": (series["p99"] * scale, ORANGE), "p50": (series["p50"] * scale, BLUE)}
        return self._over_time(f"{_NAMES[metric]} ({unit})", series["bin"], lines, self._series.coarse_grid)

    def load(self) -> Figure:
        """Return arrivals and completions per second."""
        series = self._series.load
        lines = {
            "arrivals": (series["arrivals_per_s"], BLUE),
            "completions": (series["completions_per_s"], ORANGE),
        }
        return self._over_time("requests/s", series["bin"], lines)

    def tokens(self) -> Figure:
        """Return output tokens emitted, and prompt tokens computed, per second."""
        series = self._series.load
        lines = {
            "prefill": (series["prefill_tokens_per_s"], BLUE),
            "output": (series["output_tokens_per_s"], ORANGE),
        }
        return self._over_time("tokens/s", series["bin"], lines)

    def queue(self) -> Figure:
        """Return how many requests wait and run in the cluster."""
        series = self._series.queue
        lines = {
            "running": (series["running_requests"], BLUE),
            "waiting": (series["waiting_requests"], ORANGE),
        }
        return self._over_time("requests", series["bin"], lines)

    def batch(self) -> Figure:
        """Return the mean batch of a step: sequences that decode, and those whose prompt is worked on."""
        series = self._series.batch
        lines = {
            "decode": (series["decode_sequences"], BLUE),
            "prefill": (series["prefill_sequences"], ORANGE),
        }
        return self._over_time("sequences in a step", series["bin"], lines)

    def kv(self) -> Figure:
        """Return the share of KV-cache blocks taken: mean over replicas, and the fullest one."""
        series = self._series.kv
        lines = {
            "fullest replica": (series["max_ratio"] * 100, ORANGE),
            "mean": (series["mean_ratio"] * 100, BLUE),
        }
        return self._over_time("KV cache used (%)", series["bin"], lines)

    def replicas(self) -> Figure:
        """Return heat maps of what each replica did: its utilization, and the requests it had."""
        figure = new_figure(height=5.0)
        upper, lower = figure.subplots(2, 1, sharex=True)
        utilization, requests = self._series.utilization_map(), self._series.requests_map()
        self._heat(upper, utilization, "utilization (%)", scale=100.0, most=100.0)
        self._heat(lower, requests, "requests", scale=1.0, most=None)
        lower.set_xlabel(self._time_label)
        return figure

    @property
    def _time_label(self) -> str:
        return f"time ({time_unit(self._series.grid.end_s)[0]})"

    def _over_time(
        self,
        label: str,
        bins: pl.Series,
        lines: dict[str, tuple[pl.Series, str]],
        grid: TimeGrid | None = None,
    ) -> Figure:
        figure = new_figure(height=3.2)
        axes = figure.subplots()
        grid = grid or self._series.grid
        times = grid.middles_s[bins.to_numpy()] / time_unit(grid.end_s)[1]
        for name, (values, color) in lines.items():
            marker = "." if values.count() == 1 else ""  # a line of one point is not seen
            axes.plot(times, values.to_numpy(), color=color, label=name, linewidth=1.2, marker=marker)
        axes.set(xlabel=self._time_label, ylabel=label)
        axes.set_xlim(0, grid.end_s / time_unit(grid.end_s)[1] or 1.0)
        some = any(values.max() for values, _ in lines.values())
        axes.set_ylim(bottom=0, top=None if some else 1)
        axes.yaxis.set_major_formatter("{x:,.10g}")
        axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(lines))
        finish(axes)
        return figure

    def _heat(self, axes: Axes, table: ReplicaMap, label: str, *, scale: float, most: float | None) -> None:
        rows, columns = table.values.shape
        edges = np.minimum(np.arange(columns + 1) * self._series.grid.width_s, self._series.grid.end_s)
        edges[-1:] = self._series.grid.end_s
        mesh = axes.pcolormesh(
            edges / time_unit(self._series.grid.end_s)[1],
            np.arange(rows + 1) - 0.5,
            table.values * scale,
            cmap="cividis",
            vmin=0,
            vmax=most,
            rasterized=True,
        )
        every = -(-rows // 8) or 1
        axes.set_yticks(range(0, rows, every), table.rows[::every])
        axes.invert_yaxis()
        axes.set_ylabel("replica")
        axes.figure.colorbar(mesh, ax=axes, label=label)


def _known(metric: str) -> str:
    from servesim.errors import ServesimError, nearest

    names = [known.name for known in LATENCY_METRICS]
    if metric not in names:
        raise ServesimError(
            f"plot: not a latency (got {metric!r}). expected one of {', '.join(names)}",
            hint=nearest(metric, names),
        )
    return metric


def _latency_panels(
    series: RunSeries, metrics: Sequence[str]
) -> tuple[Figure, list[tuple[Axes, Floats, float]]]:
    """Return a figure with a panel per latency: its axes, its values in s, and the factor to the axis' unit."""
    names = [_known(metric) for metric in metrics or SHOWN]
    figure = new_figure(height=3.2)
    panels = []
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        values = series.latencies_s(name)
        typical_s = float(values[int(0.99 * (len(values) - 1))]) if len(values) else 0.0
        unit, scale = latency_unit([typical_s])
        axes.set_xlabel(f"{_NAMES[name]} ({unit})")
        _set_latency_axis(axes, values, scale)
        finish(axes)
        panels.append((axes, values, scale))
    return figure, panels


def _set_latency_axis(axes: Axes, values: Floats, scale: float) -> None:
    """Let the axis span the bins of the histogram: logarithmic, with ticks at 1, 2, 5 where it spans few decades."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    if not len(values):
        axes.set(xticks=[], ylim=(0, 100))
        axes.text(0.5, 0.5, "no measured requests", transform=axes.transAxes, ha="center", color="#666666")
        return
    edges = histogram_edges([values])
    low, high = float(edges[0]) * scale, float(edges[-1]) * scale
    if low > 0:
        axes.set_xscale("log")
        subs = (1.0, 2.0, 5.0) if high < 300 * low else (1.0,)
        axes.xaxis.set_major_locator(
            LogLocator(subs=subs) if high > 10 * low else MaxNLocator(5, steps=[1, 2, 5, 10])
        )
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlim(low, high)


def finish(axes: Axes) -> None:
    """Give *axes* the look that all figures have."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)


def new_figure(*, height: float) -> Figure:
    """Return an empty figure of *height* inches that notebooks show."""
    return _shown_figure()(figsize=(8, height), layout="constrained")


@cache
def _shown_figure() -> type[Figure]:
    """Return the class of figures that notebooks show without pyplot."""
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        """A figure that notebooks show."""

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=110)
            return buffer.getvalue()

    return ShownFigure
