"""Speculative decoding in results: how many tokens the steps of a run emitted."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from servesim.results.frames import Frames
from servesim.results.steps import Floats


def decodes_speculatively(frames: Frames) -> bool:
    """Return whether a pool of the run does."""
    return "decode_steps" in frames.lazy("requests").collect_schema()


def resumptions(frames: Frames) -> pl.LazyFrame:
    """Return the tokens that were emitted at the end of a prefill after a preemption: ``request_id, resumed``."""
    resumed = (pl.col("kind").cast(pl.String) == "resumed") & (pl.col("output_tokens") > 1)
    return frames.lazy("events").filter(resumed).group_by("request_id").agg(resumed=pl.len().cast(pl.Int64))


def decode_work(frames: Frames) -> pl.DataFrame:
    """Return, by replica, ``decode_steps`` of its speculative requests and ``decode_tokens`` that came in them."""
    requests = frames.lazy("requests").filter(pl.col("decode_steps") > 0)
    again = pl.col("resumed").fill_null(0)
    return (
        requests.join(resumptions(frames), on="request_id", how="left")
        .group_by("replica")
        .agg(
            pl.col("decode_steps").cast(pl.Int64).sum(),
            decode_tokens=(pl.col("output_tokens").cast(pl.Int64) - 1 - again).sum(),
        )
        .sort("replica")
        .collect()
    )


def tokens_per_step(frames: Frames, replicas: int) -> Floats:
    """Return the mean number of tokens that a decode step emits for a sequence, by replica: 1 without speculation."""
    means = np.ones(replicas)
    if decodes_speculatively(frames):
        work = decode_work(frames)
        means[work["replica"].to_numpy()] = (work["decode_tokens"] / work["decode_steps"]).to_numpy()
    return means


def speculation_statistics(frames: Frames) -> dict[str, Any]:
    """Return the key ``speculation`` of the summary, or nothing where no pool decodes speculatively."""
    if not decodes_speculatively(frames):
        return {}
    work = decode_work(frames)
    steps, tokens = int(work["decode_steps"].sum()), int(work["decode_tokens"].sum())
    return {
        "speculation": {
            "decode_steps": steps,
            "acceptance_length_mean": tokens / steps if steps else None,
        }
    }
