"""Attention of a step from measured grids: decodes, prompt chunks, or both in one step.

A decode-only step is a line in the context between two points of the grid, which is what leaps need. A step with
chunks is priced for itself alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from servesim.latency.api import UNLIMITED_STEPS, BatchShape, LatencyContext
from servesim.latency.coefficients import compute_dtype
from servesim.latency.edges import Edges
from servesim.latency.one_kernel import OneKernel
from servesim.latency.operators import kv_bytes_per_token_layer
from servesim.latency.parallel import Price
from servesim.profiles import AttentionProfile, Grid
from servesim.profiles.grid import bracket, half

_Line = tuple[float, float]
"""Time at no context, and slope per token of context."""

_Chunk = tuple[float, list[tuple[int, float]]]
"""What a chunk takes alone, and its corners on the grid of chunks beside decodes."""

REMEMBERED = 1 << 16
"""Prices of chunks that are kept at most."""

Growth = Callable[[BatchShape], float]


class MeasuredAttention:
    """Attention of *layers* layers that are alike.

    Parameters
    ----------
    profile
        What one of them was measured to take.
    context
        The replica.
    edges
        Where prices beyond the tables are noted.
    layers
        How many there are.
    growth
        Attention of a batch under the roofline, by which chunks beyond the largest measured one are scaled.
    window
        Tokens of their sliding window, or None.
    one_kernel
        What decodes beside chunks take where one kernel serves both and none were measured; else None.
    """

    def __init__(
        self,
        profile: AttentionProfile,
        context: LatencyContext,
        edges: Edges,
        *,
        layers: int,
        growth: Growth,
        window: int | None = None,
        one_kernel: OneKernel | None = None,
    ) -> None:
        self._layers, self._edges, self._window = layers, edges, window
        budget, longest, most = (
            context.max_num_batched_tokens,
            context.model.context_tokens,
            context.max_num_seqs,
        )

        def of_chunk(chunk: float, start: float) -> float:
            return growth(BatchShape(0, 0, [(round(chunk), round(start))]))

        def of_both(chunk: float, start: float, sequences: float, mean: float) -> float:
            return growth(BatchShape(round(sequences), sequences * mean, [(round(chunk), round(start))]))

        decode = profile.decode.extended("context", longest).extended("sequences", most)
        self._decode_grid = self._bounded_decode(decode, context)
        prefill = profile.prefill.extended("chunk", budget, of_chunk).extended("start", longest)
        self._prefill_grid = self._bounded_prefill(prefill, context)
        self._empty_s = layers * self._prefill_grid(0, 0)
        self._mixed = None
        if profile.mixed is not None:
            mixed = profile.mixed.extended("chunk", budget, of_both).extended("start", longest)
            self._mixed = mixed.extended("context", longest).extended("sequences", most).raised()
        elif one_kernel is not None:
            self._mixed = one_kernel.grid(self._prefill_grid, self._decode_grid).raised()
        # Chunks alone and beside decodes need not stand on the same points.
        self._both_grid = None if self._mixed is None else _first_two(self._mixed)
        self._alone_s: list[float] = (layers * self._prefill_grid.values).ravel().tolist()
        self._chunk_edge, self._start_edge = (points[-1] for points in profile.prefill.axes.values())
        self._sequences_edge, self._context_edge = (points[-1] for points in profile.decode.axes.values())
        self._contexts = self._decode_grid.axes["context"]
        self._last = len(self._contexts)
        # A window ends what a longer context costs: there is nothing to tell beyond the table.
        self._edge_place = self._last + 1 if window else self._contexts.index(self._context_edge) + 1
        self._lines: dict[int, list[_Line]] = {}
        self._both: dict[int, list[float]] = {}
        self._chunks: dict[tuple[int, int], _Chunk] = {}
        self._means: list[float] = [] if self._mixed is None else self._mixed.axes["context"]
        self._stride = len(self._means)
        self._means_half = half(self._means) if self._means else 0

    def _bounded_decode(self, grid: Grid, context: LatencyContext) -> Grid:
        """Return the grid of decodes with no value below the time to read their keys and values once."""
        read_s = (
            kv_bytes_per_token_layer(context.model, context.tensor_parallel)
            / context.gpu.memory_bandwidth_bytes_per_s
        )
        window = self._window or float("inf")
        return grid.raised(
            [
                [n * min(mean, window) * read_s for mean in grid.axes["context"]]
                for n in grid.axes["sequences"]
            ]
        )

    def _bounded_prefill(self, grid: Grid, context: LatencyContext) -> Grid:
        """Return the grid of chunks with no value below that at peak FLOP/s."""
        model, gpu = context.model, context.gpu
        peak = gpu.peak_flops_per_s(compute_dtype(gpu, "bf16"))
        pair_s = model.attention_flops_per_pair / context.tensor_parallel / peak
        if self._window is not None:
            return grid.raised()
        return grid.raised(
            [
                [chunk * (start + chunk / 2) * pair_s for start in grid.axes["start"]]
                for chunk in grid.axes["chunk"]
            ]
        )

    def price(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return ``(first_step_s, growth_s, valid_steps)``; see `servesim.latency.pricing.StepCosts`."""
        sequences = batch.sequences
        if not sequences:
            return self._beside_chunks(batch, 0.0), 0.0, 1
        context_tokens = batch.context_tokens
        place = bisect_right(self._contexts, context_tokens / sequences)
        zero_s, slope_s = (self._lines.get(sequences) or self._fill(sequences))[place]
        first_s = zero_s + slope_s * context_tokens
        if batch.chunks:
            return self._beside_chunks(batch, first_s), 0.0, 1
        if place >= self._edge_place:
            self._edges.note("context", self._context_edge, context_tokens / sequences)
        if place == self._last:
            return first_s, slope_s * sequences, UNLIMITED_STEPS
        steps = int(sequences * self._contexts[place] - context_tokens) // sequences + 1
        return first_s, (slope_s * sequences if steps > 1 else 0.0), steps

    def _fill(self, sequences: int) -> list[_Line]:
        """Work out, for *sequences* decodes, the line before each point of the context and after the last."""
        self._edges.note("sequences", self._sequences_edge, sequences)
        curve = self._decode_grid.at("sequences", sequences)
        ends = [0.0, *self._contexts, 2.0 * self._contexts[-1]]
        values = [self._layers * curve(point) for point in ends]
        lines: list[_Line] = []
        for low, high, before_s, after_s in zip(ends, ends[1:], values, values[1:], strict=False):
            slope_s = (after_s - before_s) / (sequences * (high - low))
            lines.append((before_s - slope_s * sequences * low, slope_s))
        self._lines[sequences] = lines
        return lines

    def _beside_chunks(self, batch: BatchShape, decode_s: float) -> float:
        """Return the time of a step with chunks of prompts, whose decodes alone take *decode_s*.

        One chunk is priced together with the decodes, as it was measured; each other one adds what it takes beyond an
        empty kernel. Which is the one is chosen so that more work never takes less time: the dearest combination.
        """
        sequences, known = batch.sequences, self._chunks
        both = None
        if sequences and self._mixed is not None:
            both = self._both.get(sequences) or self._fill_both(sequences)
            low, high, share = bracket(self._means, self._means_half, batch.context_tokens / sequences)
        others_s, most_s = 0.0, 0.0
        for chunk in batch.chunks:
            alone_s, corners = known.get(chunk) or self._price_chunk(chunk)
            other_s = alone_s - self._empty_s
            if both is None:
                first_s = alone_s + decode_s
            else:
                first_s = 0.0
                for place, weight in corners:
                    before_s = both[place + low]
                    first_s += weight * (before_s + share * (both[place + high] - before_s))
                first_s = max(first_s, decode_s)
                first_s = max(first_s, alone_s)
            others_s += other_s
            most_s = max(most_s, first_s - other_s)
        return others_s + most_s

    def _fill_both(self, sequences: int) -> list[float]:
        """Work out the times of all layers for *sequences* decodes beside a chunk, by chunk, start and context."""
        assert self._mixed is not None
        grid = self._mixed.at("sequences", sequences)
        filled = self._both[sequences] = (grid.values * self._layers).ravel().tolist()
        return filled

    def _price_chunk(self, chunk: tuple[int, int]) -> _Chunk:
        """Work out and remember what a chunk takes alone, in all layers, and where it lies on the grid of both."""
        tokens, start = chunk
        if tokens > self._chunk_edge:
            self._edges.note("chunk", self._chunk_edge, tokens)
        if start > self._start_edge and self._window is None:
            self._edges.note("start", self._start_edge, start)
        if len(self._chunks) >= REMEMBERED:
            self._chunks.clear()
        alone_s, stride = self._alone_s, self._stride
        corners = [] if self._both_grid is None else self._both_grid.corners(tokens, start)
        filled = self._chunks[chunk] = (
            sum([weight * alone_s[place] for place, weight in self._prefill_grid.corners(tokens, start)]),
            [(place * stride, weight) for place, weight in corners],
        )
        return filled


def _first_two(grid: Grid) -> Grid:
    """Return a grid on the first two axes of *grid*, for its corners."""
    axes = dict(list(grid.axes.items())[:2])
    return Grid(axes, grid.values[..., 0, 0])


def of_layers(prices: list[Price]) -> Price:
    """Return the price of layers of several kinds."""

    def priced(batch: BatchShape) -> tuple[float, float, int]:
        found = [price(batch) for price in prices]
        return sum(p[0] for p in found), sum(p[1] for p in found), min(p[2] for p in found)

    return priced
