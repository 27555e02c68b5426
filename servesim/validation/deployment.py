"""From what served a measured run to a pool of a scenario: names of the catalog, and the engine's own defaults."""

from __future__ import annotations

import re
from typing import Any

from servesim.catalog import engine_versions, gpu_names, model_names
from servesim.catalog import gpu as find_gpu
from servesim.measurements.workload import Deployment

ASYNC_SINCE = (0, 14)
"""First version of vLLM that schedules asynchronously by default."""

LARGE_GPU_BYTES = 70 * 2**30
"""From this memory on (A100 excepted) vLLM's server takes larger steps: ``EngineArgs.get_batch_defaults``."""

_SUFFIXES = ("-instruct", "-it", "-hf", "-fp8", "-nvfp4", "-awq", "-0528")
_QUANTIZED = {"-fp8": "fp8", "-nvfp4": "nvfp4"}


def pool_of(deployment: Deployment) -> dict[str, Any]:
    """Return the pool of a scenario that serves as *deployment* does; what the file does not say is left out."""
    model, dtype = _model(deployment.model)
    gpu = _gpu(deployment.gpu)
    pool = {
        "name": "main",
        "model": model,
        "gpu": gpu,
        "tensor_parallel": deployment.tensor_parallel,
        "data_parallel": deployment.data_parallel,
        "expert_parallel": deployment.expert_parallel > 1,
        "dtype": deployment.dtype or dtype,
        "kv_dtype": deployment.kv_dtype,
        "engine": _engine(deployment, gpu),
    }
    return {key: value for key, value in pool.items() if value is not None}


def _model(name: str | None) -> tuple[str | None, str | None]:
    """Return the catalog's name of a model of the Hugging Face hub, and the number format that its name tells."""
    if name is None or name in model_names():
        return name, None
    short = name.rpartition("/")[2].lower()
    dtype = next((dtype for suffix, dtype in _QUANTIZED.items() if short.endswith(suffix)), None)
    while (stripped := _without_suffix(short)) != short:
        short = stripped
    if short.startswith("meta-"):
        short = short.removeprefix("meta-")
    return (short if short in model_names() else name), dtype


def _without_suffix(name: str) -> str:
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)


def _gpu(name: str | None) -> str | None:
    """Return the catalog's name of a GPU, whatever its case, its hyphens and underscores."""
    plain = {_plain(known): known for known in gpu_names()}
    return name if name is None else plain.get(_plain(name), name)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _engine(deployment: Deployment, gpu: str | None) -> dict[str, Any]:
    """Return the settings that are known, on top of what the version of the engine has by default."""
    settings: dict[str, Any] = {}
    if deployment.engine == "vllm" and (version := _version(deployment.engine_version)):
        settings |= {"version": _nearest_version(version), "async_scheduling": version >= ASYNC_SINCE}
    if gpu in gpu_names():
        device = find_gpu(str(gpu))
        if device.memory_bytes >= LARGE_GPU_BYTES and not device.name.startswith("a100"):
            settings |= {"max_num_batched_tokens": 8192, "max_num_seqs": 1024}
    return settings | dict(deployment.settings)


def _nearest_version(version: tuple[int, ...]) -> str:
    """Return the newest version of vLLM in the catalog that is not newer than *version*, else the oldest."""
    known = sorted((_version(name), name) for name in engine_versions() if name.startswith("vllm"))
    return next((name for number, name in reversed(known) if number <= version), known[0][1])


def _version(text: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text or "")[:2])
