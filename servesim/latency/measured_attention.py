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
from servesim.latency.operators import kv_bytes_per_token_layer
from servesim.profiles import AttentionProfile, Grid

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
    ) -> None:
        self._layers, self._edges, self._window = layers, edges, window
        self._decode_grid = self._bounded_decode(profile.decode, context)
        budget = context.max_num_batched_tokens

        def of_chunk(chunk: float, start: float) -> float:
            return growth(BatchShape(0, 0, [(round(chunk), round(start))]))

        def of_both(chunk: float, start: float, sequences: float, mean: float) -> float:
            return growth(BatchShape(round(sequences), sequences * mean, [(round(chunk), round(start))]))

        prefill = profile.prefill.extended("chunk", budget, of_chunk)
        self._prefill_grid = self._bounded_prefill(prefill, context)
        self._empty_s = self._prefill_grid(0, 0)
        self._mixed = (
            None
            if profile.mixed is None
            else profile.mixed.extended("chunk", budget, of_both).raised()
        )
        self._chunk_edge, self._start_edge = (
            (points[-1] for points in profile.prefill.axes.values())
        )
        self._decode: dict[int, tuple[list[float], list[float], list[float]]] = {}
        self._both: dict[int, Grid] = {}
        self._prefills: dict[tuple[int, int], float] = {}

    def _bounded_decode(self, grid: Grid, context: LatencyContext) -> Grid:
        """Return the grid of decodes with no value below the time to read their keys and values once."""
        read_s = (
            kv_bytes_per_token_layer(context.model, context.tensor_parallel)
            / context.gpu.memory_bandwidth_bytes_per_s
        )
        window = self._window or float("inf")
        return grid.raised(
            [[n * min(mean, window) * read_s for mean in grid.axes["context"]] for n in grid.axes["sequences"]]
        )

    def _bounded_prefill(self, grid: Grid, context: LatencyContext) -> Grid:
        """Return the grid of chunks with no value below that at peak FLOP/s."""
        model, gpu = context.model, context.gpu
        peak = gpu.peak_flops_per_s(compute_dtype(gpu, "bf16"))
        pair_s = model.attention_flops_per_pair / context.tensor_parallel / peak
        if self._window is not None:
            return grid.raised()
        return grid.raised(
            [[chunk * (start + chunk / 2) * pair_s for start in grid.axes["start"]] for chunk in grid.axes["chunk"]]
        )

    def price(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return ``(first_step_s, growth_s, valid_steps)``; see `servesim.latency.pricing.StepCosts`."""
        if batch.chunks:
            return self._price_mixed(batch), 0.0, 1
        sequences, context_tokens = batch.sequences, batch.context_tokens
        knots, values, slopes = self._decode.get(sequences) or self._fill(sequences)
        place = bisect_right(knots, context_tokens) - 1
        first_s = values[place] + slopes[place] * (context_tokens - knots[place])
        if place == len(slopes) - 1:
            if self._window is None:
                self._edges.note("context", knots[-1] / sequences, context_tokens / sequences)
            return first_s, slopes[place] * sequences, UNLIMITED_STEPS
        steps = int(knots[place + 1] - context_tokens) // sequences + 1
        return first_s, (slopes[place] * sequences if steps > 1 else 0.0), steps

    def _fill(self, sequences: int) -> tuple[list[float], list[float], list[float]]:
        """Work out knots in tokens of context, the times there, and the slopes after each, for *sequences*."""
        self._edges.note("sequences", self._decode_grid.axes["sequences"][-1], sequences)
        curve = self._decode_grid.at("sequences", sequences)
        points = curve.axes["context"]
        ends = [0.0, *points, 2.0 * points[-1]]
        knots = [sequences * point for point in ends]
        values = [self._layers * curve(point) for point in ends]
        slopes = [
            (after - before) / (end - start)
            for before, after, start, end in zip(values, values[1:], knots, knots[1:], strict=False)
        ]
        filled = self._decode[sequences] = (knots[:-1], values[:-1], slopes)
        return filled

    def _price_mixed(self, batch: BatchShape) -> float:
        """Return the time of a step with chunks of prompts.

        One chunk is priced together with the decodes, as it was measured; each other one adds what it takes beyond an
        empty kernel. Which is the one is chosen so that more work never takes less time: the dearest combination.
        """
        sequences, chunks, prefills = batch.sequences, batch.chunks, self._prefills
        decode_s, both, mean = 0.0, None, 0.0
        if sequences:
            context_tokens = batch.context_tokens
            knots, values, slopes = self._decode.get(sequences) or self._fill(sequences)
            place = bisect_right(knots, context_tokens) - 1
            decode_s = values[place] + slopes[place] * (context_tokens - knots[place])
            if self._mixed is not None:
                both = self._both.get(sequences) or self._fill_both(sequences)
                mean = context_tokens / sequences
        others_s, most_s = 0.0, 0.0
        for chunk in chunks:
            alone_s = prefills.get(chunk)
            if alone_s is None:
                alone_s = self._price_chunk(chunk)
            other_s = alone_s - self._empty_s
            if both is not None:
                first_s = max(decode_s, alone_s, both(*chunk, mean))
            else:
                first_s = alone_s + decode_s
            others_s += other_s
            if first_s - other_s > most_s:
                most_s = first_s - other_s
        return others_s + most_s

    def _fill_both(self, sequences: int) -> Grid:
        """Work out the times of all layers for *sequences* decodes beside a chunk."""
        assert self._mixed is not None
        grid = self._mixed.at("sequences", sequences)
        filled = self._both[sequences] = Grid(grid.axes, grid.values * self._layers)
        return filled

    def _price_chunk(self, chunk: tuple[int, int]) -> float:
        """Work out and remember what a chunk takes alone, in all layers."""
        tokens, start = chunk
        self._edges.note("chunk", self._chunk_edge, tokens)
        if self._window is None:
            self._edges.note("start", self._start_edge, start)
        if len(self._prefills) >= REMEMBERED:
            self._prefills.clear()
        self._prefills[chunk] = alone_s = self._layers * self._prefill_grid(tokens, start)
        return alone_s
