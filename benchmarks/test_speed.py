"""Parts of the hot path by themselves: ``pytest benchmarks``, with pytest-benchmark's ``--compare`` against other runs.

Each asserts how much work it did, so that a speed-up cannot hide a change of behaviour. Bars are in `speed.py`, which
measures whole processes.
"""

from __future__ import annotations

from typing import Any

import servesim
from servesim.catalog import gpu, model
from servesim.cluster.leap import steps_until
from servesim.latency.api import BatchShape, LatencyContext
from servesim.latency.roofline import Roofline
from servesim.policies.api import LiveColumn
from servesim.workload.build import build_workload


def scenario(**pool: Any) -> servesim.Scenario:
    """Return 5,000 Poisson requests over 8 replicas."""
    return servesim.Scenario.model_validate(
        {
            "workload": {
                "generator": {
                    "name": "poisson",
                    "rate_per_s": 40.0,
                    "requests": 5000,
                    "prompt_tokens": {"distribution": "lognormal", "mean": 512, "sigma": 0.8},
                    "output_tokens": {"distribution": "lognormal", "mean": 256, "sigma": 0.8},
                }
            },
            "cluster": {
                "pools": [{"name": "main", "model": "llama-3.1-8b", "gpu": "h100-sxm", "replicas": 8, **pool}]
            },
            "policies": {"router": {"name": "least_requests"}},
        }
    )


def test_run(benchmark):
    """A run without start-up; leaping takes the steps that stepping takes."""
    result = benchmark(servesim.simulate, scenario())
    stepping = scenario(engine={"leap": False})
    assert result.summary["requests_completed"] == 5000
    assert result.summary["engine_steps"] == servesim.simulate(stepping).summary["engine_steps"]


def test_run_short_of_memory(benchmark):
    """The same with a KV cache so small that requests are preempted."""
    result = benchmark(servesim.simulate, scenario(engine={"kv_blocks": 400}))
    assert result.summary["requests_completed"] + result.summary["requests_rejected"] == 5000
    assert result.summary["preemptions"] > 100


def test_price(benchmark):
    """A thousand prices of decode batches."""
    roofline = Roofline()
    roofline.reset(
        LatencyContext(
            model=model("llama-3.1-8b"),
            gpu=gpu("h100-sxm"),
            tensor_parallel=1,
            max_num_seqs=256,
            max_num_batched_tokens=2048,
            async_scheduling=True,
        )
    )
    batches = [BatchShape(1 + i % 256, 500 * (1 + i % 256)) for i in range(1000)]
    prices = benchmark(lambda: [roofline.price(batch) for batch in batches])
    assert len({price for price, *_ in prices}) == 256


def test_cut(benchmark):
    """A thousand cuts of a leap."""
    cuts = benchmark(lambda: [steps_until(i * 0.01, 0.0, 0.007, 1e-6) for i in range(1000)])
    assert cuts[-1] == steps_until(9.99, 0.0, 0.007, 1e-6) > 900


def test_least_requests(benchmark):
    """Finding the emptiest of 64 replicas."""
    assert benchmark(LiveColumn([7] * 63 + [6]).argmin) == 63


def test_generate(benchmark):
    """5,000 Poisson arrivals with lognormal lengths."""
    workload = build_workload(scenario().workload, seed=0)
    assert benchmark(lambda: sum(len(frame) for frame in workload.frames())) == 5000
