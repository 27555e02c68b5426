"""Reader of the batch sweeps of "Mind the Memory Gap" (arXiv 2503.08311): vLLM on an H100 with 64 GB, 2,000 requests.

All requests are sent at once, and ``max_num_seqs`` is what is swept. Only the rows whose path begins with
``background/`` are runs of one engine; the others are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.errors import TraceError
from servesim.measurements.checks import check_measured
from servesim.measurements.workload import Deployment, MeasuredRun
from servesim.rng import stream
from servesim.workload.files import parquet_columns, read_parquet

COLUMNS = ("path", "n", "dur", "inp", "out", "req_tput", "out_tput", "ttft", "tpot", "itl", "p99itl")

OUTPUT_CV = {"opt-1.3b": 0.95, "opt-2.7b": 0.99, "llama-2-7b": 0.75, "llama-2-13b": 0.76}
"""Coefficient of variation of output lengths. Not in the data, but implied by them: the mean KV use of the runs with
one sequence at a time is the mean context, prompt + E[o^2] / (2 E[o]), over the KV capacity that the paper gives."""

PROMPT_CV = 1.0
"""Of prompt lengths, by judgement: their mean of 111 tokens matters little beside 300 of output."""

ENGINE = {
    "version": "vllm-v0",
    "max_model_len": 2048,
    "chunked_prefill": False,
    "prefill_only_steps": True,
    "kv_watermark_ratio": 0.01,
}
"""What the authors' logs say (``background/*/server_out_0.log`` of github.com/FerranAgulloLopez/vLLMBatchingMemoryGap).

That is vLLM 0.5.2.dev1210+g6f078ea3c, of autumn 2024 after 0.6.3, with ``max_model_len=2048`` and
``chunked_prefill_enabled=False``: prompts have steps of their own, of up to 2,048 tokens, and one is
admitted where that leaves a hundredth of the KV cache free, which is that version's fixed choice.
"""

PROMPT_TOKENS, CONTEXT_TOKENS = 1024, 2048
"""Longest prompt, and longest sequence: vLLM's benchmark leaves longer ones of ShareGPT out."""


def is_batch_sweep(path: Path) -> bool:
    """Return whether the Parquet file at *path* has the columns of these sweeps."""
    return set(COLUMNS) <= set(parquet_columns(path))


def read_batch_sweep(path: Path) -> list[MeasuredRun]:
    """Return the runs of one engine in *path*, in order of model and batch.

    Raises
    ------
    TraceError
        If the file cannot be taken as it is.
    """
    frame = read_parquet(path, list(COLUMNS)).filter(pl.col("path").str.starts_with("background/"))
    if frame.is_empty():
        raise TraceError(
            f"{path}: no runs of a sweep (got 0 rows whose path begins with background/). expected some"
        )
    runs = [_run(row, path) for row in frame.iter_rows(named=True)]
    return sorted(runs, key=lambda run: (str(run.deployment.model), run.deployment.settings["max_num_seqs"]))


def _run(row: dict[str, Any], path: Path) -> MeasuredRun:
    _, model, batch_text = row["path"].split("/")
    batch = int(batch_text.strip("_"))
    milliseconds = {"ttft_s_mean": "ttft", "tpot_s_mean": "tpot", "itl_s_mean": "itl", "itl_s_p99": "p99itl"}
    metrics = {name: row[column] / 1e3 for name, column in milliseconds.items()}
    metrics |= {"requests_per_s": row["req_tput"], "output_tokens_per_s": row["out_tput"]}
    check_measured(metrics, path)
    return MeasuredRun(
        name=f"{model} batch {batch}",
        source=path,
        deployment=Deployment(
            model=model,
            gpu="h100-sxm-64gb",
            engine="vllm",
            settings={"max_num_seqs": batch, **ENGINE},
        ),
        requests=_load(model, row["n"], row["inp"] / row["n"], row["out"] / row["n"]),
        metrics=metrics,
        notes=(
            "lengths of single requests are drawn: lognormal, with the measured mean and KV use",
            "engine settings are those of the authors' server logs, which the file does not hold",
        ),
    )


def _load(model: str, count: int, prompt_mean: float, output_mean: float) -> pl.DataFrame:
    """Return lengths drawn with the given means: the same ones for all batches of a model."""
    rng = stream(0, f"batch_sweep.{model}")
    prompt = _lognormal(rng, count, prompt_mean, PROMPT_CV, np.full(count, PROMPT_TOKENS))
    output = _lognormal(rng, count, output_mean, OUTPUT_CV.get(model, 0.85), CONTEXT_TOKENS - prompt)
    return pl.DataFrame(
        {
            "arrival_s": pl.repeat(0.0, count, eager=True),
            "prompt_tokens": pl.Series(prompt, dtype=pl.Int32),
            "output_tokens": pl.Series(output, dtype=pl.Int32),
        }
    )


def _lognormal(
    rng: np.random.Generator, count: int, mean: float, cv: float, most: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return whole numbers from 1 to *most* with this mean and coefficient of variation.

    What clipping takes from both is made up for, by scaling and by drawing wider.
    """
    normal = rng.standard_normal(count)

    def clipped(sigma: float) -> NDArray[np.float64]:
        drawn = np.exp(sigma * normal)
        scale = mean / drawn.mean()
        for _ in range(20):
            scale *= mean / np.clip(drawn * scale, 1, most).mean()
        found: NDArray[np.float64] = np.clip(drawn * scale, 1, most)
        return found

    narrow, wide = 0.0, 3.0
    for _ in range(30):
        sigma = (narrow + wide) / 2
        lengths = clipped(sigma)
        if lengths.std() < cv * lengths.mean():
            narrow = sigma
        else:
            wide = sigma
    return np.rint(clipped(wide)).astype(np.int64)
