"""Errors of the default's decode steps on the ML.ENERGY benchmark: python scripts/step_errors.py.

Renews the table of docs/model/latency.md. Measured is the median inter-token latency of steady decode by batch; of
lengths only the mean output is known, so contexts are taken to be `PROMPT_TOKENS` and that. Nothing is fitted here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from servesim.catalog import model_names
from servesim.cluster.build import build_pool
from servesim.latency.api import BatchShape
from servesim.measurements.workload import Deployment
from servesim.scenario.schema import PoolSpec
from servesim.validation.deployment import pool_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "model" / "latency.md"
POINTS = ROOT.parent / "shared" / "calibration" / "power" / "ml_energy_llm_points.parquet"

TASKS = ("lm-arena-chat", "gpqa")
"""Those without images and video."""

PROMPT_TOKENS = 100
ENGINE_VERSION = "vllm-0.10"
SMALL_BATCH, LARGEST_BATCH = 64, 1024
DATE = "-2507"
"""Of Qwen's models of July 2025, which have the shapes of those before."""

GPUS = {"H100": "h100-sxm", "B200": "b200-sxm"}
DTYPES = {"bfloat16": "bf16", "fp8": "fp8", "mxfp4": None}
"""Number formats; that of gpt-oss is its publisher's."""

DEPLOYMENT = ("gpu", "model", "precision", "num_gpus", "ep", "task")
BEGIN, END = "<!-- steps: scripts/step_errors.py renews this -->\n", "<!-- end -->"


def step_errors(points: pl.DataFrame) -> pl.DataFrame:
    """Return *points* of models of the catalog with ``error``: predicted over measured, less 1."""
    found = []
    for row in points.iter_rows(named=True):
        pool = _pool(row)
        if pool["model"] not in model_names():
            continue
        sequences = round(row["avg_batch"])
        batch = BatchShape(sequences, round(sequences * (PROMPT_TOKENS + row["avg_out"])))
        predicted_s = build_pool(PoolSpec.model_validate(pool)).latency.price(batch)[0]
        found.append({**row, "error": predicted_s / (row["itl_p50"] / 1e3) - 1})
    return pl.DataFrame(found)


def _pool(row: dict[str, Any]) -> dict[str, Any]:
    """Return the pool that served a point, its steps scheduled one after the other."""
    return pool_of(
        Deployment(
            model=row["model"].replace(DATE, ""),
            dtype=DTYPES[row["precision"]],
            gpu=GPUS[row["gpu"]],
            tensor_parallel=row["num_gpus"],
            expert_parallel=row["ep"],
            settings={"version": ENGINE_VERSION, "max_num_seqs": row["max_num_seqs"]},
        )
    )


def table(errors: pl.DataFrame) -> str:
    """Return them by deployment as Markdown: the mean of the error and of its magnitude."""
    small = pl.col("error").filter(pl.col("avg_batch") <= SMALL_BATCH).mean()
    told = (
        errors.group_by(DEPLOYMENT)
        .agg(
            pl.len().alias("points"),
            small.alias("small"),
            pl.col("error").mean().alias("bias"),
            pl.col("error").abs().mean().alias("mae"),
            pl.col("error").abs().max().alias("worst"),
        )
        .sort(pl.col("gpu") == "B200", "model", "precision", "num_gpus", "task")
    )
    lines = [
        f"| GPU | model | format | GPUs | task | points | bias, batch <= {SMALL_BATCH} | bias | mae | worst |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in told.iter_rows(named=True):
        name = row["model"].partition("/")[2] + (" (expert parallel)" if row["ep"] > 1 else "")
        dtype = DTYPES[row["precision"]] or row["precision"]
        cells = [row["gpu"], name, dtype, row["num_gpus"], row["task"], row["points"]]
        numbers = ["-" if row[key] is None else f"{row[key]:+.2f}" for key in ("small", "bias")]
        lines.append(
            "| " + " | ".join(map(str, [*cells, *numbers, f"{row['mae']:.2f}", f"{row['worst']:.2f}"])) + " |"
        )
    return "\n".join(lines) + "\n"


def with_table(page: str) -> str:
    """Return the page with the table as it is now."""
    points = pl.read_parquet(POINTS).filter(pl.col("task").is_in(TASKS), pl.col("avg_batch") <= LARGEST_BATCH)
    before, begin, after = page.partition(BEGIN)
    return before + begin + table(step_errors(points)) + after[after.index(END) :]


def main() -> None:
    """Renew the page."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
