"""The verdict on a pool: stable, near its knee, or saturated."""

from __future__ import annotations

from typing import Any

import pytest

import servesim
from servesim import Scenario
from servesim.cli.summary import summary_text
from servesim.results.notes import run_notes
from servesim.results.pool_load import load_state

STEP_S = 0.01
CAPACITY_PER_S = 10.0  # of one seat and outputs of 10 tokens


def scenario(
    rate_per_s: float = 5.0, *, requests: int = 3000, generator: str = "poisson", **options: Any
) -> Scenario:
    """Return a scenario with one seat, whose capacity is exactly `CAPACITY_PER_S`."""
    pool = {
        "name": "main",
        "model": "llama-3.1-8b",
        "gpu": "h100-sxm",
        "engine": {"max_num_seqs": options.pop("seats", 1)} | options.pop("engine", {}),
        "latency": {"name": "constant", "step_s": STEP_S},
    }
    arrivals = {"name": generator, "requests": requests} | options.pop("arrivals", {"rate_per_s": rate_per_s})
    lengths = {
        "prompt_tokens": {"distribution": "constant", "value": 10},
        "output_tokens": {"distribution": "constant", "value": 10},
    }
    workload = {"generator": arrivals | lengths} | options.pop("workload", {})
    return Scenario.model_validate({"workload": workload, "cluster": {"pools": [pool]}} | options)


def load(asked: Scenario, pool: int = 0) -> dict[str, Any]:
    """Return what a run says of a pool."""
    return servesim.run(asked).summary["pools"][pool]


@pytest.mark.parametrize(
    ("share", "state"), [(0.5, "stable"), (0.9, "near_knee"), (1.1, "saturated"), (3.0, "saturated")]
)
@pytest.mark.parametrize("generator", ["constant", "poisson"])
@pytest.mark.parametrize("seed", range(5))
def test_load_against_a_known_capacity(share, state, generator, seed):
    """D/D/1 and M/D/1 at half, nine tenths, and more than what they can serve."""
    found = load(scenario(share * CAPACITY_PER_S, generator=generator, seed=seed))
    assert found["capacity_requests_per_s"] == pytest.approx(CAPACITY_PER_S, rel=1e-9)
    assert found["load_ratio"] == pytest.approx(share, rel=0.06 if generator == "poisson" else 1e-9)
    assert found["load_state"] == state


def test_many_seats():
    """64 seats serve 64 times as many, and the verdicts are the same."""
    for share, state in ((0.5, "stable"), (0.9, "near_knee"), (1.1, "saturated")):
        found = load(scenario(share * 64 * CAPACITY_PER_S, seats=64, requests=8000))
        assert found["capacity_requests_per_s"] == pytest.approx(64 * CAPACITY_PER_S, rel=1e-9)
        assert found["load_state"] == state


def test_a_burst_is_no_saturation():
    """Bursts at four times the capacity, half of it on average: what they leave is served before the end."""
    bursts = {"states": [{"rate_per_s": 40.0, "mean_s": 2.0}, {"rate_per_s": 2.0, "mean_s": 20.0}]}
    asked = scenario(generator="mmpp", arrivals=bursts, requests=4000, seed=3)
    result = servesim.run(asked)
    assert result.summary["queue_s_p99"] > 20 * STEP_S * 10, "bursts make requests wait"
    assert result.summary["pools"][0]["load_state"] == "stable"


def test_a_closed_loop_is_judged_by_who_finds_room():
    """Ten clients for one seat keep nine of them waiting; ten for twenty seats never wait for one."""
    clients = {"arrivals": {"clients": 10}, "generator": "closed_loop", "requests": 500}
    assert load(scenario(**clients))["load_state"] == "saturated"
    roomy = load(scenario(**clients, seats=20))
    assert roomy["load_state"] == "stable"
    assert roomy["load_ratio"] == pytest.approx(0.5, rel=0.05)


def test_all_at_once_has_no_rate():
    """What comes at one time has no load; whether half of it found room tells."""
    at_once = {"arrivals": {"clients": 50}, "generator": "closed_loop", "requests": 50}
    found = load(scenario(**at_once))
    assert (found["load_state"], found["load_ratio"]) == ("saturated", None)
    assert load(scenario(**at_once, seats=50))["load_state"] == "stable"


def test_a_front_end_can_be_what_saturates():
    """A worker of 0.2 s lets 5 per second through to an engine for 10; the backlog is in front of it."""
    found = load(scenario(7.0, engine={"front_end": {"request_s": 0.2}}))
    assert found["capacity_requests_per_s"] == pytest.approx(5.0)
    assert found["load_state"] == "saturated"


def test_each_pool_has_its_verdict():
    """Of two pools of one model, of one and of sixteen seats, the router saturates the small one only."""
    asked = scenario(16.0)
    data = asked.model_dump(mode="json")
    big = data["cluster"]["pools"][0] | {"name": "big"}
    big["engine"] = big["engine"] | {"max_num_seqs": 16}
    data["cluster"]["pools"].append(big)
    data["policies"]["router"] = {"name": "random"}
    result = servesim.run(Scenario.model_validate(data | {"seed": 1}))
    small, large = result.summary["pools"]
    assert small["load_ratio"] < 0.9 and small["load_state"] in ("near_knee", "stable")
    assert large["load_state"] == "stable"
    assert large["capacity_requests_per_s"] == pytest.approx(16 * CAPACITY_PER_S)


def test_a_pool_without_requests():
    """A pool that got nothing was stable, with a capacity that depends on requests it never saw."""
    asked = scenario(5.0, requests=1)
    data = asked.model_dump(mode="json")
    data["cluster"]["pools"].append(data["cluster"]["pools"][0] | {"name": "other"})
    found = load(Scenario.model_validate(data), pool=1)
    assert found["load_state"] == "stable"
    assert found["load_ratio"] is found["capacity_requests_per_s"] is None


def test_a_run_outlives_a_latency_model_that_knows_no_full_batch():
    """A model that fails beyond the batches of the run leaves the capacity unknown; the run is kept."""

    class Small:
        def reset(self, context): ...

        def price(self, batch):
            if batch.sequences + len(batch.chunks) > 10:
                raise ValueError("not measured")
            return 0.01, 0.0, 1 << 60

    pool = servesim.run(scenario(5.0, seats=200, requests=50), latency=Small()).summary["pools"][0]
    assert (pool["load_state"], pool["capacity_requests_per_s"]) == ("stable", None)


@pytest.mark.parametrize(
    ("ratio", "held_up", "state"),
    [
        (None, False, "stable"),
        (None, True, "saturated"),
        (0.799, False, "stable"),
        (0.8, False, "near_knee"),
        (1.0, False, "saturated"),
        (0.3, True, "saturated"),
    ],
)
def test_the_bounds_of_the_verdicts(ratio, held_up, state):
    """From 0.8 on a pool is near its knee, from 1 on saturated; what the run shows goes before."""
    assert load_state(ratio, held_up=held_up) == state


def test_it_is_told():
    """Terminal and notes tell the load; where run and latency model disagree, they say that too."""
    result = servesim.run(scenario(11.0))
    text = summary_text("x", result.summary, {})
    assert "  load         saturated, 1" in text
    assert "% of 10.0 requests/s\n" in text
    (warning,) = [note for note in run_notes(result.summary, {}) if "saturated" in note]
    assert warning.startswith("warning: pool main is saturated (load 1")
    pool = {"pool": "a", "load_state": "saturated", "load_ratio": 0.4, "capacity_requests_per_s": 10.0}
    (note,) = run_notes({"pools": [pool], "backlog_growing": True}, {})
    assert "(load 40.0% of 10.0 requests/s); what it can serve by its step times is more" in note
    (note,) = run_notes({"pools": [pool | {"load_state": "near_knee", "load_ratio": 0.9}]}, {})
    assert note.startswith("note: pool a is near its knee (load 90.0% of 10.0 requests/s)")
    (note,) = run_notes({"pools": [pool | {"load_ratio": 111.0}]}, {})
    assert "(load 111 times 10.0 requests/s)" in note
