"""How many KV-cache blocks one replica has: GPU memory minus weights, activations and runtime.

The estimate follows vLLM, which profiles one step of the largest size and gives the cache what is left of
``gpu_memory_utilization * memory``. Equations, sources and a comparison with published figures:
docs/model/memory.md. Which request holds which block is not in here (`servesim.cluster`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from servesim.catalog.architecture import ModelArchitecture
from servesim.catalog.dtypes import BYTES_PER_ELEMENT
from servesim.catalog.gpus import Gpu, gpu_names
from servesim.catalog.gpus import gpu as find_gpu
from servesim.catalog.parallelism import Parallelism
from servesim.errors import ScenarioError

RUNTIME_BYTES = round(0.45 * 2**30)
"""Driver context, libraries and workspaces, no tensors. Chosen so that the published KV capacities of
four models on an H100 with 64 GB (arXiv 2503.08311) are met; see docs/model/memory.md."""

LOGIT_BYTES = 10
"""Per sequence and vocabulary entry in sampling: 16-bit logits, a 32-bit copy and 32-bit probabilities."""

ACTIVATION_ELEMENT_BYTES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """What one GPU of a replica keeps in its memory, in bytes.

    Attributes
    ----------
    budget_bytes
        What the engine may use: utilisation times memory.
    weight_bytes, activation_bytes, runtime_bytes
        What is taken before the KV cache.
    kv_bytes_per_token
        What one cached token takes on this GPU, all layers.
    """

    budget_bytes: int
    weight_bytes: int
    activation_bytes: int
    runtime_bytes: int
    kv_bytes_per_token: float

    @property
    def kv_bytes(self) -> int:
        """What is left for the KV cache; negative when the model does not fit."""
        return self.budget_bytes - self.weight_bytes - self.activation_bytes - self.runtime_bytes


def kv_cache_blocks(
    model: ModelArchitecture,
    gpu: Gpu,
    *,
    parallelism: Parallelism,
    gpu_memory_utilization: float,
    kv_block_tokens: int,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    draft: ModelArchitecture | None = None,
) -> int:
    """Return how many KV-cache blocks of *kv_block_tokens* tokens each data-parallel group of a replica has.

    A block spans all layers and all GPUs of the group, so a sequence of n tokens takes
    ``ceil(n / kv_block_tokens)`` blocks whatever the parallelism. Sliding-window layers beside full ones get
    their windows set aside for *max_num_seqs* sequences, where that leaves more blocks than storing every
    token would. The weights and the cache of a *draft* model, for speculative decoding, are taken from the same memory.

    Raises
    ------
    ScenarioError
        If *parallelism* does not divide the model, or the model does not fit; the message says by how much and
        what would fit.

    Examples
    --------
    >>> from servesim.catalog import Parallelism, gpu, model
    >>> kv_cache_blocks(model("llama-3.1-8b"), gpu("h100-sxm"), parallelism=Parallelism(),
    ...                 gpu_memory_utilization=0.9, kv_block_tokens=16, max_num_batched_tokens=2048,
    ...                 max_num_seqs=256) > 20_000
    True
    """
    check_parallelism(model, parallelism)
    if draft is not None:
        check_parallelism(draft, parallelism)

    def plan_for(candidate: Gpu, degree: int) -> MemoryPlan:
        plan = plan_of(model, candidate, degree)
        if draft is None:
            return plan
        small = plan_of(draft, candidate, degree)
        return replace(
            plan,
            weight_bytes=plan.weight_bytes + small.weight_bytes,
            kv_bytes_per_token=plan.kv_bytes_per_token + small.kv_bytes_per_token,
        )

    def plan_of(own: ModelArchitecture, candidate: Gpu, degree: int) -> MemoryPlan:
        return memory_plan(
            own,
            candidate,
            parallelism=replace(parallelism, tensor=degree),
            gpu_memory_utilization=gpu_memory_utilization,
            max_num_batched_tokens=max_num_batched_tokens,
            max_num_seqs=max_num_seqs,
        )

    plan = plan_for(gpu, parallelism.tensor)
    blocks = _blocks(plan, model, kv_block_tokens, max_num_seqs)
    if blocks < 1:
        missing = (kv_block_tokens * plan.kv_bytes_per_token - plan.kv_bytes) / 2**30
        raise ScenarioError(
            f"memory: {model.name} does not fit {parallelism.gpus} x {gpu.name}: {missing:.2f} GiB per GPU "
            f"are missing (got {_describe(plan)}). expected room for one KV block.",
            hint=_what_fits(
                model,
                gpu,
                parallelism,
                lambda *where: _blocks(plan_for(*where), model, kv_block_tokens, max_num_seqs) >= 1,
            ),
        )
    return blocks


def memory_plan(
    model: ModelArchitecture,
    gpu: Gpu,
    *,
    parallelism: Parallelism,
    gpu_memory_utilization: float,
    max_num_batched_tokens: int,
    max_num_seqs: int,
) -> MemoryPlan:
    """Return what each GPU of a replica keeps in its memory; parameters as for `kv_cache_blocks`."""
    tensor = parallelism.tensor
    kv_share = 1.0 if model.mla else max(1, model.kv_heads // tensor) / model.kv_heads
    return MemoryPlan(
        budget_bytes=int(gpu_memory_utilization * gpu.memory_bytes),
        weight_bytes=_weight_bytes(model, parallelism),
        activation_bytes=_activation_bytes(model, tensor, max_num_batched_tokens, max_num_seqs),
        runtime_bytes=RUNTIME_BYTES,
        kv_bytes_per_token=model.kv_bytes_per_token * kv_share / parallelism.pipeline,
    )


def _weight_bytes(model: ModelArchitecture, parallelism: Parallelism) -> int:
    """Return the weights on each GPU; with a pipeline, on one of its last stage, which has the output head."""
    if parallelism.data == parallelism.pipeline == 1:
        return model.weight_bytes // parallelism.tensor
    matrices = 1 if model.tied_embeddings or parallelism.pipeline > 1 else 2
    embeddings = matrices * model.embedding_parameters * model.embedding_element_bytes / parallelism.tensor
    dense = model.dense_bytes / parallelism.tensor
    routed = model.routed_parameters * BYTES_PER_ELEMENT[model.expert_dtype] / parallelism.expert_ranks
    return round(embeddings + (dense + routed) / parallelism.pipeline)


def check_parallelism(model: ModelArchitecture, parallelism: Parallelism) -> None:
    """Refuse a *parallelism* that does not split *model* evenly.

    Raises
    ------
    ScenarioError
        If attention heads, KV heads or MLP widths are not divisible; the message lists the valid values up to
        64.
    """
    tensor = parallelism.tensor
    if not _divides(model, tensor, parallelism):
        valid = [str(degree) for degree in range(1, 65) if _divides(model, degree, parallelism)]
        raise ScenarioError(
            f"tensor_parallel: does not divide {model.name}: {model.heads} heads, {model.kv_heads} KV heads, "
            f"MLP width {_mlp_width(model)} (got {tensor!r}). expected one of {', '.join(valid)}."
        )
    if parallelism.pipeline > model.layers:
        raise ScenarioError(
            f"pipeline_parallel: more stages than {model.name} has layers (got {parallelism.pipeline}). "
            f"expected at most {model.layers}."
        )
    ranks = parallelism.expert_ranks
    if parallelism.expert and (model.moe is None or model.moe.experts % ranks):
        has = f"{model.moe.experts} experts" if model.moe else "no experts"
        raise ScenarioError(
            f"expert_parallel: {model.name} has {has} (got {ranks} GPUs). expected a number that divides them."
        )


def _divides(model: ModelArchitecture, tensor_parallel: int, parallelism: Parallelism) -> bool:
    if tensor_parallel < 1 or model.heads % tensor_parallel:
        return False
    slices = tensor_parallel * (parallelism.data if model.moe else 1)
    if not (parallelism.expert and model.moe) and _mlp_width(model) % slices:
        return False
    if model.mla:  # the compressed vector is replicated, whatever the degree
        return True
    return model.kv_heads % tensor_parallel == 0 or tensor_parallel % model.kv_heads == 0


def _mlp_width(model: ModelArchitecture) -> int:
    return model.moe.intermediate_size if model.moe else model.intermediate_size


def _activation_bytes(
    model: ModelArchitecture, tensor_parallel: int, max_num_batched_tokens: int, max_num_seqs: int
) -> int:
    """Return the estimated peak of activations in the largest step: tensors of the MLP and of sampling."""
    width = 2 * model.hidden_size + model.mlp_matrices * model.intermediate_size / tensor_parallel
    if model.moe:
        expert = model.mlp_matrices * model.moe.intermediate_size / tensor_parallel + model.hidden_size
        width = max(width, 2 * model.hidden_size + model.moe.experts_per_token * expert)
    mlp = max_num_batched_tokens * width * ACTIVATION_ELEMENT_BYTES
    return round(mlp + max_num_seqs * model.vocab_size * LOGIT_BYTES)


def _blocks(plan: MemoryPlan, model: ModelArchitecture, kv_block_tokens: int, max_num_seqs: int) -> int:
    every_token = plan.kv_bytes / (kv_block_tokens * plan.kv_bytes_per_token)
    if not model.sliding_window_tokens or model.sliding_layers == model.layers:
        return int(every_token)
    layer_bytes = plan.kv_bytes_per_token / model.layers
    windows = max_num_seqs * model.sliding_window_tokens * model.sliding_layers * layer_bytes
    full_layers = (model.layers - model.sliding_layers) * layer_bytes
    return int(max(every_token, (plan.kv_bytes - windows) / (kv_block_tokens * full_layers)))


def _describe(plan: MemoryPlan) -> str:
    parts = (
        ("weights", plan.weight_bytes),
        ("activations", plan.activation_bytes),
        ("runtime", plan.runtime_bytes),
    )
    taken = " + ".join(f"{size / 2**30:.2f} GiB {what}" for what, size in parts)
    return f"{taken} of {plan.budget_bytes / 2**30:.2f} GiB usable"


def _what_fits(
    model: ModelArchitecture, gpu: Gpu, parallelism: Parallelism, holds: Callable[[Gpu, int], bool]
) -> str:
    degrees = [
        degree for degree in range(1, 65) if _divides(model, degree, parallelism) and holds(gpu, degree)
    ]
    single = [name for name in gpu_names() if holds(find_gpu(name), 1)]
    parts = [
        f"it fits with tensor_parallel: {degrees[0]}"
        if degrees
        else "no tensor_parallel up to 64 makes it fit"
    ]
    parts += [f"one GPU that holds it: {', '.join(single)}"] if single else []
    return "; ".join(parts)
