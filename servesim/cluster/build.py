"""From a scenario to the objects of a cluster: catalog look-ups, KV capacity, latency models, policies."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from types import MemberDescriptorType
from typing import Any

from servesim.catalog import (
    NO_FRONT_END,
    FrontEndCosts,
    Gpu,
    HostCosts,
    ModelArchitecture,
    engine_version,
    gpu,
    kv_cache_blocks,
    model,
)
from servesim.catalog.speculative import Speculation, measured_acceptance, ratio_of
from servesim.cluster.engine import Engine
from servesim.errors import PluginError
from servesim.latency import LATENCY_MODELS
from servesim.latency.api import LatencyContext, LatencyModel
from servesim.latency.encoder import encoder_s_per_token
from servesim.policies import ROUTERS, SCHEDULERS
from servesim.policies.api import Router, Scheduler
from servesim.scenario import PoolSpec, Scenario
from servesim.scenario.schema import EngineSpec

ROUTER_METHODS = ("reset", "route")
SCHEDULER_METHODS = ("reset", "key")
LATENCY_METHODS = ("reset", "price")
"""Methods of the protocols of `servesim.policies.api` and `servesim.latency.api`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A pool of a scenario, resolved: what all its replicas have in common."""

    spec: PoolSpec
    architecture: ModelArchitecture
    gpu: Gpu
    engine: Engine
    latency: LatencyModel
    front_end: FrontEndCosts


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugins:
    """The objects that a run decides with: from the scenario, unless the caller passed its own."""

    router: Router
    scheduler: Scheduler


def build_plugins(
    scenario: Scenario,
    *,
    router: Router | None = None,
    scheduler: Scheduler | None = None,
) -> Plugins:
    """Return the policies of *scenario*; an object given here replaces the one that it names.

    Raises
    ------
    PluginError
        If such an object is none of its kind.
    """
    _check_given("router", router, ROUTER_METHODS, key="policies.router")
    _check_given("scheduler", scheduler, SCHEDULER_METHODS, key="policies.scheduler")
    policies = scenario.policies
    return Plugins(
        router=(
            ROUTERS.build(policies.router.name, policies.router.parameters)
            if router is None
            else deepcopy(router)
        ),
        scheduler=(
            SCHEDULERS.build(policies.scheduler.name, policies.scheduler.parameters)
            if scheduler is None
            else deepcopy(scheduler)
        ),
    )


def build_pool(spec: PoolSpec, latency: LatencyModel | None = None) -> Pool:
    """Return *spec* with everything computed that it leaves open.

    Raises
    ------
    ScenarioError
        If the model does not fit the GPUs.
    PluginError
        If *latency* is no latency model.
    """
    _check_given("latency model", latency, LATENCY_METHODS, key="cluster.pools.NAME.latency")
    settings = spec.engine
    architecture = model(spec.model, dtype=spec.dtype, kv_dtype=spec.kv_dtype)
    if settings.float32_matmul_precision == "high":
        architecture = architecture.with_rounded_router()
    device = gpu(spec.gpu)
    drafting = speculation_of(settings)
    kv_blocks = settings.kv_blocks
    if kv_blocks is None:
        kv_blocks = kv_cache_blocks(
            with_draft_layer(architecture, drafting),
            device,
            parallelism=spec.parallelism,
            gpu_memory_utilization=settings.gpu_memory_utilization,
            kv_block_tokens=settings.kv_block_tokens,
            max_num_batched_tokens=settings.max_num_batched_tokens,
            max_num_seqs=settings.max_num_seqs,
            draft=drafting.draft if drafting else None,
        )
    engine = _engine(spec, device, kv_blocks=kv_blocks, context_tokens=architecture.context_tokens)
    groups = spec.data_parallel
    version = engine_version(settings.version)
    if latency is None:  # noqa: SIM108
        latency = LATENCY_MODELS.build(spec.latency.name, spec.latency.parameters)
    else:
        latency = deepcopy(latency)
    latency.reset(
        LatencyContext(
            model=architecture,
            gpu=device,
            tensor_parallel=spec.tensor_parallel,
            data_parallel=groups,
            pipeline_parallel=spec.pipeline_parallel,
            expert_parallel=spec.expert_parallel,
            max_num_seqs=groups * settings.max_num_seqs,
            max_num_batched_tokens=groups * settings.max_num_batched_tokens,
            async_scheduling=is_asynchronous(settings),
            graph_tokens_max=graph_tokens_max(settings),
            prompt_graphs=version.prompt_graphs if settings.prompt_graphs is None else settings.prompt_graphs,
            moe_backend=settings.moe_backend,
            host=host_costs(settings),
            speculation=drafting,
        )
    )
    return Pool(
        spec=spec,
        architecture=architecture,
        gpu=device,
        engine=engine,
        latency=latency,
        front_end=front_end_costs(settings, latency),
    )


def _engine(spec: PoolSpec, device: Gpu, *, kv_blocks: int, context_tokens: int) -> Engine:
    """Return the settings of a replica's engine; *kv_blocks* are those of one of its data-parallel groups."""
    settings = spec.engine
    max_model_len = settings.max_model_len or context_tokens
    groups = spec.data_parallel
    drafting = speculation_of(settings)
    spare = 0 if drafting is None else drafting.slot_tokens - 1
    return Engine(
        async_scheduling=is_asynchronous(settings),
        max_num_seqs=groups * settings.max_num_seqs,
        max_num_batched_tokens=groups * settings.max_num_batched_tokens,
        kv_block_tokens=settings.kv_block_tokens,
        kv_blocks=groups * kv_blocks,
        watermark_blocks=groups * int(settings.kv_watermark_ratio * kv_blocks),
        context_limit=min(max_model_len, kv_blocks * settings.kv_block_tokens + 1 - spare),
        chunked_prefill=settings.chunked_prefill,
        prefill_only_steps=settings.prefill_only_steps,
        leap=settings.leap,
        step_noise_cv=settings.step_noise_cv,
        speculative=drafting,
        encoder_s_per_token=(
            encoder_s_per_token(device)
            if settings.encoder_s_per_token is None
            else settings.encoder_s_per_token
        ),
    )


def speculation_of(settings: EngineSpec) -> Speculation | None:
    """Return how the engine drafts, with the probability that stands for the acceptance it was given; or None."""
    spec = settings.speculative
    if spec is None:
        return None
    ratio, length = spec.acceptance_ratio, spec.acceptance_length
    if spec.acceptance is not None:
        length = measured_acceptance(spec.acceptance).lengths[spec.draft_tokens - 1]
    if ratio is None:
        assert length is not None, "checked with the scenario"
        ratio = ratio_of(length, spec.draft_tokens)
    return Speculation(
        method=spec.method,
        draft_tokens=spec.draft_tokens,
        acceptance_ratio=ratio,
        draft=None if spec.draft_model is None else model(spec.draft_model),
    )


def with_draft_layer(architecture: ModelArchitecture, drafting: Speculation | None) -> ModelArchitecture:
    """Return the model as its memory sees it: with one layer more, weights and KV cache, where that drafts."""
    if drafting is None or not drafting.has_layer:
        return architecture
    return replace(architecture, layers=architecture.layers + 1)


def is_asynchronous(settings: EngineSpec) -> bool:
    """Return whether steps are scheduled ahead: as the scenario says, else as the engine's version does."""
    if settings.async_scheduling is not None:
        return settings.async_scheduling
    return engine_version(settings.version).async_scheduling


def graph_tokens_max(settings: EngineSpec) -> int:
    """Return the most tokens of a step that runs as a CUDA graph: as the scenario says, else as the version does.

    No more than twice the tokens of the largest batch is captured, nor than a step may hold (vLLM,
    ``_set_cudagraph_sizes``).
    """
    if settings.graph_tokens_max is not None:
        return min(settings.graph_tokens_max, settings.max_num_batched_tokens)
    largest = engine_version(settings.version).graph_tokens_max
    drafting = speculation_of(settings)
    batch_tokens = settings.max_num_seqs * (drafting.step_tokens if drafting else 1)
    return min(largest, 2 * batch_tokens, settings.max_num_batched_tokens)


def host_costs(settings: EngineSpec) -> HostCosts:
    """Return what the host takes: as the scenario says, else as the engine's version does."""
    given = settings.host.model_dump(exclude_none=True)
    return replace(engine_version(settings.version).host, **given)


def front_end_costs(settings: EngineSpec, latency: LatencyModel) -> FrontEndCosts:
    """Return what the front end takes: as the scenario says, else as the engine's version does.

    A latency model without a host is no version's engine: all it says is all there is.
    """
    of_version = getattr(latency, "has_host", False)
    costs = engine_version(settings.version).front_end if of_version else NO_FRONT_END
    return replace(costs, **settings.front_end.model_dump(exclude_none=True))


def _check_given(kind: str, given: object, methods: tuple[str, ...], *, key: str) -> None:
    """Refuse an object from the caller that is none of its kind: the run would fail late and unclearly."""
    wanted = f"an object with the methods {' and '.join(methods)}"
    if isinstance(given, str):
        raise PluginError(
            f"{kind}: a name where an object belongs (got {given!r}). expected {wanted}",
            hint=f"names go into the scenario, as {key}.name={given}",
        )
    if isinstance(given, type):
        raise PluginError(
            f"{kind}: a class where an object belongs (got {given.__qualname__}). expected {wanted}",
            hint=f"pass an instance, such as {given.__qualname__}()",
        )
    missing = [name for name in methods if not callable(getattr(given, name, None))]
    if given is not None and missing:
        raise PluginError(
            f"{kind}: {type(given).__qualname__} has no {' and no '.join(missing)} (got {given!r}). "
            f"expected {wanted}",
            hint=f"built-in ones are named in the scenario, as {key}.name",
        )


def uses_oracle(policy: object) -> bool:
    """Return whether *policy*, or a policy among its attributes, looks at what a server cannot know.

    Policies are found in lists, tuples, sets and mappings too, and in attributes with and without slots.
    """
    seen: set[int] = set()
    todo = [policy]
    while todo:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, list | tuple | set | frozenset):
            todo += part
        elif isinstance(part, Mapping):
            todo += part.values()
        elif part is policy or hasattr(part, "reset"):
            if getattr(part, "oracle", False):
                return True
            todo += _attributes(part)
    return False


def _attributes(part: object) -> list[Any]:
    """Return the values of an object's attributes, whether they are kept in a dictionary or in slots."""
    slots = [
        getattr(part, name)
        for cls in type(part).__mro__
        for name, member in vars(cls).items()
        if isinstance(member, MemberDescriptorType) and hasattr(part, name)
    ]
    return [*slots, *getattr(part, "__dict__", {}).values()]
