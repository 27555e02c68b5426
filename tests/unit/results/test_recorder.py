"""Tests of the recorder: rows in, frames out."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from servesim.cluster.records import OUTCOME, STATES
from servesim.errors import InvariantError
from servesim.results import MemorySink, ParquetSink
from servesim.results.schema import FRAMES, frame_schema

NEVER = float("nan")


def test_requests_frame(plain):
    """The frame of requests has all columns in order, rows by id, hand-computed latencies, and nulls."""
    frame = plain.result().requests
    assert frame.schema == frame_schema("requests")
    assert frame["request_id"].to_list() == [0, 1, 2]
    assert frame["replica"].to_list() == [0, 0, 0]
    assert frame["queue_s"].to_list() == [0.0, 0.25, None]
    assert frame["ttft_s"].to_list() == [0.5, 0.75, None]
    assert frame["tpot_s"].to_list() == [0.5, 0.5, None]
    assert frame["e2e_s"].to_list() == [1.5, 1.25, None]
    assert frame["output_tokens"].to_list() == [3, 2, 0]
    assert frame["output_tokens_target"].to_list() == [3, 2, 2]
    assert frame["state"].to_list() == ["completed", "completed", "rejected"]
    assert frame["finish_reason"].to_list() == ["stop", "stop", "prompt_too_long"]
    assert frame["tenant"].to_list() == ["ann", "bob", "bob"]
    assert frame["session"].to_list() == [None, "s", None]
    assert frame["priority"].to_list() == [0, 7, 0]


def test_nothing_is_nan(plain, unfinished):
    """What has not happened is null, never NaN."""
    for run in (plain, unfinished):
        floats = run.result().requests.select(pl.col(pl.Float64).is_nan().any())
        assert not any(floats.row(0))


def test_unfinished_requests(unfinished):
    """A request that the run's end cut off keeps what it has, and has no end and no reason."""
    frame = unfinished.result().requests
    assert frame["state"].to_list() == ["unfinished"] * 3
    assert frame["finish_reason"].to_list() == [None] * 3
    assert frame["ttft_s"].to_list() == [1.0, 1.0, None]
    assert frame["e2e_s"].to_list() == frame["tpot_s"].to_list() == [None] * 3


def test_one_token_has_no_tpot(plain):
    """A request of one token has no time per output token, though it has an end."""
    plain.arrivals = [{"arrival_s": 0.0, "prompt_tokens": 10, "output_tokens": 1}]
    plain.outcomes = [plain.outcomes[2] | {"output_tokens": 1, "finished_s": 0.5}]
    plain.segments, plain.events = plain.segments[:1], []
    plain.account = {"end_s": 0.5, "arrived": 1, "system_area_s": 0.5}
    plain.replica = {
        "batch_area_s": 0.5,
        "enqueued": 1,
        "completed": 1,
        "output_tokens": 1,
        "steps": 1,
        "busy_s": 0.5,
    }
    plain.replica["kv_blocks_used_max"] = 1
    row = plain.result().requests.row(0, named=True)
    assert row["e2e_s"] == 0.5
    assert row["tpot_s"] is None


def test_other_frames(plain, preempted):
    """Segments, samples and events keep their order and values, kinds by name, replica -1 as null."""
    preempted.events[0]["replica"] = 0
    result = preempted.result()
    assert result.segments.schema == frame_schema("segments")
    assert result.segments["steps"].to_list() == [1, 2, 3, 1, 1]
    assert result.segments["growth_s"].to_list() == [0.0, 0.0, 0.25, 0.0, 0.0]
    assert result.events["kind"].to_list() == ["preempted", "readmitted", "resumed"]
    assert result.events["output_tokens"].to_list() == [3, 3, 4]
    assert plain.result().replicas["running_tokens"].to_list() == [0, 33]
    plain.events[0]["replica"] = plain.outcomes[0]["replica"] = -1
    plain.replica["rejected"] = 0
    result = plain.result()
    assert result.events["replica"].to_list() == [None]
    assert result.requests["replica"].to_list() == [0, 0, None]


def test_default_model(plain):
    """A request whose workload names no model gets the default; a tag stays."""
    plain.arrivals[1]["model"] = "other"
    sink = MemorySink()
    recorder = plain.recorder(sink, default_model="llama")
    recorder.tick()
    recorder._take_outcomes()
    assert sink.close().lazy("requests").collect()["model"].to_list() == ["llama", "other", "llama"]


@pytest.mark.parametrize("chunk_rows", [1, 2, 3])
def test_chunks_and_sinks_do_not_matter(plain, tmp_path: Path, chunk_rows: int):
    """The frames are the same however the arrivals are cut, in memory and on disk."""
    expected = plain.result()
    for sink in (MemorySink(), ParquetSink(tmp_path / "out")):
        result = plain.result(sink, chunk_rows=chunk_rows)
        assert result.summary == expected.summary
        for name in FRAMES:
            assert_frame_equal(result.frames.lazy(name).collect(), expected.frames.lazy(name).collect())


def test_complete_chunks_leave_memory(plain):
    """A frame goes to the sink as soon as its requests, and all before them, are done."""
    recorder = plain.recorder(chunk_rows=1)
    done = recorder.outcomes[:]
    del recorder.outcomes[:]
    row = OUTCOME.pack.size
    recorder.outcomes += done[:row]  # request 2: waits for 0 and 1
    recorder._take_outcomes()
    assert [chunk.first_id for chunk in recorder._open] == [0, 1, 2]
    recorder.outcomes += done[2 * row :]  # request 0 leaves
    recorder._take_outcomes()
    assert [chunk.first_id for chunk in recorder._open] == [1, 2]
    recorder.outcomes += done[row : 2 * row]
    recorder._take_outcomes()
    assert not recorder._open


def test_large_buffers_are_emptied_in_place(plain, monkeypatch):
    """A tick empties the buffers that have grown large, and leaves the others."""
    recorder = plain.recorder()
    monkeypatch.setattr("servesim.results.recorder.FLUSH_BYTES", len(recorder.segments) - 1)
    buffer = recorder.segments
    recorder.tick()
    assert recorder.segments is buffer
    assert len(buffer) == 0
    assert len(recorder.events) > 0


def test_large_outcomes_are_taken_at_a_tick(plain, monkeypatch):
    """A tick takes the outcomes too when there are many."""
    monkeypatch.setattr("servesim.results.recorder.FLUSH_BYTES", 0)
    recorder = plain.recorder()
    recorder.tick()
    assert not recorder.outcomes
    assert not recorder._open


@pytest.mark.parametrize("chunk_rows", [1, 2, 100])
def test_requests_that_never_arrived_are_left_out(plain, chunk_rows):
    """Requests handed over but not arrived when the run ended are no part of the result."""
    for arrival_s in (5.0, 6.0):
        plain.arrivals.append({"arrival_s": arrival_s, "prompt_tokens": 1, "output_tokens": 1})
    result = plain.result(chunk_rows=chunk_rows)
    assert result.requests.height == 3
    assert result.summary["requests_arrived"] == 3


def test_outcome_of_unknown_request(plain):
    """An outcome for a request that was never handed over is refused."""
    plain.outcomes[0]["request_id"] = 3
    with pytest.raises(InvariantError, match="not in the system"):
        plain.result()


def test_second_outcome(plain):
    """A second outcome for one request is refused, in one batch of rows or in two."""
    plain.outcomes[0] = plain.outcomes[1]
    with pytest.raises(InvariantError, match="second outcome"):
        plain.result()
    recorder = plain.recorder()
    rows = recorder.outcomes[OUTCOME.pack.size : 2 * OUTCOME.pack.size]
    del recorder.outcomes[:]
    for _ in range(2):
        recorder.outcomes += rows
        if recorder._open[0].missing == 3:
            recorder._take_outcomes()
    with pytest.raises(InvariantError, match="second outcome"):
        recorder._take_outcomes()


def test_missing_outcome(plain):
    """A request without an outcome is found."""
    del plain.outcomes[0]
    with pytest.raises(InvariantError, match="no outcome"):
        plain.result()


@given(order=st.permutations(range(7)), chunk_rows=st.integers(1, 7))
def test_any_finishing_order(order, chunk_rows):
    """Whatever the order of finishing and the size of chunks, rows come out in the order of arrival."""
    from servesim.results.recorder import FrameRecorder
    from servesim.workload.schema import SCHEMA

    sink = MemorySink()
    recorder = FrameRecorder(sink)
    frame = pl.DataFrame(
        {
            "arrival_s": [float(i) for i in range(7)],
            "prompt_tokens": [1] * 7,
            "output_tokens": [1] * 7,
            "priority": [0] * 7,
        }
    ).select(
        pl.lit(None).cast(t).alias(n)
        if n not in ("arrival_s", "prompt_tokens", "output_tokens", "priority")
        else pl.col(n).cast(t)
        for n, t in SCHEMA.items()
    )
    for piece in frame.iter_slices(chunk_rows):
        recorder.arrivals(piece)
    for i in order:
        recorder.outcomes += OUTCOME.pack.pack(i, 0, i, i + 1.0, i + 1.0, 1, 0, STATES.index("completed"), 0)
        recorder._take_outcomes()
    requests = sink.close().lazy("requests").collect()
    assert requests["request_id"].to_list() == list(range(7))
    assert requests["scheduled_s"].to_list() == [float(i) for i in range(7)]
