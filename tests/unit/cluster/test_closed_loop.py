"""Follow-ups and limits of concurrency, against times worked out by hand.

Every step takes 1 s, so a request of o output tokens that finds a free seat at a boundary is served in o seconds.
"""

from __future__ import annotations

import pytest
from harness import engine, run

from servesim.cluster.closed_loop import Loop
from servesim.errors import TraceError
from servesim.policies.routers import LeastRequests, SessionAffinity
from servesim.policies.schedulers import Priority

FOLLOW_UPS = Loop(follow_ups=True)


def ask(arrival_s, output, session=None, think_s=None, *, prompt=1, priority=0):
    """Return a request of the harness."""
    return (arrival_s, prompt, output, priority, session, think_s)


def times(result):
    """Return (session, arrival, finish) of every request, in order of arrival."""
    rows = result.arrived.select("session", "arrival_s").rows()
    return [
        (session, arrival_s, finished_s)
        for (session, arrival_s), finished_s in zip(rows, result.times("finished_s"), strict=True)
    ]


def test_a_follow_up_arrives_its_think_time_after_the_end():
    """Served from 2 to 5; the follow-ups arrive 4 s later and 0.5 s after that, whatever the workload's own time."""
    work = [ask(2.0, 3, "a"), ask(2.0, 2, "a", 4.0), ask(2.0, 1, "a", 0.5)]
    assert times(run(work, loop=FOLLOW_UPS)) == [("a", 2.0, 5.0), ("a", 9.0, 11.0), ("a", 11.5, 12.5)]


def test_requests_that_ask_for_nothing_of_the_kind_are_served_as_ever():
    """Without think times and limits that bind, both kinds of arrivals give the same bytes."""
    work = [ask(0.3 * i, 1 + i % 4, str(i % 3)) for i in range(20)]
    open_loop, closed = (
        run(work, replicas=2),
        run(work, replicas=2, loop=Loop(follow_ups=True, max_concurrency=20)),
    )
    assert open_loop.outcomes.tobytes() == closed.outcomes.tobytes()
    assert open_loop.segments.tobytes() == closed.segments.tobytes()


def test_without_thinking_it_arrives_when_its_predecessor_ends_and_joins_the_next_step():
    """One decodes from 0 to 10; a's first request ends at 2, and the follow-up of time 2 joins the step from 3 on."""
    work = [ask(0.0, 10, "b"), ask(0.0, 2, "a"), ask(0.0, 2, "a", 0.0)]
    result = run(work, loop=FOLLOW_UPS)
    assert times(result)[2] == ("a", 2.0, 5.0)
    assert result.times("scheduled_s")[2] == 3.0


def test_an_idle_replica_serves_it_at_once():
    """Nobody else is there: the steps of a session without thinking follow each other without a gap."""
    work = [ask(0.0, 2, "a"), ask(0.0, 2, "a", 0.0), ask(0.0, 2, "a", 0.0)]
    assert times(run(work, loop=FOLLOW_UPS)) == [("a", 0.0, 2.0), ("a", 2.0, 4.0), ("a", 4.0, 6.0)]


@pytest.mark.parametrize("ends_on", [0, 1])
def test_the_index_of_the_replica_does_not_matter(ends_on):
    """A request ends on one replica at 2; the follow-up goes to the other, whose step of that time is over as well.

    The busy one is in a leap of ten steps: the follow-up joins the step from 3 on, on replica 0 and on replica 1.
    """

    class Scripted:
        def reset(self, context):
            self.calls = 0

        def route(self, request, replicas):
            self.calls += 1
            return ends_on if self.calls == 2 else 1 - ends_on

    work = [ask(0.0, 10, "b"), ask(0.0, 2, "a"), ask(0.0, 1, "a", 0.0)]
    for leap in (True, False):
        result = run(work, replicas=2, router=Scripted(), settings=engine(leap=leap), loop=FOLLOW_UPS)
        assert times(result)[2] == ("a", 2.0, 4.0)
        assert result.times("scheduled_s")[2] == 3.0


def test_due_times_and_stream_arrivals_share_one_order():
    """At time 5 a request of the stream (row 3) and follow-ups (rows 1 and 2 of sessions that began earlier) arrive.

    The follow-ups come first, being earlier rows, in the order of their rows and not of the ends that they wait for.
    """
    work = [
        ask(0.0, 2, "a"),
        ask(0.0, 1, "a", 3.0),  # ends at 2, due at 5
        ask(0.0, 1, "b"),
        ask(0.0, 1, "b", 4.0),  # ends at 1, due at 5
        ask(5.0, 1, "c"),
    ]
    assert times(run(work, loop=FOLLOW_UPS))[2:] == [("a", 5.0, 6.0), ("b", 5.0, 6.0), ("c", 5.0, 6.0)]


def test_a_rejected_request_lets_its_session_go_on():
    """A prompt that can never fit leaves at once, and its follow-up thinks from then on, or is there at once."""
    settings = engine(context_limit=10)
    work = [ask(1.0, 1, "a", prompt=50), ask(1.0, 1, "a", 0.0, prompt=60), ask(1.0, 2, "a", 2.5)]
    result = run(work, settings=settings, loop=FOLLOW_UPS)
    assert result.states() == ["rejected", "rejected", "completed"]
    assert times(result) == [("a", 1.0, None), ("a", 1.0, None), ("a", 3.5, 5.5)]


def test_a_preempted_request_has_not_ended():
    """Two sequences outgrow a cache of three blocks of two tokens: the follow-up waits for the recomputed one."""
    settings = engine(kv_blocks=3, kv_block_tokens=2, max_num_seqs=2)
    work = [ask(0.0, 4, "a", prompt=2), ask(0.0, 4, "b", prompt=2), ask(0.0, 1, "b", 1.0)]
    result = run(work, settings=settings, loop=FOLLOW_UPS)
    assert result.outcomes["preemptions"][1] > 0
    (_, _, a_s), (_, _, b_s), (_, third_s, _) = times(result)
    assert a_s == 4.0 < b_s
    assert third_s == b_s + 1.0


def test_a_limit_of_concurrency():
    """Two places: the third of four requests that are due at 0 enters when the first leaves, in the stream's order."""
    work = [ask(0.0, 2), ask(0.0, 3), ask(0.0, 1), ask(0.0, 1), ask(9.0, 1)]
    result = run(work, loop=Loop(max_concurrency=2))
    assert [row[1:] for row in times(result)] == [
        (0.0, 2.0),
        (0.0, 3.0),
        (2.0, 4.0),  # the step from 2 to 3 has begun without it
        (3.0, 5.0),
        (9.0, 10.0),
    ]


def test_follow_ups_wait_for_places_too():
    """One place: c, due since 1, is before the follow-up that is due at 2.5, and that before d, due at 3."""
    work = [ask(0.0, 2, "a"), ask(0.0, 1, "a", 0.5), ask(1.0, 4, "c"), ask(3.0, 1, "d")]
    result = run(work, loop=Loop(follow_ups=True, max_concurrency=1))
    assert times(result) == [("a", 0.0, 2.0), ("c", 2.0, 6.0), ("a", 6.0, 7.0), ("d", 7.0, 8.0)]


def test_the_horizon_is_about_real_arrivals():
    """Follow-ups that are due at or after it never come, nor what waits for them; nor who finds no place before."""
    work = [
        ask(0.0, 4, "a"),
        ask(0.0, 1, "a", 2.0),
        ask(0.0, 1, "a", 0.0),
        ask(1.0, 1, "b"),
        ask(1.0, 1, "b", 0.0),
    ]
    result = run(work, loop=FOLLOW_UPS, horizon_s=6.0)
    assert [session for session, *_ in times(result)] == ["a", "b", "b"]
    result = run([ask(0.0, 5), ask(0.0, 5), ask(0.0, 5)], loop=Loop(max_concurrency=1), horizon_s=7.0)
    assert [row[1:] for row in times(result)] == [(0.0, 5.0), (5.0, 10.0)]


def test_requests_are_numbered_as_they_arrive():
    """The scheduler breaks ties by arrival, so the number is that of the arrival and not of the row."""
    work = [ask(0.0, 1, "a"), ask(0.0, 3, "a", 10.0), ask(2.0, 1, "b", priority=1)]
    result = run(work, scheduler=Priority(), loop=FOLLOW_UPS)
    assert [session for session, *_ in times(result)] == ["a", "b", "a"]
    assert result.outcomes["output_tokens"].tolist() == [1, 1, 3]


def test_affinity_keeps_a_session_on_its_replica():
    """Every follow-up is routed with its session's name: `session_affinity` sends it where the first went."""
    work = [ask(float(i), 1 + turn, f"s{i}", 1.5 if turn else None) for i in range(8) for turn in range(3)]
    result = run(work, replicas=3, router=SessionAffinity(), loop=FOLLOW_UPS)
    served = {}
    for (session, *_), replica in zip(times(result), result.outcomes["replica"], strict=True):
        served.setdefault(session, set()).add(int(replica))
    assert all(len(replicas) == 1 for replicas in served.values())
    assert len(set.union(*served.values())) > 1


def test_a_router_sees_the_cluster_without_the_request_that_has_left():
    """Least requests: both replicas hold one at 2, and the first is free when its request's follow-up is routed."""
    work = [ask(0.0, 2, "a"), ask(0.0, 9, "b"), ask(0.0, 1, "a", 0.0)]
    result = run(work, replicas=2, router=LeastRequests(), loop=FOLLOW_UPS)
    assert result.outcomes["replica"].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "work",
    [
        [ask(0.0, 1, "a", 1.0)],
        [ask(0.0, 1, "a"), ask(1.0, 1, "a", 1.0)],
        [ask(0.0, 1, "a"), ask(0.0, 1, "b", 1.0)],
    ],
    ids=["first", "other time", "other session"],
)
def test_a_follow_up_without_predecessor_is_refused(work):
    """The message names the session and the time."""
    with pytest.raises(
        TraceError, match=r"workload: a follow-up without a predecessor \(got session '[ab]' at"
    ):
        run(work, loop=FOLLOW_UPS)
