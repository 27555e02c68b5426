"""Profiles that are known formulas, in the forms of the profilers: what is read from them can be worked out by hand."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl

TOKENS = [1, 16, 256, 2048]
CHUNKS = [16, 128, 512, 2048]
STARTS = [0, 512, 4096, 16384]
SEQUENCES = [1, 8, 64, 256]
CONTEXTS = [16, 512, 4096, 16384]

META = "vllm_version: 0.19.0\nattention_grid: {}\n"
"""A profile that does not tell its GPU or its model."""


def decode_us(sequences: float, context: float) -> float:
    """Return decode attention of a layer."""
    return 5.0 + 4e-3 * sequences * context


def prefill_us(chunk: float, start: float) -> float:
    """Return the attention of a chunk in a layer: bilinear, so that interpolation is exact."""
    return 5.0 + 0.1 * chunk + 5e-5 * chunk * start


def write(
    folder: Path, tables: dict[str, pl.DataFrame], *, suffix: str = "parquet", meta: str | None = META
) -> Path:
    """Write *tables* below *folder*, and ``meta.yaml`` beside them."""
    for name, table in tables.items():
        path = folder / f"{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.write_parquet(path) if suffix == "parquet" else table.write_csv(path)
    if meta is not None:
        (folder / "meta.yaml").write_text(meta)
    return folder


def tables(*, experts: bool = False, mixed: bool = True) -> dict[str, pl.DataFrame]:
    """Return the tables of LLMServingSim 2 for one number of GPUs."""
    dense = [
        row
        for tokens in TOKENS
        for row in (
            ("qkv_proj", tokens, 400.0 + 2.0 * tokens),
            ("layernorm", tokens, 2.0 + 0.01 * tokens),
            ("embedding", tokens, 4.0 + 0.1 * tokens),
        )
    ]
    heads = [
        row
        for count in SEQUENCES
        for row in (("lm_head", count, 300.0 + 1.0 * count), ("sampler", count, 10.0 + 0.5 * count))
    ]
    attention = [(0, 0, n, c, decode_us(n, c)) for n, c in product(SEQUENCES, CONTEXTS)]
    attention += [(t, s, 0, 0, prefill_us(t, s)) for t, s in product(CHUNKS, STARTS)]
    if mixed:
        attention += [
            (t, s, n, c, prefill_us(t, s) + decode_us(n, c) - 3.0)
            for t, s, n, c in product(CHUNKS, STARTS, SEQUENCES, CONTEXTS)
        ]
    found = {
        "dense": _frame(dense, ["layer", "tokens", "time_us"]),
        "per_sequence": _frame(heads, ["layer", "sequences", "time_us"]),
        "attention": _frame(attention, ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us"]),
    }
    if experts:
        rows = [(t, e, 20.0 + 3.0 * e + 0.5 * t) for t, e in product(TOKENS, [1, 8, 128]) if e <= 8 * t]
        found["moe"] = _frame(rows, ["tokens", "activated_experts", "time_us"])
    return found


def write_profile(
    folder: Path, *, ranks: tuple[int, ...] = (1,), suffix: str = "parquet", **parts: Any
) -> Path:
    """Write a profile of LLMServingSim 2 whose tables are the same for every number of GPUs."""
    known = tables(experts=parts.get("experts", False), mixed=parts.get("mixed", True))
    every = {f"tp{count}/{name}": table for count in ranks for name, table in known.items()}
    return write(folder, every, suffix=suffix, meta=parts.get("meta", META))


@cache
def profile() -> Path:
    """Return the folder of such a profile for 1, 2, 4 and 8 GPUs, with experts; it goes when Python ends."""
    folder = Path(tempfile.mkdtemp(prefix="servesim-profile-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write_profile(folder, ranks=(1, 2, 4, 8), experts=True)


def operator_rows(device: str = "NVIDIA H200") -> dict[str, pl.DataFrame]:
    """Return operator tables in AIConfigurator's form, times in ms, of few shapes: those of Llama-3.1-8B on one GPU."""
    powers = [1, 16, 256, 4096]
    shapes = [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (128256, 4096)]
    gemm = [
        (device, "bfloat16", m, n, k, max(n * k / 2e9, 2.0 * m * n * k / 6e11))
        for m in powers
        for n, k in shapes
    ]
    same = ("bfloat16", 32, 8, 128, 0)
    decode = [(*same, n, c - 1, 0.004 + n * c * 2e-6) for n in (1, 16, 256) for c in (16, 1024, 65536)]
    prefill = [(*same, 1, t, 0.01 + t * 1e-4) for t in (16, 1024, 16384)]
    names = ["kv_cache_dtype", "num_heads", "num_key_value_heads", "head_dim", "window_size", "batch_size"]
    reduces = [
        ("vllm_graph", r, size, 0.01 * r + size / 1e8) for r in (2, 4) for size in (1024, 1 << 20, 1 << 26)
    ]
    return {
        "gemm/vllm/0.24.0/gemm_perf": _frame(gemm, ["device", "gemm_dtype", "m", "n", "k", "latency"]),
        "attention/vllm/0.24.0/generation_attention_perf": _frame(decode, [*names, "step", "latency"]),
        "attention/vllm/0.24.0/context_attention_perf": _frame(prefill, [*names, "isl", "latency"]),
        "comm/vllm/0.9.0/custom_allreduce_perf": _frame(
            reduces, ["backend", "num_gpus", "message_size", "latency"]
        ),
    }


def _frame(rows: list[Any], names: list[str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=names, orient="row")
