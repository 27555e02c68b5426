"""Step time from first principles: datasheet peaks times named efficiencies.

A step is the sum of its kernels, each bound by computing or by memory, whichever is slower;
docs/model/latency.md has the equations, what is left out, and how far the defaults are off against
measurements. Tables with knots and calibration per GPU are not in here.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from servesim.errors import ScenarioError
from servesim.latency.api import UNLIMITED_STEPS, BatchShape, LatencyContext
from servesim.latency.kernels import (
    Rates,
    collectives_s,
    elementwise_s,
    head_s,
    kernels,
    kv_bytes_per_token_layer,
    layers_s,
)
from servesim.latency.pricing import StepPrices

_Efficiency = Annotated[float, Field(gt=0, le=1)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]

EFFICIENCIES = (
    "gemm_efficiency",
    "memory_efficiency",
    "attention_efficiency",
    "kv_efficiency",
    "link_efficiency",
)


class Roofline:
    """Roofline of weights, KV cache, matrix multiplications, attention and collectives.

    The efficiencies come from kernel measurements on an H100 (vLLM 0.24 tables of NVIDIA aiconfigurator
    0.12.0). docs/model/latency.md tells how.

    Parameters
    ----------
    gemm_efficiency
        Share of peak FLOP/s that large matrix multiplications attain.
    memory_efficiency
        Share of peak memory bandwidth attained while reading weights.
    attention_efficiency
        Share of peak FLOP/s that attention attains, in prefill and where decode is bound by computing.
    kv_efficiency
        Share of peak memory bandwidth attained while reading the KV cache.
    link_efficiency
        Share of the link's peak that an all-reduce attains.
    kernel_s
        What each kernel takes beyond its roofline: start and tail. It is never hidden, as host work can be.
    """

    def __init__(
        self,
        *,
        gemm_efficiency: _Efficiency = 0.65,
        memory_efficiency: _Efficiency = 0.78,
        attention_efficiency: _Efficiency = 0.5,
        kv_efficiency: _Efficiency = 0.65,
        link_efficiency: _Efficiency = 0.3,
        kernel_s: _Seconds = 1.7e-6,
    ) -> None:
        self.gemm_efficiency = gemm_efficiency
        self.memory_efficiency = memory_efficiency
        self.attention_efficiency = attention_efficiency
        self.kv_efficiency = kv_efficiency
        self.link_efficiency = link_efficiency
        self.kernel_s = kernel_s

    def __repr__(self) -> str:
        parameters = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return f"Roofline({', '.join(f'{name}={value}' for name, value in parameters.items())})"

    def reset(self, context: LatencyContext) -> None:
        """Work out every price that depends on no length; those per token count are filled in when needed.

        Raises
        ------
        ScenarioError
            If an efficiency lies outside (0, 1].
        """
        for name in EFFICIENCIES:
            if not 0 < getattr(self, name) <= 1:
                raise ScenarioError(
                    f"roofline: {name}: no share of a peak (got {getattr(self, name)!r}). expected (0, 1]."
                )
        self._context = context
        self._rates = Rates(
            gpu=context.gpu,
            gemm_efficiency=self.gemm_efficiency,
            memory_bytes_per_s=self.memory_efficiency * context.gpu.memory_bandwidth_bytes_per_s,
        )
        self._reset_attention(context)
        self._prices = StepPrices(self, context)

    def _reset_attention(self, context: LatencyContext) -> None:
        """Work out what an attended token costs in decode, and a cached token and a pair in prefill."""
        model, gpu, ranks = context.model, context.gpu, context.tensor_parallel
        kv_bytes_per_s = self.kv_efficiency * gpu.memory_bandwidth_bytes_per_s
        flops_per_s = ranks * self.attention_efficiency * gpu.peak_flops_per_s("bf16")
        read_s = kv_bytes_per_token_layer(model, ranks) / kv_bytes_per_s
        decode_s = max(read_s, model.decode_attention_flops_per_pair / flops_per_s)
        pair_s = model.attention_flops_per_pair / flops_per_s
        full, sliding = model.layers - model.sliding_layers, model.sliding_layers
        self._context_s, self._window_context_s = full * decode_s, sliding * decode_s
        self._read_s, self._pair_s = full * read_s, full * pair_s
        self._window_read_s, self._window_pair_s = sliding * read_s, sliding * pair_s
        self._window_tokens = model.sliding_window_tokens if sliding else None

    def price(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return the price of *batch*; see `servesim.latency.api.LatencyModel.price`."""
        return self._prices.price(batch)

    def tokens_s(self, tokens: int) -> float:
        """Return the time of a step's layers on *tokens* tokens, attention scores excepted."""
        context = self._context
        link_bytes_per_s = self.link_efficiency * context.gpu.link.bandwidth_bytes_per_s
        ranks = context.tensor_parallel
        total_s = layers_s(context.model, self._rates, tokens, ranks)
        total_s += elementwise_s(context.model, self._rates, tokens, ranks)
        total_s += collectives_s(context.model, tokens, ranks, link_bytes_per_s)
        return total_s + self.kernel_s * kernels(context.model, ranks)

    def sequences_s(self, sequences: int) -> float:
        """Return the time of the output head."""
        return head_s(self._context.model, self._rates, sequences, self._context.tensor_parallel)

    def attention(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return the price of the attention of all layers, as `servesim.latency.pricing.StepCosts` asks."""
        sequences = batch.sequences
        first_s = self._context_s * batch.context_tokens
        growth_s = self._context_s * sequences
        for chunk_tokens, start in batch.chunks:
            pair_s = self._pair_s
            # A short chunk is bound by reading its prefix, as decode is; both are linear in pairs.
            if pair_s * chunk_tokens < self._read_s:
                pair_s = self._read_s / chunk_tokens
            first_s += pair_s * chunk_tokens * (start + (chunk_tokens + 1) * 0.5)
            growth_s += pair_s * chunk_tokens * chunk_tokens
        if self._window_tokens is None:
            return first_s, growth_s, UNLIMITED_STEPS
        window_s, window_growth_s, steps = self._price_windows(batch, self._window_tokens)
        return first_s + window_s, growth_s + window_growth_s, steps

    def _price_windows(self, batch: BatchShape, window: int) -> tuple[float, float, int]:
        """Return the price of the sliding-window layers: linear until a window fills, then constant.

        Decoding sequences are known by their sum only, so their mean context stands for each of them.
        """
        sequences, full = batch.sequences, window * batch.sequences
        room = full - batch.context_tokens
        first_s = self._window_context_s * min(batch.context_tokens, full)
        growth_s, steps = 0.0, UNLIMITED_STEPS
        if room >= sequences > 0:
            growth_s, steps = self._window_context_s * sequences, int(room // sequences) + 1
        elif room > 0:
            steps = 1
        for tokens, start in batch.chunks:
            pair_s = max(self._window_pair_s, self._window_read_s / tokens)
            pairs, chunk_growth, chunk_steps = _window_pairs(tokens, start, window)
            first_s += pair_s * pairs
            growth_s += pair_s * chunk_growth
            steps = min(steps, chunk_steps)
        return first_s, (growth_s if steps > 1 else 0.0), steps


def _window_pairs(tokens: int, start: int, window: int) -> tuple[float, float, int]:
    """Return a chunk's attended pairs within *window*, their growth per step, and for how many steps."""
    if start >= window:
        return float(tokens * window), 0.0, UNLIMITED_STEPS
    growing = min(tokens, window - start)  # tokens whose whole past lies within the window
    pairs = growing * start + growing * (growing + 1) * 0.5 + (tokens - growing) * window
    if growing < tokens:
        return pairs, 0.0, 1
    return pairs, float(tokens * tokens), (window - start) // tokens
