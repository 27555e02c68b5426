"""Draw the figures of the documentation from real runs.

python scripts/make_figures.py [TRACE]

TRACE is AzureLLMInferenceTrace_conv.csv of https://github.com/Azure/AzurePublicDataset; where it is left out,
the path in scenarios/azure_conv.yaml holds. Not in here: any model; a figure shows columns of a result.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from matplotlib.ticker import LogLocator, NullFormatter

import servesim

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "img"
WINDOW_S = 30.0
LIGHT, MIDDLE, DARK = "#a9c4de", "#3b78b5", "#c44e1c"


def windows(frame: pl.DataFrame, time: str, value: str) -> pl.DataFrame:
    """Return median, mean, p99 and maximum of the column *value* in windows of the column *time*."""
    column = pl.col(value)
    return (
        frame.group_by(minute=(pl.col(time) // WINDOW_S + 0.5) * WINDOW_S / 60.0)
        .agg(
            p50=column.quantile(0.5, interpolation="linear"),
            mean=column.mean(),
            p99=column.quantile(0.99, interpolation="linear"),
            max=column.max(),
        )
        .sort("minute")
    )


def draw_ttft(axes: Axes, requests: pl.DataFrame) -> None:
    """Draw every request's time to first token, and median and 99 % quantile of each window."""
    measured = requests.select("arrival_s", ttft_ms=pl.col("ttft_s") * 1e3).drop_nulls()
    axes.plot(
        measured["arrival_s"] / 60.0, measured["ttft_ms"], ".", color=LIGHT, markersize=2, rasterized=True
    )
    series = windows(measured, "arrival_s", "ttft_ms")
    axes.plot(series["minute"], series["p99"], color=DARK, linewidth=1.4, label=f"p99 of {WINDOW_S:.0f} s")
    axes.plot(
        series["minute"], series["p50"], color=MIDDLE, linewidth=1.4, label=f"median of {WINDOW_S:.0f} s"
    )
    axes.set_ylabel("time to first token (ms)")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_running(axes: Axes, replicas: pl.DataFrame) -> None:
    """Draw how many requests the batches of all replicas hold."""
    cluster = replicas.group_by("time_s").agg(running=pl.col("running_requests").sum())
    series = windows(cluster, "time_s", "running")
    axes.fill_between(
        series["minute"],
        series["max"],
        step="mid",
        color=LIGHT,
        label=f"largest of {WINDOW_S:.0f} samples, 1 s apart",
    )
    axes.plot(
        series["minute"], series["mean"], color=MIDDLE, linewidth=1.4, label=f"mean of {WINDOW_S:.0f} s"
    )
    axes.set_ylabel("running requests")
    axes.set_xlabel("minutes since the start of the trace")
    axes.set_ylim(bottom=0)


def draw_azure_conv(path: Path, *, overrides: Sequence[str] = ()) -> None:
    """Simulate the Azure conversation trace on four replicas and draw it to *path*."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    result = servesim.run(
        ROOT / "scenarios" / "azure_conv.yaml", overrides=("run.sample_interval_s=1", *overrides)
    )
    figure, (upper, lower) = pyplot.subplots(
        2, sharex=True, figsize=(8, 4.6), height_ratios=(3, 2), layout="constrained"
    )
    figure.suptitle(
        f"Azure conversation trace, {result.summary['requests_completed']:,} requests: "
        "Llama-3.1-8B on 4 H100 SXM, least_requests",
        fontsize=10,
    )
    draw_ttft(upper, result.requests)
    draw_running(lower, result.replicas)
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.margins(x=0.01)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 0.97), ncols=2, fontsize=8, frameon=False)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    pyplot.close(figure)


def draw_report(path: Path) -> None:
    """Take a picture of the top of the quickstart's report with a headless Chromium."""
    from servesim.report import write_report

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        write_report(servesim.run(ROOT / "scenarios" / "quickstart.yaml"), page)
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars")
        quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
        subprocess.run(
            [
                *(program, *flags, *quiet, f"--user-data-dir={folder}/profile", "--disable-quic"),
                *("--window-size=1280,1120", "--virtual-time-budget=10000", f"--screenshot={path}"),
                page.as_uri(),
            ],
            check=True,
            capture_output=True,
        )


if __name__ == "__main__":
    IMAGES.mkdir(parents=True, exist_ok=True)
    draw_report(IMAGES / "report.png")
    draw_azure_conv(
        IMAGES / "azure_conv.png", overrides=[f"workload.source.path={path}" for path in sys.argv[1:2]]
    )
