"""From a scenario to the objects of a cluster: catalog look-ups, KV capacity, latency models, policies."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from servesim.catalog import Gpu, ModelArchitecture, gpu, kv_cache_blocks, model
from servesim.cluster.engine import Engine
from servesim.latency import LATENCY_MODELS
from servesim.latency.api import LatencyContext, LatencyModel
from servesim.policies import ROUTERS, SCHEDULERS
from servesim.policies.api import Router, Scheduler
from servesim.scenario import PoolSpec, Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool of a scenario, resolved: what all its replicas have in common."""

    spec: PoolSpec
    architecture: ModelArchitecture
    gpu: Gpu
    engine: Engine
    latency: LatencyModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugins:
    """The objects that a run decides with: from the scenario, unless the caller passed its own."""

    router: Router
    scheduler: Scheduler
    latency: LatencyModel | None = None


def build_plugins(
    scenario: Scenario,
    *,
    router: Router | None = None,
    scheduler: Scheduler | None = None,
    latency: LatencyModel | None = None,
) -> Plugins:
    """Return the policies of *scenario*; an object given here replaces the one that it names."""
    policies = scenario.policies
    return Plugins(
        router=ROUTERS.build(policies.router.name, policies.router.parameters) if router is None else deepcopy(router),
        scheduler=(
            SCHEDULERS.build(policies.scheduler.name, policies.scheduler.parameters)
            if scheduler is None
            else deepcopy(scheduler)
        ),
        latency=latency,
    )


def build_pool(spec: PoolSpec, latency: LatencyModel | None = None) -> Pool:
    """Return *spec* with everything computed that it leaves open.

    Raises
    ------
    ScenarioError
        If the model does not fit the GPUs.
    """
    settings = spec.engine
    architecture = model(spec.model, dtype=spec.dtype, kv_dtype=spec.kv_dtype)
    device = gpu(spec.gpu)
    kv_blocks = settings.kv_blocks
    if kv_blocks is None:
        kv_blocks = kv_cache_blocks(
            architecture,
            device,
            tensor_parallel=spec.tensor_parallel,
            gpu_memory_utilization=settings.gpu_memory_utilization,
            kv_block_tokens=settings.kv_block_tokens,
            max_num_batched_tokens=settings.max_num_batched_tokens,
            max_num_seqs=settings.max_num_seqs,
        )
    max_model_len = settings.max_model_len or architecture.context_tokens
    engine = Engine(
        max_num_seqs=settings.max_num_seqs,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        kv_block_tokens=settings.kv_block_tokens,
        kv_blocks=kv_blocks,
        context_limit=min(max_model_len, kv_blocks * settings.kv_block_tokens + 1),
        chunked_prefill=settings.chunked_prefill,
        prefill_only_steps=settings.prefill_only_steps,
        leap=settings.leap,
    )
    if latency is None:
        latency = LATENCY_MODELS.build(spec.latency.name, spec.latency.parameters)
    else:
        latency = deepcopy(latency)
    latency.reset(
        LatencyContext(
            model=architecture,
            gpu=device,
            tensor_parallel=spec.tensor_parallel,
            max_num_seqs=settings.max_num_seqs,
            max_num_batched_tokens=settings.max_num_batched_tokens,
            async_scheduling=settings.async_scheduling,
        )
    )
    return Pool(spec=spec, architecture=architecture, gpu=device, engine=engine, latency=latency)


def uses_oracle(policy: Any) -> bool:
    """Return whether *policy*, or a policy among its parameters, looks at what a server cannot know."""
    if getattr(policy, "oracle", False):
        return True
    parts = vars(policy).values() if hasattr(policy, "__dict__") else ()
    return any(hasattr(part, "reset") and uses_oracle(part) for part in parts)
