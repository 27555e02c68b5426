"""Fitted coefficients of kernels by GPU: files of `fitted/`, written by ``scripts/fit_coefficients.py``.

Each file is one GPU whose measured tables are public; beside every set of coefficients stand the rows it was fitted
to, its errors there, and the errors of the other GPUs' coefficients on the same rows. A GPU without tables takes
the coefficients of a relative, with its own peaks.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from servesim.catalog import Gpu
from servesim.catalog.dtypes import COMPUTE_DTYPE
from servesim.latency.efficiency import (
    AllReduce,
    Decode,
    Elementwise,
    Experts,
    Gemm,
    Mixed,
    Prefill,
)

MEASURED = ("a100-80gb-sxm", "h100-sxm", "h200-sxm", "b200-sxm", "l40s", "rtx-4090", "rtx-pro-6000")
"""GPUs with a file of their own."""

PROFILED = ("rtx-4090", "rtx-pro-6000")
"""Those whose files are fitted to layer profiles."""

RELATIVES = {
    "volta": "a100-80gb-sxm",
    "ampere": "a100-80gb-sxm",
    "ada": "l40s",
    "hopper": "h100-sxm",
    "blackwell": "b200-sxm",
    "cdna-3": "h100-sxm",
}
"""Whose coefficients a GPU takes that has none, by its generation."""

PCIE_RELATIVE = "l40s"
"""Whose coefficients GPUs with GDDR memory and without NVLink take: workstation boards, whatever their generation."""

LEFT_OUT_RELATIVES = {
    "rtx-4090": "l40s",
    "rtx-pro-6000": "l40s",
    "l40s": "b200-sxm",
    "a100-80gb-sxm": "h100-sxm",
    "h100-sxm": "b200-sxm",
    "h200-sxm": "b200-sxm",
}
"""Where a relative's file lacks an operator or a number format, the next one to ask."""

FLASH_ATTENTION_2 = {
    "a100-80gb-sxm": "rtx-4090",
    "l40s": "rtx-4090",
    "rtx-4090": "rtx-4090",
    "rtx-pro-6000": "rtx-pro-6000",
}
"""Whose mixed steps stand for those of GPUs on which vLLM runs FlashAttention 2."""

FULL_PRECISION = ("fp32", "tf32")
"""Formats of matrices with weights of 32 bits: routers of some models; tf32 rounds them for the tensor cores."""

MEASURED_IN_FULL = "h200-sxm"
"""The only GPU on which such matrices were measured: ``scripts/measure_routers.py``."""

Operator = TypeVar("Operator", Gemm, Experts, Decode, Prefill, Mixed, AllReduce, Elementwise)


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCoefficients:
    """What prices the kernels of one GPU.

    Attributes
    ----------
    gpu
        Whose peaks they are shares of.
    sources
        For each set of coefficients that was asked for, the GPU whose measurements it was fitted to.
    """

    gpu: Gpu
    sources: dict[str, str] = field(default_factory=dict)

    def gemm(self, dtype: str) -> Gemm:
        """Return those of multiplying with weights of format *dtype*; see `compute_dtype`."""
        if dtype in FULL_PRECISION:
            return self._find(Gemm, f"gemm.{dtype}", first=MEASURED_IN_FULL)
        return self._find(Gemm, f"gemm.{_key(self.gpu, dtype)}")

    def experts(self, dtype: str) -> Experts:
        """Return those of routed experts with weights of format *dtype*."""
        weight_only = dtype in ("int4", "mxfp4")
        return self._find(Experts, f"experts.{dtype if weight_only else _key(self.gpu, dtype)}")

    def decode(self, kv_dtype: str, *, latent: bool) -> Decode:
        """Return those of decode attention, latent or not."""
        return self._find(Decode, f"{'latent_' if latent else ''}decode.{_kv_key(kv_dtype)}")

    def prefill(self, kv_dtype: str, *, latent: bool) -> Prefill:
        """Return those of prefill attention, latent or not."""
        return self._find(Prefill, f"{'latent_' if latent else ''}prefill.{_kv_key(kv_dtype)}")

    def mixed(self) -> Mixed:
        """Return those of decodes beside chunks: measured where FlashAttention 2 runs, else they are separate."""
        name = relative(self.gpu)
        if name not in FLASH_ATTENTION_2:
            return Mixed(reread_share=0.0)
        return self._find(Mixed, "mixed.bf16", first=FLASH_ATTENTION_2[name])

    def all_reduce(self) -> AllReduce:
        """Return those of all-reduces: over PCIe they are those of `PCIE_RELATIVE`, where none were measured."""
        over_pcie = self.gpu.link is self.gpu.pcie and self.gpu.name not in MEASURED
        return self._find(AllReduce, "all_reduce", first=PCIE_RELATIVE if over_pcie else None)

    def benchmark_launch_s(self, phase: str, kv_dtype: str) -> float:
        """Return what latent attention took besides where it was measured, but does not in service."""
        entry = fitted(relative(self.gpu)).get(f"latent_{phase}.{_kv_key(kv_dtype)}", {})
        return float(entry.get("benchmark_launch_s", 0.0))

    def elementwise(self) -> Elementwise:
        """Return those of kernels that move activations."""
        return self._find(Elementwise, "elementwise")

    def _find(self, operator: type[Operator], section: str, *, first: str | None = None) -> Operator:
        name: str | None = first or relative(self.gpu)
        tried = set()
        while name is not None and name not in tried:
            tried.add(name)
            entry = fitted(name).get(section)
            if entry is not None:
                self.sources[section] = name
                return operator(**{f.name: entry[f.name] for f in fields(operator)})
            name = LEFT_OUT_RELATIVES.get(name)
        raise AssertionError(f"{self.gpu.name}: no coefficients of {section}")


def relative(gpu: Gpu) -> str:
    """Return the GPU whose coefficients *gpu* takes: itself where it was measured."""
    if gpu.name in MEASURED:
        return gpu.name
    if gpu.link is gpu.pcie and "pcie" not in gpu.name:
        return PCIE_RELATIVE
    return RELATIVES[gpu.generation]


def sustained_share(gpu: Gpu) -> float:
    """Return which share of the computing rate of short benchmarks lasts under load.

    Kernels that run for seconds reach the power limit, and clocks fall: known of Hopper and Blackwell. Layer profiles
    were measured in an engine at work: nothing is to be taken from those.
    """
    if gpu.generation not in ("hopper", "blackwell") or relative(gpu) in PROFILED:
        return 1.0
    return float(_clocks()["sustained_share"])


@cache
def _clocks() -> dict[str, Any]:
    return tomllib.loads((files(__package__) / "fitted" / "clocks.toml").read_text(encoding="utf-8"))


def compute_dtype(gpu: Gpu, dtype: str) -> str:
    """Return the format in which *gpu* multiplies weights of *dtype*: 16 bits for what it lacks."""
    wanted = COMPUTE_DTYPE[dtype]
    if dtype == "mxfp4" and relative(gpu) == "b200-sxm":
        return "fp8"  # activations are quantised, too: what the tables of Blackwell have
    return wanted if getattr(gpu, f"{wanted}_flops_per_s", None) else "fp16"


def _key(gpu: Gpu, dtype: str) -> str:
    return {"fp8": "fp8", "int8": "fp8", "fp4": "nvfp4"}.get(compute_dtype(gpu, dtype), "bf16")


def _kv_key(kv_dtype: str) -> str:
    return "fp8" if kv_dtype in ("fp8", "int8") else "bf16"


@cache
def fitted(name: str) -> dict[str, dict[str, Any]]:
    """Return the sections of the file of GPU *name*: coefficients, their rows, errors and ranges."""
    text = (files(__package__) / "fitted" / f"{name}.toml").read_text(encoding="utf-8")
    sections: dict[str, dict[str, Any]] = tomllib.loads(text)["coefficients"]
    return sections
