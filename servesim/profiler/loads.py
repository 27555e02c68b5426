"""The loads under which power, clock and lasting speed of a GPU are read: idle, prefill, decode."""

from __future__ import annotations

from servesim.profiler.kernels import Attention, Gemm, Local
from servesim.profiler.plan import Case, Plan

PREFILL_TOKENS = 2048
DECODE_SEQUENCES, DECODE_CONTEXT = 64, 2048


def loads(plan: Plan) -> dict[str, list[Local]]:
    """Return the kernels of each state: those of a layer, for a chunk of 2,048 tokens or 64 sequences of 2,048.

    Where the plan does not go so far, its own largest shapes stand in.
    """
    limits, first = plan.limits, plan.ranks[0]
    cases = [case for case in plan.cases if case.ranks == first]
    decode_tokens = min(DECODE_SEQUENCES, limits.sequences, limits.tokens)
    attention = next(case.kernel for case in cases if isinstance(case.kernel, Attention))
    context = min(DECODE_CONTEXT, limits.context_of(plan.model))
    chunk = _replaced(attention, chunk=min(PREFILL_TOKENS, limits.tokens))
    decode = _replaced(attention, sequences=decode_tokens, context=context)
    return {
        "idle": [],
        "prefill": [*_matrices(cases, chunk.chunk), chunk],
        "decode": [*_matrices(cases, decode_tokens), decode],
    }


def _matrices(cases: list[Case], tokens: int) -> list[Local]:
    """Return the matrices of the dense table at *tokens* rows."""
    found = {
        (kernel.n, kernel.k, kernel.dtype): None
        for case in cases
        if case.table == "dense" and isinstance(kernel := case.kernel, Gemm)
    }
    return [Gemm(tokens=tokens, n=n, k=k, dtype=dtype) for n, k, dtype in found]


def _replaced(attention: Attention, *, chunk: int = 0, sequences: int = 0, context: int = 0) -> Attention:
    return Attention(
        heads=attention.heads,
        kv_heads=attention.kv_heads,
        head_dim=attention.head_dim,
        window=attention.window,
        chunk=chunk,
        sequences=sequences,
        context=context,
    )
