"""The layers of a model from operator tables: what each of its operators was measured to take, at the nearest shape.

A model's matrices, heads and experts need not be among those that were measured. So an operator takes what the nearest
measured one took, times the fitted function at the wanted shape over that at the measured one: exact where it was
measured, the function's slope elsewhere, and the function alone where nothing of the kind was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import log2
from typing import Any

import numpy as np

from servesim.catalog.dtypes import BYTES_PER_ELEMENT
from servesim.latency import efficiency
from servesim.latency.api import BatchShape, LatencyContext
from servesim.latency.attention import AttentionPrices
from servesim.latency.coefficients import KernelCoefficients, compute_dtype, sustained_share
from servesim.latency.collective_costs import Exchange, collectives
from servesim.latency.efficiency import Mixed, Peaks
from servesim.latency.operators import (
    Attention,
    Matrix,
    RoutedExperts,
    operators,
    shared_stream_tokens,
    weight_bytes,
)
from servesim.profiles import AttentionProfile, Grid, LayerProfile
from servesim.profiles.aiconfigurator import OperatorTables
from servesim.profiles.grid import ragged_grid, total

TOKENS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768]
"""Where fitted functions are evaluated that stand in for what was not measured."""

STARTS = [0, 512, 2048, 8192, 32768, 131072]
"""Cached tokens before a chunk; only whole prompts were measured."""

CACHED_ROWS = 512
"""Up to this many rows a matrix that fits the cache was read from there in the benchmark."""

LEAST_SHARE = 0.25
"""What is left at least of a measurement, when what the benchmark had besides is taken off."""


def profile_of(tables: OperatorTables, context: LatencyContext, exchange: Exchange) -> LayerProfile:
    """Return what the layers of the replica's model take according to *tables*, their GPUs exchanging by *exchange*.

    Raises
    ------
    ServesimError
        If a table is no table of measurements, or does not have that exchange.
    """
    return _Costs(tables, context).profile(exchange)


class _Costs:
    """The operators of one replica."""

    def __init__(self, tables: OperatorTables, context: LatencyContext) -> None:
        self._tables, self._context = tables, context
        self._operators = operators(context.model, context.parallelism)
        self._coefficients = KernelCoefficients(gpu=context.gpu)
        self._fitted: list[str] = []
        self._gemms: dict[str, dict[tuple[float, ...], list[tuple[float, float]]]] = {}

    def profile(self, exchange: Exchange) -> LayerProfile:
        """Return all of them as a profile of layers, those that count by tokens as totals of a step."""
        ops, context = self._operators, self._context
        apart = [matrix for matrix in ops.matrices if not matrix.shared]
        per_step = {f"matrix {i}": self._matrix(matrix) for i, matrix in enumerate(apart)}
        if ops.experts:
            per_step["experts"] = self._all_experts(ops.experts)
        per_step["elementwise"] = self._elementwise()
        window = context.model.sliding_window_tokens if context.model.sliding_layers else None
        attention = self._latent() if context.model.mla else self._attention(None)
        head = self._matrix(ops.head)
        sums, fitted = collectives(self._tables, context, exchange)
        self._fitted += fitted
        return LayerProfile(
            gpu=self._tables.gpu,
            tensor_parallel=context.tensor_parallel,
            heads=None,
            kv_heads=None,
            engine=self._tables.engine,
            per_layer={},
            per_step=per_step,
            per_sequence={"head": Grid({"sequences": head.axes["tokens"]}, head.values)},
            experts=None,
            attention=attention,
            window=None if window is None else self._attention(window),
            all_reduces=sums,
            fitted=tuple(dict.fromkeys(self._fitted)),
        )

    def _peaks(self, dtype: str, *, lasting: bool = True) -> Peaks:
        """Return the peaks of the GPU, of which those of FLOP/s last under load, or count in a short benchmark."""
        gpu = self._context.gpu
        return Peaks(
            flops_per_s=(sustained_share(gpu) if lasting else 1.0)
            * gpu.peak_flops_per_s(compute_dtype(gpu, dtype)),
            bytes_per_s=gpu.memory_bandwidth_bytes_per_s,
            multiprocessors=gpu.multiprocessors,
            cache_bytes=gpu.cache_bytes,
        )

    def _matrix(self, matrix: Matrix, *, lasting: bool = True) -> Grid:
        """Return the time of a step's multiplications with *matrix*, by tokens; what was measured did not last."""
        dtype = matrix.dtype
        coefficients, peaks = self._coefficients.gemm(dtype), self._peaks(dtype, lasting=lasting)
        short_peaks = self._peaks(dtype, lasting=False)
        element_bytes = BYTES_PER_ELEMENT[dtype]

        def fitted(m: float, n: float, k: float, *, peaks: Peaks = peaks) -> float:
            return float(efficiency.gemm_s(coefficients, peaks, m, n=n, k=k, element_bytes=element_bytes))

        if dtype not in self._gemms:
            self._gemms[dtype] = _grouped(self._tables.gemm(dtype), 2)
        known = self._gemms[dtype]
        wanted = (matrix.n, matrix.k)
        if not known:
            self._fitted.append(f"matrices in {dtype}")
            return self._curve((m, matrix.count * fitted(m, *wanted)) for m in TOKENS)
        shape = _nearest(known, wanted)
        weights_bytes = matrix.n * matrix.k * element_bytes
        cached = weights_bytes < self._context.gpu.cache_bytes

        def in_service(m: float, measured_s: float) -> float:
            besides_s = self._coefficients.quantising_s(dtype, m, shape[1])
            return max(measured_s - besides_s, LEAST_SHARE * measured_s)

        memory_s = weights_bytes / (coefficients.bandwidth_share * peaks.bytes_per_s)
        return self._curve(
            (
                m,
                matrix.count
                * max(
                    in_service(m, measured_s) * fitted(m, *wanted) / fitted(m, *shape, peaks=short_peaks),
                    memory_s if cached and m <= CACHED_ROWS else 0.0,
                ),
            )
            for m, measured_s in known[shape]
        )

    def _all_experts(self, experts: RoutedExperts) -> Grid:
        """Return the time of the experts of all layers, routed and shared ones."""
        routed = self._experts(experts)
        shared = [matrix for matrix in self._operators.matrices if matrix.shared]
        if not shared:
            return routed
        both = [routed, total([self._matrix(matrix) for matrix in shared])]
        most = shared_stream_tokens(self._context.gpu)
        tokens = sorted({most, most + 1, *(point for grid in both for point in grid.axes["tokens"])})
        routed_s, shared_s = (np.array([grid(point) for point in tokens]) for grid in both)
        together_s = efficiency.with_shared_s(
            routed_s,
            shared_s,
            shared_bytes=weight_bytes(shared),
            bytes_per_s=self._context.gpu.memory_bandwidth_bytes_per_s,
            beside=np.array(tokens) <= most,
        )
        return Grid({"tokens": tokens}, together_s)

    def _experts(self, experts: RoutedExperts) -> Grid:
        """Return the time of the routed experts of all layers, by tokens of one data-parallel group.

        Measured were experts that are sliced, and tokens that are spread evenly over them, so that they visit more of
        them than tokens routed at random do. Both are scaled from there.
        """
        kernels = self._context.expert_kernels
        known = _grouped(self._tables.experts(kernels), 4)
        if not known:
            self._fitted.append(f"experts in {kernels}")
            return self._curve((m, experts.count * self._experts_s(experts, m)) for m in TOKENS)
        matrices = self._context.model.mlp_matrices
        wanted = (
            experts.hidden,
            experts.weights / matrices / experts.hidden,
            experts.experts_per_token,
            experts.experts,
        )
        shape = _nearest(known, wanted)
        hidden, width, per_token, count = shape
        measured = replace(
            experts,
            experts=int(count),
            experts_per_token=int(per_token),
            hidden=int(hidden),
            weights=matrices * hidden * width,
            groups=1,
            ranks=1,
        )
        return self._curve(
            (
                tokens / experts.groups,
                experts.count
                * seconds
                * self._experts_s(experts, tokens / experts.groups)
                / self._evenly_s(measured, tokens),
            )
            for tokens, seconds in known[shape]
        )

    def _experts_s(self, experts: RoutedExperts, tokens: float) -> float:
        """Return the fitted time of a layer's experts on the GPU that has the most of them to do."""
        together, ranks = experts.groups * tokens, experts.ranks
        visited = efficiency.expected_experts(experts.experts, experts.experts_per_token, together) / ranks
        pairs = efficiency.busiest(experts.experts_per_token * together / ranks, ranks)
        visited = min(efficiency.busiest(visited, ranks), experts.experts / ranks)
        return self._visits_s(experts, pairs, visited)

    def _evenly_s(self, experts: RoutedExperts, tokens: float) -> float:
        """Return the fitted time of *experts* on one GPU whose *tokens* are spread evenly over them."""
        pairs = experts.experts_per_token * tokens
        return self._visits_s(experts, pairs, min(pairs, experts.experts), lasting=False)

    def _visits_s(
        self, experts: RoutedExperts, pairs: float, visited: float, *, lasting: bool = True
    ) -> float:
        kernels = self._context.expert_kernels
        return float(
            efficiency.experts_s(
                self._coefficients.experts(kernels),
                self._peaks(kernels, lasting=lasting),
                pairs=pairs,
                visited=visited,
                hidden=experts.hidden,
                weights=experts.weights,
                element_bytes=BYTES_PER_ELEMENT[experts.dtype],
            )
        )

    def _elementwise(self) -> Grid:
        """Return norms, rotations and activations: no table has them."""
        self._fitted.append("norms, rotations, activations")
        ops, coefficients, peaks = self._operators, self._coefficients.elementwise(), self._peaks("bf16")
        return self._curve(
            (
                m,
                efficiency.elementwise_s(
                    coefficients, peaks, ops.elementwise_bytes * m, ops.elementwise_kernels
                ),
            )
            for m in TOKENS
        )

    def _curve(self, points: Iterable[tuple[float, float]]) -> Grid:
        known = sorted(points)
        return Grid({"tokens": [at for at, _ in known]}, [seconds for _, seconds in known])

    def _prices(
        self, shape: Attention, window: int | None, *, lasting: bool = True
    ) -> Callable[[BatchShape], float]:
        """Return the fitted price of one layer's attention of *shape*."""
        latent, kv_dtype = self._context.model.mla is not None, self._context.model.kv_dtype
        prices = AttentionPrices(
            shape,
            self._peaks("bf16", lasting=lasting),
            decode=self._coefficients.decode(kv_dtype, latent=latent),
            prefill=self._coefficients.prefill(kv_dtype, latent=latent),
            mixed=Mixed(reread_share=0.0),
            layers=1,
            window=window,
        )
        return lambda batch: prices.price(batch)[0]

    def _attention(self, window: int | None) -> AttentionProfile:
        """Return the attention of one layer with sliding *window*, or with none."""
        model, ranks = self._context.model, self._context.tensor_parallel
        kv_heads = max(1.0, model.kv_heads / ranks)
        # Widths differ in kernels, numbers of heads in work only: the width comes first.
        wanted = (model.heads / ranks, kv_heads, model.head_dim, float(window or 0))
        price = self._prices(self._operators.attention, window)
        return AttentionProfile(decode=self._decode(wanted, price), prefill=self._prefill(wanted, price))

    def _decode(self, wanted: tuple[float, ...], price: Callable[[BatchShape], float]) -> Grid:
        kv_dtype = self._context.model.kv_dtype
        known = _grouped(self._tables.decode(kv_dtype), 4, values=2)
        if not known:
            self._fitted.append("decode attention")
            return _decode_grid((n, c, price(BatchShape(n, n * c))) for n in TOKENS[:11] for c in TOKENS)
        shape = _nearest_attention(known, wanted)
        measured = self._measured(shape)
        rows = []
        for sequences, step, seconds in known[shape]:
            context_tokens = step + 1.0
            read = sequences * context_tokens * 2.0 * shape[1] * shape[2] * BYTES_PER_ELEMENT[kv_dtype]
            batch = BatchShape(int(sequences), sequences * context_tokens)
            fitted_s = measured(batch)
            # What was read from the cache comes from memory in a model, where other layers come between.
            cached = 1e6 <= read <= 1.5 * self._context.gpu.cache_bytes
            least_s = fitted_s if cached else 0.0
            rows.append((sequences, context_tokens, max(seconds, least_s) * price(batch) / fitted_s))
        return _decode_grid(rows)

    def _prefill(self, wanted: tuple[float, ...], price: Callable[[BatchShape], float]) -> Grid:
        known = _grouped(self._tables.prefill(self._context.model.kv_dtype), 4)
        if not known:
            self._fitted.append("prefill attention")
            return self._started(((m, price(BatchShape(0, 0, [(m, 0)]))) for m in TOKENS), wanted[3], price)
        shape = _nearest_attention(known, wanted)
        measured = self._measured(shape)
        rows = []
        for tokens, seconds in known[shape]:
            batch = BatchShape(0, 0, [(int(tokens), 0)])
            rows.append((tokens, seconds * price(batch) / measured(batch)))
        return self._started(rows, wanted[3], price)

    def _started(
        self, rows: Iterable[tuple[float, float]], window: float, price: Callable[[BatchShape], float]
    ) -> Grid:
        """Return the grid of chunks after cached tokens, from *rows* of whole prompts."""
        known = sorted(rows)
        starts = sorted({*STARTS, int(window)})
        values = [
            [
                seconds
                * price(BatchShape(0, 0, [(int(chunk), start)]))
                / price(BatchShape(0, 0, [(int(chunk), 0)]))
                for start in starts
            ]
            for chunk, seconds in known
        ]
        return Grid({"chunk": [chunk for chunk, _ in known], "start": starts}, values)

    def _measured(self, shape: Sequence[float]) -> Callable[[BatchShape], float]:
        """Return the fitted price of attention of a measured shape, in a benchmark as short as the measurement."""
        heads, kv_heads, head_dim, window = shape
        flops = 4.0 * heads * head_dim
        return self._prices(
            Attention(
                heads=heads,
                head_dim=int(head_dim),
                group=heads / kv_heads,
                kv_bytes=2.0 * kv_heads * head_dim * BYTES_PER_ELEMENT[self._context.model.kv_dtype],
                flops_per_pair=flops,
                decode_flops_per_pair=flops,
                expand_flops=0.0,
            ),
            int(window) or None,
            lasting=False,
        )

    def _latent(self) -> AttentionProfile:
        """Return latent attention: whole modules were measured, the projections are taken out of them."""
        context = self._context
        price = self._prices(self._operators.attention, None)
        short = self._prices(self._operators.attention, None, lasting=False)
        heads, kv_dtype = context.model.heads / context.tensor_parallel, context.model.kv_dtype
        decodes = _grouped(self._tables.latent(kv_dtype, "generation"), 1, values=2)
        prefills = _grouped(self._tables.latent(kv_dtype, "context"), 1, values=2)
        if not decodes or not prefills or context.model.mla is None or context.model.hidden_size != 7168:
            self._fitted.append("latent attention")
            decode_rows = [(n, c, price(BatchShape(n, n * c))) for n in TOKENS[:11] for c in TOKENS]
            prefill_rows = [(m, price(BatchShape(0, 0, [(m, 0)]))) for m in TOKENS]
            return AttentionProfile(
                decode=_decode_grid(decode_rows), prefill=self._started(prefill_rows, 0.0, price)
            )
        projections = self._projections()
        launch_s = {
            phase: self._coefficients.benchmark_launch_s(phase, kv_dtype) for phase in ("decode", "prefill")
        }
        wanted = (heads,)
        decode = [
            (n, tokens, max(0.0, seconds - projections(n) - launch_s["decode"]))
            for n, tokens, seconds in decodes[_nearest(decodes, wanted)]
        ]
        prefill = [
            (
                tokens,
                max(0.0, seconds - projections(tokens) - launch_s["prefill"])
                * price(BatchShape(0, 0, [(int(tokens), 0)]))
                / short(BatchShape(0, 0, [(int(tokens), 0)])),
            )
            for n, tokens, seconds in prefills[_nearest(prefills, wanted)]
            if n == 1
        ]
        return AttentionProfile(decode=_decode_grid(decode), prefill=self._started(prefill, 0.0, price))

    def _projections(self) -> Grid:
        """Return the first four matrices of the model, latent attention's in 16 bits, by tokens, as measured."""
        found = [
            self._matrix(Matrix(n=matrix.n, k=matrix.k, count=1, dtype="bf16"), lasting=False)
            for matrix in self._operators.matrices[:4]
        ]
        return total(found)


def _decode_grid(rows: Iterable[tuple[float, float, float]]) -> Grid:
    return ragged_grid(rows, ("sequences", "context"))


def _grouped(
    rows: list[tuple[float, ...]], shape: int, *, values: int = 1
) -> dict[tuple[float, ...], list[Any]]:
    """Return the last ``values + 1`` elements of *rows* by their first *shape* ones."""
    found: dict[tuple[float, ...], list[Any]] = {}
    for row in rows:
        found.setdefault(row[:shape], []).append(row[-values - 1 :])
    return found


def _nearest(known: Iterable[tuple[float, ...]], wanted: Sequence[float]) -> tuple[float, ...]:
    """Return the shape that is fewest doublings away."""
    return min(
        known, key=lambda shape: (sum(abs(log2(a / b)) for a, b in zip(shape, wanted, strict=True)), shape)
    )


def _nearest_attention(known: Iterable[tuple[float, ...]], wanted: Sequence[float]) -> tuple[float, ...]:
    """Return the nearest shape of attention: windowed or not first, then the width of a head, then their numbers."""

    def distance(shape: tuple[float, ...]) -> tuple[float, ...]:
        heads, kv_heads, head_dim, window = (
            abs(log2((a or 1.0) / (b or 1.0))) for a, b in zip(shape, wanted, strict=True)
        )
        return (window, head_dim, heads + kv_heads, *shape)

    return min(known, key=distance)
