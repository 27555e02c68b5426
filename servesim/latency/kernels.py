"""Costs of single kernels under the roofline: matrix multiplications, experts, attention, all-reduce.

Pure functions of shapes and of rates that already contain their efficiencies. How they add up to a step is
`servesim.latency.roofline`; equations and sources are in docs/model/latency.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from servesim.catalog import Gpu, ModelArchitecture
from servesim.catalog.dtypes import BYTES_PER_ELEMENT, COMPUTE_DTYPE

ACTIVATION_BYTES = 2
"""Activations travel in 16 bits, whatever the weights are."""


LAYER_KERNELS = 9
"""Norm, QKV, rotation and cache write, attention, output; norm, gate and up, activation, down."""

EXPERT_LAYER_KERNELS = 14
"""The same five of the attention; norm, gate, top-k, two of sorting, two multiplications, activation, sum."""

ALL_REDUCE_KERNELS = 3
"""An all-reduce counts as three: vLLM's own starts and ends with a barrier and takes 5 us when empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What one GPU attains: peaks of its datasheet times efficiencies.

    Attributes
    ----------
    gpu
        Where the peaks come from.
    gemm_efficiency
        Share of peak FLOP/s that matrix multiplications attain.
    memory_bytes_per_s
        Attained rate of reading weights and of moving activations.
    """

    gpu: Gpu
    gemm_efficiency: float
    memory_bytes_per_s: float

    def gemm_s(self, flops: float, weight_bytes: float, dtype: str) -> float:
        """Return the time of multiplications: bound by computing, or by reading the weights once."""
        flops_per_s = self.gemm_efficiency * self.gpu.peak_flops_per_s(COMPUTE_DTYPE[dtype])
        return max(flops / flops_per_s, weight_bytes / self.memory_bytes_per_s)


def expected_experts(experts: int, experts_per_token: int, tokens: int) -> float:
    """Return how many distinct experts *tokens* tokens visit on average if routing is uniform.

    Examples
    --------
    >>> expected_experts(8, 2, 1)
    2.0
    """
    return float(experts * (1.0 - (1.0 - experts_per_token / experts) ** tokens))


def layers_s(model: ModelArchitecture, rates: Rates, tokens: int, tensor_parallel: int) -> float:
    """Return the time of all matrix multiplications of a step on *tokens* tokens, output head excepted."""
    dense = model.dense_parameters / tensor_parallel
    total_s = rates.gemm_s(2.0 * dense * tokens, dense * BYTES_PER_ELEMENT[model.dtype], model.dtype)
    if model.moe:
        visited = expected_experts(model.moe.experts, model.moe.experts_per_token, tokens)
        per_expert = model.moe_layers * model.expert_parameters / tensor_parallel
        weight_bytes = visited * per_expert * BYTES_PER_ELEMENT[model.expert_dtype]
        flops = 2.0 * model.moe.experts_per_token * per_expert * tokens
        total_s += rates.gemm_s(flops, weight_bytes, model.expert_dtype)
    return total_s


def elementwise_s(model: ModelArchitecture, rates: Rates, tokens: int, tensor_parallel: int) -> float:
    """Return the time of what lies between the multiplications: activations are read and written.

    Counted per token and layer: two norms with residual (4 widths each), rotation of queries and keys and the
    write to the KV cache (2 widths of the attention), and the MLP's activation (its matrices' widths).
    """
    attention = model.heads * model.head_dim + 2 * model.kv_heads * model.head_dim
    if model.mla:
        attention = model.heads * (
            model.mla.qk_nope_head_dim + model.mla.qk_rope_head_dim + model.mla.v_head_dim
        )
    dense_width = model.mlp_matrices * model.intermediate_size
    width = (model.layers - model.moe_layers) * dense_width
    if model.moe:
        visited = model.moe.experts_per_token + model.moe.shared_experts
        width += model.moe_layers * visited * model.mlp_matrices * model.moe.intermediate_size
    sharded = (model.layers * 2 * attention + width) / tensor_parallel
    elements = model.layers * 8 * model.hidden_size + sharded
    return tokens * elements * ACTIVATION_BYTES / rates.memory_bytes_per_s


def head_s(model: ModelArchitecture, rates: Rates, sequences: int, tensor_parallel: int) -> float:
    """Return the time of the output head, which computes logits of one token per sequence."""
    weights = model.embedding_parameters / tensor_parallel
    return rates.gemm_s(2.0 * weights * sequences, weights * model.embedding_element_bytes, "bf16")


def kv_bytes_per_token_layer(model: ModelArchitecture, tensor_parallel: int) -> float:
    """Return what one cached token takes in one layer on one GPU: KV heads are split, never below one."""
    if model.mla:
        return model.kv_bytes_per_token_layer
    return model.kv_bytes_per_token_layer * max(1.0, model.kv_heads / tensor_parallel) / model.kv_heads


def all_reduce_s(bytes_per_gpu: float, ranks: int, link_bytes_per_s: float) -> float:
    """Return the transfer time of a ring all-reduce: each of n GPUs sends 2 (n - 1) / n of the message.

    Examples
    --------
    >>> all_reduce_s(1e9, 4, 300e9)
    0.005
    """
    return 2.0 * (ranks - 1) / ranks * bytes_per_gpu / link_bytes_per_s


def collectives_s(
    model: ModelArchitecture, tokens: int, tensor_parallel: int, link_bytes_per_s: float
) -> float:
    """Return the time of a step's all-reduces: after the attention and after the MLP of each layer."""
    message = float(tokens * model.hidden_size * ACTIVATION_BYTES)
    return 2.0 * model.layers * all_reduce_s(message, tensor_parallel, link_bytes_per_s)


def kernels(model: ModelArchitecture, tensor_parallel: int) -> int:
    """Return how many kernels the layers of a step run one after the other, all-reduces included."""
    dense_layers = model.layers - model.moe_layers
    count = LAYER_KERNELS * dense_layers + EXPERT_LAYER_KERNELS * model.moe_layers
    return count + (2 * ALL_REDUCE_KERNELS * model.layers if tensor_parallel > 1 else 0)
