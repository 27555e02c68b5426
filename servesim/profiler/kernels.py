"""What a profiler times: kernels by their shapes, with the work that is in them.

A kernel says how many operations it takes and how many bytes it must move, from which the least time on a GPU follows.
How it is launched is a device's business.
"""

from __future__ import annotations

from dataclasses import dataclass

from servesim.catalog import Gpu
from servesim.catalog.dtypes import BYTES_PER_ELEMENT

WIDE_BYTES = 2
"""Of a number of 16 bits: activations, keys and values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """*tokens* rows times a matrix of *n* x *k* weights in *dtype*."""

    tokens: int
    n: int
    k: int
    dtype: str

    @property
    def flops(self) -> float:
        """Operations."""
        return 2.0 * self.tokens * self.n * self.k

    @property
    def moved_bytes(self) -> float:
        """Weights and inputs read once, results written once."""
        element_bytes = BYTES_PER_ELEMENT[self.dtype]
        return (self.n + self.tokens) * self.k * element_bytes + self.tokens * self.n * WIDE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Attention of one layer: one chunk of a prompt, decodes of equal contexts, or both.

    Attributes
    ----------
    heads, kv_heads, head_dim
        On one GPU.
    window
        Tokens of the sliding window, or None.
    chunk, start
        Tokens of the chunk, and those before it in the KV cache; no chunk: 0.
    sequences, context
        Decodes, and the tokens that each attends to, its own included; no decodes: 0.
    """

    heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    chunk: int = 0
    start: int = 0
    sequences: int = 0
    context: int = 0

    @property
    def lengths(self) -> list[tuple[int, int]]:
        """Queries and keys of every sequence, keys that no query sees left out."""
        found = [(1, min(self.context, self.window or self.context))] * self.sequences
        if self.chunk:
            before = self.start if self.window is None else min(self.start, self.window - 1)
            found.append((self.chunk, before + self.chunk))
        return found

    @property
    def flops(self) -> float:
        """Scores and weighted values of all pairs that the mask leaves."""
        pairs = 0.0
        for queries, keys in self.lengths:
            seen = queries * (keys - (queries - 1) / 2)
            pairs += min(seen, queries * float(self.window or keys))
        return 4.0 * self.heads * self.head_dim * pairs

    @property
    def moved_bytes(self) -> float:
        """Keys and values read once, queries read and results written once."""
        queries = sum(each for each, _ in self.lengths)
        elements = 2 * self.kv_heads * self.cached_tokens + 2 * self.heads * queries
        return float(elements * self.head_dim * WIDE_BYTES)

    @property
    def cached_tokens(self) -> int:
        """Keys of all sequences."""
        return sum(keys for _, keys in self.lengths)

    @property
    def dtype(self) -> str:
        """Format that is multiplied in."""
        return "bf16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """The routed experts of one layer, in 16 bits.

    Attributes
    ----------
    tokens, per_token, visited
        Tokens, experts that each is sent to, and how many experts get any; they are spread evenly.
    hidden, width, gated
        Shape of an expert on one GPU, and whether it has three matrices instead of two.
    """

    tokens: int
    per_token: int
    visited: int
    hidden: int
    width: int
    gated: bool

    @property
    def up_width(self) -> int:
        """Columns of the first matrix: gate and up are one."""
        return self.width * (2 if self.gated else 1)

    @property
    def pairs(self) -> int:
        """Rows that the experts multiply together."""
        return self.tokens * self.per_token

    @property
    def flops(self) -> float:
        """Operations of all pairs."""
        return 2.0 * self.pairs * self.hidden * (self.up_width + self.width)

    @property
    def moved_bytes(self) -> float:
        """Weights of the visited experts, and what comes in and goes out of each pair."""
        weights = self.visited * self.hidden * (self.up_width + self.width)
        return float((weights + self.pairs * (2 * self.hidden + 2 * self.up_width)) * WIDE_BYTES)

    @property
    def dtype(self) -> str:
        """Format that is multiplied in."""
        return "bf16"


PASSES = {
    "embedding": 2.0,  # a row read, a row written
    "norm": 4.0,  # input and residual read, residual and result written
    "rotation": 2.0,
    "cache_write": 2.0,
    "gated_activation": 1.5,  # gate and up read, half as much written
    "activation": 2.0,
    "sampling": 1.0,  # logits read
}
"""How often each elementwise kernel moves its width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise:
    """One of `PASSES` on *tokens* rows of *width* numbers of 16 bits."""

    kind: str
    tokens: int
    width: int

    @property
    def reads_cache(self) -> bool:
        """Whether the kernel before has written what this one reads; an embedding's rows come from memory."""
        return self.kind != "embedding"

    @property
    def flops(self) -> float:
        """Too few to count."""
        return 0.0

    @property
    def moved_bytes(self) -> float:
        """What is read and written."""
        return PASSES[self.kind] * self.tokens * self.width * WIDE_BYTES

    @property
    def dtype(self) -> str:
        """Format that is computed in."""
        return "bf16"


@dataclass(frozen=True, slots=True, kw_only=True)
class AllReduce:
    """A sum over *ranks* GPUs of *width* numbers of 16 bits for each of *tokens* tokens."""

    ranks: int
    tokens: int
    width: int

    @property
    def message_bytes(self) -> int:
        """What every GPU holds."""
        return self.tokens * self.width * WIDE_BYTES


Local = Gemm | Attention | Experts | Elementwise
"""Kernels that one GPU runs alone."""

Kernel = Local | AllReduce


def least_s(kernel: Kernel, gpu: Gpu) -> float:
    """Return the least time of *kernel* on *gpu*: at its peaks.

    Examples
    --------
    >>> from servesim.catalog import gpu
    >>> round(1e6 * least_s(Gemm(tokens=1, n=4096, k=4096, dtype="bf16"), gpu("h100-sxm")), 1)
    10.0
    """
    if isinstance(kernel, AllReduce):
        moved = 2.0 * (kernel.ranks - 1) / kernel.ranks * kernel.message_bytes
        return moved / gpu.link.bandwidth_bytes_per_s
    return max(
        kernel.flops / gpu.peak_flops_per_s(kernel.dtype),
        kernel.moved_bytes / gpu.memory_bandwidth_bytes_per_s,
    )
