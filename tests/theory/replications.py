"""Queues as scenarios, and what it means that a simulation agrees with theory.

A replica with one seat, or with steps of constant length, is a textbook queue whose service time is
``output_tokens * step_s``: the step that computes a one-token prompt emits the first token, and each further
token takes one more step. The mean service time is 1 s everywhere; ``TOKENS`` tells how finely it is divided
into steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

import servesim
from servesim import RunResult, Scenario

REPLICATIONS = 20
REQUESTS = 14_000
WARM_UP_S = 300.0
CONFIDENCE = 0.999

TOKENS = 2000
STEP_S = 1.0 / TOKENS

EXPONENTIAL = {"distribution": "exponential", "mean": TOKENS}
CONSTANT = {"distribution": "constant", "value": TOKENS}
CONSTANT_STEPS = {"name": "constant", "step_s": STEP_S}
SHARED_STEPS = {"name": "linear", "base_s": 1e-15, "per_sequence_s": STEP_S}
"""Steps as long as the batch is large: the sequences share the processor."""


def queue(
    rate_per_s: float,
    *,
    seats: int = 1,
    replicas: int = 1,
    router: str = "round_robin",
    output_tokens: dict[str, Any] = EXPONENTIAL,
    latency: dict[str, Any] = CONSTANT_STEPS,
    prompt_tokens: int = 1,
    sample_interval_s: float | None = None,
) -> Scenario:
    """Return a scenario: Poisson arrivals of *rate_per_s* in all, at replicas of *seats* seats."""
    engine = {
        "max_num_seqs": seats,
        "max_num_batched_tokens": 1024,
        "kv_block_tokens": 64,
        "kv_blocks": 1 << 20,
        "async_scheduling": False,  # a queue whose customers start at the next boundary
    }
    pool = {
        "name": "main",
        "model": "llama-3.1-8b",
        "gpu": "h100-sxm",
        "replicas": replicas,
        "engine": engine,
        "latency": latency,
    }
    return Scenario.model_validate(
        {
            "workload": {
                "generator": {
                    "name": "poisson",
                    "rate_per_s": rate_per_s,
                    "requests": REQUESTS,
                    "prompt_tokens": {"distribution": "constant", "value": prompt_tokens},
                    "output_tokens": output_tokens,
                }
            },
            "cluster": {"pools": [pool]},
            "policies": {"router": {"name": router}},
            "run": {"warm_up_s": WARM_UP_S, "sample_interval_s": sample_interval_s},
        }
    )


def replicate(scenario: Scenario, measure: Callable[[RunResult], Any], first_seed: int = 0) -> Any:
    """Return *measure* of `REPLICATIONS` runs that differ in their seed, as an array with a row per run."""
    rows = []
    for seed in range(first_seed, first_seed + REPLICATIONS):
        result = servesim.run(scenario.model_copy(update={"seed": seed}))
        assert result.summary["requests_cut"] == result.summary["requests_rejected"] == 0
        assert result.summary["requests_unfinished"] == result.summary["preemptions"] == 0
        rows.append(measure(result))
    return np.array(rows)


def summary(*keys: str) -> Callable[[RunResult], list[float]]:
    """Return a measure: these keys of the summary."""
    return lambda result: [result.summary[key] for key in keys]


def interval(values: Any) -> tuple[float, float]:
    """Return the mean of the replications and the half-width of its Student-t interval at `CONFIDENCE`."""
    n = len(values)
    assert n >= 20
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)
    return float(np.mean(values)), float(quantile * np.std(values, ddof=1) / np.sqrt(n))


def assert_agrees(values: Any, theory: float, *, within: float, bias: float = 0.0) -> None:
    """Assert that *theory* lies in the interval of the replications, and that the interval says something.

    Parameters
    ----------
    values
        One per replication.
    theory
        The exact mean.
    within
        Largest half-width, relative to the theory, that the interval may have.
    bias
        What steps of finite length may add to the theory's continuous time, at most.
    """
    mean, half_width = interval(values)
    assert half_width <= within * theory, (
        f"interval {mean:.6g} +- {half_width:.2g} is too wide to test {theory:.6g}"
    )
    assert -half_width <= mean - theory <= half_width + bias, (
        f"theory {theory:.6g} outside {mean:.6g} +- {half_width:.2g} (bias at most {bias:.2g})"
    )
