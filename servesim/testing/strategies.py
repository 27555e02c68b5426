"""Hypothesis strategies: small random scenarios that tie, chunk, cut and preempt a lot.

Drawn numbers are often round, so that arrivals fall on step boundaries: the hard case of every discrete-event
simulation. Tables of requests are written to a temporary directory, which is removed when the process ends.
"""

from __future__ import annotations

import hashlib
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError("servesim.testing.strategies needs Hypothesis: pip install hypothesis") from error

from servesim.policies import ROUTERS
from servesim.scenario import Scenario

LATENCIES: tuple[dict[str, Any], ...] = (
    {"name": "constant", "step_s": 0.25},
    {"name": "linear", "base_s": 0.125, "per_context_token_s": 2.0**-10, "per_prefill_token_s": 2.0**-6},
    {"name": "linear", "base_s": 0.03, "per_sequence_s": 0.007, "per_prefill_pair_s": 1e-4},
    {"name": "roofline"},
)
"""Steps of constant length, growing ones that are exact in floating point, odd ones, and the default."""

SCHEDULERS: tuple[dict[str, Any], ...] = (
    {"name": "fcfs"},
    {"name": "priority"},
    {"name": "sjf", "predictor": {"name": "oracle"}},
    {"name": "sjf", "predictor": {"name": "noisy", "sigma": 0.7}},
)


FRONT_ENDS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"request_s": 0.125},
    {"workers": 2, "prompt_token_s": 0.01, "stream_s": 0.3},
)
"""None, one that ties with steps, and one whose requests overtake each other."""


@st.composite
def request_tables(draw: st.DrawFn, *, max_requests: int = 30) -> Path:
    """Draw a Parquet file of requests: ties, bursts, pauses; lengths from 1; tags; images, reasoning."""
    gaps_s = st.sampled_from([0.0, 0.0, 0.125, 0.25, 0.3, 1.0, 25.0])
    lengths = st.sampled_from([1, 2, 4, 16]) | st.integers(1, 40)
    sessions = st.sampled_from([None, "a", "b", "c"])
    rows = draw(
        st.lists(
            st.tuples(gaps_s, lengths, lengths, st.integers(0, 2), sessions),
            min_size=1,
            max_size=max_requests,
        )
    )
    names = {
        "arrival_s": pl.Float64,
        "prompt_tokens": pl.Int32,
        "output_tokens": pl.Int32,
        "priority": pl.Int32,
        "session": pl.String,
    }
    rows[0] = (min(rows[0][0], 1.0), *rows[0][1:])  # before any horizon
    table = pl.DataFrame(rows, schema=names, orient="row").with_columns(pl.col("arrival_s").cum_sum())
    if draw(st.booleans()):
        parts = st.lists(st.sampled_from([None, 0, 1, 3, 40]), min_size=len(rows), max_size=len(rows))
        for part, whole in (("image_tokens", "prompt_tokens"), ("reasoning_tokens", "output_tokens")):
            drawn = [
                None if count is None else min(count, most)
                for count, most in zip(draw(parts), table[whole], strict=True)
            ]
            table = table.with_columns(pl.Series(part, drawn, dtype=pl.Int32))
    path = _directory() / f"{hashlib.sha256(table.write_csv().encode()).hexdigest()[:16]}.parquet"
    if not path.exists():
        table.write_parquet(path)
    return path


@st.composite
def workloads(draw: st.DrawFn, *, max_requests: int = 30) -> dict[str, Any]:
    """Draw a ``workload:`` block: a table of requests or a generator."""
    if draw(st.booleans()):
        return {
            "source": {
                "reader": "table",
                "path": str(draw(request_tables(max_requests=max_requests))),
                "start_at_zero": draw(st.booleans()),
            }
        }
    generator = draw(
        st.sampled_from(
            [
                {"name": "constant", "rate_per_s": 8.0},
                {"name": "poisson", "rate_per_s": 10.0},
                {"name": "gamma", "rate_per_s": 20.0, "cv": 3.0},
            ]
        )
    )
    lengths = st.sampled_from(
        [
            {"distribution": "constant", "value": 24},
            {"distribution": "uniform", "low": 1, "high": 60},
            {"distribution": "lognormal", "mean": 20, "sigma": 1.0},
        ]
    )
    bound = {"requests": draw(st.integers(1, max_requests))}
    sizes = {"prompt_tokens": draw(lengths), "output_tokens": draw(lengths)}
    return {"generator": {**generator, **bound, **sizes}}


@st.composite
def engines(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an ``engine:`` block: few seats, tight budgets, caches so small that requests are preempted."""
    budget = draw(st.sampled_from([8, 16, 64, 64]))
    block_tokens = draw(st.sampled_from([1, 3, 4, 16]))
    chunked = draw(st.sampled_from([True, True, False]))
    return {
        "max_num_seqs": min(budget, draw(st.sampled_from([1, 4, 8]))),
        "max_num_batched_tokens": budget,
        "kv_block_tokens": block_tokens,
        "kv_blocks": max(2, draw(st.sampled_from([48, 64, 96, 640])) // block_tokens),
        "kv_watermark_ratio": draw(st.sampled_from([0.0, 0.0, 0.05])),
        "max_model_len": None if chunked else budget,
        "chunked_prefill": chunked,
        "prefill_only_steps": not chunked and draw(st.booleans()),
        "front_end": draw(st.sampled_from(FRONT_ENDS)),
    }


@st.composite
def scenarios(draw: st.DrawFn, *, max_requests: int = 30) -> Scenario:
    """Draw a scenario that runs in milliseconds.

    Parameters
    ----------
    max_requests
        Most requests that a workload may have.
    """
    count = draw(st.sampled_from([1, 1, 2]))
    pools = [
        {
            "name": f"pool-{index}",
            "model": "llama-3.1-8b",
            "gpu": "h100-sxm",
            "replicas": draw(st.sampled_from([1, 1, 2, 3])),
            "engine": draw(engines()),
            "latency": draw(st.sampled_from(LATENCIES)),
        }
        for index in range(count)
    ]
    return Scenario.model_validate(
        {
            "name": "random",
            "seed": draw(st.integers(0, 3)),
            "workload": draw(workloads(max_requests=max_requests)),
            "cluster": {"pools": pools},
            "policies": {
                "router": {"name": draw(st.sampled_from(list(ROUTERS.builtin)))},
                "scheduler": draw(st.sampled_from(SCHEDULERS)),
            },
            "run": {
                "horizon_s": draw(st.sampled_from([None, None, 3.0, 17.3])),
                "drain": draw(st.booleans()),
                "sample_interval_s": draw(st.sampled_from([None, 0.5])),
            },
        }
    )


@cache
def _directory() -> Path:
    """Return a directory that lives as long as the process."""
    directory = tempfile.TemporaryDirectory(prefix="servesim-", ignore_cleanup_errors=True)
    _KEPT.append(directory)
    return Path(directory.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []
