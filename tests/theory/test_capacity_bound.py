"""The capacity of a replica against what simulated ones serve that are offered far more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import servesim
from servesim import Scenario

REQUESTS = 2500


def exponential(mean: int, most: int) -> dict[str, Any]:
    """Return a distribution of lengths."""
    return {"distribution": "exponential", "mean": mean, "max": most}


def overloaded(prompt: dict[str, Any], output: dict[str, Any], **pool: Any) -> tuple[float, float, int]:
    """Return capacity, what is served per second in an overloaded run without its ends, and its preemptions."""
    pool = {"name": "main", "model": "llama-3.1-8b", "gpu": "h100-sxm"} | pool
    generator = {
        "name": "poisson",
        "rate_per_s": 1000.0,
        "requests": REQUESTS,
        "prompt_tokens": prompt,
        "output_tokens": output,
    }
    scenario = Scenario.model_validate({"workload": {"generator": generator}, "cluster": {"pools": [pool]}})
    result = servesim.run(scenario)
    finished_s = np.sort(result.requests["finished_s"].drop_nulls().to_numpy())
    first, last = int(0.05 * len(finished_s)), int(0.95 * len(finished_s))
    served_per_s = (last - first) / (finished_s[last] - finished_s[first])
    load = result.summary["pools"][0]
    assert load["load_state"] == "saturated"
    return load["capacity_requests_per_s"], served_per_s, result.summary["preemptions"]


@pytest.mark.parametrize(
    ("prompt", "output", "pool"),
    [
        (exponential(512, 8000), exponential(128, 4000), {}),
        (exponential(2000, 16000), exponential(200, 4000), {}),
        (exponential(8000, 60000), exponential(50, 4000), {}),
        (exponential(512, 8000), exponential(128, 4000), {"engine": {"max_num_seqs": 32}}),
        (
            {"distribution": "constant", "value": 1000},
            exponential(100, 2000),
            {"latency": {"name": "linear", "base_s": 0.01, "per_prefill_token_s": 1e-5}},
        ),
    ],
    ids=["short", "long", "prompts of many chunks", "few seats", "linear"],
)
def test_overloaded_replicas_serve_their_capacity(prompt, output, pool):
    """Within 5 %, where nothing is preempted to speak of: random lengths against their means."""
    capacity, served, preemptions = overloaded(prompt, output, **pool)
    assert preemptions < 50
    assert capacity == pytest.approx(served, rel=0.05)


def test_preemptions_keep_a_replica_below_its_capacity():
    """A small KV cache is filled to the brim, and what is preempted is computed again: the capacity is a bound."""
    capacity, served, preemptions = overloaded(
        exponential(512, 4000), exponential(256, 3000), engine={"kv_blocks": 3000}
    )
    assert preemptions > 500
    assert 0.7 * capacity < served < 1.01 * capacity
