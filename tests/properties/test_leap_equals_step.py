"""The kernel's one claim: leaping changes nothing but the time that a run takes."""

from __future__ import annotations

from dataclasses import replace

import naive_engine
import numpy as np
from harness import run
from hypothesis import given, settings
from hypothesis import strategies as st

from properties.strategies import ROUND, engines, latencies, requests
from servesim.cluster.speculative import Drafts
from servesim.policies.predictors import Oracle
from servesim.policies.routers import LeastRequests, LeastTokens, PowerOfTwo, RoundRobin
from servesim.policies.schedulers import FirstComeFirstServed, Priority, ShortestJobFirst

ROUTERS = st.sampled_from([RoundRobin, LeastRequests, LeastTokens, PowerOfTwo])
SCHEDULERS = st.sampled_from([FirstComeFirstServed, Priority, lambda: ShortestJobFirst(predictor=Oracle())])


@settings(max_examples=400, deadline=None)
@given(
    requests(),
    engines(noise=True, drafts=True),
    latencies,
    st.integers(1, 3),
    ROUTERS,
    SCHEDULERS,
    st.sampled_from([None, 3.0, 17.3]),
)
def test_leap_equals_step(work, settings_, latency, replicas, router, scheduler, stop_s):
    """Same outcomes, events and segments to the last bit: routers, schedulers, preemption, chunks, ties."""
    runs = [
        run(
            work,
            settings=replace(settings_, leap=leap),
            latency=latency,
            replicas=replicas,
            router=router(),
            scheduler=scheduler(),
            stop_s=stop_s,
        )
        for leap in (True, False)
    ]
    leaping, stepping = runs
    for name in ("outcomes", "segments", "events"):
        assert np.array_equal(
            getattr(leaping, name).view(np.uint8), getattr(stepping, name).view(np.uint8)
        ), name
    for ours, theirs in zip(leaping.accounts, stepping.accounts, strict=True):
        assert ours == theirs


@settings(max_examples=300, deadline=None)
@given(requests(), engines(), st.booleans())
def test_kernel_equals_naive_engine(work, settings_, by_priority):
    """The kernel agrees with an independent engine that walks step by step and counts blocks per sequence."""
    result = run(
        work,
        settings=settings_,
        latency=ROUND,
        scheduler=Priority() if by_priority else FirstComeFirstServed(),
    )
    expected = naive_engine.simulate(work, settings_, ROUND.price, by_priority=by_priority)
    assert result.times("scheduled_s") == [s.scheduled_s for s in expected]
    assert result.times("first_token_s") == [s.first_token_s for s in expected]
    assert result.times("finished_s") == [s.finished_s for s in expected]
    assert result.outcomes["preemptions"].tolist() == [s.preemptions for s in expected]
    assert result.outcomes["output_tokens"].tolist() == [s.emitted for s in expected]


@settings(max_examples=300, deadline=None)
@given(requests(), engines(drafts=True), st.booleans(), st.booleans())
def test_speculative_kernel_equals_naive_engine(work, settings_, by_priority, leap):
    """So it does where steps emit several tokens: tokens of a step, blocks for drafts, budget, preemption.

    Steps take as long whatever the context: the kernel prices lines that contexts follow.
    """
    latency = replace(ROUND, per_context_s=0.0)
    result = run(
        work,
        settings=replace(settings_, leap=leap),
        latency=latency,
        scheduler=Priority() if by_priority else FirstComeFirstServed(),
    )
    steps_of = None if settings_.speculative is None else Drafts(settings_.speculative, seed=0).steps
    expected = naive_engine.simulate(
        work, settings_, latency.price, by_priority=by_priority, steps_of=steps_of
    )
    for name in ("scheduled_s", "first_token_s", "finished_s"):
        assert result.times(name) == [getattr(s, name) for s in expected]
    assert result.outcomes["preemptions"].tolist() == [s.preemptions for s in expected]
    assert result.outcomes["output_tokens"].tolist() == [s.emitted for s in expected]
    if settings_.speculative is not None:
        told = {int(row["request_id"]): int(row["decode_steps"]) for row in result.speculations}
        assert told == {s.request_id: s.decode_steps for s in expected if s.emitted}
