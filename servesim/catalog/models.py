"""Model architectures by name (``models.toml``) or from a Hugging Face ``config.json``, never from afar."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from servesim.catalog.architecture import Experts, LatentAttention, ModelArchitecture
from servesim.catalog.dtypes import KV_DTYPES, check_dtype
from servesim.catalog.huggingface import read_config
from servesim.errors import ScenarioError, nearest


def model(
    name_or_path: str | Path, *, dtype: str | None = None, kv_dtype: str | None = None
) -> ModelArchitecture:
    """Return the architecture called *name_or_path*, or read it from disk.

    Parameters
    ----------
    name_or_path
        A catalog name, a ``config.json``, or a directory that holds one.
    dtype
        Number format of the weights, experts included; default: as published.
    kv_dtype
        Number format of the KV cache; default: 16 bits, as engines choose.

    Raises
    ------
    ScenarioError
        If the name or a number format is unknown, or the file is no config of a known family.

    Examples
    --------
    >>> model("llama-3.1-8b").kv_bytes_per_token
    131072
    >>> model("llama-3.1-8b", kv_dtype="fp8").kv_bytes_per_token
    65536
    """
    found = _find(name_or_path)
    if dtype is not None:
        check_dtype(dtype, f"model {found.name}: dtype")
        found = replace(found, dtype=dtype, expert_dtype=dtype)
    if kv_dtype is not None:
        found = replace(found, kv_dtype=check_dtype(kv_dtype, f"model {found.name}: kv_dtype", KV_DTYPES))
    return found


def model_names() -> list[str]:
    """Return the names of all models in the catalog, in its order."""
    return list(_entries())


def _find(name_or_path: str | Path) -> ModelArchitecture:
    entries = _entries()
    if str(name_or_path) in entries:
        return entries[str(name_or_path)]
    path = Path(name_or_path)
    if path.is_dir():
        path = path / "config.json"
    if path.is_file():
        return read_config(path)
    raise ScenarioError(
        f"model: neither in the catalog nor a file (got {str(name_or_path)!r}). "
        f"expected one of {', '.join(entries)}, or the path of a config.json.",
        hint=nearest(str(name_or_path), entries),
    )


@cache
def _entries() -> dict[str, ModelArchitecture]:
    data = tomllib.loads((files(__package__) / "models.toml").read_text(encoding="utf-8"))
    return {name: _architecture(name, entry) for name, entry in data.items()}


def _architecture(name: str, entry: dict[str, Any]) -> ModelArchitecture:
    entry.setdefault("expert_dtype", entry.get("dtype", "bf16"))
    moe, mla = entry.pop("moe", None), entry.pop("mla", None)
    entry["bf16_attention"] = tuple(entry.get("bf16_attention", ()))
    return ModelArchitecture(
        name=name,
        moe=Experts(**moe) if moe else None,
        mla=LatentAttention(**mla) if mla else None,
        **entry,
    )
