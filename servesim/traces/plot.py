"""A figure of a trace by matplotlib: rate over time, gaps and lengths."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from servesim.errors import ServesimError
from servesim.results.plots import BLUE, ORANGE
from servesim.results.saving import replacing_file
from servesim.results.units import time_unit
from servesim.traces.info import TraceInfo, rate_series
from servesim.traces.statistics import open_arrivals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDINGS = (".png", ".svg", ".pdf")
_BINS = 200


def write_plot(info: TraceInfo, path: Path) -> None:
    """Write the figure of a trace to *path*; its ending says in which format.

    Raises
    ------
    ServesimError
        If the ending is unknown or the file cannot be written.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ServesimError(f"{path}: unknown kind of figure (got {ending!r}). expected {', '.join(ENDINGS)}")
    figure = trace_figure(info)
    with replacing_file(path) as partial:
        figure.savefig(partial, format=ending[1:], dpi=120)


def trace_figure(info: TraceInfo) -> Figure:
    """Return a figure with the rate over time, the gaps beside those of a Poisson process, and both lengths."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.6), layout="constrained")
    rate, gaps, prompts, outputs = figure.subplots(2, 2).flat
    figure.suptitle(info.path.name, fontsize=11)
    _rate(rate, info)
    _gaps(gaps, np.diff(open_arrivals(info.requests)))
    _lengths(prompts, info.requests["prompt_tokens"].to_numpy(), "prompt tokens")
    _lengths(outputs, info.requests["output_tokens"].to_numpy(), "output tokens")
    for axes in (rate, gaps, prompts, outputs):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _rate(axes: Axes, info: TraceInfo) -> None:
    edges, rates = rate_series(info.requests, _BINS)
    unit, scale = time_unit(float(edges[-1]) if len(edges) else 0.0)
    if len(edges):
        axes.stairs(rates, edges / scale, color=BLUE, fill=True)
    axes.set(xlabel=f"time ({unit})", ylabel="requests/s")
    axes.margins(x=0)


def _gaps(axes: Axes, gaps: NDArray[np.float64]) -> None:
    """Draw the share of gaps longer than a time, and that of a Poisson process of the same rate."""
    positive = np.sort(gaps[gaps > 0])
    axes.set(xlabel="gap between arrivals (s)", ylabel="share of longer gaps", xscale="log", yscale="log")
    if not len(positive):
        return
    longer = np.arange(len(positive), 0, -1) / len(gaps)
    axes.plot(positive, longer, color=BLUE, label="trace", linewidth=1.4)
    poisson = np.exp(-positive / gaps.mean())
    seen = poisson >= longer[-1]
    axes.plot(positive[seen], poisson[seen], color=ORANGE, label="Poisson, same rate", linewidth=1.2)
    axes.legend(frameon=False, fontsize=8, loc="lower left")


def _lengths(axes: Axes, values: NDArray[Any], label: str) -> None:
    low, high = max(float(values.min()), 1.0), float(values.max())
    edges = np.geomspace(low, high, 61) if high > low else np.array([low * 0.9, low * 1.1])
    counts, _ = np.histogram(values, edges)
    axes.stairs(counts / len(values) * 100, edges, color=BLUE, fill=True)
    axes.set(xlabel=label, ylabel="requests (%)", xscale="log")
    axes.xaxis.set_major_formatter("{x:,g}")
