"""What a transformer is made of, and what follows from it: parameters, weight bytes, KV bytes, FLOPs.

Counted are the matrices. Norms, biases, rotary tables, learned positions, vision towers and
multi-token-prediction heads are not: together they stay below 0.5 % of the language models in the catalog.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from servesim.catalog.dtypes import BYTES_PER_ELEMENT


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Mixture of experts in place of the dense MLP.

    Attributes
    ----------
    experts, experts_per_token
        Routed experts of a layer, and how many of them a token visits.
    intermediate_size
        Width of one expert, routed or shared.
    shared_experts
        Experts of a layer that every token visits besides.
    dense_layers
        First layers that keep the dense MLP.
    router_dtype
        Number format in which experts are chosen.
    """

    experts: int
    experts_per_token: int
    intermediate_size: int
    shared_experts: int = 0
    dense_layers: int = 0
    router_dtype: str = "bf16"


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (MLA): keys and values compressed into one vector per token.

    Attributes
    ----------
    kv_lora_rank
        Width of the compressed keys and values, cached per token.
    qk_rope_head_dim
        Width of the rotary key that all heads share, cached beside it.
    qk_nope_head_dim, v_head_dim
        Width of a head's key without rotation, and of its value.
    q_lora_rank
        Width of the compressed query, or None for a plain query projection.
    """

    kv_lora_rank: int
    qk_rope_head_dim: int
    qk_nope_head_dim: int
    v_head_dim: int
    q_lora_rank: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelArchitecture:
    """A decoder-only transformer as its ``config.json`` describes it.

    Attributes
    ----------
    name
        Catalog name, or the path it was read from.
    layers, hidden_size, heads, kv_heads, head_dim, vocab_size
        Shape of the network; ``kv_heads`` is 1 and ``head_dim`` unused where *mla* is given.
    intermediate_size
        Width of the dense MLP; 0 where every layer has experts.
    gated_mlp
        Whether the MLP has three matrices (gate, up, down) instead of two.
    tied_embeddings
        Whether input embedding and output head are one matrix.
    context_tokens
        Longest sequence the model accepts.
    moe, mla
        Mixture of experts and latent attention, or None.
    sliding_window_tokens, sliding_layers
        Window of local attention, and how many layers have it; None and 0 where there is none.
    joint_qk_norm
        Whether queries and keys are normalised over all heads at once: GPUs that share the heads sum up squares first.
    bf16_attention
        Formats of which the published checkpoint keeps the matrices of attention in 16 bits.
    dtype, expert_dtype, kv_dtype
        Number formats of the weights, of the routed experts' weights, and of the KV cache.
    source, note
        Where the facts come from, and what is unsure about them.
    """

    name: str
    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    context_tokens: int
    tied_embeddings: bool = False
    gated_mlp: bool = True
    moe: Experts | None = None
    mla: LatentAttention | None = None
    sliding_window_tokens: int | None = None
    sliding_layers: int = 0
    joint_qk_norm: bool = False
    bf16_attention: tuple[str, ...] = ()
    dtype: str = "bf16"
    expert_dtype: str = "bf16"
    kv_dtype: str = "bf16"
    source: str = ""
    note: str = ""

    def with_rounded_router(self) -> ModelArchitecture:
        """Return it with a router of 32 bits, if it has one, rounded for tensor cores."""
        if self.moe is None or self.moe.router_dtype != "fp32":
            return self
        return replace(self, moe=replace(self.moe, router_dtype="tf32"))

    @property
    def moe_layers(self) -> int:
        """Layers with experts."""
        return self.layers - self.moe.dense_layers if self.moe else 0

    @property
    def attention_parameters(self) -> int:
        """Weights of the attention projections of one layer."""
        if self.mla is None:
            return self.hidden_size * self.head_dim * 2 * (self.heads + self.kv_heads)
        mla, hidden = self.mla, self.hidden_size
        query_width = self.heads * (mla.qk_nope_head_dim + mla.qk_rope_head_dim)
        query = hidden * query_width if mla.q_lora_rank is None else mla.q_lora_rank * (hidden + query_width)
        compress = hidden * (mla.kv_lora_rank + mla.qk_rope_head_dim)
        expand = mla.kv_lora_rank * self.heads * (mla.qk_nope_head_dim + mla.v_head_dim)
        return query + compress + expand + self.heads * mla.v_head_dim * hidden

    @property
    def attention_dtype(self) -> str:
        """Number format of the attention projections."""
        return "bf16" if self.dtype in self.bf16_attention else self.dtype

    @property
    def dense_bytes(self) -> float:
        """Memory of the weights that every token visits, without embeddings."""
        attention = self.layers * self.attention_parameters
        rest = self.dense_parameters - attention
        return attention * BYTES_PER_ELEMENT[self.attention_dtype] + rest * BYTES_PER_ELEMENT[self.dtype]

    @property
    def mlp_parameters(self) -> int:
        """Weights of the dense MLP of one layer."""
        return self.mlp_matrices * self.hidden_size * self.intermediate_size

    @property
    def expert_parameters(self) -> int:
        """Weights of one expert; 0 without experts."""
        return self.mlp_matrices * self.hidden_size * self.moe.intermediate_size if self.moe else 0

    @property
    def mlp_matrices(self) -> int:
        """Matrices of an MLP: 3 with a gate, else 2."""
        return 3 if self.gated_mlp else 2

    @property
    def embedding_parameters(self) -> int:
        """Weights of the input embedding, and as many of the output head."""
        return self.vocab_size * self.hidden_size

    @property
    def routed_parameters(self) -> int:
        """Weights of all routed experts of all layers."""
        return self.moe_layers * self.moe.experts * self.expert_parameters if self.moe else 0

    @property
    def dense_parameters(self) -> int:
        """Weights that every token visits, without embeddings: attention, MLP, shared experts, router."""
        dense = (
            self.layers * self.attention_parameters + (self.layers - self.moe_layers) * self.mlp_parameters
        )
        if self.moe:
            router = self.hidden_size * self.moe.experts
            dense += self.moe_layers * (self.moe.shared_experts * self.expert_parameters + router)
        return dense

    @property
    def parameters(self) -> int:
        """Weights of the whole network."""
        embeddings = self.embedding_parameters * (1 if self.tied_embeddings else 2)
        return self.dense_parameters + self.routed_parameters + embeddings

    @property
    def active_parameters(self) -> int:
        """Weights that one token is multiplied with: the input embedding is a look-up and does not count."""
        routed = self.moe_layers * self.moe.experts_per_token * self.expert_parameters if self.moe else 0
        return self.dense_parameters + routed + self.embedding_parameters

    @property
    def weight_bytes(self) -> int:
        """Memory of all weights. Embedding and output head of a quantised model stay 16 bits wide."""
        embeddings = self.embedding_parameters * (1 if self.tied_embeddings else 2)
        total = self.dense_bytes
        total += self.routed_parameters * BYTES_PER_ELEMENT[self.expert_dtype]
        return round(total + embeddings * self.embedding_element_bytes)

    @property
    def embedding_element_bytes(self) -> float:
        """Memory of one weight of the embedding or the output head."""
        return max(2.0, BYTES_PER_ELEMENT[self.dtype])

    @property
    def kv_bytes_per_token_layer(self) -> float:
        """Memory that one cached token takes in one layer, all KV heads."""
        width = 2 * self.kv_heads * self.head_dim
        if self.mla:
            width = self.mla.kv_lora_rank + self.mla.qk_rope_head_dim
        return width * BYTES_PER_ELEMENT[self.kv_dtype]

    @property
    def kv_bytes_per_token(self) -> int:
        """Memory that one cached token takes in all layers, as long as it lies within the sliding window."""
        return round(self.layers * self.kv_bytes_per_token_layer)

    def kv_bytes(self, tokens: int) -> int:
        """Return the memory that a sequence of *tokens* needs: sliding layers keep the last window only."""
        kept = min(tokens, self.sliding_window_tokens or tokens)
        layer_tokens = (self.layers - self.sliding_layers) * tokens + self.sliding_layers * kept
        return round(layer_tokens * self.kv_bytes_per_token_layer)

    @property
    def flops_per_token(self) -> int:
        """Floating-point operations of one token's matrix multiplications, attention scores excepted."""
        return 2 * self.active_parameters

    @property
    def attention_flops_per_pair(self) -> int:
        """Operations of one layer for one attended (query, key) pair in prefill: score and weighted value."""
        if self.mla:
            widths = self.mla.qk_nope_head_dim + self.mla.qk_rope_head_dim + self.mla.v_head_dim
            return 2 * self.heads * widths
        return 4 * self.heads * self.head_dim

    @property
    def decode_attention_flops_per_pair(self) -> int:
        """Operations of one layer for one attended pair in decode.

        Decode with latent attention works on the compressed vector itself (weight absorption: DeepSeek-V2,
        arXiv 2405.04434, section 2.1.2), which reads less and multiplies more.
        """
        if self.mla:
            return 2 * self.heads * (2 * self.mla.kv_lora_rank + self.mla.qk_rope_head_dim)
        return self.attention_flops_per_pair
