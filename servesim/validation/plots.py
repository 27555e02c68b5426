"""Figures of measured against simulated: distributions, time series, and many runs at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from servesim.errors import ServesimError, nearest
from servesim.results.plots import BLUE, ORANGE, finish, new_figure
from servesim.results.units import latency_unit
from servesim.validation.errors import REQUEST_METRICS, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from servesim.validation.result import ValidationResult

GREEN, PURPLE, SKY, YELLOW, BLACK = "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"
_COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW, BLACK)
_STEPS = ((4.0, tuple(range(1, 10))), (1000.0, (1.0, 2.0, 5.0)))
"""Up to which ratio of their ends logarithmic axes have labels at these multiples of powers of ten; else at powers."""

BAND = 0.1
"""Lines at this relative distance from equality."""


def _label_decades(axes: Axes) -> None:
    """Write so many numbers at logarithmic axes that there are some and none overlap, and write them plainly."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        steps = next((steps for most, steps in _STEPS if high / low < most), (1.0,))
        axis.set_major_locator(LogLocator(subs=steps))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


class ValidationPlots:
    """Figures of a validation: ``result.plot.cdf("Qwen3-32B").savefig("cdf.png")``.

    Parameters
    ----------
    result
        The validation.
    """

    def __init__(self, result: ValidationResult) -> None:
        self._result = result

    def cdf(self, run: str) -> Figure:
        """Return the distributions of the latencies of single requests, measured and simulated."""
        rows = self._rows(self._result.requests, run)
        figure = new_figure(height=3.2)
        panels = figure.subplots(1, len(REQUEST_METRICS))
        for axes, metric in zip(panels, REQUEST_METRICS, strict=True):
            of_metric = rows.filter(pl.col("metric") == metric).drop_nulls()
            unit, scale = latency_unit([float(of_metric["measured"].quantile(0.9) or 0.0)])
            for name, color in (("measured", BLUE), ("simulated", ORANGE)):
                values = np.sort(of_metric[name].to_numpy()) * scale
                axes.plot(
                    values, 100 * (np.arange(len(values)) + 1) / max(1, len(values)), color=color, label=name
                )
            axes.set(xlabel=f"{metric.removesuffix('_s')} ({unit})", ylim=(0, 100), xlim=(0, None))
            finish(axes)
        panels[0].set_ylabel("requests (%)")
        panels[-1].legend(frameon=False, fontsize=8, loc="lower right")
        figure.suptitle(run, fontsize=10)
        return figure

    def series(self, run: str) -> Figure:
        """Return what ran and waited over time, measured and simulated."""
        rows = self._rows(self._result.series, run)
        figure = new_figure(height=4.2)
        panels = figure.subplots(len(SERIES), 1, sharex=True)
        for axes, quantity in zip(panels, SERIES, strict=True):
            of_quantity = rows.filter(pl.col("quantity") == quantity)
            for name, color in (("measured", BLUE), ("simulated", ORANGE)):
                axes.plot(of_quantity["time_s"], of_quantity[name], color=color, label=name, linewidth=1.2)
            axes.set(ylabel=quantity.replace("_", " "), ylim=(0, None))
            finish(axes)
        panels[-1].set_xlabel("time (s)")
        panels[0].legend(frameon=False, fontsize=8, loc="upper right")
        figure.suptitle(run, fontsize=10)
        return figure

    def scatter(self, metric: str) -> Figure:
        """Return *metric* of all runs, simulated over measured, with lines at 10 % above and below equality.

        Colours are models; what was fitted is hollow.
        """
        rows = self._result.metrics.filter(pl.col("metric") == metric).join(self._result.runs, on="run")
        if rows.is_empty():
            known = self._result.metrics["metric"].unique(maintain_order=True).to_list()
            raise ServesimError(
                f"plot: no run has this metric (got {metric!r}). expected one of {', '.join(known)}",
                hint=nearest(metric, known),
            )
        typical = float(np.median(rows["measured"].to_numpy()))
        unit, scale = ("1/s", 1.0) if metric.endswith("per_s") else latency_unit([typical])
        figure = new_figure(height=5.5)
        axes = figure.subplots()
        for index, ((model,), of_model) in enumerate(rows.group_by("model", maintain_order=True)):
            color = _COLORS[index % len(_COLORS)]
            hollow = (of_model["split"] == "fitted").to_numpy()
            faces = np.where(hollow, "none", color)
            axes.scatter(
                of_model["measured"] * scale,
                of_model["simulated"] * scale,
                s=14,
                facecolors=list(faces),
                edgecolors=color,
                linewidths=0.7,
            )
            axes.scatter([], [], s=14, color=color, label=str(model or "?").rpartition("/")[2])
        both = np.concatenate([rows["measured"].to_numpy(), rows["simulated"].to_numpy()]) * scale
        ends = np.array([both.min() / 1.3, both.max() * 1.3])
        axes.plot(ends, ends, color="#666666", linewidth=1)
        for factor in (1 - BAND, 1 + BAND):
            axes.plot(ends, ends * factor, color="#999999", linewidth=0.8, linestyle="--")
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
        _label_decades(axes)
        axes.set(xlabel=f"measured {metric} ({unit})", ylabel="simulated")
        axes.legend(frameon=False, fontsize=8, loc="upper left")
        axes.set_aspect("equal")
        finish(axes)
        return figure

    def _rows(self, frame: pl.DataFrame | None, run: str) -> pl.DataFrame:
        known = [] if frame is None else frame["run"].unique(maintain_order=True).to_list()
        if frame is None or run not in known:
            raise ServesimError(
                f"plot: nothing to draw of this run (got {run!r}). expected one of {', '.join(known) or 'none'}",
                hint=nearest(run, known),
            )
        return frame.filter(pl.col("run") == run)
