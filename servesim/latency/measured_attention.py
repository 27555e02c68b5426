"""Attention of a step from measured grids: decodes, prompt chunks, or both in one step.

A decode-only step is a line in the context between two points of the grid, which is what leaps need. A step with
chunks is priced for itself alone.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable

import numpy as np

from servesim.latency.api import UNLIMITED_STEPS, BatchShape, LatencyContext
from servesim.latency.coefficients import compute_dtype
from servesim.latency.edges import Edges
from servesim.latency.one_kernel import OneKernel
from servesim.latency.operators import kv_bytes_per_token_layer
from servesim.latency.parallel import Price
from servesim.profiles import AttentionProfile, Grid
from servesim.profiles.grid import Floats

_Line = tuple[float, float]
"""Time at no context, and slope per token of context."""

_Lines = tuple["array[float]", "array[float]"]
"""The same of many lines, one array for each."""

_Chunk = tuple[float, list[tuple[int, float]]]
"""What a chunk takes alone, and its corners on the grid of chunks beside decodes."""

_Beside = tuple[_Lines, int, float, float]
"""Decodes that chunks run beside: their lines, the place of their mean context, its sum, and what they take alone."""

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
        self._alone_s: list[float] = (layers * self._prefill_grid.values).ravel().tolist()
        self._chunk_edge, self._start_edge = (points[-1] for points in profile.prefill.axes.values())
        self._sequences_edge, self._context_edge = (points[-1] for points in profile.decode.axes.values())
        self._contexts = self._decode_grid.axes["context"]
        self._ends = [0.0, *self._contexts, 2.0 * self._contexts[-1]]
        self._lines: dict[int, list[_Line]] = {}
        self._both: dict[int, _Lines] = {}
        self._chunks: dict[tuple[int, int], _Chunk] = {}
        self._both_grid, self._both_s = None, None
        mixed = None
        if profile.mixed is not None:
            mixed = profile.mixed.extended("chunk", budget, of_both).extended("start", longest)
            mixed = mixed.extended("context", longest).extended("sequences", most)
        elif one_kernel is not None:
            mixed = one_kernel.grid(self._prefill_grid, self._decode_grid)
        if mixed is not None:
            self._both_grid, self._both_s = self._beside_decodes(mixed.raised())
        self.price = self._priced()

    def _beside_decodes(self, mixed: Grid) -> tuple[Grid, Grid]:
        """Return chunks beside decodes: a grid of chunks and starts, whose value is the place of their lines.

        The other has ``sequences``, and along the second axis those lines, all layers together, at the ends of the
        lines of decodes: one place serves both.
        """
        chunks, starts, sequences, _ = mixed.axes.values()
        at_ends = np.stack([mixed.at("context", end).values for end in self._ends], axis=-1)
        flat = np.moveaxis(at_ends, 2, 0).reshape(len(sequences), -1) * self._layers
        where = Grid({"chunk": chunks, "start": starts}, np.zeros((len(chunks), len(starts))))
        return where, Grid(
            {"sequences": sequences, "place": [float(place) for place in range(flat.shape[1])]}, flat
        )

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

    def _priced(self) -> Price:
        """Return the price of a batch, ``(first_step_s, growth_s, valid_steps)``: a closure for speed.

        See `servesim.latency.pricing.StepCosts`.
        """
        contexts, last = self._contexts, len(self._contexts)
        # A window ends what a longer context costs: there is nothing to tell beyond the table.
        edge_place = last + 1 if self._window else contexts.index(self._context_edge) + 1
        lines, fill, note, context_edge = self._lines, self._fill, self._edges.note, self._context_edge
        both, fill_both, chunk_s, fill_chunk = self._both, self._fill_both, self._chunks, self._fill_chunk
        chunks_s, sums = self._chunks_s, self._both_s is None

        def price(batch: BatchShape) -> tuple[float, float, int]:
            sequences, context_tokens, chunks = batch.sequences, batch.context_tokens, batch.chunks
            if not sequences:
                return chunks_s(chunks, None), 0.0, 1
            place = bisect_right(contexts, context_tokens / sequences)
            zero_s, slope_s = (lines.get(sequences) or fill(sequences))[place]
            first_s = zero_s + slope_s * context_tokens
            if not chunks:
                if place >= edge_place:
                    note("context", context_edge, context_tokens / sequences)
                if place == last:
                    return first_s, slope_s * sequences, UNLIMITED_STEPS
                steps = int(sequences * contexts[place] - context_tokens) // sequences + 1
                return first_s, (slope_s * sequences if steps > 1 else 0.0), steps
            if sums:
                return first_s + chunks_s(chunks, None), 0.0, 1
            found = both.get(sequences) or fill_both(sequences)
            if len(chunks) > 1:
                return chunks_s(chunks, (found, place, context_tokens, first_s)), 0.0, 1
            zeros, slopes = found
            least_s, corners = chunk_s.get(chunks[0]) or fill_chunk(chunks[0])
            both_s = 0.0
            for first_line, weight in corners:
                line = first_line + place
                both_s += weight * (zeros[line] + slopes[line] * context_tokens)
            least_s = least_s if least_s > first_s else first_s
            return (both_s if both_s > least_s else least_s), 0.0, 1

        return price

    def _fill(self, sequences: int) -> list[_Line]:
        """Work out, for *sequences* decodes, the line before each point of the context and after the last."""
        self._edges.note("sequences", self._sequences_edge, sequences)
        curve = self._decode_grid.at("sequences", sequences)
        zeros, slopes = self._lines_of(sequences, np.array([curve(end) for end in self._ends]) * self._layers)
        lines = self._lines[sequences] = list(zip(zeros.tolist(), slopes.tolist(), strict=True))
        return lines

    def _lines_of(self, sequences: int, values: Floats) -> tuple[Floats, Floats]:
        """Return the lines through *values* at the ends, along the last axis, in the context of all *sequences*."""
        ends = sequences * np.array(self._ends)
        slopes = np.diff(values) / np.diff(ends)
        return values[..., :-1] - slopes * ends[:-1], slopes

    def _chunks_s(self, chunks: list[tuple[int, int]], beside: _Beside | None) -> float:
        """Return what chunks of prompts take, alone or beside decodes.

        One chunk is priced together with the decodes, as it was measured; each other one adds what it takes beyond an
        empty kernel. Which is the one is chosen so that more work never takes less time: the dearest combination.
        """
        others_s, most_s = 0.0, 0.0
        for chunk in chunks:
            alone_s, corners = self._chunks.get(chunk) or self._fill_chunk(chunk)
            first_s, other_s = alone_s, alone_s - self._empty_s
            if beside is not None:
                (zeros, slopes), place, context_tokens, decode_s = beside
                both_s = [w * (zeros[at + place] + slopes[at + place] * context_tokens) for at, w in corners]
                first_s = max(sum(both_s), decode_s, alone_s)
            others_s += other_s
            most_s = max(most_s, first_s - other_s)
        return others_s + most_s

    def _fill_both(self, sequences: int) -> _Lines:
        """Work out the lines of *sequences* decodes beside a chunk, by chunk, start and place of the context."""
        assert self._both_s is not None
        values = self._both_s.at("sequences", sequences).values.reshape(-1, len(self._ends))
        zeros, slopes = self._lines_of(sequences, values)
        filled = self._both[sequences] = array("d", zeros.tobytes()), array("d", slopes.tobytes())
        return filled

    def _fill_chunk(self, chunk: tuple[int, int]) -> _Chunk:
        """Work out and remember what a chunk takes alone, in all layers, and where it lies on the grid of both."""
        tokens, start = chunk
        if tokens > self._chunk_edge:
            self._edges.note("chunk", self._chunk_edge, tokens)
        if start > self._start_edge and self._window is None:
            self._edges.note("start", self._start_edge, start)
        if len(self._chunks) >= REMEMBERED:
            self._chunks.clear()
        alone_s, stride = self._alone_s, len(self._contexts) + 1
        corners = [] if self._both_grid is None else self._both_grid.corners(tokens, start)
        filled = self._chunks[chunk] = (
            sum([weight * alone_s[place] for place, weight in self._prefill_grid.corners(tokens, start)]),
            [(place * stride, weight) for place, weight in corners],
        )
        return filled


def of_layers(prices: list[Price]) -> Price:
    """Return the price of layers of several kinds."""

    def priced(batch: BatchShape) -> tuple[float, float, int]:
        found = [price(batch) for price in prices]
        return sum(p[0] for p in found), sum(p[1] for p in found), min(p[2] for p in found)

    return priced
