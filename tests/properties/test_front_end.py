"""Front ends: leaps change nothing, and every worker is a first-come-first-served server."""

from __future__ import annotations

from dataclasses import replace
from heapq import heapreplace

import numpy as np
from harness import Linear, run
from hypothesis import given, settings
from hypothesis import strategies as st

from properties.strategies import engines, latencies, loops, requests, session_requests
from servesim.catalog import FrontEndCosts
from servesim.cluster.closed_loop import OPEN
from servesim.policies.routers import LeastRequests, LeastTokens, PowerOfTwo, RoundRobin

TIMES_S = st.sampled_from([0.0, 0.125, 0.25, 0.3, 1e-18, 2.0])
front_ends = st.builds(
    FrontEndCosts,
    workers=st.integers(1, 3),
    request_s=TIMES_S,
    prompt_token_s=st.sampled_from([0.0, 2.0**-6, 0.01]),
    stream_s=TIMES_S,
)


@settings(max_examples=200, deadline=None)
@given(
    st.tuples(requests(), st.just(OPEN)) | st.tuples(session_requests(), loops),
    engines(),
    st.just(Linear(base_s=0.25)) | latencies,
    front_ends,
    st.integers(1, 3),
    st.sampled_from([RoundRobin, LeastRequests, PowerOfTwo]),
    st.sampled_from([None, 3.0, 17.3]),
)
def test_leap_equals_step(load, settings_, latency, costs, replicas, router, stop_s):
    """Same arrivals, outcomes, events, segments and accounts to the last bit, open and closed."""
    work, loop = load
    leaping, stepping = (
        run(
            work,
            settings=replace(settings_, leap=leap),
            latency=latency,
            replicas=replicas,
            router=router(),
            stop_s=stop_s,
            loop=loop,
            front_end=costs,
        )
        for leap in (True, False)
    )
    assert leaping.arrived.equals(stepping.arrived)
    for name in ("outcomes", "segments", "events", "front_ends"):
        assert np.array_equal(
            getattr(leaping, name).view(np.uint8), getattr(stepping, name).view(np.uint8)
        ), name
    assert leaping.accounts == stepping.accounts


class Watcher(LeastTokens):
    """Route by tokens, and remember all that views said."""

    def reset(self, context):
        """Remember nothing yet."""
        self.seen = []

    def route(self, request, replicas):
        """Note the state of every replica."""
        self.seen += [
            (view.waiting_requests, view.waiting_tokens, view.running_requests, view.running_tokens)
            for view in replicas
        ]
        return super().route(request, replicas)


@settings(max_examples=300, deadline=None)
@given(
    requests(),
    engines(),
    st.just(Linear(base_s=0.25)) | latencies,
    front_ends.map(lambda costs: replace(costs, workers=1)),
    st.integers(1, 2),
    st.sampled_from([None, 1.0, 3.0, 17.3]),
)
def test_handing_over_ahead_of_time_changes_nothing(work, settings_, latency, costs, replicas, stop_s):
    """What is known when a request arrives is the same as what comes of an event: rows, accounts, views, any end."""
    watchers = Watcher(), Watcher()
    ahead, by_events = (
        run(
            work,
            settings=settings_,
            latency=latency,
            replicas=replicas,
            router=watcher,
            stop_s=stop_s,
            front_end=costs,
            ahead=ahead,
        )
        for ahead, watcher in zip((True, False), watchers, strict=True)
    )
    for name in ("outcomes", "segments", "events", "front_ends"):
        assert np.array_equal(getattr(ahead, name).view(np.uint8), getattr(by_events, name).view(np.uint8)), (
            name
        )
    assert ahead.accounts == by_events.accounts
    assert watchers[0].seen == watchers[1].seen


@settings(max_examples=200, deadline=None)
@given(requests(), engines(), latencies, front_ends)
def test_every_request_is_read_in_its_turn(work, settings_, latency, costs):
    """Each request is handed over when the first free worker has read it, whatever the engine does meanwhile."""
    result = run(work, settings=settings_, latency=latency, front_end=costs)
    free_s = [0.0] * costs.workers
    for row in sorted(result.front_ends, key=lambda row: row["request_id"]):
        arrival_s, prompt, *_ = work[row["request_id"]]
        ready_s = max(arrival_s, free_s[0]) + (costs.request_s + costs.prompt_token_s * prompt)
        heapreplace(free_s, ready_s)
        assert row["enqueued_s"] == ready_s
    assert len(result.front_ends) == len(work)
