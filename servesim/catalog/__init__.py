"""Facts about hardware, models and engines: `Gpu`, `ModelArchitecture` and `EngineVersion` by name, with sources.

The data lie in ``gpus.toml``, ``models.toml`` and ``engines.toml`` beside this file and are read on first use. How
fast a model runs on a GPU is not in here (see `servesim.latency`); how much KV cache fits is in
`servesim.catalog.memory`.
"""

from __future__ import annotations

from servesim.catalog.architecture import Experts, LatentAttention, ModelArchitecture
from servesim.catalog.engines import (
    NO_FRONT_END,
    EngineVersion,
    FrontEndCosts,
    HostCosts,
    engine_version,
    engine_versions,
)
from servesim.catalog.gpus import Gpu, Interconnect, gpu, gpu_names
from servesim.catalog.memory import kv_cache_blocks
from servesim.catalog.models import model, model_names
from servesim.catalog.parallelism import Parallelism

__all__ = [
    "NO_FRONT_END",
    "EngineVersion",
    "Experts",
    "FrontEndCosts",
    "Gpu",
    "HostCosts",
    "Interconnect",
    "LatentAttention",
    "ModelArchitecture",
    "Parallelism",
    "engine_version",
    "engine_versions",
    "gpu",
    "gpu_names",
    "kv_cache_blocks",
    "model",
    "model_names",
]
