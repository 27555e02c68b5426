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
_LENGTH_BINS = 60


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
    axes.set(xlabel=f"time ({unit})", ylabel="requests/s")
    if not len(edges):
        _say(axes, "no time passes")
        return
    axes.stairs(rates, edges / scale, color=BLUE, fill=True)
    axes.margins(x=0)


def _gaps(axes: Axes, gaps: NDArray[np.float64]) -> None:
    """Draw the share of gaps longer than a time, and that of a Poisson process of the same rate."""
    positive = np.sort(gaps[gaps > 0])
    axes.set(xlabel="gap between arrivals (s)", ylabel="share of longer gaps")
    if not len(positive):
        _say(axes, "no gaps")
        return
    longer = np.arange(len(positive), 0, -1) / len(gaps)
    # An exponential law's share of longer gaps, from where it begins to fall to the rarest that the trace could show.
    mean_s, rarest = float(gaps.mean()), 0.5 / len(gaps)
    times = np.geomspace(min(positive[0], mean_s / 10), -mean_s * np.log(rarest), 200)
    axes.set(xscale="log", yscale="log", ylim=(rarest, 1.3))
    axes.plot(positive, longer, color=BLUE, label="trace", linewidth=1.4)
    axes.plot(times, np.exp(-times / mean_s), color=ORANGE, label="Poisson, same rate", linewidth=1.2)
    axes.legend(frameon=False, fontsize=8, loc="lower left")


def _lengths(axes: Axes, values: NDArray[Any], label: str) -> None:
    """Draw the share of requests around each length; bins that are wider in proportion count as of the median width."""
    edges = length_edges(int(values.min()), int(values.max()))
    counts, _ = np.histogram(values, edges)
    steps = np.diff(np.log(edges))
    axes.stairs(counts / len(values) * np.median(steps) / steps * 100, edges, color=BLUE, fill=True)
    axes.set(xlabel=label, ylabel="requests (%)", xscale="log")
    _ticks(axes, edges[0], edges[-1])


def length_edges(low: int, high: int) -> NDArray[np.float64]:
    """Return edges of about equal steps in proportion, between whole tokens: no bin is narrower than a token.

    Examples
    --------
    >>> length_edges(1, 4)
    array([0.5, 1.5, 2.5, 3.5, 4.5])
    """
    low = max(low, 1)
    edges = np.geomspace(low, high + 1, _LENGTH_BINS + 1)
    return np.unique(np.rint(edges)) - 0.5


def _ticks(axes: Axes, low: float, high: float) -> None:
    """Label as many parts of each power of ten as there is room for; over less than a factor of 5 whole numbers."""
    from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

    if high / low < 5:
        axes.set_xscale("linear")
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.margins(x=0.5 if high - low <= 1 else 0.05)
        return
    parts = (1.0, 2.0, 5.0) if high / low < 30 else (1.0, 3.0) if high / low < 1000 else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=parts))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _say(axes: Axes, text: str) -> None:
    """Say why there is nothing to draw."""
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="0.4")
    axes.set(xticks=[], yticks=[])
