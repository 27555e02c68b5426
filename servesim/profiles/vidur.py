"""Profiles in the form of Vidur (microsoft/vidur, MIT), and of LLMServingSim 1, which took its attention from there.

Vidur: ``mlp.csv`` (times in ms by num_tokens) and ``attention.csv`` of one model on one GPU, for every number of tensor
parallel workers. LLMServingSim 1: ``tpN/layers`` (layer_name, input, latency(ns)) and ``tpN/attention``, the latter as
Vidur's or, for TPUs, with p50_ns. CSV or Parquet. No file names the GPU. Decodes were measured with equal contexts,
prompts one at a time, and no step that does both.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from servesim.errors import ServesimError
from servesim.profiles.files import measured, read_table
from servesim.profiles.grid import Grid, ragged_grid
from servesim.profiles.layer_profile import AttentionProfile, LayerProfile

WORKERS = "num_tensor_parallel_workers"
TIME = "time_stats.{}.median"

OPERATORS = (
    *("input_layernorm", "attn_pre_proj", "attn_rope", "attn_post_proj", "post_attention_layernorm"),
    *("mlp_up_proj", "mlp_act", "mlp_down_proj", "add"),
)
"""Vidur's operators of a layer. Norms are 0 where the model has none."""

PER_STEP = {"embedding", "final_layernorm"}
PER_SEQUENCE = {"lm_head"}
NOT_A_LAYER = {"attn"}
"""The older LLMServingSim's layers that a step runs once, those by sequences, and what its attention table has."""


def is_profile(path: Path) -> bool:
    """Return whether the folder *path* is such a profile, of either kind."""
    return _has(path, "mlp") or any(_has(folder, "layers") for folder in path.glob("tp*"))


def read_profile(path: Path, tensor_parallel: int) -> LayerProfile:
    """Return the profile at *path* for *tensor_parallel* GPUs.

    Raises
    ------
    ServesimError
        If a file is unreadable or missing, lacks that degree, a column or a shape, or the model has experts.
    """
    if _has(path, "mlp"):
        return _of_workers(path, tensor_parallel)
    folder = path / f"tp{tensor_parallel}"
    if not folder.is_dir():
        known = ", ".join(sorted(each.name for each in path.glob("tp*")))
        raise ServesimError(
            f"{path}: no profile of {tensor_parallel} GPUs (got {known}). expected tp{tensor_parallel}"
        )
    return _of_layers(folder, tensor_parallel)


def _has(folder: Path, name: str) -> bool:
    return any((folder / f"{name}.{suffix}").is_file() for suffix in ("csv", "parquet"))


def _of_workers(path: Path, workers: int) -> LayerProfile:
    """Return Vidur's own form."""
    file, frame = _with_workers(path, "mlp", workers)
    curves = {
        name: _curve(frame, "num_tokens", TIME.format(name), 1e-3, where=file) for name in ("emb", *OPERATORS)
    }
    attention_file, attention = _with_workers(path, "attention", workers)
    save = TIME.format("attn_kv_cache_save")
    if save in attention.columns:
        tokens = pl.max_horizontal("prefill_chunk_size", "batch_size").alias("num_tokens")
        saves = attention.with_columns(tokens).filter(pl.col(save).is_not_null())
        curves["kv_cache_save"] = _curve(saves, "num_tokens", save, 1e-3, where=attention_file)
    return LayerProfile(
        gpu="",
        tensor_parallel=workers,
        heads=_first(frame, "n_head"),
        kv_heads=_first(frame, "n_kv_head"),
        engine="vidur",
        per_layer={name: curve for name, curve in curves.items() if name != "emb"},
        per_step={"emb": curves["emb"]},
        per_sequence={},
        experts=None,
        attention=_attention(attention, where=attention_file),
        fitted=("output head",),
    )


def _with_workers(path: Path, name: str, workers: int) -> tuple[Path, pl.DataFrame]:
    file, frame = read_table(path, name)
    if WORKERS not in frame.columns:
        raise ServesimError(f"{file}: no column {WORKERS!r} (got {', '.join(frame.columns)}). expected it")
    chosen = frame.filter(pl.col(WORKERS) == workers)
    if chosen.is_empty():
        known = ", ".join(map(str, frame[WORKERS].unique().sort().to_list()))
        raise ServesimError(
            f"{file}: no rows of {workers} GPUs (got {known}). expected {WORKERS} = {workers}"
        )
    return file, chosen


def _of_layers(folder: Path, tensor_parallel: int) -> LayerProfile:
    """Return the form of LLMServingSim 1."""
    file, frame = read_table(folder, "layers")
    rows = measured(frame, ("layer_name", "input", "latency(ns)"), where=file)
    curves = {
        str(name): _curve(each, "input", "latency(ns)", 1e-9, where=file)
        for (name,), each in rows.group_by("layer_name", maintain_order=True)
        if name not in NOT_A_LAYER
    }
    if any(name.startswith("expert.") for name in curves):
        raise ServesimError(
            f"{file}: experts one by one (got {', '.join(curves)}). expected a model without experts\n"
            "  hint: profiles of LLMServingSim 2 have all of a layer's experts together"
        )
    attention_file, attention = read_table(folder, "attention")
    return LayerProfile(
        gpu="",
        tensor_parallel=tensor_parallel,
        heads=_first(attention, "n_q_head"),
        kv_heads=_first(attention, "n_kv_head"),
        engine="llmservingsim 1",
        per_layer={
            name: curve for name, curve in curves.items() if name not in PER_STEP and name not in PER_SEQUENCE
        },
        per_step={name: curves[name] for name in curves if name in PER_STEP},
        per_sequence={
            name: Grid({"sequences": curves[name].axes["tokens"]}, curves[name].values)
            for name in curves
            if name in PER_SEQUENCE
        },
        experts=None,
        attention=_attention(attention, where=attention_file),
        fitted=() if PER_SEQUENCE & set(curves) else ("output head",),
    )


def _curve(frame: pl.DataFrame, axis: str, time: str, unit_s: float, *, where: Path) -> Grid:
    # Norms and activations are 0 where the model has none.
    rows = measured(frame, (axis, time), where=where, zero=True)
    return Grid({"tokens": rows[axis].to_list()}, rows[time].to_numpy() * unit_s)


def _attention(frame: pl.DataFrame, *, where: Path) -> AttentionProfile:
    """Return the grids; shapes that did not fit the GPU's memory are filled along the context."""
    needed = ("is_prefill", "batch_size", "kv_cache_size", "prefill_chunk_size")
    if missing := [column for column in needed if column not in frame.columns]:
        raise ServesimError(
            f"{where}: no column {missing[0]!r} (got {', '.join(frame.columns)}). expected it"
        )
    prefill = frame.filter(pl.col("is_prefill"), pl.col("batch_size") == 1)
    decode = frame.filter(~pl.col("is_prefill"))
    for name, rows in (("prefill", prefill), ("decode", decode)):
        if rows.is_empty():
            raise ServesimError(f"{where}: no rows of {name}. expected some")
    tpu = "p50_ns" in frame.columns
    times = ("p50_ns", "p50_ns") if tpu else (TIME.format("attn_prefill"), TIME.format("attn_decode"))
    unit_s = 1e-9 if tpu else 1e-3
    # LLMServingSim 1 counts a chunk among its cached tokens: its chunks of any size take the same after as many.
    counted_in = bool((prefill["kv_cache_size"] >= prefill["prefill_chunk_size"]).all())
    chunks = measured(prefill, ("prefill_chunk_size", "kv_cache_size", times[0]), where=where)
    batches = measured(decode, ("batch_size", "kv_cache_size", times[1]), where=where)
    return AttentionProfile(
        prefill=ragged_grid(
            ((chunk, kv - counted_in * chunk, time * unit_s) for chunk, kv, time in chunks.iter_rows()),
            ("chunk", "start"),
        ),
        decode=ragged_grid(
            ((count, kv, time * unit_s) for count, kv, time in batches.iter_rows()), ("sequences", "context")
        ),
    )


def _first(frame: pl.DataFrame, column: str) -> int | None:
    return int(frame[column][0]) if column in frame.columns else None
