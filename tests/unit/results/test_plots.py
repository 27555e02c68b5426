"""Figures of a run: what they show is what the series say, and they leave no trace in pyplot."""

from __future__ import annotations

import io
import sys

import pytest

import servesim
from servesim.errors import ServesimError
from servesim.results.run_series import RunSeries

NAMES = ("latency_cdf", "latency_histogram", "latency", "load", "tokens", "queue", "batch", "kv", "replicas")


@pytest.fixture(scope="module")
def result():
    """Return a short run of the quickstart."""
    return servesim.run("scenarios/quickstart.yaml", overrides=["workload.max_requests=200"])


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_is_drawn(result, name):
    """As SVG, with a unit or quantity on every axis."""
    figure = getattr(result.plot, name)()
    picture = io.BytesIO()
    figure.savefig(picture, format="svg")
    assert b"<svg" in picture.getvalue()
    charts = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert all(axes.get_ylabel() for axes in charts if axes.get_subplotspec().is_first_col())
    assert all(axes.get_xlabel() for axes in charts if axes.get_subplotspec().is_last_row())


def test_lines_are_the_series(result):
    """The queue's figure draws the series of the run, over the middles of its bins."""
    series = RunSeries(result)
    running, waiting = result.plot.queue().axes[0].lines
    assert running.get_label() == "running"
    assert running.get_xdata().tolist() == series.grid.middles_s.tolist()
    assert running.get_ydata().tolist() == series.queue["running_requests"].to_list()
    assert waiting.get_ydata().tolist() == series.queue["waiting_requests"].to_list()


def test_latencies_in_a_unit_that_suits_them(result):
    """Milliseconds for the time per token, seconds for the whole request; a panel per metric that is named."""
    axes = result.plot.latency_cdf("tpot_s", "e2e_s").axes
    assert [each.get_xlabel() for each in axes] == ["time per output token (ms)", "end-to-end latency (s)"]
    line = axes[0].lines[0]
    median = line.get_xdata()[line.get_ydata().tolist().index(50.0)]
    assert median == pytest.approx(result.summary["tpot_s_p50"] * 1e3)


def test_a_delay_of_zero_is_drawn():
    """A queueing delay may be 0, where no front end is passed; no logarithmic axis has that."""
    overrides = ["workload.max_requests=200", "cluster.pools.main.engine.front_end=none"]
    result = servesim.run("scenarios/quickstart.yaml", overrides=overrides)
    assert result.plot.latency_histogram("queue_s").axes[0].get_xscale() == "linear"


def test_what_is_no_latency(result):
    """The nearest name is suggested."""
    with pytest.raises(ServesimError, match="did you mean 'ttft_s'"):
        result.plot.latency_cdf("ttf_s")


@pytest.mark.parametrize("name", NAMES)
def test_figures_of_a_run_without_requests(plain, name):
    """Nothing completed, nothing sampled, or no time at all: an empty figure, not an error."""
    for end_s in (1.5, 0.0):
        run = plain.copy()
        run.arrivals, run.outcomes, run.segments, run.events, run.samples = [], [], [], [], []
        run.account |= {"arrived": 0, "system_area_s": 0.0, "end_s": end_s}
        run.replica = {}
        getattr(run.result().plot, name)().draw_without_rendering()


def test_notebooks_show_figures_without_pyplot(result):
    """A figure gives its PNG, and is not registered with pyplot, which would keep it for good."""
    assert result.plot.load()._repr_png_().startswith(b"\x89PNG")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_axes_span_the_run(result):
    """From 0 to its end, whatever is drawn; where nothing was measured the figure says so."""
    end_s = result.summary["duration_s"]
    for name in ("latency", "queue", "kv"):
        assert getattr(result.plot, name)().axes[0].get_xlim() == pytest.approx((0.0, end_s))
    nothing = servesim.run("scenarios/quickstart.yaml", overrides=["run.horizon_s=0.001", "run.drain=false"])
    texts = nothing.plot.latency_cdf().axes[0].texts
    assert [text.get_text() for text in texts] == ["no measured requests"]
