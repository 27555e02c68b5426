"""Step time of any model on any GPU of the catalog: its operators, each priced by physics and measured coefficients.

A step is the sum of its kernels, each bound by computing or by memory; docs/model/latency.md has the equations, what
is left out, and how far the results are off against measurements. Tables of one model are `servesim.latency.table`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from servesim.catalog.dtypes import BYTES_PER_ELEMENT
from servesim.errors import ScenarioError
from servesim.latency.api import BatchShape, LatencyContext
from servesim.latency.attention import AttentionPrices
from servesim.latency.coefficients import KernelCoefficients, compute_dtype, sustained_share
from servesim.latency.coefficients_file import read_coefficients
from servesim.latency.efficiency import (
    Peaks,
    all_reduce_s,
    busiest,
    elementwise_s,
    expected_experts,
    experts_s,
    gemm_s,
    scaled,
    with_shared_s,
)
from servesim.latency.operators import Matrix, RoutedExperts, operators, shared_stream_tokens, weight_bytes
from servesim.latency.parallel import Price
from servesim.latency.pricing import StepPrices

_Scale = Annotated[float, Field(gt=0, allow_inf_nan=False)]

SCALES = ("gemm_scale", "attention_scale", "memory_scale", "collective_scale")

BLOCK = 256
"""Token counts are priced this many at a time."""


class Roofline:
    """Roofline of every kernel of a step, at the shares of the peaks that such kernels were measured to reach.

    The coefficients are fitted to vLLM's kernels on A100, H100, H200, B200 and L40S (tables of NVIDIA aiconfigurator
    0.12.0); other GPUs take those of a relative, with their own peaks. Each scale multiplies the times of one
    class of kernels, never below what the peaks allow: 1 is as measured, calibration changes it.

    Parameters
    ----------
    gemm_scale
        Matrix multiplications, experts and the output head.
    attention_scale
        Attention in prefill and decode.
    memory_scale
        Kernels that move activations: norms, rotation, activation functions.
    collective_scale
        All-reduces.
    sustained_share
        Computing rate that lasts under load, as a share of that of the short benchmarks which coefficients are fitted
        to; null: `servesim.latency.coefficients.sustained_share`.
    coefficients
        File of coefficients that were fitted to profiles of this GPU (``scripts/fit_profile.py``), or one that comes
        with servesim, of PyTorch's kernels: ``h200-sxm-profile``, ``h100-sxm-profile``. What it lacks, and null: the
        GPU's own.
    """

    has_host = True

    def __init__(
        self,
        *,
        gemm_scale: _Scale = 1.0,
        attention_scale: _Scale = 1.0,
        memory_scale: _Scale = 1.0,
        collective_scale: _Scale = 1.0,
        sustained_share: Annotated[float, Field(gt=0, le=1)] | None = None,
        coefficients: Path | None = None,
    ) -> None:
        self.gemm_scale = gemm_scale
        self.attention_scale = attention_scale
        self.memory_scale = memory_scale
        self.collective_scale = collective_scale
        self.sustained_share = sustained_share
        self.coefficients = coefficients

    def __repr__(self) -> str:
        names = (*SCALES, "sustained_share", "coefficients")
        return f"Roofline({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def reset(self, context: LatencyContext) -> None:
        """Work out every price that depends on no length; those per token count are filled in when needed.

        Raises
        ------
        ScenarioError
            If a scale is not positive, or `read_coefficients` refuses the file.
        """
        for name in SCALES:
            if not getattr(self, name) > 0:
                raise ScenarioError(
                    f"roofline: {name}: no factor of times (got {getattr(self, name)!r}). expected more than 0."
                )
        self._context = context
        self._operators = operators(context.model, context.parallelism)
        own = read_coefficients(Path(self.coefficients), context.gpu) if self.coefficients else {}
        self._coefficients = KernelCoefficients(gpu=context.gpu, own=own)
        self._blocks: dict[int, list[float]] = {}
        self._head_s = self._heads_s(context.max_num_seqs * context.step_tokens)
        model = context.model
        self._full = self._layers(model.layers - model.sliding_layers, None)
        self.attention: Price = self._full.price  # what `servesim.latency.pricing.StepCosts` asks for
        self.decode_lines = None if model.sliding_layers else self._full.decode_lines()
        if model.sliding_layers:
            self._windows = self._layers(model.sliding_layers, model.sliding_window_tokens)
            self.attention = self._with_windows
        self.drafter = self._drafter(context)
        self.price = StepPrices(self, context, drafter=self.drafter).price  # type: ignore[assignment]  # a call less for each step

    def _drafter(self, context: LatencyContext) -> Roofline | None:
        """Return the costs of the smaller model that drafts for this one, scales left out; None where none does."""
        draft = context.speculation.draft if context.speculation else None
        if draft is None:
            return None
        drafter = Roofline(sustained_share=self.sustained_share, coefficients=self.coefficients)
        drafter.reset(replace(context, model=draft, speculation=None))
        return drafter

    @property
    def sources(self) -> dict[str, str]:
        """For each set of coefficients in use, the GPU whose measurements it was fitted to; known after `reset`."""
        return self._coefficients.sources

    def price(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return the price of *batch*; see `servesim.latency.api.LatencyModel.price`. Known after `reset`."""
        raise RuntimeError("reset() comes before price()")

    def tokens_s(self, tokens: int) -> float:
        """Return the time of a step's layers on *tokens* tokens, attention excepted."""
        block, offset = divmod(tokens, BLOCK)
        prices = self._blocks.get(block)
        if prices is None:
            self._blocks[block] = prices = self._layers_s(block)
        return prices[offset]

    def sequences_s(self, sequences: int) -> float:
        """Return the time of the output head."""
        return self._head_s[sequences]

    def _with_windows(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return the price of the attention of layers with a sliding window and of those without."""
        first_s, growth_s, steps = self._full.price(batch)
        window_s, window_growth_s, window_steps = self._windows.price(batch)
        return first_s + window_s, growth_s + window_growth_s, min(steps, window_steps)

    def _layers_s(self, block: int) -> list[float]:
        """Return the times of all token counts of a block: at once, which costs little more than one."""
        import numpy as np

        tokens = np.maximum(1.0, np.arange(block * BLOCK, (block + 1) * BLOCK, dtype=np.float64))
        ops = self._operators
        total_s = sum(
            matrix.count * self._matrix_s(matrix, tokens) for matrix in ops.matrices if not matrix.shared
        )
        if ops.experts:
            total_s += self._all_experts_s(ops.experts, tokens)
        elementwise = scaled(self._coefficients.elementwise(), self.memory_scale)
        moved = ops.elementwise_bytes * tokens
        total_s += elementwise_s(elementwise, self._peaks("bf16"), moved, ops.elementwise_kernels)
        for sums in ops.all_reduces:
            reduce = scaled(self._coefficients.all_reduce(), self.collective_scale)
            link_bytes_per_s = self._context.gpu.link.bandwidth_bytes_per_s
            total_s += sums.count * all_reduce_s(
                reduce, link_bytes_per_s, sums.token_bytes * tokens, sums.ranks
            )
        found: list[float] = total_s.tolist()
        return found

    def _heads_s(self, max_num_seqs: int) -> list[float]:
        """Return the times of the output head for every number of sequences."""
        import numpy as np

        times: list[float] = self._matrix_s(self._operators.head, np.arange(1.0, max_num_seqs + 1.0)).tolist()
        return [0.0, *times]

    def _matrix_s(self, matrix: Matrix, rows: Any) -> Any:
        return gemm_s(
            scaled(self._coefficients.gemm(matrix.dtype), self.gemm_scale),
            self._peaks(matrix.dtype),
            rows,
            n=matrix.n,
            k=matrix.k,
            element_bytes=BYTES_PER_ELEMENT[matrix.dtype],
        )

    def _all_experts_s(self, experts: RoutedExperts, tokens: Any) -> Any:
        """Return the time of the experts of all layers, routed and shared ones."""
        routed_s = experts.count * self._experts_s(experts, tokens)
        shared = [matrix for matrix in self._operators.matrices if matrix.shared]
        if not shared:
            return routed_s
        shared_s = sum(matrix.count * self._matrix_s(matrix, tokens) for matrix in shared)
        return with_shared_s(
            routed_s,
            shared_s,
            shared_bytes=weight_bytes(shared),
            bytes_per_s=self._context.gpu.memory_bandwidth_bytes_per_s,
            beside=tokens <= shared_stream_tokens(self._context.gpu),
        )

    def _experts_s(self, experts: RoutedExperts, tokens: Any) -> Any:
        """Return the time of a layer's experts on the GPU that has the most of them to do."""
        import numpy as np

        together = experts.groups * tokens
        pairs = busiest(experts.experts_per_token * together / experts.ranks, experts.ranks)
        visited = expected_experts(experts.experts, experts.experts_per_token, together) / experts.ranks
        visited = np.minimum(busiest(visited, experts.ranks), experts.experts / experts.ranks)
        kernels = self._context.expert_kernels
        return experts_s(
            scaled(self._coefficients.experts(kernels), self.gemm_scale),
            self._peaks(kernels),
            pairs=pairs,
            visited=visited,
            hidden=experts.hidden,
            weights=experts.weights,
            element_bytes=BYTES_PER_ELEMENT[experts.dtype],
        )

    def _layers(self, layers: int, window: int | None) -> AttentionPrices:
        model = self._context.model
        latent, kv_dtype = model.mla is not None, model.kv_dtype
        attention = self._operators.attention
        if self._context.step_tokens > 1:  # queries that read the same keys and values
            pairs = attention.decode_flops_per_pair * self._context.step_tokens
            attention = replace(attention, decode_flops_per_pair=pairs)
        return AttentionPrices(
            attention,
            self._peaks("bf16"),
            decode=scaled(self._coefficients.decode(kv_dtype, latent=latent), self.attention_scale),
            prefill=scaled(self._coefficients.prefill(kv_dtype, latent=latent), self.attention_scale),
            mixed=self._coefficients.mixed(),
            layers=layers,
            window=window,
        )

    def _peaks(self, dtype: str) -> Peaks:
        gpu = self._context.gpu
        share = sustained_share(gpu) if self.sustained_share is None else self.sustained_share
        return Peaks(
            flops_per_s=share * gpu.peak_flops_per_s(compute_dtype(gpu, dtype)),
            bytes_per_s=gpu.memory_bandwidth_bytes_per_s,
            multiprocessors=gpu.multiprocessors,
            cache_bytes=gpu.cache_bytes,
        )
