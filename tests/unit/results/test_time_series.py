"""Series over time, against numbers worked out by hand from the tiny runs of conftest.

The preempted run: both requests run from 0; the second waits from 3 to 6.75 and ends at 8.75, the first at 6.75.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import servesim
from servesim.results import time_series
from servesim.results.time_series import Levels, TimeGrid, bin_width_s

GRID = TimeGrid(1.0, 8.75)


@pytest.fixture
def frames(preempted):
    """Return the frames of the preempted run."""
    return preempted.result().frames


@pytest.fixture(scope="module")
def served():
    """Return a run with preemptions, rejections and several replicas."""
    return servesim.run(
        "scenarios/quickstart.yaml",
        overrides=[
            *("workload.max_requests=400", "workload.rate_scale=4"),
            "cluster.pools.main.engine.kv_blocks=200",
        ],
    )


def test_the_last_bin_is_no_sliver():
    """A rest of less than half a bin joins the bin before it, a longer one is a bin of its own."""
    assert TimeGrid(2.0, 7.5).ends_s.tolist() == [2.0, 4.0, 6.0, 7.5]
    assert TimeGrid(2.0, 6.5).ends_s.tolist() == [2.0, 4.0, 6.5]
    assert TimeGrid(2.0, 6.5).widths_s.tolist() == [2.0, 2.0, 2.5]
    assert TimeGrid(2.0, 0.1).ends_s.tolist() == [0.1]
    assert TimeGrid(2.0, 0.0).bins == 0


def test_what_happens_at_the_end_is_in_the_last_bin():
    """An event at the end of the run counts, and one on an edge belongs to the bin that starts there."""
    assert TimeGrid(2.0, 6.5).counts(np.array([0.0, 2.0, 6.4, 6.5])).tolist() == [1.0, 1.0, 2.0]


@given(st.floats(1e-6, 1e9))
def test_bins_are_as_few_as_promised(duration_s):
    """At most so many, and not needlessly few: widths grow by at most a factor of three."""
    bins = TimeGrid(bin_width_s(duration_s, 120), duration_s).bins
    assert 1 <= bins <= 120
    assert bins >= 30


def test_levels_are_exact_means():
    """A level that is 2 during a quarter of a bin of 1 s, and 1 from then on, means 0.5 and 1."""
    levels = Levels(TimeGrid(1.0, 3.0), 2, ["level"])
    replica = np.array([1, 1])
    levels.jump(replica, np.array([0.5, 0.75]), level=np.array([2.0, -2.0]))
    levels.jump(np.array([1]), np.array([1.0]), level=1.0)
    assert levels.integral("level").tolist() == [[0.0, 0.0, 0.0], [0.5, 1.0, 1.0]]


def test_queue(frames):
    """A preempted request waits until it is readmitted."""
    queue = time_series.queue_over_time(frames, GRID, 1)
    assert queue["running_requests"].to_list() == [2, 2, 2, 1, 1, 1, 1, 1, 1]
    assert queue["waiting_requests"].to_list() == [0, 0, 0, 1, 1, 1, 0.75, 0, 0]


def test_queue_without_the_rejected(plain):
    """A rejected request neither waits nor runs; one that is scheduled late waits until then."""
    queue = time_series.queue_over_time(plain.result().frames, TimeGrid(0.5, 1.5), 1)
    assert queue["waiting_requests"].to_list() == [0.5, 0, 0]
    assert queue["running_requests"].to_list() == [1, 2, 2]


def test_work(frames):
    """Each segment's time, sequences and tokens are spread over the bins that it lasts."""
    work = time_series.work_over_time(frames, GRID, 1)
    assert work["busy_s"].to_list() == [1, 1, 1, 1, 1, 1, 1, 1, 0.75]
    assert work["decode_s"].to_list() == [0, 2, 2, 1, 1, 1, 0.75, 0.25, 0.75]
    assert work["prefill_s"].to_list() == [2, 0, 0, 0, 0, 0, 0.25, 0.75, 0]
    assert work["decoded_tokens"].to_list() == pytest.approx([0, 2, 2, 0.8, 0.8, 0.8, 0.6, 0.25, 0.75])
    assert work["prefill_tokens"].to_list() == pytest.approx([8, 0, 0, 0, 0, 0, 1.75, 5.25, 0])


def test_load(frames):
    """Rates are per second of their bin; first tokens and the one after a preemption are output tokens too."""
    load = time_series.load_over_time(frames, GRID, time_series.work_over_time(frames, GRID, 1))
    assert load["arrivals_per_s"].to_list() == [2, 0, 0, 0, 0, 0, 0, 0, 0]
    assert load["completions_per_s"].to_list() == pytest.approx([0, 0, 0, 0, 0, 0, 1, 0, 1 / 0.75])
    assert load["output_tokens_per_s"].to_list() == pytest.approx([0, 4, 2, 0.8, 0.8, 0.8, 0.6, 1.25, 1])
    assert (load["output_tokens_per_s"].to_numpy() * GRID.widths_s).sum() == pytest.approx(11)


def test_batch(frames):
    """The mean batch of a step is weighted by the steps' time."""
    batch = time_series.batch_over_time(time_series.work_over_time(frames, GRID, 1))
    assert batch["decode_sequences"].to_list() == [0, 2, 2, 1, 1, 1, 0.75, 0.25, 1]
    assert batch["prefill_sequences"].to_list() == [2, 0, 0, 0, 0, 0, 0.25, 0.75, 0]


def test_an_idle_cluster_has_no_batch():
    """Null, not 0: there is no step to have one."""
    work = pl.DataFrame(
        {"bin": [0, 1], "busy_s": [0.0, 2.0], "decode_s": [0.0, 6.0], "prefill_s": [0.0, 1.0]}
    )
    batch = time_series.batch_over_time(work)
    assert batch["decode_sequences"].to_list() == [None, 3.0]


def test_kv(plain):
    """The samples of a bin: their mean, and the fullest; a replica without a known size is left out."""
    frames = plain.result().frames
    kv = time_series.kv_over_time(frames, TimeGrid(0.5, 1.5), [8])
    assert kv.rows() == [(0, 0.0, 0.0), (2, 0.375, 0.375)]
    assert time_series.kv_over_time(frames, TimeGrid(0.5, 1.5), [0]).is_empty()


def test_latency_by_arrival(plain):
    """Median and 99 % quantile of the requests that arrived in a bin and completed."""
    latency = time_series.latency_over_time(plain.result().frames, TimeGrid(0.5, 1.5), "ttft_s")
    assert latency.rows() == [(0, 0.625, pytest.approx(0.5 + 0.99 * 0.25))]


def test_events(frames):
    """Every kind has a column, also one that did not occur."""
    events = time_series.events_over_time(frames, GRID)
    assert events.columns == ["bin", "preempted", "readmitted", "resumed", "rejected"]
    assert events["preempted"].to_list() == [0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert events["rejected"].sum() == 0


def test_no_time_no_bins(frames):
    """A run that ended at time 0 has empty series."""
    nothing = TimeGrid(1.0, 0.0)
    work = time_series.work_over_time(frames, nothing, 1)
    assert work.is_empty()
    assert time_series.load_over_time(frames, nothing, work).is_empty()
    assert time_series.queue_over_time(frames, nothing, 1).is_empty()
    assert time_series.kv_over_time(frames, nothing, [8]).is_empty()
    assert time_series.latency_over_time(frames, nothing, "ttft_s").is_empty()
    assert time_series.events_over_time(frames, nothing).is_empty()


@pytest.mark.parametrize("width_s", [0.1, 1.0, 7.0])
def test_series_add_up_to_the_summary(served, width_s, monkeypatch):
    """However the bins and the pieces are cut: tokens, busy time, requests and their sojourns (Little's law)."""
    monkeypatch.setattr(time_series, "_PIECE_ROWS", 97)
    summary = served.summary
    assert summary["preemptions"] > 0
    assert summary["requests_rejected"] > 0
    grid = TimeGrid(width_s, summary["duration_s"])
    work = time_series.work_over_time(served.frames, grid, 4)
    load = time_series.load_over_time(served.frames, grid, work)
    queue = time_series.queue_over_time(served.frames, grid, 4)
    output_tokens = (load["output_tokens_per_s"].to_numpy() * grid.widths_s).sum()
    assert output_tokens == pytest.approx(summary["output_tokens_per_s"] * grid.end_s)
    completions = (load["completions_per_s"].to_numpy() * grid.widths_s).sum()
    assert completions == pytest.approx(summary["requests_completed"])
    assert work["busy_s"].sum() / 4 / grid.end_s == pytest.approx(summary["utilization_ratio"])
    present = (queue["waiting_requests"] + queue["running_requests"]).to_numpy()
    area_s = (present * np.tile(grid.widths_s, 4)).sum()
    completed = served.requests.filter(pl.col("state") == "completed")
    assert area_s == pytest.approx((completed["finished_s"] - completed["enqueued_s"]).sum())
