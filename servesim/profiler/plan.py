"""Which shapes of a model are measured: the grids of a layer profile, as kernels.

Chunks stand at 1, 1.5, 2, 3, 4, ... times the first, because attention is quadratic in them; sequences and contexts at
powers of two. Tokens stand at such points too, and a little beyond each, because tiles and waves make GEMMs step there.
What does not fit the GPU's memory is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from servesim.catalog import Gpu, ModelArchitecture, Parallelism
from servesim.errors import ServesimError
from servesim.latency.operators import operators
from servesim.profiler.elementwise import elementwise, per_sequence
from servesim.profiler.kernels import AllReduce, Attention, Experts, Gemm, Kernel

GEMM_DTYPES = ("bf16", "fp16", "fp8")
WIDE_DTYPES = ("bf16", "fp16")
"""Formats of matrices, and of experts and KV caches, that there are kernels for."""

MEMORY_SHARE = 0.4
"""Of the GPU's memory, for the keys and values of one layer: activations and buffers need the rest."""

TILE_TOKENS, BEYOND_TOKENS = 64, 8
"""Steps of GEMMs begin after multiples of the first; so many tokens beyond is measured, which graphs are padded to."""

LEAST_CHUNK = 16
LEAST_CONTEXT = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far the grids go: tokens and sequences of a step, and tokens of a context (None: the model's)."""

    tokens: int = 8192
    sequences: int = 256
    context_tokens: int | None = None

    def context_of(self, model: ModelArchitecture) -> int:
        """Return the longest context."""
        return min(self.context_tokens or model.context_tokens, model.context_tokens)


@dataclass(frozen=True, slots=True)
class Case:
    """One row to measure.

    Attributes
    ----------
    table, ranks
        Where the row goes: the table's name, and the degree of tensor parallelism.
    shape
        Values of the table's columns that tell the shape, as `servesim.profiles.native.SHAPES` names them.
    kernel
        What is timed.
    """

    table: str
    ranks: int
    shape: tuple[str | int, ...]
    kernel: Kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured of *model* on *gpu*, for each of the *ranks* and up to *limits*.

    Attributes
    ----------
    cases
        Every row.
    left_out
        What a table of this device lacks, in words.
    """

    model: ModelArchitecture
    gpu: Gpu
    ranks: tuple[int, ...]
    limits: Limits
    cases: tuple[Case, ...]
    left_out: tuple[str, ...]


def plan_of(
    model: ModelArchitecture,
    gpu: Gpu,
    *,
    ranks: Sequence[int],
    limits: Limits,
    gpus: int,
    joint_attention: bool,
    windows: bool = True,
) -> Plan:
    """Return what to measure.

    Parameters
    ----------
    model, gpu
        What runs, and where.
    ranks
        Degrees of tensor parallelism. One GPU measures the share that each of several would have.
    limits
        How far the grids go.
    gpus
        GPUs that are there: sums over more are left out.
    joint_attention, windows
        What the attention kernels can do, as `servesim.profiler.device.DeviceFacts` tells.

    Raises
    ------
    ServesimError
        If the model has parts that there are no kernels for, or cannot be split so.
    """
    _check(model, ranks, windows=windows)
    cases: list[Case] = []
    for each in ranks:
        cases += _of_rank(model, gpu, each, limits, gpus=gpus, joint_attention=joint_attention)
    return Plan(
        model=model,
        gpu=gpu,
        ranks=tuple(ranks),
        limits=limits,
        cases=tuple(dict.fromkeys(cases)),
        left_out=tuple(_left_out(ranks, gpus=gpus, joint_attention=joint_attention)),
    )


def _check(model: ModelArchitecture, ranks: Sequence[int], *, windows: bool) -> None:
    """Refuse what cannot be measured."""
    where = f"profile: {model.name}"
    if model.mla is not None:
        raise ServesimError(
            f"{where}: latent attention is not measured. expected a model without it",
            hint="operator tables (latency: {name: table, path: aiconfigurator}) have it",
        )
    formats = [("dtype", model.dtype, GEMM_DTYPES), ("kv_dtype", model.kv_dtype, WIDE_DTYPES)]
    if model.moe is not None:
        formats.append(("expert_dtype", model.expert_dtype, WIDE_DTYPES))
    for name, got, known in formats:
        if got not in known:
            raise ServesimError(
                f"{where}: no kernels for this {name} (got {got}). expected one of {', '.join(known)}",
                hint="--dtype bf16 measures 16 bits" if name != "kv_dtype" else None,
            )
    if model.sliding_layers and not windows:
        raise ServesimError(
            f"{where}: these attention kernels have no sliding windows (got sdpa). expected others",
            hint="--attention varlen (PyTorch 2.13 on) or flash-attn, on an Ampere GPU or a newer one",
        )
    for each in ranks:
        if model.heads % each or (model.kv_heads % each and each % model.kv_heads):
            raise ServesimError(
                f"{where}: heads cannot be split (got tensor_parallel {each}). expected a divisor of "
                f"{model.heads} heads that shares {model.kv_heads} KV heads evenly"
            )


def _left_out(ranks: Sequence[int], *, gpus: int, joint_attention: bool) -> Iterator[str]:
    if too_many := [str(each) for each in ranks if each > max(gpus, 1)]:
        yield f"all-reduces over {', '.join(too_many)} GPUs (there {'is' if gpus == 1 else 'are'} {gpus})"
    if not joint_attention:
        yield "attention of mixed steps (these kernels take chunks and decodes apart: mixed steps are sums)"


def _of_rank(
    model: ModelArchitecture, gpu: Gpu, ranks: int, limits: Limits, *, gpus: int, joint_attention: bool
) -> Iterator[Case]:
    parts = operators(model, Parallelism(tensor=ranks))
    tokens = stepped(limits.tokens)
    counts: dict[tuple[int, int, str], int] = {}
    for matrix in parts.matrices:
        shape = (round(matrix.n), round(matrix.k), matrix.dtype)
        counts[shape] = counts.get(shape, 0) + matrix.count
    for (n, k, dtype), calls in counts.items():
        name = f"matrix {n} x {k} {dtype}"
        for each in tokens:
            yield Case("dense", ranks, (name, calls, each), Gemm(tokens=each, n=n, k=k, dtype=dtype))
    for name, calls, kernel_of in elementwise(model, ranks):
        for each in tokens:
            yield Case("dense", ranks, (name, calls, each), kernel_of(each))
    for name, calls, head_of in per_sequence(model, ranks):
        for each in doubling(1, limits.sequences):
            yield Case("per_sequence", ranks, (name, calls, each), head_of(each))
    yield from _attention(model, gpu, ranks, limits, joint_attention=joint_attention)
    yield from _experts(model, ranks, tokens)
    if 1 < ranks <= gpus:
        calls = sum(sums.count for sums in parts.all_reduces)
        for each in tokens:
            kernel = AllReduce(ranks=ranks, tokens=each, width=model.hidden_size)
            yield Case("all_reduce", ranks, (calls, each), kernel)


def _experts(model: ModelArchitecture, ranks: int, tokens: Sequence[int]) -> Iterator[Case]:
    moe = model.moe
    if moe is None:
        return
    for each in tokens:
        reachable = min(moe.experts, each * moe.experts_per_token)
        for visited in doubling(moe.experts_per_token, reachable):
            yield Case(
                "experts",
                ranks,
                (each, visited),
                Experts(
                    tokens=each,
                    per_token=moe.experts_per_token,
                    visited=visited,
                    hidden=model.hidden_size,
                    width=moe.intermediate_size // ranks,
                    gated=model.gated_mlp,
                ),
            )


def _attention(
    model: ModelArchitecture, gpu: Gpu, ranks: int, limits: Limits, *, joint_attention: bool
) -> Iterator[Case]:
    windows = [None] if model.layers > model.sliding_layers else []
    if model.sliding_layers:
        windows.append(model.sliding_window_tokens)  # type: ignore[arg-type]
    for window in windows:

        def kernel_of(*shape: int, window: int | None = window) -> Attention:
            chunk, start, sequences, context = shape
            return Attention(
                heads=model.heads // ranks,
                kv_heads=max(1, model.kv_heads // ranks),
                head_dim=model.head_dim,
                window=window,
                chunk=chunk,
                start=start,
                sequences=sequences,
                context=context,
            )

        for shape in attention_shapes(
            kernel_of, gpu, limits.tokens, limits.sequences, limits.context_of(model), joint=joint_attention
        ):
            yield Case("attention", ranks, (window or 0, *shape), kernel_of(*shape))


def attention_shapes(
    kernel_of: Callable[..., Attention],
    gpu: Gpu,
    tokens: int,
    sequences: int,
    longest: int,
    *,
    joint: bool,
) -> list[tuple[int, int, int, int]]:
    """Return ``(chunk, start, sequences, context)`` of decodes, of chunks and, if *joint*, of both together.

    The mixed grid is whole, on the chunks' own points: contexts for which any of its shapes would not fit are left out.
    """

    def fits(shape: tuple[int, int, int, int]) -> bool:
        return kernel_of(*shape).moved_bytes <= MEMORY_SHARE * gpu.memory_bytes

    chunks = ladder(LEAST_CHUNK, tokens)
    starts = [0, *doubling(512, longest, factor=4)]
    decodes = [(0, 0, *each) for each in product(doubling(1, sequences), doubling(LEAST_CONTEXT, longest))]
    found = [shape for shape in decodes if fits(shape)]
    found += [(chunk, start, 0, 0) for chunk, start in product(chunks, starts)]
    if joint:
        counts = doubling(1, sequences, factor=8)
        contexts = [
            context
            for context in doubling(128, min(longest, 16384), factor=8)
            if fits((chunks[-1], starts[-1], counts[-1], context))
        ]
        found += list(product(chunks, starts, counts, contexts))
    return found


def stepped(last: int) -> list[int]:
    """Return `ladder` points from 1 to *last*, and those a little beyond each that a step of GEMMs may follow.

    Examples
    --------
    >>> stepped(100)
    [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 72, 96, 100]
    """
    points = ladder(1, last)
    beyond = [each + BEYOND_TOKENS for each in points if each % TILE_TOKENS == 0]
    return sorted({*points, *(each for each in beyond if each < last)})


def doubling(first: int, last: int, *, factor: int = 2) -> list[int]:
    """Return *first*, and *factor* times the one before, up to *last*, which is always there.

    Examples
    --------
    >>> doubling(8, 100), doubling(1, 64, factor=8)
    ([8, 16, 32, 64, 100], [1, 8, 64])
    """
    found = [first]
    while found[-1] * factor < last:
        found.append(found[-1] * factor)
    return sorted({*found, max(first, last)})


def ladder(first: int, last: int) -> list[int]:
    """Return powers of two times *first* and the points half way between them, up to *last*, which is always there.

    Examples
    --------
    >>> ladder(1, 20)
    [1, 2, 3, 4, 6, 8, 12, 16, 20]
    """
    powers = doubling(first, last)
    between = [3 * each // 2 for each in powers if each % 2 == 0 and 3 * each // 2 < last]
    return sorted({*powers, *between})
