"""The choices of the built-in policies."""

from __future__ import annotations

from array import array
from collections import Counter

import pytest
from harness import engine, frame, run

from servesim.policies import PREDICTORS, ROUTERS, SCHEDULERS
from servesim.policies.api import LiveColumn
from servesim.policies.predictors import Constant, Noisy, Oracle
from servesim.policies.routers import (
    LeastRequests,
    LeastTokens,
    PowerOfTwo,
    Random,
    RoundRobin,
    SessionAffinity,
)
from servesim.policies.schedulers import ShortestJobFirst


def chosen(router, work, replicas=3):
    """Return the replica of each request."""
    return run(work, router=router, replicas=replicas, settings=engine()).outcomes["replica"].tolist()


def test_round_robin_takes_turns():
    """Replicas 0, 1, 2, 0, ..."""
    assert chosen(RoundRobin(), [(float(i), 1, 1) for i in range(5)]) == [0, 1, 2, 0, 1]


def test_least_requests_counts_waiting_and_running():
    """A replica whose requests all run is no emptier than one whose requests wait (a trap of some peers)."""
    work = [(0.0, 1, 50), (0.5, 1, 50), (1.5, 1, 50), (2.5, 1, 50), (3.5, 1, 50), (4.5, 1, 50)]
    assert chosen(LeastRequests(), work) == [0, 1, 2, 0, 1, 2]


def test_least_tokens_weighs_prompts():
    """After a prompt of 1,000 tokens on replica 0, small ones go elsewhere until they outweigh it."""
    work = [(0.0, 1000, 50), (0.5, 10, 50), (0.75, 10, 50), (1.5, 10, 50)]
    assert chosen(LeastTokens(), work, replicas=2) == [0, 1, 1, 1]


def test_random_and_power_of_two_are_seeded_and_spread():
    """The same seed gives the same choices; every replica gets its share; two choices spread better."""
    work = [(i * 0.01, 1, 30) for i in range(300)]
    for router in (Random, PowerOfTwo):
        choices = chosen(router(), work, replicas=4)
        assert choices == chosen(router(), work, replicas=4)
        assert set(choices) == {0, 1, 2, 3}
    spread = {
        router: max(Counter(chosen(router(), work, replicas=4)).values()) for router in (Random, PowerOfTwo)
    }
    assert spread[PowerOfTwo] < spread[Random]


def test_power_of_two_never_draws_the_same_replica_twice():
    """With two replicas it always sees both, so it is least_requests but for ties."""
    assert sorted(chosen(PowerOfTwo(), [(0.0, 1, 9), (0.25, 1, 9)], replicas=2)) == [0, 1]
    assert chosen(PowerOfTwo(), [(0.0, 1, 9)] * 2, replicas=1) == [0, 0]


def test_sessions_stay_on_their_replica():
    """Requests of one session share a replica; those without a session go to the emptiest."""

    class Request:
        def __init__(self, session):
            self.session = session

    class Views:
        requests = LiveColumn(array("q", [3, 1, 2]))

        def __len__(self):
            return 3

    router = SessionAffinity()
    choices = {name: {router.route(Request(name), Views()) for _ in range(5)} for name in map(str, range(50))}
    assert all(len(replicas) == 1 for replicas in choices.values())
    assert {next(iter(replicas)) for replicas in choices.values()} == {0, 1, 2}
    assert router.route(Request(None), Views()) == 1


def test_predictors():
    """The oracle orders by length, a constant by arrival; noise of 0 is the oracle, and noise reorders."""
    work = [(0.0, 1, 9)] + [(1.0, 1, length) for length in (8, 2, 6, 4, 3, 7, 5)]
    one_seat = engine(max_num_seqs=1)

    def order(predictor):
        times = run(work, settings=one_seat, scheduler=ShortestJobFirst(predictor=predictor)).times(
            "scheduled_s"
        )
        return sorted(range(len(work)), key=lambda i: times[i])

    assert order(Oracle()) == [0, 2, 5, 4, 7, 3, 6, 1]
    assert order(Constant()) == list(range(8))
    assert order(Noisy(sigma=0.0)) == order(Oracle())
    assert order(Noisy(sigma=3.0)) != order(Oracle())


@pytest.mark.parametrize("registry", [ROUTERS, SCHEDULERS, PREDICTORS], ids=lambda registry: registry.kind)
def test_every_name_resolves(registry):
    """What a registry lists, it can import."""
    for name in registry.names():
        assert registry.resolve(name).__doc__


def test_views_have_no_output_length():
    """The oracle boundary is a type: a request's view does not tell how long its output will be."""

    class Nosy(RoundRobin):
        def route(self, request, replicas):
            self.names = [name for name in dir(request) if not name.startswith("_")]
            return super().route(request, replicas)

    router = Nosy()
    chosen(router, [(0.0, 1, 7)])
    assert router.names == [
        "arrival_s",
        "model",
        "priority",
        "prompt_tokens",
        "request_id",
        "session",
        "tenant",
    ]
    assert "output_tokens" in frame([(0.0, 1, 7)]).columns
