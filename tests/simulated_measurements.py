"""Measurements with a known truth: simulated, with noise on every latency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

import servesim
from servesim.measurements import Deployment, MeasuredRun
from servesim.measurements.workload import request_metrics, time_per_output_token
from servesim.rng import stream

POOL = "cluster.pools.0"
ENGINE = {"max_num_batched_tokens": 8192, "max_num_seqs": 1024}
"""What a replay takes for vLLM's server on an H100."""


def simulate(
    latency: dict[str, Any],
    *,
    concurrency: int | None = None,
    requests: int = 120,
    seed: int = 0,
    **more: Any,
) -> servesim.RunResult:
    """Return a run of Llama-3.1-8B on an H100: a closed loop, or an open one of 10 requests per second."""
    workload: dict[str, Any] = {
        "generator": {
            "name": "poisson",
            "rate_per_s": 10.0 if concurrency is None else 1e7,
            "requests": requests,
            "prompt_tokens": {"distribution": "lognormal", "mean": 512, "sigma": 0.5, "max": 4000},
            "output_tokens": {"distribution": "lognormal", "mean": 64, "sigma": 0.5, "max": 1000},
        }
    }
    if concurrency is not None:
        workload["max_concurrency"] = concurrency
    pool = {"name": "main", "model": "llama-3.1-8b", "gpu": "h100-sxm", "latency": latency}
    return servesim.simulate(
        servesim.Scenario.model_validate(
            {
                "seed": seed,
                "workload": workload,
                "cluster": {"pools": [{**pool, "engine": {**ENGINE, "host": more.get("host", {})}}]},
            }
        )
    )


def measured(name: str, result: servesim.RunResult, *, noise: float = 0.02) -> MeasuredRun:
    """Return *result* as if it had been measured, its latencies off by *noise* (a standard deviation, as a ratio)."""
    rng = stream(1, f"noise.{name}")
    requests = result.requests

    def noisy(values: pl.Series) -> pl.Series:
        return pl.Series(values.to_numpy() * (1 + noise * rng.standard_normal(len(values))))

    concurrency = result.settings["workload"].get("max_concurrency")
    ttft_s, decode_s = noisy(requests["ttft_s"]), noisy(requests["e2e_s"] - requests["ttft_s"])
    load = requests.select("arrival_s", "prompt_tokens", "output_tokens").with_columns(
        ttft_s=ttft_s, e2e_s=ttft_s + decode_s
    )
    load = load.with_columns(time_per_output_token())
    metrics = request_metrics(load)
    if concurrency is not None:
        # They are sent when others end: all of them are due from the start.
        load = load.with_columns(arrival_s=pl.lit(0.0))
    return MeasuredRun(
        name=name,
        source=Path(__file__),
        deployment=Deployment(model="meta-llama/Llama-3.1-8B", gpu="H100_SXM"),
        requests=load,
        metrics=metrics,
        max_concurrency=concurrency,
    )
