"""Layer profiles of LLMServingSim 2 (casys-kaist/LLMServingSim, MIT): one folder per model, GPU and number format.

``meta.yaml`` names GPU, engine and grid; ``tpN/`` holds the tables for N GPUs, as CSV or Parquet, times in us:
``dense`` (layer, tokens), ``per_sequence`` (layer, sequences), ``attention`` (prefill_chunk, kv_prefill, n_decode,
kv_decode) and, for mixtures of experts, ``moe`` (tokens, activated_experts). Tables of N GPUs hold what one of them
takes, collectives excepted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from servesim.errors import ServesimError
from servesim.profiles.files import measured, read_table
from servesim.profiles.grid import Grid, grid_of
from servesim.profiles.layer_profile import AttentionProfile, LayerProfile

PER_STEP = {"embedding", "final_layernorm"}
"""Dense layers that a step runs once; the others are those of every transformer layer."""

TWICE = {"layernorm"}
"""Those that a transformer layer runs twice: before the attention and before the MLP."""

ATTENTION = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us")


def is_profile(path: Path) -> bool:
    """Return whether the folder *path* is such a profile."""
    return (path / "meta.yaml").is_file() and any(path.glob("tp*/dense.*"))


def read_profile(path: Path, tensor_parallel: int) -> LayerProfile:
    """Return the profile at *path* for *tensor_parallel* GPUs.

    Raises
    ------
    ServesimError
        If a file is unreadable or missing, or a table lacks a column or a shape.
    """
    folder = path / f"tp{tensor_parallel}"
    if not folder.is_dir():
        known = ", ".join(sorted(each.name for each in path.glob("tp*")))
        raise ServesimError(
            f"{path}: no profile of {tensor_parallel} GPUs (got {known}). expected tp{tensor_parallel}"
        )
    meta = _meta(path / "meta.yaml")
    dense = _curves(folder, "dense", "tokens")
    overrides = meta.get("engine_effective", {}).get("hf_overrides", {})
    # The profiler shrinks the model to what one GPU holds; the last degree that it measured stands in the file.
    split = max(meta.get("tp_degrees", [1]))
    return LayerProfile(
        gpu=str(meta.get("hardware", "")),
        tensor_parallel=tensor_parallel,
        heads=_times(overrides.get("num_attention_heads"), split),
        kv_heads=_times(overrides.get("num_key_value_heads"), split),
        engine=f"vllm {meta.get('vllm_version', '?')}",
        per_layer={
            name: Grid(curve.axes, curve.values * 2.0) if name in TWICE else curve
            for name, curve in dense.items()
            if name not in PER_STEP
        },
        per_step={name: curve for name, curve in dense.items() if name in PER_STEP},
        per_sequence=_curves(folder, "per_sequence", "sequences"),
        experts=_experts(folder),
        attention=_attention(folder, meta.get("attention_grid", {})),
        architecture=_architecture(path, overrides, split),
    )


def _architecture(path: Path, overrides: dict[str, int], split: int) -> dict[str, object]:
    """Return what tells the model: of one with experts, the width of a dense layer that it has not stands there."""
    names = ["vocab_size"] if any(path.glob("tp*/moe.*")) else ["vocab_size", "intermediate_size"]
    return {name: overrides[name] * split for name in names if name in overrides}


def _times(value: int | None, factor: int) -> int | None:
    return None if value is None else value * factor


def _meta(path: Path) -> dict[str, Any]:
    try:
        data = YAML(typ="safe", pure=True).load(path)
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise ServesimError(f"{path}: unreadable ({error})") from error
    if not isinstance(data, dict):
        raise ServesimError(f"{path}: no mapping (got {type(data).__name__}). expected keys and values")
    return data


def _curves(folder: Path, name: str, axis: str) -> dict[str, Grid]:
    file, frame = read_table(folder, name)
    frame = measured(frame, ("layer", axis, "time_us"), where=file)
    return {
        str(layer): Grid({axis: rows[axis].to_list()}, rows["time_us"].to_numpy() * 1e-6)
        for (layer,), rows in frame.group_by("layer", maintain_order=True)
    }


def _experts(folder: Path) -> Grid | None:
    """Return the experts' times; more experts than tokens can visit take what the most of them take."""
    if not any(folder.glob("moe.*")):
        return None
    file, frame = read_table(folder, "moe")
    frame = measured(frame, ("tokens", "activated_experts", "time_us"), where=file)
    wide = frame.pivot("activated_experts", index="tokens", values="time_us").sort("tokens")
    experts = sorted(int(column) for column in wide.columns[1:])
    values = wide.select(map(str, experts)).to_numpy().astype(np.float64)
    for row in values:
        known = np.flatnonzero(~np.isnan(row))
        row[:] = np.interp(np.arange(len(row)), known, row[known])
    return Grid({"tokens": wide["tokens"].to_list(), "experts": experts}, values * 1e-6)


def _attention(folder: Path, grid: dict[str, Any]) -> AttentionProfile:
    """Return the attention tables: of decodes alone, of chunks alone, and of both together.

    A chunk without decodes may have been measured on several grids; the one that ``meta.yaml`` states is complete.
    """
    file, frame = read_table(folder, "attention")
    frame = measured(frame, ATTENTION, where=file)
    chunk, sequences = pl.col("prefill_chunk"), pl.col("n_decode")
    where = f"{folder}: attention"
    decode = frame.filter(chunk == 0)
    prefill = frame.filter(sequences == 0)
    both = frame.filter((chunk > 0) & (sequences > 0))
    chunks = _stated(prefill["prefill_chunk"], grid.get("chunk_factor"))
    starts = _stated(prefill["kv_prefill"], grid.get("kv_factor"))
    decodes = _values(decode["n_decode"]), _values(decode["kv_decode"])
    decode_grid = grid_of(
        decode.select("n_decode", "kv_decode", pl.col("time_us") * 1e-6).iter_rows(),
        {"sequences": decodes[0], "context": decodes[1]},
        where=where,
    )
    prefill_grid = grid_of(
        prefill.select("prefill_chunk", "kv_prefill", pl.col("time_us") * 1e-6).iter_rows(),
        {"chunk": chunks, "start": starts},
        where=where,
    )
    mixed_grid = None
    if both.height:
        mixed_grid = grid_of(
            both.select(*ATTENTION[:4], pl.col("time_us") * 1e-6).iter_rows(),
            {
                "chunk": chunks,
                "start": starts,
                "sequences": _values(both["n_decode"]),
                "context": _stated(both["kv_decode"], grid.get("kv_factor")),
            },
            where=where,
        )
    return AttentionProfile(decode=decode_grid, prefill=prefill_grid, mixed=mixed_grid)


def _values(column: pl.Series) -> list[int]:
    return sorted(column.unique().to_list())


def _stated(column: pl.Series, factor: float | None) -> list[int]:
    """Return the values of an axis that lie on its stated grid: zero, and 16 times powers of *factor*."""
    values = _values(column)
    if not factor:
        return values
    largest, stated, point = max(values), {0}, 16.0
    while point <= largest:
        stated.add(round(point))
        point *= factor
    return [value for value in values if value in stated]
