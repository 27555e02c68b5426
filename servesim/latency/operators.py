"""What one GPU runs in a step of a model: matrices, experts, attention, activations, all-reduces.

Shapes only, after what vLLM fuses: one matrix for queries, keys and values, one for gate and up. What they take is
`servesim.latency.efficiency`. Pipelines are not in here: all layers are, as if they followed one another on one GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from servesim.catalog import Gpu, ModelArchitecture, Parallelism
from servesim.catalog.dtypes import BYTES_PER_ELEMENT
from servesim.latency.efficiency import ACTIVATION_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Multiplications with weights of *n* x *k*, *count* times in a step, on every token (or every sequence).

    *shared* are those of shared experts, which run beside the routed ones: `shared_stream_tokens`.
    """

    n: float
    k: float
    count: int
    dtype: str
    shared: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedExperts:
    """The routed experts of *count* layers.

    Attributes
    ----------
    experts, experts_per_token, hidden
        As the model has them.
    weights
        Of one expert, on one of its GPUs.
    groups
        Data-parallel groups whose tokens meet here.
    ranks
        GPUs that whole experts are spread over; 1 where each has a slice of all.
    count, dtype
        Layers, and number format of the weights.
    """

    experts: int
    experts_per_token: int
    hidden: int
    weights: float
    groups: int
    ranks: int
    count: int
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Attention of one layer on one GPU.

    Attributes
    ----------
    heads, head_dim
        Query heads on this GPU, and the width of one.
    group
        Query heads that share keys and values.
    kv_bytes
        What one cached token takes: KV heads are split, never below one; a latent vector is not.
    flops_per_pair, decode_flops_per_pair
        Operations for one attended pair, in prefill and in decode.
    expand_flops
        Operations to expand a cached latent token for prefill; 0 without latent attention.
    """

    heads: float
    head_dim: int
    group: float
    kv_bytes: float
    flops_per_pair: float
    decode_flops_per_pair: float
    expand_flops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AllReduces:
    """Sums over *ranks* GPUs, *count* times in a step, of *token_bytes* for each token of a group.

    With more than one of *groups* their tokens are gathered before, and the sums scattered after.
    """

    ranks: int
    token_bytes: int
    count: int
    groups: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    """All of a step on one GPU.

    Attributes
    ----------
    matrices
        On every token.
    head
        The output head, on one token of every sequence.
    experts, attention
        Of the layers that have them.
    elementwise_kernels, elementwise_bytes
        Kernels between those, and what they move for each token.
    all_reduces
        Sums over GPUs. Where groups gather their tokens for the experts and scatter the results, that
        moves as much as a sum does, and counts as one.
    """

    matrices: tuple[Matrix, ...]
    head: Matrix
    experts: RoutedExperts | None
    attention: Attention
    elementwise_kernels: int
    elementwise_bytes: float
    all_reduces: tuple[AllReduces, ...]


LAYER_KERNELS = 4
"""Two norms with residual, rotation, the MLP's activation. The cache write counts as attention."""

EXPERT_LAYER_KERNELS = 3
"""Without the activation, which the experts' own measurement contains; a shared expert has its own."""

ATTENTION_KERNELS = 2
"""The cache write, and the attention itself."""

LATENT_ATTENTION_KERNELS = 5
"""Norms of the two compressed vectors, and the gathering of keys that were expanded, besides those."""

SHARED_STREAM_TOKENS = 256
"""Most tokens for which vLLM runs shared experts on a stream of their own, on NVIDIA's GPUs: pull requests 26440, which
measured 5.7 % less per token of DeepSeek-R1 on eight B200, and 28406."""


def weight_bytes(matrices: Iterable[Matrix]) -> float:
    """Return what the weights of *matrices* take, all layers together."""
    return sum(matrix.count * matrix.n * matrix.k * BYTES_PER_ELEMENT[matrix.dtype] for matrix in matrices)


def shared_stream_tokens(gpu: Gpu) -> int:
    """Return the most tokens for which shared experts run beside the routed ones on *gpu*; 0: they never do."""
    return 0 if gpu.generation.startswith("cdna") else SHARED_STREAM_TOKENS


JOINT_NORM_KERNELS = 2
"""The squares' sums, and the scaling, of queries and keys that are normalised over all heads at once."""

JOINT_NORM_BYTES = 8
"""Two sums of squares of a token, of its queries and its keys, of 32 bits each."""


def operators(model: ModelArchitecture, parallelism: Parallelism) -> Operators:
    """Return what one of a replica's GPUs runs in a step of *model*.

    Examples
    --------
    >>> from servesim.catalog import Parallelism, model
    >>> [(int(m.n), int(m.k)) for m in operators(model("llama-3.1-8b"), Parallelism()).matrices]
    [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336)]
    """
    tensor_parallel = parallelism.tensor
    shared = model.moe.shared_experts if model.moe else 0
    return Operators(
        matrices=tuple(m for m in _matrices(model, tensor_parallel) if m.count and m.n and m.k),
        head=Matrix(
            n=model.vocab_size / tensor_parallel,
            k=model.hidden_size,
            count=1,
            dtype="fp32" if model.dtype == "fp32" else "bf16",  # quantised models keep 16 bits here
        ),
        experts=_experts(model, parallelism),
        attention=_attention(model, tensor_parallel),
        elementwise_kernels=LAYER_KERNELS * (model.layers - model.moe_layers)
        + (EXPERT_LAYER_KERNELS + bool(shared)) * model.moe_layers
        + JOINT_NORM_KERNELS * model.layers * model.joint_qk_norm,
        elementwise_bytes=_elementwise_elements(model, tensor_parallel) * ACTIVATION_BYTES,
        all_reduces=_all_reduces(model, parallelism),
    )


def launched_kernels(model: ModelArchitecture, parallelism: Parallelism) -> int:
    """Return how many kernels a step of *model* starts on one GPU, if no CUDA graph does, those of experts left out.

    Examples
    --------
    >>> from servesim.catalog import Parallelism, model
    >>> launched_kernels(model("llama-3.1-8b"), Parallelism()) // 32
    10
    """
    ops = operators(model, parallelism)
    return (
        sum(matrix.count for matrix in (*ops.matrices, ops.head))
        + (LATENT_ATTENTION_KERNELS if model.mla else ATTENTION_KERNELS) * model.layers
        + ops.elementwise_kernels
        + sum(sums.count for sums in ops.all_reduces)
    )


def _matrices(model: ModelArchitecture, ranks: int) -> list[Matrix]:
    hidden, layers, dtype = model.hidden_size, model.layers, model.attention_dtype
    if model.mla:
        found = _latent_matrices(model, ranks)
    else:
        kv_heads = max(model.kv_heads / ranks, 1)
        width = (model.heads / ranks + 2 * kv_heads) * model.head_dim
        found = [
            Matrix(n=width, k=hidden, count=layers, dtype=dtype),
            Matrix(n=hidden, k=model.heads * model.head_dim / ranks, count=layers, dtype=dtype),
        ]
    found += _mlp(model, model.intermediate_size / ranks, layers - model.moe_layers)
    if model.moe:
        shared = _mlp(model, model.moe.shared_experts * model.moe.intermediate_size / ranks, model.moe_layers)
        found += [replace(matrix, shared=True) for matrix in shared]
        found.append(
            Matrix(n=model.moe.experts, k=hidden, count=model.moe_layers, dtype=model.moe.router_dtype)
        )
    return found


def _mlp(model: ModelArchitecture, width: float, layers: int) -> list[Matrix]:
    return [
        Matrix(n=(model.mlp_matrices - 1) * width, k=model.hidden_size, count=layers, dtype=model.dtype),
        Matrix(n=model.hidden_size, k=width, count=layers, dtype=model.dtype),
    ]


def _latent_matrices(model: ModelArchitecture, ranks: int) -> list[Matrix]:
    """Compress queries, keys and values (not split), expand them for this GPU's heads, and the output."""
    mla, layers, dtype, hidden = model.mla, model.layers, model.attention_dtype, model.hidden_size
    assert mla is not None
    heads = model.heads / ranks
    query_width = heads * (mla.qk_nope_head_dim + mla.qk_rope_head_dim)
    compressed = mla.kv_lora_rank + mla.qk_rope_head_dim
    expanded = heads * (mla.qk_nope_head_dim + mla.v_head_dim)
    return [
        Matrix(n=compressed + (mla.q_lora_rank or query_width), k=hidden, count=layers, dtype=dtype),
        Matrix(n=query_width if mla.q_lora_rank else 0, k=mla.q_lora_rank or 0, count=layers, dtype=dtype),
        Matrix(n=expanded, k=mla.kv_lora_rank, count=layers, dtype=dtype),
        Matrix(n=hidden, k=heads * mla.v_head_dim, count=layers, dtype=dtype),
    ]


def _all_reduces(model: ModelArchitecture, parallelism: Parallelism) -> tuple[AllReduces, ...]:
    """After the attention and the dense MLP within a group, after the experts over all groups, in a joint norm."""
    token_bytes = model.hidden_size * ACTIVATION_BYTES
    found = [
        AllReduces(
            ranks=parallelism.tensor, token_bytes=token_bytes, count=2 * model.layers - model.moe_layers
        ),
        AllReduces(
            ranks=parallelism.expert_ranks,
            token_bytes=parallelism.data * token_bytes,
            count=model.moe_layers,
            groups=parallelism.data,
        ),
        AllReduces(
            ranks=parallelism.tensor,
            token_bytes=JOINT_NORM_BYTES,
            count=model.layers * model.joint_qk_norm,
        ),
    ]
    return tuple(sums for sums in found if sums.ranks > 1 and sums.count)


def _experts(model: ModelArchitecture, parallelism: Parallelism) -> RoutedExperts | None:
    if model.moe is None:
        return None
    ranks = parallelism.expert_ranks
    return RoutedExperts(
        experts=model.moe.experts,
        experts_per_token=model.moe.experts_per_token,
        hidden=model.hidden_size,
        weights=model.expert_parameters / (1 if parallelism.expert else ranks),
        groups=parallelism.data,
        ranks=ranks if parallelism.expert else 1,
        count=model.moe_layers,
        dtype=model.expert_dtype,
    )


def _attention(model: ModelArchitecture, ranks: int) -> Attention:
    mla = model.mla
    if mla is None:
        head_dim, expand = model.head_dim, 0.0
    else:
        head_dim = mla.qk_nope_head_dim + mla.qk_rope_head_dim
        expand = 2.0 * mla.kv_lora_rank * model.heads * (mla.qk_nope_head_dim + mla.v_head_dim) / ranks
    return Attention(
        heads=model.heads / ranks,
        head_dim=head_dim,
        group=model.heads / model.kv_heads if mla is None else 1.0,
        kv_bytes=kv_bytes_per_token_layer(model, ranks),
        flops_per_pair=model.attention_flops_per_pair / ranks,
        decode_flops_per_pair=model.decode_attention_flops_per_pair / ranks,
        expand_flops=expand,
    )


def kv_bytes_per_token_layer(model: ModelArchitecture, tensor_parallel: int) -> float:
    """Return what one cached token takes in one layer on one GPU: KV heads are split, never below one."""
    if model.mla:
        return model.kv_bytes_per_token_layer
    return model.kv_bytes_per_token_layer * max(1.0, model.kv_heads / tensor_parallel) / model.kv_heads


def _elementwise_elements(model: ModelArchitecture, ranks: int) -> float:
    """Return how many elements move between the multiplications for a token, embedding excepted.

    Two norms with residual (4 widths each), rotation of queries and keys (2 widths; in latent attention values are put
    together with them), and the activation of dense MLPs and shared experts (its matrices' widths); that of routed
    experts is part of `Experts`. A router of 32 bits has its input written once more, twice as wide.
    """
    attention = (model.heads + model.kv_heads) * model.head_dim
    if model.mla:
        attention = model.heads * (
            model.mla.qk_nope_head_dim + model.mla.qk_rope_head_dim + model.mla.v_head_dim
        )
    width = (model.layers - model.moe_layers) * model.intermediate_size
    if model.moe:
        width += model.moe_layers * model.moe.shared_experts * model.moe.intermediate_size
    sharded = (model.layers * 2 * attention + model.mlp_matrices * width) / ranks
    wide = 2 * model.moe_layers * model.hidden_size if model.moe and model.moe.router_dtype != "bf16" else 0
    return model.layers * 8 * model.hidden_size + wide + sharded
