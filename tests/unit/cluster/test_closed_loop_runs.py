"""Closed loops from scenario to result: audits, horizon and drain, notes, bytes, experiments."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import servesim
from servesim import Scenario
from servesim.errors import ScenarioError
from servesim.testing import assert_results_equal, step_by_step
from servesim.workload.schema import CHUNK_ROWS

TOKENS = {"distribution": "exponential", "mean": 20, "max": 120}
SESSIONS = {
    "name": "sessions",
    "rate_per_s": 4.0,
    "requests": 600,
    "turns": {"distribution": "exponential", "mean": 4},
    "think_s": {"distribution": "exponential", "mean_s": 2.0},
    "prompt_tokens": TOKENS,
    "output_tokens": TOKENS,
    "system_prompt_tokens": 20,
    "max_prompt_tokens": 400,
}
CLIENTS = {
    "name": "closed_loop",
    "clients": 16,
    "requests": 600,
    "think_s": {"distribution": "exponential", "mean_s": 0.2},
    "prompt_tokens": TOKENS,
    "output_tokens": TOKENS,
}


def scenario(generator: dict[str, Any], *, replicas: int = 2, **options: Any) -> Scenario:
    """Return a scenario with a small cache, so that it preempts, and a context limit that some prompts exceed."""
    pool = {
        "name": "main",
        "model": "llama-3.1-8b",
        "gpu": "h100-sxm",
        "replicas": replicas,
        "engine": {"kv_blocks": 40, "max_num_seqs": 8, "max_num_batched_tokens": 64, "max_model_len": 380},
        "latency": {"name": "linear", "base_s": 0.01, "per_sequence_s": 0.001},
    }
    workload = {"generator": generator} | options.pop("workload", {})
    return Scenario.model_validate({"workload": workload, "cluster": {"pools": [pool]}} | options)


@pytest.mark.parametrize("generator", [SESSIONS, CLIENTS], ids=["sessions", "clients"])
@pytest.mark.parametrize(
    "run",
    [
        {},
        {"horizon_s": 20.0},
        {"horizon_s": 20.0, "drain": False},
        {"drain": False},
        {"sample_interval_s": 0.05},
    ],
)
@pytest.mark.parametrize("limit", [None, 5])
def test_audits_hold(generator, run, limit):
    """Conservation and Little's law, which every run checks; and a follow-up comes after its predecessor's end."""
    asked = scenario(generator, run=run, workload={"max_concurrency": limit})
    result = servesim.run(asked)
    requests = result.requests
    assert requests["arrival_s"].is_sorted()
    before = requests.with_columns(end_s=pl.col("finished_s").shift(1).over("session")).drop_nulls("end_s")
    assert (before["arrival_s"] >= before["end_s"]).all()
    if "horizon_s" in run:
        assert requests["arrival_s"].max() < 20.0
    not_sent = result.summary["workload"]["follow_ups_not_sent"]
    assert (not_sent > 0) == ("horizon_s" in run)
    assert_results_equal(result, servesim.run(step_by_step(asked)))


def test_it_preempts_and_rejects():
    """The scenarios of the test above are not too easy."""
    summary = servesim.run(scenario(SESSIONS)).summary
    assert summary["preemptions"] > 0
    assert summary["requests_rejected"] > 0
    assert summary["requests_arrived"] == 600


def test_follow_ups_not_sent():
    """Clients that ask all the time: what had not arrived by the horizon is counted, the first requests excepted."""
    result = servesim.run(scenario(CLIENTS, run={"horizon_s": 3.0}))
    arrived = result.summary["requests_arrived"]
    assert result.summary["workload"]["follow_ups_not_sent"] == 600 - arrived > 0


def test_open_loops_do_not_speak_of_follow_ups():
    """A note is there only for workloads that can have any."""
    poisson = {
        "name": "poisson",
        "rate_per_s": 5.0,
        "requests": 20,
        "prompt_tokens": TOKENS,
        "output_tokens": TOKENS,
    }
    result = servesim.run(scenario(poisson, workload={"max_concurrency": 1}))
    assert "follow_ups_not_sent" not in result.summary["workload"]
    gaps = result.requests.select(pl.col("arrival_s").shift(-1) - pl.col("finished_s")).to_series()
    assert gaps.drop_nulls().min() >= 0.0


def test_when_rows_are_handed_over_does_not_matter(monkeypatch, tmp_path):
    """Small buffers, results on disk, frames of the workload that are cut: the same rows."""
    asked = scenario(SESSIONS, run={"sample_interval_s": 0.5})
    whole = servesim.run(asked)
    monkeypatch.setattr("servesim.cluster.cluster.FLUSH_BYTES", 50)
    monkeypatch.setattr("servesim.results.recorder.FLUSH_BYTES", 50)
    monkeypatch.setattr("servesim.cluster.closed_loop.CHUNK_ROWS", 7)
    assert servesim.run(asked).fingerprint() == whole.fingerprint()
    assert servesim.run(asked, out=tmp_path / "out").fingerprint() == whole.fingerprint()


def test_more_requests_than_a_frame_holds():
    """Sessions that begin in one frame of the workload go on in others."""
    many = SESSIONS | {"requests": CHUNK_ROWS + 5000, "rate_per_s": 400.0, "max_prompt_tokens": 60}
    asked = scenario(many, replicas=8, workload={"max_concurrency": 60})
    result = servesim.run(asked)
    assert result.summary["requests_completed"] == CHUNK_ROWS + 5000
    assert result.fingerprint() == servesim.run(asked).fingerprint()


def test_compare_has_common_random_numbers():
    """Two variants of a seed see the same sessions, lengths and think times, whatever the cluster makes of them."""
    one, two = (servesim.run(scenario(SESSIONS, replicas=n)).requests for n in (1, 3))
    order = ["session", "arrival_s"]
    lengths = ["session", "prompt_tokens", "output_tokens_target"]
    assert one.sort(order).select(lengths).equals(two.sort(order).select(lengths))
    firsts = [
        frame.group_by("session").agg(pl.col("arrival_s").min()).sort("session") for frame in (one, two)
    ]
    assert firsts[0].equals(firsts[1])


@pytest.mark.parametrize(
    ("generator", "limit", "got"),
    [
        (CLIENTS, None, "584 of 600 requests that wait"),
        (SESSIONS, None, "requests that wait"),
        (CLIENTS, 4, "max_concurrency 4"),
    ],
)
def test_a_closed_loop_has_no_highest_rate(generator, limit, got):
    """It sends as fast as it is served: max-rate is refused with the reason."""
    asked = scenario(generator, workload={"max_concurrency": limit})
    with pytest.raises(
        ScenarioError, match=f"closed loop, whose rate is what the cluster makes of it .*{got}"
    ):
        servesim.capacity(asked, slo=["e2e_s_p99<=5"], seeds=1, workers=1)


def test_a_closed_loop_has_a_least_number_of_replicas():
    """More replicas shorten queues of the same clients; a run that is hopeless ends early for certain."""
    clients = CLIENTS | {"requests": 300, "prompt_tokens": {"distribution": "constant", "value": 20}}
    asked = scenario(clients, replicas=4)
    found = servesim.capacity(asked, slo=["queue_s_p99<=0.2"], find="min-replicas", seeds=2, workers=1)
    assert 1 < found.value <= 16
    least, fewer = (
        servesim.run(asked.model_copy(update={"cluster": cluster_of(asked, replicas)})).summary["queue_s_p99"]
        for replicas in (int(found.value), int(found.value) - 1)
    )
    assert least < fewer


def cluster_of(asked: Scenario, replicas: int) -> Any:
    """Return the cluster of a scenario with so many replicas."""
    pool = asked.cluster.pools[0].model_copy(update={"replicas": replicas})
    return asked.cluster.model_copy(update={"pools": (pool,)})
