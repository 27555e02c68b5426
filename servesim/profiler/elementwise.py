"""What a step runs between its multiplications, and after the last: kernels whose time is what they move.

Biases, norms of single heads, and the choice of experts (softmax, top-k) are left out.
"""

from __future__ import annotations

from collections.abc import Callable

from servesim.catalog import ModelArchitecture, Parallelism
from servesim.latency.operators import operators
from servesim.profiler.kernels import Elementwise, Gemm, Local

Operator = tuple[str, int, Callable[[int], Local]]
"""Name, calls in a step, and the kernel for a number of rows."""


def elementwise(model: ModelArchitecture, ranks: int) -> list[Operator]:
    """Return the kernels on every token, on one of *ranks* GPUs."""
    kv_heads = max(1, model.kv_heads // ranks)
    rotated = (model.heads // ranks + kv_heads) * model.head_dim
    dense_layers = model.layers - model.moe_layers
    activation, matrices = ("gated_activation", 2) if model.gated_mlp else ("activation", 1)
    found = [
        _operator("embedding", 1, model.hidden_size),
        _operator("norm", 2 * model.layers + 1, model.hidden_size),
        _operator("rotation", model.layers, rotated),
        _operator("cache_write", model.layers, 2 * kv_heads * model.head_dim),
    ]
    if dense_layers:
        found.append(_operator(activation, dense_layers, matrices * model.intermediate_size // ranks))
    if model.moe and model.moe.shared_experts:
        width = model.moe.shared_experts * model.moe.intermediate_size // ranks
        found.append(_operator(activation, model.moe_layers, matrices * width, name="shared expert"))
    return found


def per_sequence(model: ModelArchitecture, ranks: int) -> list[Operator]:
    """Return the output head, on one of *ranks* GPUs, and sampling, which each of them does for itself."""
    head = operators(model, Parallelism(tensor=ranks)).head
    n, k = round(head.n), round(head.k)
    return [
        ("head", 1, lambda rows: Gemm(tokens=rows, n=n, k=k, dtype=head.dtype)),
        _operator("sampling", 1, model.vocab_size),
    ]


def _operator(kind: str, calls: int, width: int, *, name: str = "") -> Operator:
    return (
        f"{name} {kind}".strip(),
        calls,
        lambda rows: Elementwise(kind=kind, tokens=rows, width=width),
    )
