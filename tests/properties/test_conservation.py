"""What holds in every run: nothing is lost, nothing happens before its cause, memory is given back."""

from __future__ import annotations

import math

import numpy as np
from harness import run
from hypothesis import given, settings
from hypothesis import strategies as st

from properties.strategies import engines, latencies, requests


@settings(max_examples=200, deadline=None)
@given(requests(), engines(), latencies, st.integers(1, 3))
def test_conservation_of_requests_tokens_and_blocks(work, settings_, latency, replicas):
    """Every request ends in one state, all its tokens are emitted, and every block comes back."""
    result = run(work, settings=settings_, latency=latency, replicas=replicas)
    assert result.outcomes["request_id"].tolist() == list(range(len(work)))
    for row, (_, prompt, output, _) in zip(result.outcomes, work, strict=True):
        room = settings_.context_limit - prompt
        assert row["output_tokens"] == (min(output, room) if room >= 1 else 0)
    assert result.states() == [
        "completed" if settings_.context_limit > prompt else "rejected" for _, prompt, _, _ in work
    ]
    for replica, account in zip(result.replicas, result.accounts, strict=True):
        assert replica.blocks_used() == 0
        assert (replica.context_tokens, replica.waiting_tokens, sum(replica.by_residue)) == (0, 0, 0)
        assert not replica.running
        assert not replica.queue
        assert 0 <= account.kv_blocks_used_max <= settings_.kv_blocks
    emitted = result.outcomes["output_tokens"].sum()
    decoded = (result.segments["steps"].astype(int) * result.segments["sequences"]).sum()
    firsts = np.count_nonzero(~np.isnan(result.outcomes["first_token_s"]))
    resumed = sum(kind == "resumed" for _, kind, _ in result.happenings())
    assert emitted == decoded + firsts + resumed == sum(account.output_tokens for account in result.accounts)


@settings(max_examples=200, deadline=None)
@given(requests(), engines(), latencies)
def test_causality_and_order(work, settings_, latency):
    """Arrival <= scheduled < first token <= finished, and a replica's segments do not overlap."""
    result = run(work, settings=settings_, latency=latency)
    for row, (arrival_s, *_), state in zip(result.outcomes, work, result.states(), strict=True):
        if state == "completed":
            assert arrival_s <= row["scheduled_s"] < row["first_token_s"] <= row["finished_s"]
            assert (row["first_token_s"] == row["finished_s"]) == (row["output_tokens"] == 1)
    segments = result.segments
    steps = segments["steps"].astype(float)
    ends = segments["start_s"] + (
        steps * segments["step_s"] + segments["growth_s"] * (steps * (steps - 1) * 0.5)
    )
    assert (ends[:-1] <= segments["start_s"][1:]).all()
    assert (segments["steps"] >= 1).all()


@settings(max_examples=100, deadline=None)
@given(requests(), engines(), latencies)
def test_littles_law(work, settings_, latency):
    """The integral of the number in the system equals the sum of the times in it."""
    result = run(work, settings=settings_, latency=latency)
    sojourns = [
        finished_s - arrival_s
        for finished_s, (arrival_s, *_) in zip(result.times("finished_s"), work, strict=True)
        if finished_s is not None
    ]
    areas = sum(account.queue_area_s + account.batch_area_s for account in result.accounts)
    assert math.isclose(areas, math.fsum(sojourns), rel_tol=1e-9, abs_tol=1e-9)


@settings(max_examples=100, deadline=None)
@given(requests(), engines(), latencies)
def test_work_conserving(work, settings_, latency):
    """A replica stands still only while it has nothing to do."""
    result = run(work, settings=settings_, latency=latency)
    segments = result.segments
    steps = segments["steps"].astype(float)
    ends = segments["start_s"] + (
        steps * segments["step_s"] + segments["growth_s"] * (steps * (steps - 1) * 0.5)
    )
    served = [
        (arrival_s, finished_s)
        for (arrival_s, *_), finished_s in zip(work, result.times("finished_s"), strict=True)
        if finished_s is not None
    ]
    for gap_start, gap_end in zip(ends[:-1], segments["start_s"][1:], strict=True):
        if gap_start < gap_end:
            assert not any(arrival_s < gap_end and finished_s > gap_start for arrival_s, finished_s in served)
