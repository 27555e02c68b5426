"""Token times, and the gaps between them, of random runs: against the naive engine, and against brute force."""

from __future__ import annotations

from dataclasses import replace

import naive_engine
import numpy as np
import pytest
from harness import Linear, Run, engine, frame, run
from hypothesis import given, settings
from hypothesis import strategies as st

from properties.strategies import ROUND, engines, latencies, requests
from servesim.cluster.records import SPECULATION
from servesim.cluster.speculative import Drafts
from servesim.policies.schedulers import FirstComeFirstServed, Priority
from servesim.results.columns import requests_frame, rows_frame
from servesim.results.frames import MemoryFrames
from servesim.results.speculation import decodes_speculatively
from servesim.results.token_gaps import RequestGaps, itl_statistics, tokens_per_second
from servesim.results.token_times import token_times

QUANTILES = (0.0, 0.37, 0.5, 0.99, 1.0)
SCHEDULERS = st.sampled_from([FirstComeFirstServed, Priority])


def speculation_of(result: Run) -> np.ndarray | None:
    """Return the rows of decode steps by request, -1 where there is none; None if no replica speculates."""
    if result.replicas[0].engine.speculative is None:
        return None
    rows = np.zeros(len(result.outcomes), dtype=SPECULATION.dtype)
    for name in SPECULATION.fields:
        rows[name] = -1
        rows[name][result.speculations["request_id"]] = result.speculations[name]
    return rows


def frames_of(work, result: Run) -> MemoryFrames:
    """Return the frames that a recorder makes of a run's rows, but for the samples."""
    arrived = len(result.outcomes)
    return MemoryFrames(
        {
            "requests": requests_frame(
                0, frame(work).head(arrived), result.outcomes, speculation=speculation_of(result)
            ),
            "segments": rows_frame("segments", result.segments),
            "events": rows_frame("events", result.events),
        }
    )


@settings(max_examples=200, deadline=None)
@given(requests(), engines(drafts=True), st.booleans(), st.booleans())
def test_token_times_equal_those_of_the_naive_engine(work, settings_, by_priority, leap):
    """Every token comes at the end of the step that emits it in an engine that walks step by step."""
    latency = replace(ROUND, per_context_s=0.0) if settings_.speculative else ROUND
    result = run(
        work,
        settings=replace(settings_, leap=leap),
        latency=latency,
        scheduler=Priority() if by_priority else FirstComeFirstServed(),
    )
    frames = frames_of(work, result)
    steps_of = Drafts(settings_.speculative, seed=0).steps if settings_.speculative else None
    for sequence in naive_engine.simulate(
        work, settings_, latency.price, by_priority=by_priority, steps_of=steps_of
    ):
        assert token_times(frames, sequence.request_id).tolist() == sequence.token_times_s


@settings(max_examples=200, deadline=None)
@given(
    requests(),
    engines(noise=True, drafts=True),
    latencies,
    st.integers(1, 3),
    SCHEDULERS,
    st.sampled_from([None, 3.0, 17.3]),
    st.sampled_from([0.0, 0.125, 2.0]),
)
def test_gaps_of_all_requests_are_those_listed_one_by_one(
    work, settings_, latency, replicas, scheduler, stop_s, warm_up_s
):
    """Statistics, single requests and tokens per second: chunks, preemption, prompt-only steps, cuts, warm-up."""
    result = run(
        work, settings=settings_, latency=latency, replicas=replicas, scheduler=scheduler(), stop_s=stop_s
    )
    check_gaps(frames_of(work, result), warm_up_s)


def check_gaps(frames: MemoryFrames, warm_up_s: float = 0.0) -> None:
    """Hold what is known of all gaps at once against the token times of every request."""
    columns = ("request_id", "replica", "first_token_s", "output_tokens", "state", "arrival_s")
    own = [
        row
        for *row, state, arrival_s in frames.lazy("requests").select(columns).collect().iter_rows()
        if state == "completed" and arrival_s >= warm_up_s
    ]
    times = [token_times(frames, row[0]) for row in own]
    gaps_of = RequestGaps(frames).of
    for row, own_times in zip(own, times, strict=True):
        assert gaps_of(*row).tolist() == np.diff(np.unique(own_times)).tolist()
    gaps = np.concatenate([np.empty(0), *(np.diff(np.unique(own)) for own in times)])
    found = itl_statistics(frames, QUANTILES, warm_up_s=warm_up_s)
    assert found.count == len(gaps)
    if len(gaps):
        assert found.mean_s == pytest.approx(gaps.mean(), rel=1e-9)
        assert found.std_s == pytest.approx(gaps.std(), rel=1e-6, abs=1e-7)
        expected = np.quantile(gaps, QUANTILES).tolist()
        assert list(found.quantiles_s.values()) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    expected = np.bincount(np.concatenate([np.empty(0), *times]).astype(np.int64))
    counts = tokens_per_second(frames, origin_s=0.0, warm_up_s=warm_up_s)
    if decodes_speculatively(frames):  # which spreads tokens as if every step emitted as many
        return
    assert np.trim_zeros(counts, "b").tolist() == expected.tolist()


def test_gaps_late_in_a_long_run():
    """After ten million seconds, where times are multiples of 2 ns, steps of a millisecond are still told apart."""
    work = [(1e7, 4, 5), (1e7 + 0.0021, 4, 5)]
    check_gaps(frames_of(work, run(work, settings=engine(), latency=Linear(base_s=1e-3))))
