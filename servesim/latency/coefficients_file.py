"""A user's own coefficients of kernels: files that ``scripts/fit_profile.py`` writes, checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields
from importlib.resources import files
from math import inf
from pathlib import Path
from typing import Any

from servesim.catalog import Gpu
from servesim.errors import ScenarioError, nearest
from servesim.latency.efficiency import (
    AllReduce,
    Decode,
    Elementwise,
    Experts,
    Gemm,
    Prefill,
)

SHIPPED = ("h200-sxm-profile", "h100-sxm-profile")
"""Files that come with servesim: what ``servesim profile`` measured on an H200 and on an H100."""

SECTIONS: dict[str, type[Any]] = {
    **{f"gemm.{dtype}": Gemm for dtype in ("bf16", "fp8", "nvfp4", "fp32", "tf32")},
    **{f"experts.{dtype}": Experts for dtype in ("bf16", "fp8", "nvfp4", "int4", "mxfp4")},
    **{f"{latent}decode.{dtype}": Decode for latent in ("", "latent_") for dtype in ("bf16", "fp8")},
    **{f"{latent}prefill.{dtype}": Prefill for latent in ("", "latent_") for dtype in ("bf16", "fp8")},
    "all_reduce": AllReduce,
    "elementwise": Elementwise,
}
"""What a file may have: kernels by the format that they compute in, attention by that of the KV cache."""

BEYOND_PEAK = ("cache_share", "critical_share")
"""Shares that may exceed 1: they are none of a peak."""


def read_coefficients(path: Path, gpu: Gpu) -> dict[str, dict[str, Any]]:
    """Return the sections of the file *path*, or of the shipped one that it names.

    Raises
    ------
    ScenarioError
        If there is no such file, or it is of another form or GPU, or has numbers that are none of kernels.
    """
    name = path.name if path.name in SHIPPED and not path.exists() else None
    try:
        text = (
            (files(__package__) / "fitted" / f"{name}.toml").read_text(encoding="utf-8")
            if name
            else path.read_text(encoding="utf-8")
        )
        found = tomllib.loads(text)
    except FileNotFoundError:
        raise ScenarioError(
            f"coefficients: no such file (got {path}). expected one, or {', '.join(SHIPPED)}",
            hint=nearest(path.name, SHIPPED),
        ) from None
    except (OSError, ValueError) as error:
        raise ScenarioError(f"{path}: unreadable ({error}). expected TOML") from error
    sections = found.get("coefficients")
    if not isinstance(sections, Mapping) or not sections:
        raise ScenarioError(f"{path}: no coefficients. expected a file of scripts/fit_profile.py")
    if found.get("gpu") != gpu.name:
        raise ScenarioError(
            f"{path}: coefficients of another GPU (got {found.get('gpu')!r}). expected {gpu.name!r}"
        )
    for section, values in sections.items():
        _check(section, values, path)
    return dict(sections)


def _check(section: str, values: Any, path: Path) -> None:
    kind = SECTIONS.get(section)
    where = f"{path}: {section}"
    if kind is None or not isinstance(values, Mapping):
        raise ScenarioError(
            f"{where}: unknown. expected one of {', '.join(SECTIONS)}", hint=nearest(section, SECTIONS)
        )
    for name in [field.name for field in fields(kind)]:
        value = values.get(name)
        least = -1.0 if name == "contention" else 0.0
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < inf:
            raise ScenarioError(
                f"{where}: {name}: no coefficient (got {value!r}). expected a number from {least:g} on"
            )
        share = name.endswith("_share") and name not in BEYOND_PEAK
        if share and value > 1:
            raise ScenarioError(
                f"{where}: {name}: beats the peak (got {value!r}). expected a share of 1 at most"
            )
        if share and name != "wave_share" and not value > 0:
            raise ScenarioError(f"{where}: {name}: no rate (got {value!r}). expected more than 0")
        if name == "overlap" and value < 1:
            raise ScenarioError(
                f"{where}: overlap: slower than one after the other (got {value!r}). expected 1 or more"
            )
