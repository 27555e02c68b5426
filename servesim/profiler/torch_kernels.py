"""Kernels as calls of PyTorch, with inputs made: multiplications, experts, what is between them.

Values are normal random numbers: zeros would take less power, and so run at higher clocks.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from servesim.errors import ServesimError
from servesim.profiler.kernels import Attention, Elementwise, Experts, Gemm, Local
from servesim.profiler.torch_attention import Attentions

Call = Callable[[], object]

COMPILED_MOST = 64
"""How often a kernel between matrices is compiled: twice for a width, for one token and for more."""

VOCABULARY_ROWS = 32768
"""Of the embedding that is measured: a look-up's time does not depend on them."""


@contextmanager
def compiling() -> Iterator[None]:
    """Keep from the user what Inductor warns of while it compiles sampling: that it splits long rows, which is fine."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*Online softmax is disabled on the fly", UserWarning)
        yield


class TorchKernels:
    """Calls on *kind* (``cuda`` or ``cpu``), with inputs from *seed*.

    Elementwise kernels are compiled on a GPU: operations that engines fuse are one kernel here too.
    """

    def __init__(self, torch: Any, kind: str, *, seed: int, attention: Attentions) -> None:
        self._torch, self._kind, self._attention = torch, kind, attention
        self._random = torch.Generator(device=kind).manual_seed(seed)
        self._compiled: dict[str, Callable[..., object]] = {}
        if kind == "cuda":
            torch._dynamo.config.recompile_limit = COMPILED_MOST

    def call(self, kernel: Local) -> Call:
        """Return a call that runs *kernel* once."""
        if isinstance(kernel, Gemm):
            return self._gemm(kernel)
        if isinstance(kernel, Attention):
            return self._attention.call(kernel, self._normal)
        if isinstance(kernel, Experts):
            return self._experts(kernel)
        return self._elementwise(kernel)

    def _normal(self, *shape: int, dtype: str = "bf16") -> Any:
        torch = self._torch
        known = {
            "bf16": torch.bfloat16,
            "fp16": torch.float16,
            "fp32": torch.float32,
            "fp8": torch.float8_e4m3fn,
        }
        if dtype not in known:
            raise ServesimError(f"profile: no kernels for {dtype}. expected one of {', '.join(known)}")
        made = torch.bfloat16 if dtype == "fp8" else known[dtype]
        values = torch.randn(*shape, generator=self._random, dtype=made, device=self._kind)
        return values.to(known[dtype])

    def _gemm(self, kernel: Gemm) -> Call:
        torch = self._torch
        inputs = self._normal(kernel.tokens, kernel.k, dtype=kernel.dtype)
        weights = self._normal(kernel.n, kernel.k, dtype=kernel.dtype).t()
        if kernel.dtype != "fp8":
            return lambda: torch.matmul(inputs, weights)
        scale = torch.ones((), dtype=torch.float32, device=self._kind)
        return lambda: torch._scaled_mm(
            inputs, weights, scale_a=scale, scale_b=scale, out_dtype=torch.bfloat16
        )

    def _experts(self, kernel: Experts) -> Call:
        """Gather each expert's tokens, multiply, and add up what comes back to a token."""
        torch = self._torch
        pairs, visited = kernel.pairs, kernel.visited
        order = torch.randperm(pairs, generator=self._random, device=self._kind)
        back = torch.argsort(order)
        rows = order // kernel.per_token
        ends = torch.tensor(
            [pairs * (place + 1) // visited for place in range(visited)],
            dtype=torch.int32,
            device=self._kind,
        )
        inputs = self._normal(kernel.tokens, kernel.hidden)
        shares = self._tokens(kernel.tokens, kernel.per_token, 1)
        up = self._normal(visited, kernel.up_width, kernel.hidden).transpose(-2, -1)
        down = self._normal(visited, kernel.hidden, kernel.width).transpose(-2, -1)
        multiply = torch.nn.functional.grouped_mm
        activate = self._function("gated_activation" if kernel.gated else "activation")
        combine = self._function("combine")

        def call() -> object:
            wide = self._by_tokens(multiply(inputs.index_select(0, rows), up, offs=ends))
            return combine(multiply(activate(wide), down, offs=ends), back, shares)

        return call

    def _elementwise(self, kernel: Elementwise) -> Call:
        torch, kind, tokens, width = self._torch, kernel.kind, kernel.tokens, kernel.width
        function = self._function(kind)
        if kind == "embedding":
            table = self._normal(VOCABULARY_ROWS, width)
            rows = torch.randint(VOCABULARY_ROWS, (tokens,), generator=self._random, device=self._kind)
            return lambda: function(table, rows)
        values = self._tokens(tokens, width)
        if kind == "norm":
            residual, weights = self._tokens(tokens, width), self._normal(width)
            return lambda: function(values, residual, weights)
        if kind == "rotation":
            sine, cosine = self._tokens(tokens, 1), self._tokens(tokens, 1)
            return lambda: function(values, sine, cosine)
        if kind == "cache_write":
            cache = self._normal(4 * tokens, width)
            slots = torch.randperm(4 * tokens, generator=self._random, device=self._kind)[:tokens]
            return lambda: cache.index_copy_(0, slots, values)
        return lambda: function(values)

    def _tokens(self, *shape: int) -> Any:
        return self._by_tokens(self._normal(*shape))

    def _by_tokens(self, values: Any) -> Any:
        """Return *values*, whose first dimension is tokens, marked: compiled for any number, and for this width.

        Left alone, PyTorch compiles for any width from the second one on; on Hopper such kernels took 1.5 to 6 times as
        long as those of the same shape that were compiled for their width.
        """
        if self._kind == "cuda":
            self._torch._dynamo.maybe_mark_dynamic(values, 0)
            self._torch._dynamo.mark_static(values, list(range(1, values.dim())))
        return values

    def _function(self, name: str) -> Callable[..., Any]:
        """Return one of the functions below, compiled on a GPU."""
        if name not in self._compiled:
            function = _functions(self._torch)[name]
            # An embedding is one kernel as it is, and writing to the cache is done in place.
            plain = self._kind == "cpu" or name in ("embedding", "cache_write")
            self._compiled[name] = function if plain else self._torch.compile(function)
        return self._compiled[name]


def _functions(torch: Any) -> dict[str, Callable[..., Any]]:
    """Return what elementwise kernels compute, by kind."""
    functional = torch.nn.functional

    def norm(values: Any, residual: Any, weights: Any) -> tuple[Any, Any]:
        added = values + residual
        return functional.rms_norm(added, (added.shape[-1],), weights, 1e-6), added

    def rotation(values: Any, sine: Any, cosine: Any) -> Any:
        first, second = values.chunk(2, dim=-1)
        return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)

    def gated_activation(values: Any) -> Any:
        gate, up = values.chunk(2, dim=-1)
        return functional.silu(gate) * up

    def combine(values: Any, back: Any, shares: Any) -> Any:
        tokens, per_token, _ = shares.shape
        return (values[back].view(tokens, per_token, -1) * shares).sum(1)

    return {
        "embedding": lambda table, rows: functional.embedding(rows, table),
        "norm": norm,
        "rotation": rotation,
        "cache_write": lambda cache, slots, values: cache.index_copy_(0, slots, values),
        "gated_activation": gated_activation,
        "activation": functional.gelu,
        "sampling": lambda logits: torch.softmax(logits, dim=-1, dtype=torch.float32).argmax(dim=-1),
        "combine": combine,
    }
