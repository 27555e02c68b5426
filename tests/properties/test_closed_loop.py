"""Closed loops: leaps change nothing, and every arrival has the cause that the workload names."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from harness import Linear, run
from hypothesis import given, settings
from hypothesis import strategies as st

from properties.strategies import engines, latencies, loops, session_requests
from servesim.cluster.closed_loop import Loop
from servesim.policies.predictors import Oracle
from servesim.policies.routers import LeastRequests, LeastTokens, PowerOfTwo, RoundRobin, SessionAffinity
from servesim.policies.schedulers import FirstComeFirstServed, Priority, ShortestJobFirst

GRID = Linear(base_s=0.25)
"""Every step ends on a grid, whatever the batch: step ends of several replicas, and ends of think times, tie."""

ROUTERS = st.sampled_from([RoundRobin, LeastRequests, LeastTokens, PowerOfTwo, SessionAffinity])
SCHEDULERS = st.sampled_from([FirstComeFirstServed, Priority, lambda: ShortestJobFirst(predictor=Oracle())])


@settings(max_examples=400, deadline=None)
@given(
    session_requests(),
    engines(),
    st.just(GRID) | latencies,
    loops,
    st.integers(1, 4),
    ROUTERS,
    SCHEDULERS,
    st.sampled_from([(None, None), (3.0, None), (None, 3.0), (None, 17.3)]),
)
def test_leap_equals_step(work, settings_, latency, loop, replicas, router, scheduler, ends):
    """Same arrivals, outcomes, events and segments to the last bit: no thinking, round times, preemption, rejection."""
    stop_s, horizon_s = ends
    leaping, stepping = (
        run(
            work,
            settings=replace(settings_, leap=leap),
            latency=latency,
            replicas=replicas,
            router=router(),
            scheduler=scheduler(),
            stop_s=stop_s,
            horizon_s=horizon_s,
            loop=loop,
        )
        for leap in (True, False)
    )
    assert leaping.arrived.equals(stepping.arrived)
    for name in ("outcomes", "segments", "events"):
        assert np.array_equal(
            getattr(leaping, name).view(np.uint8), getattr(stepping, name).view(np.uint8)
        ), name
    assert leaping.accounts == stepping.accounts


@settings(max_examples=200, deadline=None)
@given(session_requests(), engines(), latencies, st.integers(1, 3))
def test_every_follow_up_has_its_cause(work, settings_, latency, replicas):
    """Without a limit, a follow-up arrives exactly its think time after its predecessor left, and nobody is lost."""
    result = run(work, settings=settings_, latency=latency, replicas=replicas, loop=Loop(follow_ups=True))
    arrived = list(zip(result.arrived.rows(named=True), left_s(result), strict=True))
    assert sorted(row["arrival_s"] for row, _ in arrived) == [row["arrival_s"] for row, _ in arrived]
    by_session = {}
    for row, end_s in arrived:
        by_session.setdefault(row["session"], []).append((row, end_s))
    for session, rows in by_session.items():
        expected = [row for row in work if row[4] == session]
        assert [(r["prompt_tokens"], r["output_tokens"], r["think_s"]) for r, _ in rows] == [
            (prompt, output, think_s) for _, prompt, output, _, _, think_s in expected
        ]
        assert rows[0][0]["arrival_s"] == expected[0][0]
        for (_, end_s), (row, _) in pairwise(rows):
            assert row["arrival_s"] == end_s + row["think_s"]
    assert len(arrived) == len(work)


@settings(max_examples=200, deadline=None)
@given(session_requests(), engines(), latencies, st.sampled_from([1, 2, 5]))
def test_a_limit_binds_and_wastes_no_place(work, settings_, latency, limit):
    """At most so many are in the system, and who does not arrive when it is due arrives when somebody leaves."""
    result = run(work, settings=settings_, latency=latency, loop=Loop(follow_ups=True, max_concurrency=limit))
    times_s = result.arrived["arrival_s"].to_list()
    ends_s = left_s(result)
    for now in times_s:
        inside = sum(arrival_s <= now < end_s for arrival_s, end_s in zip(times_s, ends_s, strict=True))
        assert inside <= limit
    ended = {}
    for row, now, end_s in zip(result.arrived.rows(named=True), times_s, ends_s, strict=True):
        first_s = next(item[0] for item in work if item[4] == row["session"])
        due_s = first_s if row["think_s"] is None else ended[row["session"]] + row["think_s"]
        assert now == due_s or (now > due_s and now in ends_s)
        ended[row["session"]] = end_s
    assert len(times_s) == len(work)


def left_s(result):
    """Return when each request left, in order of arrival: its last token, or its arrival if it was rejected."""
    return [
        arrival_s if finished_s is None else finished_s
        for arrival_s, finished_s in zip(result.arrived["arrival_s"], result.times("finished_s"), strict=True)
    ]
