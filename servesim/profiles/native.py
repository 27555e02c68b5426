"""Profiles that ``servesim profile`` writes: one folder per model, GPU and number format.

``profile.json`` tells what was measured, on what and how; ``tpN/`` holds a CSV file per table for N GPUs: the columns
of `SHAPES`, ``time_s`` (a median), and how well that is known. ``calls`` is how often a step runs the operator, all
layers together. Attention has no chunk, or no decodes, where these columns are 0, and no window where that is.
``loads.csv`` stands beside them, and prices nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from servesim.errors import ServesimError
from servesim.profiles.files import measured, read_table
from servesim.profiles.grid import Grid, grid_of, ragged_grid
from servesim.profiles.layer_profile import AttentionProfile, LayerProfile

FORMAT = "servesim profile 1"
"""What ``profile.json`` calls itself."""

SHAPES = {
    "dense": ("operator", "calls", "tokens"),
    "per_sequence": ("operator", "calls", "sequences"),
    "attention": ("window", "chunk", "start", "sequences", "context"),
    "experts": ("tokens", "experts"),
    "all_reduce": ("calls", "tokens"),
}
"""Table to the columns that tell a row's shape."""

ARCHITECTURE = (
    *("layers", "hidden_size", "intermediate_size", "head_dim", "vocab_size"),
    *("dtype", "expert_dtype", "kv_dtype"),
)
"""What a model that is priced has in common with the one that was measured, besides its heads."""


def is_profile(path: Path) -> bool:
    """Return whether the folder *path* is such a profile."""
    return (path / "profile.json").is_file()


def read_profile(path: Path, tensor_parallel: int) -> LayerProfile:
    """Return the profile at *path* for *tensor_parallel* GPUs.

    Raises
    ------
    ServesimError
        If a file is unreadable or missing, the profile is not finished, or it lacks that degree, a column or a shape.
    """
    facts = read_facts(path)
    if not facts.get("complete"):
        raise ServesimError(
            f"{path}: a profile that is not finished. expected all of its rows",
            hint="the command that began it goes on: servesim profile ... --out " + str(path),
        )
    folder = path / f"tp{tensor_parallel}"
    if not folder.is_dir():
        known = ", ".join(sorted(each.name for each in path.glob("tp*")))
        raise ServesimError(
            f"{path}: no profile of {tensor_parallel} GPUs (got {known}). expected tp{tensor_parallel}",
            hint=f"servesim profile --tensor-parallel {tensor_parallel} adds them",
        )
    file, frame = read_table(folder, "attention")
    attention = measured(frame, (*SHAPES["attention"], "time_s"), where=file)
    windows = {
        bool(window): _attention(rows, where=f"{file}: window {window}")
        for (window,), rows in attention.group_by("window", maintain_order=True)
    }
    if not windows:
        raise ServesimError(f"{file}: no rows. expected some")
    model = facts["model"]
    return LayerProfile(
        gpu=str(facts.get("gpu", "")),
        tensor_parallel=tensor_parallel,
        heads=model.get("heads"),
        kv_heads=model.get("kv_heads"),
        architecture={name: model[name] for name in ARCHITECTURE if name in model},
        engine=f"servesim profile, {facts.get('attention', '?')}",
        per_layer={},
        per_step=_operators(folder, "dense", "tokens"),
        per_sequence=_operators(folder, "per_sequence", "sequences"),
        experts=_experts(folder),
        attention=windows.get(False) or windows[True],
        window=windows.get(True),
        all_reduces=_all_reduces(folder),
        fitted=tuple(facts.get("left_out", ())),
    )


def read_facts(path: Path) -> dict[str, Any]:
    """Return what ``profile.json`` in the folder *path* tells.

    Raises
    ------
    ServesimError
        If it is unreadable or of another form.
    """
    file = path / "profile.json"
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ServesimError(f"{file}: unreadable ({error})") from error
    found = facts.get("format") if isinstance(facts, dict) else None
    if found != FORMAT:
        raise ServesimError(f"{file}: another format (got {found!r}). expected {FORMAT!r}")
    if not isinstance(facts.get("model"), Mapping):
        raise ServesimError(f"{file}: model: no mapping (got {facts.get('model')!r}). expected its shape")
    return dict(facts)


def _operators(folder: Path, name: str, axis: str) -> dict[str, Grid]:
    """Return the time of each operator in a step."""
    file, frame = read_table(folder, name)
    frame = measured(frame, (*SHAPES[name], "time_s"), where=file)
    return {
        str(operator): Grid({axis: rows[axis].to_list()}, (rows["calls"] * rows["time_s"]).to_numpy())
        for (operator,), rows in frame.group_by("operator", maintain_order=True)
    }


def _experts(folder: Path) -> Grid | None:
    """Return the time of a layer's experts; more than tokens can visit take what the most of them take."""
    if not any(folder.glob("experts.*")):
        return None
    file, frame = read_table(folder, "experts")
    frame = measured(frame, (*SHAPES["experts"], "time_s"), where=file)
    experts = sorted(frame["experts"].unique())
    values = []
    for _, rows in frame.group_by("tokens", maintain_order=True):
        values.append(np.interp(experts, rows["experts"], rows["time_s"]))
    return Grid({"tokens": sorted(frame["tokens"].unique()), "experts": experts}, values)


def _all_reduces(folder: Path) -> Grid | None:
    if not any(folder.glob("all_reduce.*")):
        return None
    file, frame = read_table(folder, "all_reduce")
    frame = measured(frame, (*SHAPES["all_reduce"], "time_s"), where=file)
    frame = frame.sort("tokens")
    return Grid({"tokens": frame["tokens"].to_list()}, (frame["calls"] * frame["time_s"]).to_numpy())


def _attention(rows: pl.DataFrame, *, where: str) -> AttentionProfile:
    """Return the grids; decodes that did not fit the GPU's memory are filled along the context."""
    chunk, sequences = pl.col("chunk"), pl.col("sequences")
    decode = rows.filter(chunk == 0).select("sequences", "context", "time_s")
    prefill = rows.filter(sequences == 0).select("chunk", "start", "time_s")
    both = rows.filter((chunk > 0) & (sequences > 0))
    for name, each in (("decode", decode), ("prefill", prefill)):
        if each.is_empty():
            raise ServesimError(f"{where}: no rows of {name}. expected some")
    mixed = None
    if both.height:
        names = ("chunk", "start", "sequences", "context")
        axes = {name: sorted(both[name].unique()) for name in names}
        mixed = grid_of(both.select(*names, "time_s").iter_rows(), axes, where=where)
    axes = {name: sorted(prefill[name].unique()) for name in ("chunk", "start")}
    return AttentionProfile(
        decode=ragged_grid(decode.iter_rows(), ("sequences", "context")),
        prefill=grid_of(prefill.iter_rows(), axes, where=where),
        mixed=mixed,
    )
