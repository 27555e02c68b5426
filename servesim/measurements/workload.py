"""What was measured: a deployment, the load that it was given, and the latencies and rates that it showed.

A run is open loop (requests came at their times) or closed loop (`MeasuredRun.max_concurrency`). Latencies of single
requests are columns of the load where the file has them; else there are `MeasuredRun.metrics` alone. How a run is
played again is in `servesim.validation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

LATENCIES = ("ttft_s", "tpot_s", "itl_s", "e2e_s")
STATISTICS = {"mean": None, "p50": 0.5, "p90": 0.9, "p99": 0.99}
RATES = ("requests_per_s", "output_tokens_per_s")
METRICS = (*(f"{name}_{statistic}" for name in LATENCIES for statistic in STATISTICS), *RATES)
"""Keys of `MeasuredRun.metrics`, by the definitions of a run's summary (docs/reference/metrics.md)."""

LOAD = ("arrival_s", "prompt_tokens", "output_tokens")
"""Columns that every load has, in order of arrival, the first one at 0 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What served the requests, as far as the file tells, by the names that the file has.

    Attributes
    ----------
    model, gpu
        Such as ``"meta-llama/Llama-3.1-8B"`` and ``"h200_sxm"``; None where the file does not say.
    tensor_parallel, data_parallel, expert_parallel
        GPUs that share a layer, replicas of the attention that share experts, and GPUs that share the experts.
    dtype, kv_dtype
        Number formats of weights and KV cache; None: as published, and 16 bits.
    engine, engine_version
        Such as ``"vllm"`` and ``"0.19.0"``.
    settings
        Settings of the engine that are known, by their keys in a scenario's ``engine:`` block.
    """

    model: str | None = None
    gpu: str | None = None
    tensor_parallel: int = 1
    data_parallel: int = 1
    expert_parallel: int = 1
    dtype: str | None = None
    kv_dtype: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasuredRun:
    """One run of a benchmark.

    Attributes
    ----------
    name
        What tells it from the other runs of its file.
    source
        The file.
    deployment
        What served the requests.
    requests
        A row per request in order of arrival: `LOAD`, and ``ttft_s``, ``tpot_s``, ``e2e_s`` where they were measured.
    metrics
        What was measured, by keys of `METRICS`; what is not known has no key.
    configuration
        What it has in common with runs of the same deployment and lengths under other loads; None: there are none.
    max_concurrency
        Most requests at once, of a closed loop; None: open loop.
    series
        ``time_s`` since the first arrival, ``running_requests`` and ``waiting_requests``; None where there is none.
    notes
        What the reader left out, repaired or assumed.
    """

    name: str
    source: Path
    deployment: Deployment
    requests: pl.DataFrame
    metrics: Mapping[str, float]
    configuration: str | None = None
    max_concurrency: int | None = None
    series: pl.DataFrame | None = None
    notes: tuple[str, ...] = ()

    @property
    def has_latencies(self) -> bool:
        """Whether the latencies of single requests are known."""
        return "e2e_s" in self.requests.columns


def all_due(requests: pl.DataFrame) -> pl.DataFrame:
    """Return the load of a closed loop: in the order in which it was sent, every request due from the start.

    Were a replay to keep the recorded times, a faster engine would wait for them with fewer requests under way.
    """
    return requests.with_columns(arrival_s=pl.lit(0.0))


def request_metrics(requests: pl.DataFrame, gaps_s: NDArray[np.float64] | None = None) -> dict[str, float]:
    """Return the metrics of *requests* with their latencies; *gaps_s* are all gaps between tokens, if known."""
    metrics: dict[str, float] = {}
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        metrics |= statistics_of(name, requests[name].drop_nulls().to_numpy())
    if gaps_s is not None:
        metrics |= statistics_of("itl_s", gaps_s)
    ends = requests["arrival_s"] + requests["e2e_s"]
    duration_s = float(ends.max()) - float(requests["arrival_s"].min())  # type: ignore[arg-type]
    if duration_s > 0:
        metrics["requests_per_s"] = requests.height / duration_s
        metrics["output_tokens_per_s"] = float(requests["output_tokens"].cast(pl.Float64).sum()) / duration_s
    return metrics


def statistics_of(name: str, values: NDArray[np.float64]) -> dict[str, float]:
    """Return mean and quantiles of *values*, by their keys; nothing if there are no values."""
    if not len(values):
        return {}
    return {
        f"{name}_{statistic}": float(values.mean() if share is None else np.quantile(values, share))
        for statistic, share in STATISTICS.items()
    }


def time_per_output_token() -> pl.Expr:
    """Return the expression of ``tpot_s`` from the other latencies; null for outputs of one token."""
    tokens = pl.col("output_tokens")
    return (
        pl.when(tokens > 1)
        .then((pl.col("e2e_s") - pl.col("ttft_s")) / (tokens.cast(pl.Float64) - 1))
        .alias("tpot_s")
    )
