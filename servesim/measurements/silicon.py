"""Reader of AIConfigurator's end-to-end points: mean TTFT and TPOT by configuration and concurrency, closed loop.

Most come from InferenceX's public harness: 10 prompts per connection, lengths uniform from 0.8 to 1 of the nominal
ones, no prefix cache. Rows of vLLM whose prefill and decode share an engine are read; exact repeats are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from servesim.errors import TraceError
from servesim.measurements.checks import check_measured
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

_ASYNC = {"async_scheduling": True}
_GRAPHS = {"graph_tokens_max": 2048}

RECIPES: dict[tuple[str, str, str], dict[str, Any]] = {
    ("gpt-oss-120b", "b200_sxm", "fp4"): {"kv_dtype": "fp8", "max_num_seqs": 512} | _GRAPHS | _ASYNC,
    ("gpt-oss-120b", "h200_sxm", "fp4"): {"max_num_seqs": None, "moe_backend": "marlin"} | _GRAPHS | _ASYNC,
    ("Llama-3.1-70B", "b200_sxm", "fp8"): {"kv_dtype": "fp8", "max_num_seqs": 512} | _ASYNC,
    ("Llama-3.1-70B", "b200_sxm", "fp4"): {"kv_dtype": "fp8", "max_num_seqs": 512} | _ASYNC,
    ("Llama-3.1-70B", "h200_sxm", "fp8"): {"kv_dtype": "fp8"} | _ASYNC,
    ("MiniMax-M2.5", "b200_sxm", "fp8"): {"gpu_memory_utilization": 0.95},
    ("MiniMax-M2.5", "h200_sxm", "fp8"): {"gpu_memory_utilization": 0.95},
    ("MiniMax-M2.5", "b200_sxm", "fp4"): {"kv_dtype": "fp8", "max_num_seqs": None},
    ("Kimi-K2.5", "b200_sxm", "int4"): {"gpu_memory_utilization": 0.95},
    ("Kimi-K2.5", "h200_sxm", "int4"): {"gpu_memory_utilization": 0.95, "max_num_seqs": None},
    ("Kimi-K2.5", "b200_sxm", "fp4"): {"kv_dtype": "fp8", "max_num_seqs": None},
}
"""How the harness started vLLM, where that differs from the defaults; ``max_num_seqs`` None is the concurrency.

From the scripts in ``benchmarks/single_node`` of SemiAnalysisAI/InferenceX, which changed over time: the points do not
tell which version of a script was used. Those of Llama-3.1-70B are gone by now; a copy of the one for fp8 on B200 was
found, the other two are taken to be alike."""

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
    kv_dtype, settings = _settings(row)
    experts = row["moe_tp_size"] * row["moe_ep_size"]
    return MeasuredRun(
        name=row["name"],
        source=path,
        deployment=Deployment(
            model=row["model_path"],
            gpu=row["system"],
            tensor_parallel=row["tp_size"],
            # Attention ranks and expert ranks are the same GPUs; where the former are not given, the latter tell.
            data_parallel=row["attention_dp_size"] or max(1, experts // row["tp_size"]),
            expert_parallel=row["moe_ep_size"],
            dtype=_dtype(row["model_path"], row["precision"]),
            kv_dtype=kv_dtype,
            engine="vllm",
            engine_version=version,
            settings=settings,
        ),
        requests=_load(row, same=version == OTHER_HARNESS),
        metrics=metrics,
        configuration=" ".join(str(row[column]) for column in CONFIGURATION if column not in _LOADS),
        max_concurrency=row["concurrency"],
    )


def _settings(row: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Return the KV cache's number format and the engine's settings, as the harness sets them."""
    key = (row["model_path"].rpartition("/")[2], row["system"], row["precision"])
    settings = dict(RECIPES.get(key, {}))
    kv_dtype = settings.pop("kv_dtype", None)
    if settings.get("max_num_seqs", 0) is None:
        settings["max_num_seqs"] = row["concurrency"]
    return kv_dtype, settings


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
