"""GPUs by name: peak rates, memory, power, links and list price, each with its source (``gpus.toml``).

Peaks are dense: datasheets that quote structured sparsity are halved. What a kernel reaches of them is the
latency model's business.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from servesim.errors import ScenarioError, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Interconnect:
    """A link from one GPU to the others of its server.

    Attributes
    ----------
    name
        Such as ``"nvlink-4"`` or ``"pcie-5"``.
    bandwidth_bytes_per_s
        Peak of one GPU in one direction, over all of its links.
    """

    name: str
    bandwidth_bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as its datasheet describes it.

    Attributes
    ----------
    name, generation
        Catalog name and architecture.
    multiprocessors
        Streaming multiprocessors (compute units) that are enabled.
    memory_bytes
        Memory as the driver reports it, before any runtime takes its part.
    memory_bandwidth_bytes_per_s
        Peak.
    cache_bytes
        Cache that all multiprocessors share.
    tdp_w
        Thermal design power of the board.
    link
        What GPUs of one server exchange tensors over: NVLink, or PCIe where there is none.
    pcie
        Link to the host.
    fp32_flops_per_s, fp16_flops_per_s, bf16_flops_per_s, fp8_flops_per_s, int8_flops_per_s, fp4_flops_per_s
        Peak dense rate of matrix multiplication by format, None where the hardware has none. ``fp32`` is
        without tensor cores.
    usd_per_h, price_source
        On-demand list price of one GPU for an hour, and who asks it, when; None where no list price is known.
    source, retrieved, note
        Where the facts come from, when they were looked up, and what is unsure about them.
    """

    name: str
    generation: str
    multiprocessors: int
    memory_bytes: int
    memory_bandwidth_bytes_per_s: float
    cache_bytes: float
    tdp_w: float
    link: Interconnect
    pcie: Interconnect
    fp32_flops_per_s: float
    fp16_flops_per_s: float
    bf16_flops_per_s: float | None = None
    fp8_flops_per_s: float | None = None
    int8_flops_per_s: float | None = None
    fp4_flops_per_s: float | None = None
    usd_per_h: float | None = None
    price_source: str = ""
    source: str = ""
    retrieved: str = ""
    note: str = ""

    @property
    def tf32_flops_per_s(self) -> float:
        """Peak dense rate of 32 bits rounded for tensor cores: half that of bf16, without which there is none."""
        return self.bf16_flops_per_s / 2 if self.bf16_flops_per_s else self.fp32_flops_per_s

    def peak_flops_per_s(self, dtype: str) -> float:
        """Return the peak rate of multiplying numbers of format *dtype*.

        Formats that the hardware lacks are multiplied as fp16, as engines do after unpacking them.
        """
        return getattr(self, f"{dtype}_flops_per_s", None) or self.fp16_flops_per_s


def gpu(name: str) -> Gpu:
    """Return the GPU called *name*.

    Raises
    ------
    ScenarioError
        If the catalog has no such GPU.

    Examples
    --------
    >>> gpu("h100-sxm").memory_bandwidth_bytes_per_s
    3350000000000.0
    """
    entries = _entries()
    if name not in entries:
        raise ScenarioError(
            f"gpu: not in the catalog (got {name!r}). expected one of {', '.join(entries)}.",
            hint=nearest(name, entries),
        )
    return entries[name]


def gpu_names() -> list[str]:
    """Return the names of all GPUs in the catalog, in its order."""
    return list(_entries())


@cache
def _entries() -> dict[str, Gpu]:
    data = tomllib.loads((files(__package__) / "gpus.toml").read_text(encoding="utf-8"))
    return {name: _gpu(name, entry) for name, entry in data.items()}


def _gpu(name: str, entry: dict[str, Any]) -> Gpu:
    memory_bytes = entry.pop("memory_mib") * 2**20
    pcie = Interconnect(**entry.pop("pcie"))
    nvlink = entry.pop("link", None)
    return Gpu(
        name=name,
        memory_bytes=memory_bytes,
        pcie=pcie,
        link=Interconnect(**nvlink) if nvlink else pcie,
        **entry,
    )
