"""Reader of AIConfigurator's end-to-end points: mean TTFT and TPOT by configuration and concurrency, closed loop.

Most come from InferenceX's public harness: 10 prompts per connection, lengths uniform from 0.8 to 1 of the nominal
ones, no prefix cache. Rows of vLLM whose prefill and decode share an engine are read; exact repeats are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl

from servesim.errors import TraceError
from servesim.measurements.checks import check_measured
from servesim.measurements.inferencex import Recipe, recipe
from servesim.measurements.workload import Deployment, MeasuredRun
from servesim.rng import stream
from servesim.workload.files import parquet_columns, read_parquet

CONFIGURATION = (
    *("model_path", "system", "precision", "backend_version", "isl", "osl", "tp_size"),
    *("attention_dp_size", "moe_tp_size", "moe_ep_size", "concurrency"),
)
_LOADS = ("backend_version", "concurrency")
"""What may differ between runs of one configuration."""

MEASURED = ("silicon_ttft_ms", "silicon_tpot_ms")

PROMPTS_PER_CONNECTION = 10
LEAST_LENGTH = 0.8
OTHER_HARNESS = "0.12.0"
"""Version of vLLM whose rows come from another harness; lengths are taken as nominal there."""

_COLUMNS = ("id", "silicon_data_source", "backend", "mode", *CONFIGURATION[:-1], *MEASURED)
_DTYPES = {"fp8": "fp8", "fp4": "nvfp4", "int4": "int4", "bf16": "bf16"}
_AS_PUBLISHED = (("openai/gpt-oss", "fp4"), ("moonshotai/Kimi", "int4"))
"""Models whose four bits are those of their publisher: mxfp4 and int4 in the experts, 16 bits elsewhere."""


def is_silicon(path: Path) -> bool:
    """Return whether the Parquet file at *path* has the columns of these points."""
    return set(_COLUMNS) <= set(parquet_columns(path))


def read_silicon(path: Path) -> list[MeasuredRun]:
    """Return the points of vLLM in *path*, exact repeats left out, in order of their ids.

    Raises
    ------
    TraceError
        If the file cannot be taken as it is.
    """
    frame = read_parquet(path, list(_COLUMNS)).filter(
        (pl.col("backend") == "vllm") & (pl.col("mode") == "agg")
    )
    concurrency = pl.col("silicon_data_source").str.extract(r"silicon_concurrency=(\d+)").cast(pl.Int32)
    frame = frame.with_columns(concurrency=concurrency).unique(
        [*CONFIGURATION, *MEASURED], maintain_order=True
    )
    if frame.is_empty() or frame["concurrency"].null_count():
        raise TraceError(f"{path}: no closed-loop points of vLLM (got {frame.height} rows). expected some")
    frame = frame.sort("id", maintain_order=True).with_columns(
        name=pl.col("id")
        + pl.when(pl.col("id").cum_count().over("id") > 1)
        .then(pl.format(" #{}", pl.col("id").cum_count().over("id")))
        .otherwise(pl.lit(""))
    )
    return [_run(row, path) for row in frame.iter_rows(named=True)]


def _run(row: dict[str, Any], path: Path) -> MeasuredRun:
    metrics = {"ttft_s_mean": row["silicon_ttft_ms"] / 1e3, "tpot_s_mean": row["silicon_tpot_ms"] / 1e3}
    check_measured(metrics, path)
    version = row["backend_version"] or _version_of_image(row["silicon_data_source"])
    how = _recipe(row)
    tensor, data, expert = _parallelism(row, how)
    return MeasuredRun(
        name=row["name"],
        source=path,
        deployment=Deployment(
            model=row["model_path"],
            gpu=row["system"],
            tensor_parallel=tensor,
            data_parallel=data,
            expert_parallel=expert,
            dtype=_dtype(row["model_path"], row["precision"]),
            kv_dtype=how.kv_dtype,
            engine="vllm",
            engine_version=version or how.engine_version,
            settings=how.engine(concurrency=row["concurrency"], prompt_tokens=row["isl"]),
        ),
        requests=_load(row, same=version == OTHER_HARNESS),
        metrics=metrics,
        configuration=" ".join(str(row[column]) for column in CONFIGURATION if column not in _LOADS),
        max_concurrency=row["concurrency"],
    )


def _recipe(row: dict[str, Any]) -> Recipe:
    """Return how the harness started the engine; vLLM's defaults, and the point's labels, where it is not known."""
    source = row["silicon_data_source"]
    found = re.search(r"measured=(\d{4}-\d{2}-\d{2})", source)
    model = row["model_path"].rpartition("/")[2]
    return recipe(model, row["system"], row["precision"], found and found[1]) or Recipe(groups=True)


def _parallelism(row: dict[str, Any], how: Recipe) -> tuple[int, int, int]:
    """Return tensor, data and expert parallelism: as the script did, where the labels are those of InferenceX."""
    experts = row["moe_ep_size"]
    if row["attention_dp_size"]:
        return how.parallelism(gpus=row["tp_size"], data=row["attention_dp_size"], experts=experts)
    # Attention ranks and expert ranks are the same GPUs: where the former are not given, the latter tell.
    return row["tp_size"], max(1, row["moe_tp_size"] * experts // row["tp_size"]), experts


def _dtype(model: str, precision: str) -> str | None:
    published = any(model.startswith(begin) and precision == bits for begin, bits in _AS_PUBLISHED)
    return None if published else _DTYPES[precision]


def _version_of_image(source: str) -> str | None:
    _, _, after = source.partition("vllm-openai:v")
    return after.split("-")[0].split(";")[0] or None


def _load(row: dict[str, Any], *, same: bool) -> pl.DataFrame:
    """Return the prompts of one run: as many, and as long, as the harness makes them."""
    count = PROMPTS_PER_CONNECTION * row["concurrency"]
    rng = stream(0, f"silicon.{row['isl']}.{row['osl']}")

    def lengths(nominal: int) -> pl.Series:
        least = nominal if same else int(LEAST_LENGTH * nominal)
        return pl.Series(rng.integers(least, nominal + 1, count), dtype=pl.Int32)

    return pl.DataFrame(
        {
            "arrival_s": pl.repeat(0.0, count, eager=True),
            "prompt_tokens": lengths(row["isl"]),
            "output_tokens": lengths(row["osl"]),
        }
    )
