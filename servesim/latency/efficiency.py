"""What kernels take: pure functions of shapes, of a GPU's peaks, and of coefficients fitted to measured tables.

Each operator is priced as its physics: a start, then computing or moving bytes, whichever is slower, at the share
of the peak that kernels of that kind reach. Token counts may be numbers or numpy arrays. No function beats a peak:
shares are at most 1 and everything else only adds. The coefficients and what they were fitted to are in
`servesim.latency.coefficients`; which operators a model runs is in `servesim.latency.operators`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias, TypeVar

Numbers: TypeAlias = Any
"""A number, or a numpy array of them: the functions work on both."""

TILE = 128
"""Edge of the tiles that matrix multiplications and attention compute at a time (CUTLASS, FlashAttention)."""

ACTIVATION_BYTES = 2
"""Activations travel in 16 bits, whatever the weights are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """What one GPU could do at best: FLOP/s in one number format, memory bandwidth, multiprocessors, shared cache."""

    flops_per_s: float
    bytes_per_s: float
    multiprocessors: int
    cache_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gemm:
    """Coefficients of matrix multiplications in one number format.

    Attributes
    ----------
    launch_s
        Start and end of a kernel.
    depth_s
        Latency per element of the inner dimension, which no parallelism hides.
    row_s
        Work per row of the activations, such as quantising them.
    bandwidth_share, flops_share
        Shares of the peaks that large ones reach.
    overlap
        Exponent p with which computing and reading overlap, ``(c**p + r**p)**(1/p)``: 1 adds, infinite hides.
    wave_share
        How much of the loss by whole waves of `TILE` x `TILE` tiles is left; libraries avoid it by
        other tiles and by splitting the inner dimension.
    """

    launch_s: float
    depth_s: float
    row_s: float
    bandwidth_share: float
    flops_share: float
    overlap: float
    wave_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Coefficients of the routed experts of a layer: routing, sorting, two grouped multiplications, sum.

    ``pad_rows`` is by how many rows the tiles of each visited expert are filled up, no more than it has: kernels take
    smaller tiles then. ``pair_s`` is what each pair of a token and an expert takes besides; the others are as in
    `Gemm`.
    """

    launch_s: float
    pair_s: float
    pad_rows: float
    bandwidth_share: float
    flops_share: float
    overlap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode:
    """Coefficients of decode attention.

    Attributes
    ----------
    launch_s
        Start of the kernels of a layer, the write to the KV cache among them.
    ramp_share, bandwidth_share, ramp_s
        A small read reaches ``ramp_share`` of the peak bandwidth; a large one ``bandwidth_share``,
        after ``ramp_s``. Whichever is less holds.
    least_tokens
        A sequence takes no less than one of this many tokens: work comes in whole blocks.
    flops_share
        Share of peak FLOP/s, which binds latent attention only.
    """

    launch_s: float
    ramp_share: float
    ramp_s: float
    bandwidth_share: float
    least_tokens: float
    flops_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefill:
    """Coefficients of the attention of prompt chunks.

    Attributes
    ----------
    launch_s
        As in `Decode`.
    flops_share
        Share of peak FLOP/s on attended pairs.
    softmax_width
        What the exponential of a pair costs, as so many more elements of the head.
    critical_share
        How much of the longest tile's time, in which other multiprocessors idle, is left
        (0 is perfect balance, 1 Graham's bound for list scheduling).
    io_share
        Share of peak bandwidth at which queries and outputs move.
    """

    launch_s: float
    flops_share: float
    softmax_width: float
    critical_share: float
    io_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """Coefficient of one kernel that serves decodes beside chunks, as FlashAttention 2 does.

    In such a step the query heads of a group read their common keys and values one by one; the cache catches that but
    for ``reread_share``. With kernels that know groups (FlashAttention 3), or one kernel for each kind (FlashInfer),
    it is 0.
    """

    reread_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AllReduce:
    """Coefficients of all-reduces: a start, a hop per further GPU, and the cheaper of two ways.

    In one round every GPU reads what all others have, at ``direct_share`` of the link. In two, which take ``second_s``
    more, each adds up its part and then reads the others' sums: a ring's bytes, at ``link_share``. With each doubling
    of the GPUs beyond two that share falls by the factor ``2**-contention`` (PCIe: no switch), or rises where it is
    negative (switches that add up).
    """

    launch_s: float
    hop_s: float
    direct_share: float
    second_s: float
    link_share: float
    contention: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise:
    """Coefficients of kernels that move activations: norms, rotation, activation functions.

    ``cache_share`` is the rate in units of the memory's peak where what the kernel before has written is still in
    the cache: it may exceed 1. ``memory_share`` is the rate where it is not.
    """

    launch_s: float
    cache_share: float
    memory_share: float


Coefficients = TypeVar("Coefficients", Gemm, Experts, Decode, Prefill, Mixed, AllReduce, Elementwise)


def scaled(coefficients: Coefficients, scale: float) -> Coefficients:
    """Return *coefficients* that make everything take *scale* times as long, but never beat a peak."""
    changed: dict[str, float] = {}
    for field in fields(coefficients):
        value: float = getattr(coefficients, field.name)
        if field.name.endswith("_s"):
            changed[field.name] = value * scale
        elif field.name in (
            "bandwidth_share",
            "flops_share",
            "ramp_share",
            "io_share",
            "direct_share",
            "link_share",
            "memory_share",
        ):
            changed[field.name] = min(1.0, value / scale)
        elif field.name == "cache_share":
            changed[field.name] = value / scale
    return replace(coefficients, **changed)


def gemm_s(c: Gemm, peaks: Peaks, m: Numbers, *, n: Numbers, k: Numbers, element_bytes: float) -> Any:
    """Return the time of multiplying *m* rows of activations with an *n* x *k* matrix of weights."""
    import numpy as np

    # Activations have the weights' width where that is less, or 32 bits; results have at least 16.
    moved = n * k * element_bytes + m * (k * element_bytes + n * max(element_bytes, ACTIVATION_BYTES))
    read_s = moved / (c.bandwidth_share * peaks.bytes_per_s)
    exact = 2.0 * m * n * k
    tiles = np.ceil(m / TILE) * np.ceil(n / TILE)
    waves = np.ceil(tiles / peaks.multiprocessors)
    padded = waves * (peaks.multiprocessors * 2.0 * TILE * TILE * k)
    flops = exact + c.wave_share * (padded - exact)
    compute_s = flops / (c.flops_share * peaks.flops_per_s)
    return c.launch_s + c.depth_s * k + c.row_s * m + _overlapped(read_s, compute_s, c.overlap)


def _overlapped(read_s: Numbers, compute_s: Numbers, overlap: float) -> Any:
    """Return the p-norm of both, without under- or overflow: never less than the larger, nor more than the sum."""
    import numpy as np

    larger, smaller = np.maximum(read_s, compute_s), np.minimum(read_s, compute_s)
    return larger * (1.0 + (smaller / larger) ** overlap) ** (1.0 / overlap)


def expected_experts(experts: int, experts_per_token: int, tokens: Numbers) -> Any:
    """Return how many distinct experts *tokens* tokens visit on average if routing is uniform.

    Examples
    --------
    >>> expected_experts(8, 2, 1)
    2.0
    """
    return experts * (1.0 - (1.0 - experts_per_token / experts) ** tokens)


def busiest(mean: Numbers, ranks: int) -> Any:
    """Return the most that any of *ranks* GPUs has of what falls on them at random, *mean* on each.

    That is ``mean + sqrt(2 mean ln(ranks))``, the usual approximation for the largest of so many Poisson counts.

    Examples
    --------
    >>> busiest(100.0, 1)
    100.0
    """
    return mean + (2.0 * mean * math.log(ranks)) ** 0.5


def experts_s(
    c: Experts,
    peaks: Peaks,
    *,
    pairs: Numbers,
    visited: Numbers,
    hidden: Numbers,
    weights: Numbers,
    element_bytes: float,
) -> Any:
    """Return the time of a layer's routed experts on one GPU.

    Parameters
    ----------
    c, peaks
        Coefficients and peaks.
    pairs
        Pairs of a token and an expert that this GPU computes.
    visited
        Experts that they visit.
    hidden, weights
        Width of the activations, and weights of one expert on this GPU.
    element_bytes
        Memory of one weight.
    """
    import numpy as np

    moved = visited * weights * element_bytes + pairs * (2 * hidden * ACTIVATION_BYTES)
    read_s = moved / (c.bandwidth_share * peaks.bytes_per_s)
    rows = pairs + np.minimum(c.pad_rows * visited, pairs)
    compute_s = 2.0 * rows * weights / (c.flops_share * peaks.flops_per_s)
    return c.launch_s + c.pair_s * pairs + _overlapped(read_s, compute_s, c.overlap)


def all_reduce_s(c: AllReduce, link_bytes_per_s: float, message_bytes: Numbers, ranks: int) -> Any:
    """Return the time of adding up a message over *ranks* GPUs."""
    import numpy as np

    share = min(1.0, c.link_share * (2.0 / ranks) ** c.contention)
    direct_s = (ranks - 1) * message_bytes / (c.direct_share * link_bytes_per_s)
    two_rounds_s = c.second_s + ring_s(message_bytes, ranks, share * link_bytes_per_s)
    return c.launch_s + c.hop_s * (ranks - 1) + np.minimum(direct_s, two_rounds_s)


def ring_s(message_bytes: Numbers, ranks: int, link_bytes_per_s: float) -> Any:
    """Return the transfer time of a ring all-reduce: each of n GPUs sends 2 (n - 1) / n of the message.

    Examples
    --------
    >>> ring_s(1e9, 4, 300e9)
    0.005
    """
    return 2.0 * (ranks - 1) / ranks * message_bytes / link_bytes_per_s


def with_shared_s(
    routed_s: Any, shared_s: Any, *, shared_bytes: float, bytes_per_s: float, beside: Any
) -> Any:
    """Return the time of routed and shared experts together, side by side where *beside* says so.

    What the shared ones read still takes its time then, their starts do not.
    """
    import numpy as np

    beside_s = np.maximum(routed_s + shared_bytes / bytes_per_s, shared_s)
    return np.where(beside, beside_s, routed_s + shared_s)


def elementwise_s(c: Elementwise, peaks: Peaks, moved_bytes: Numbers, kernels: float) -> Any:
    """Return the time of *kernels* kernels that move *moved_bytes* in all.

    Where a kernel moves more than the cache holds, what the one before has written is less and less in there, and
    from twice as much on everything comes from memory.
    """
    import numpy as np

    cached = np.clip(2.0 - moved_bytes / (kernels * peaks.cache_bytes), 0.0, 1.0)
    moving_s = cached / c.cache_share + (1.0 - cached) / c.memory_share
    return c.launch_s * kernels + moving_s * moved_bytes / peaks.bytes_per_s


def decode_s(c: Decode, peaks: Peaks, read_bytes: Numbers) -> Any:
    """Return the time of decode attention that reads *read_bytes* of keys and values in one layer."""
    import numpy as np

    at_peak_s = read_bytes / peaks.bytes_per_s
    return c.launch_s + np.minimum(at_peak_s / c.ramp_share, c.ramp_s + at_peak_s / c.bandwidth_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What a prompt chunk's attention costs in one layer: linear in pairs, in the longest tile and in tokens.

    ``pair_s`` is per attended pair, ``tile_s`` per token that the chunk's last tile attends to (its past and
    itself), ``token_s`` per token of the chunk, ``launch_s`` once.
    """

    launch_s: float
    pair_s: float
    tile_s: float
    token_s: float


def chunk_costs(
    c: Prefill, peaks: Peaks, *, heads: Numbers, head_dim: Numbers, flops_per_pair: Numbers
) -> Chunk:
    """Return the costs of a chunk whose *heads* heads of *head_dim* take *flops_per_pair* for a pair, together.

    Work is spread over the multiprocessors; on top comes a share of the longest piece of it, as in Graham's
    bound for list scheduling (SIAM J. Appl. Math. 17, 1969).
    """
    pair_flops = flops_per_pair * (1.0 + c.softmax_width / head_dim)
    pair_s = pair_flops / (c.flops_share * peaks.flops_per_s)
    io_bytes = 2 * heads * head_dim * ACTIVATION_BYTES
    return Chunk(
        launch_s=c.launch_s,
        pair_s=pair_s,
        tile_s=c.critical_share * peaks.multiprocessors * TILE * pair_s / heads,
        token_s=io_bytes / (c.io_share * peaks.bytes_per_s),
    )
