"""The front end: who is read when, what routers, clients and audits see of it, and the end of a run inside it."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from harness import Linear, engine, run

import servesim
from servesim import Scenario
from servesim.catalog import FrontEndCosts, engine_version, engine_versions
from servesim.cluster.closed_loop import Loop
from servesim.cluster.replica import Replica
from servesim.policies.routers import LeastRequests
from servesim.testing import assert_results_equal, step_by_step


def enqueued_s(result) -> list[float | None]:
    """Return when each request left its front end, by request."""
    times = {int(row["request_id"]): float(row["enqueued_s"]) for row in result.front_ends}
    return [None if times[key] != times[key] else times[key] for key in sorted(times)]


def test_one_worker_reads_one_after_the_other():
    """With 1 s per request and 0.1 s per token, prompts of 10, 20 and 10 at 0, 0 and 9 s are read at 2, 5 and 11 s."""
    costs = FrontEndCosts(workers=1, request_s=1.0, prompt_token_s=0.1)
    result = run([(0, 10, 1), (0, 20, 1), (9, 10, 1)], front_end=costs)
    assert enqueued_s(result) == [2.0, 5.0, 11.0]
    assert result.times("scheduled_s") == [2.0, 5.0, 11.0]
    assert result.accounts[0].front_end_area_s == 2.0 + 5.0 + 2.0


def test_workers_read_side_by_side_and_a_short_prompt_overtakes():
    """Two workers: a short prompt is done before a long one that came first, and a third takes the free worker."""
    costs = FrontEndCosts(workers=2, prompt_token_s=1.0)
    result = run([(0, 10, 1), (0, 2, 1), (1, 3, 1)], latency=Linear(0.25), front_end=costs)
    assert enqueued_s(result) == [10.0, 2.0, 5.0]
    assert result.times("finished_s") == [10.25, 2.25, 5.25]


def test_the_engine_works_while_the_front_end_reads():
    """A request that is being read holds up nobody in the engine, and joins at the boundary after it was read."""
    result = run([(0, 1, 5), (1.5, 1, 1)], front_end=FrontEndCosts(request_s=0.75))
    assert enqueued_s(result) == [0.75, 2.25]
    assert result.times("scheduled_s") == [0.75, 2.75]
    assert result.times("finished_s") == [5.75, 3.75]


def test_a_front_end_that_only_streams_delays_nothing_before_the_engine():
    """Without work of its own a front end hands over at once: the engine's times are those without it."""
    work = [(0, 10, 5), (0.5, 3, 2)]
    plain, streamed = run(work), run(work, front_end=FrontEndCosts(stream_s=0.5))
    assert plain.outcomes.tobytes() == streamed.outcomes.tobytes()
    assert streamed.end_s == plain.end_s + 0.5


def test_routers_count_who_is_being_read():
    """Requests that are still in a front end count where routers count requests: they are spread evenly."""
    work = [(0.1 * i, 1, 1) for i in range(6)]
    result = run(work, replicas=3, router=LeastRequests(), front_end=FrontEndCosts(request_s=10.0))
    assert result.outcomes["replica"].tolist() == [0, 1, 2, 0, 1, 2]
    assert [replica.load[replica.position] for replica in result.replicas] == [0, 0, 0]


def test_a_prompt_that_is_too_long_is_refused_once_it_was_read():
    """Its length is known only then: it takes a worker's time, and the refusal is at its end."""
    result = run(
        [(0, 5000, 1), (0, 10, 1)], settings=engine(kv_blocks=10), front_end=FrontEndCosts(request_s=2.0)
    )
    assert result.states() == ["rejected", "completed"]
    assert result.happenings() == [(2.0, "rejected", 0)]
    assert result.times("scheduled_s") == [None, 4.0]


def test_who_is_being_read_at_the_end_is_unfinished():
    """A run that ends while requests are read tells of them: unfinished, on a replica, never enqueued."""
    result = run([(0, 1, 1), (0, 1, 1), (1, 1, 1)], front_end=FrontEndCosts(request_s=2.0), stop_s=3.5)
    assert result.states() == ["completed", "unfinished", "unfinished"]
    assert enqueued_s(result) == [2.0, None, None]
    assert result.outcomes["replica"].tolist() == [0, 0, 0]
    assert result.accounts[0].front_end_requests == 2
    assert result.accounts[0].front_end_area_s == 2.0 + 3.5 + 2.5


class Watcher:
    """Route to the only replica and remember what it said of its queue."""

    def reset(self, context):
        """Remember nothing yet."""
        self.seen = []

    def route(self, request, replicas):
        """Note the queue."""
        self.seen.append((replicas[0].waiting_requests, replicas[0].waiting_tokens))
        return 0


def test_routers_see_the_queue_without_those_who_are_being_read():
    """Who arrives at 2.25 s joins at 3 s, after arrivals of that time, and waits for the end of a step at 3.75 s."""
    watcher = Watcher()
    work = [(0, 1, 20), (2.25, 7, 1), (2.5, 5, 1), (3.0, 1, 1), (3.25, 1, 1)]
    result = run(work, router=watcher, front_end=FrontEndCosts(request_s=0.75))
    assert watcher.seen == [(0, 0), (0, 0), (0, 0), (0, 0), (1, 7)]
    assert result.times("scheduled_s")[:2] == [0.75, 3.75]


def test_simultaneous_arrivals_see_the_same_queue():
    """Two arrivals at 2.375 s, when another request joins: neither sees it in the queue, nor the other one."""
    watcher = Watcher()
    work = [(0, 1, 20), (2.25, 7, 1), (2.375, 5, 1), (2.375, 1, 1), (2.45, 1, 1)]
    run(work, router=watcher, front_end=FrontEndCosts(request_s=0.125))
    assert watcher.seen == [(0, 0), (0, 0), (0, 0), (0, 0), (1, 7)]


@pytest.mark.parametrize(("stop_s", "enqueued", "waiting"), [(3.0, None, 0), (3.25, 3.0, 1)])
def test_a_run_may_end_when_a_request_is_just_read(stop_s, enqueued, waiting):
    """A run ends before all else of its last moment, so who would join the queue then has not."""
    result = run([(0, 1, 5), (2.25, 1, 1)], front_end=FrontEndCosts(request_s=0.75), stop_s=stop_s)
    account = result.accounts[0]
    assert enqueued_s(result) == [0.75, enqueued]
    assert (account.waiting, account.front_end_requests) == (waiting, 1 - waiting)
    assert account.queue_area_s == waiting * (stop_s - 3.0)
    assert account.front_end_area_s == 0.75 + 0.75


def test_a_prompt_that_is_too_long_is_refused_in_the_middle_of_a_leap():
    """It leaves the load of its replica when it is refused, at 3 s, and not when it arrives."""
    loads = []

    class Loads(Watcher):
        def route(self, request, replicas):
            loads.append(list(replicas.requests))
            return 0

    work = [(0, 1, 20), (2.25, 9000, 1), (2.5, 1, 1), (3.5, 1, 1)]
    result = run(work, router=Loads(), settings=engine(kv_blocks=10), front_end=FrontEndCosts(request_s=0.75))
    assert result.happenings() == [(3.0, "rejected", 1)]
    assert loads == [[0], [1], [2], [2]]


def test_a_run_may_end_at_the_boundary_at_which_a_request_joins(monkeypatch):
    """Read at 2.75 s, admitted by the step that begins then: an interrupt just after that takes nothing back."""
    boundary = Replica._boundary

    def interrupted(replica, now):
        next_s = boundary(replica, now)
        if now == 2.75:
            replica.clock.stop()
        return next_s

    monkeypatch.setattr(Replica, "_boundary", interrupted)
    result = run([(0, 1, 20), (2.25, 1, 5)], latency=Linear(0.75), front_end=FrontEndCosts(request_s=0.5))
    assert result.times("scheduled_s") == [0.5, 2.75]
    assert (result.accounts[0].running, result.accounts[0].front_end_requests) == (2, 0)


def test_nobody_overtakes_in_the_front_end():
    """The one is read across a boundary, the next arrives after that: they join at 4.5 and 5.5 s, in their order."""
    work = [(0, 1, 3), (0, 1, 30), (3.5, 1, 1), (4.25, 1, 1)]
    result = run(work, front_end=FrontEndCosts(request_s=1.0))
    assert result.times("finished_s")[0] == 4.0
    assert enqueued_s(result)[2:] == [4.5, 5.5]
    assert result.times("scheduled_s")[2:] == [5.0, 6.0]


def test_a_client_thinks_once_it_has_the_last_token():
    """In a closed loop the think time starts a streaming delay after the last step: 1 + 0.5 + 2 is 3.5 s."""
    work = [(0, 1, 1, 0, "a", None), (0, 1, 1, 0, "a", 2.0)]
    result = run(work, loop=Loop(follow_ups=True), front_end=FrontEndCosts(stream_s=0.5))
    assert result.arrived["arrival_s"].to_list() == [0.0, 3.5]


def test_a_place_is_free_once_the_client_has_the_last_token():
    """Under a limit of one, the next request is sent when the answer, or the refusal, of the last one is there."""
    work = [(0, 1, 1), (0, 9000, 1), (0, 1, 1)]
    result = run(
        work,
        settings=engine(kv_blocks=10),
        loop=Loop(max_concurrency=1),
        front_end=FrontEndCosts(request_s=1.0, stream_s=0.5),
    )
    assert result.arrived["arrival_s"].to_list() == [0.0, 2.5, 4.0]
    assert result.end_s == 6.5


def scenario(front_end: dict[str, Any] | None, **options: Any) -> Scenario:
    """Return a scenario of two pools of one model, of which the first may have a front end."""
    tokens = {"distribution": "exponential", "mean": 30, "max": 300}
    settings = {"kv_blocks": 60, "max_num_seqs": 8, "max_num_batched_tokens": 64, "max_model_len": 280}
    pools = [
        {
            "name": name,
            "model": "llama-3.1-8b",
            "gpu": "h100-sxm",
            "engine": settings | ({"front_end": front_end} if front_end and name == "a" else {}),
            "latency": {"name": "constant", "step_s": 0.01},
        }
        for name in ("a", "b")
    ]
    generator = {
        "name": "poisson",
        "rate_per_s": 20.0,
        "requests": 400,
        "prompt_tokens": tokens,
        "output_tokens": tokens,
    }
    workload = {"generator": generator} | options.pop("workload", {})
    return Scenario.model_validate({"workload": workload, "cluster": {"pools": pools}} | options)


COSTS = {"workers": 2, "request_s": 0.03, "prompt_token_s": 0.001, "stream_s": 0.25}


@pytest.mark.parametrize("run_", [{}, {"horizon_s": 10.0, "drain": False}, {"drain": False}])
@pytest.mark.parametrize("limit", [None, 12])
def test_results_add_up(run_, limit):
    """Audits hold with and without drain, open and closed; latencies are the client's; both modes agree."""
    asked = scenario(COSTS, run=run_, workload={"max_concurrency": limit})
    result = servesim.run(asked)
    assert_results_equal(result, servesim.run(step_by_step(asked)))
    requests = result.requests
    has_one = requests.filter(pl.col("stream_s").is_not_null())
    assert set(has_one["replica"]) == {0}
    assert requests.filter(pl.col("stream_s").is_null())["front_end_s"].null_count() == len(requests) - len(
        has_one
    )
    done = has_one.filter(pl.col("state") == "completed")
    assert len(done) > 50
    service_s = 0.03 + 0.001 * done["prompt_tokens"]
    assert ((done["front_end_s"] - service_s) > -1e-9).all()
    assert (done["scheduled_s"] >= done["enqueued_s"]).all()
    assert done["ttft_s"].to_list() == pytest.approx(
        (done["first_token_s"] + 0.25 - done["arrival_s"]).to_list()
    )
    assert done["e2e_s"].to_list() == pytest.approx((done["finished_s"] + 0.25 - done["arrival_s"]).to_list())
    assert result.summary["front_end_s_mean"] > 0.03


def test_results_have_no_trace_of_a_front_end_that_takes_no_time():
    """Costs of zero are none: same columns, same rows, same summary as without."""
    plain, zero = servesim.run(scenario(None)), servesim.run(scenario({"workers": 8, "request_s": 0.0}))
    assert plain.requests.equals(zero.requests)
    assert plain.summary == zero.summary
    assert not {"enqueued_s", "stream_s", "front_end_s"} & set(plain.requests.columns)
    assert "front_end_s_mean" not in plain.summary


def test_the_catalog_knows_the_front_end_of_every_version():
    """What an engine's version takes is what a scenario gets that says nothing; its keys replace single ones."""
    assert all(isinstance(engine_version(name).front_end, FrontEndCosts) for name in engine_versions())
    asked = scenario({"request_s": 0.5})
    assert asked.cluster.pools[0].engine.front_end.workers is None


@pytest.mark.parametrize(("key", "value"), [("workers", 0), ("request_s", -1.0), ("stream_s", float("nan"))])
def test_bad_costs_are_refused(key, value):
    """No workers, negative times and times that are no numbers are refused with the key."""
    with pytest.raises(servesim.errors.ScenarioError, match=f"front_end.{key}"):
        servesim.load_scenario(
            "scenarios/quickstart.yaml", overrides=[f"cluster.pools.main.engine.front_end.{key}={value}"]
        )
