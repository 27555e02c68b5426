"""Tests of token times: expanded from segments, exact to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesim.errors import InvariantError, ServesimError
from servesim.results import ParquetSink
from servesim.results.steps import boundaries_s, durations_s


def test_plain(plain):
    """Tokens come at the ends of the steps that a request decodes in, the first at the end of its prefill."""
    result = plain.result()
    assert result.token_times(0).tolist() == [0.5, 1.0, 1.5]
    assert result.token_times(1).tolist() == [1.0, 1.5]
    assert result.token_times(2).tolist() == []
    assert result.itl_s(0).tolist() == [0.5, 0.5]


def test_preempted(preempted, tmp_path):
    """Steps while a request waits or recomputes are not its own; the end of its recomputation is."""
    for sink in (None, ParquetSink(tmp_path / "out")):
        result = preempted.result(sink)
        assert result.token_times(0).tolist() == [1.0, 2.0, 3.0, 4.0, 5.25, 6.75]
        assert result.token_times(1).tolist() == [1.0, 2.0, 3.0, 7.75, 8.75]
        assert result.itl_s(1).tolist() == [1.0, 1.0, 4.75, 1.0]


def test_unfinished(unfinished):
    """An unfinished request has the times of what it emitted."""
    result = unfinished.result()
    assert result.token_times(0).tolist() == [1.0, 2.0, 3.0, 4.0]
    assert result.token_times(1).tolist() == [1.0, 2.0, 3.0]
    assert result.token_times(2).tolist() == []


def test_preempted_again_while_recomputing(preempted):
    """A second preemption before the request resumed opens no new span."""
    run = preempted
    run.events[2:2] = [
        {"time_s": 6.75, "kind": "preempted", "request_id": 1, "output_tokens": 3},
        {"time_s": 6.75, "kind": "readmitted", "request_id": 1, "output_tokens": 3},
    ]
    run.outcomes[1]["preemptions"] = run.replica["preemptions"] = 2
    assert run.result().token_times(1).tolist() == [1.0, 2.0, 3.0, 7.75, 8.75]


def test_preempted_before_the_first_token(preempted):
    """A preemption during the first prefill has no tokens before it."""
    run = preempted
    run.outcomes[1] |= {"first_token_s": 7.75, "output_tokens": 2}
    run.arrivals[1]["output_tokens"] = 2
    run.segments[1]["sequences"] = 1
    run.segments[3]["prefill_tokens"] = 4
    for event, tokens in zip(run.events, (0, 0, 1), strict=True):
        event["output_tokens"] = tokens
    run.replica["output_tokens"] = 8
    assert run.result().token_times(1).tolist() == [7.75, 8.75]


@pytest.mark.parametrize("request_id", [-1, 3])
def test_unknown_request(plain, request_id):
    """A request that does not exist is refused, with the ones that do."""
    with pytest.raises(
        ServesimError, match=rf"no such request \(got {request_id}\). expected an integer from 0 to 2"
    ):
        plain.result().token_times(request_id)


def test_segments_that_do_not_account_for_the_tokens(plain):
    """Segments that end elsewhere than the request does are a bug that is reported."""
    result = plain.result()
    frames = result.frames._frames
    frames["segments"] = frames["segments"].head(2)
    with pytest.raises(InvariantError, match=r"request 0: its segments expand to 2 tokens until 1.0 s"):
        result.token_times(0)


@given(
    start_s=st.floats(0, 1e7),
    step_s=st.floats(1e-6, 10),
    growth_s=st.floats(0, 1e-2),
    steps=st.integers(1, 300),
)
def test_boundaries_equal_the_scalar_expression(start_s, step_s, growth_s, steps):
    """Vectorised boundaries equal, bit for bit, the expression that records.py states, in Python floats."""
    columns = (np.array([value]) for value in (start_s, step_s, growth_s, steps))
    expected = [start_s + (k * step_s + growth_s * (k * (k - 1) * 0.5)) for k in range(1, steps + 1)]
    assert boundaries_s(*columns).tolist() == expected


def test_long_segments_do_not_overflow():
    """A segment of a million steps, whose k*(k-1) exceeds 32 bits, has the right duration."""
    duration = durations_s(np.array([1.0]), np.array([2.0]), np.array([1_000_000], dtype=np.int32))
    assert duration.tolist() == [1_000_000.0**2]
