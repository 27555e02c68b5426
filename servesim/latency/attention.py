"""Attention of a step under the roofline: lines in the attended tokens, with knots where one ends.

Decode takes the keys and values of all sequences, known by their sum: a line for small reads, another for large
ones, flat while sequences are shorter than a block of work, flat again where a sliding window is full. Chunks of
prompts take their pairs, the longest piece of work among them, and their queries and outputs.
"""

from __future__ import annotations

from servesim.latency.api import UNLIMITED_STEPS, BatchShape
from servesim.latency.efficiency import Decode, Mixed, Peaks, Prefill, chunk_costs
from servesim.latency.operators import Attention


class AttentionPrices:
    """Prices of the attention of some layers that are alike.

    Parameters
    ----------
    attention, peaks
        Shape of one layer, and the GPU's peaks in 16 bits.
    decode, prefill, mixed
        Coefficients.
    layers
        How many layers there are.
    window
        Tokens of their sliding window, or None.
    """

    __slots__ = (
        "_chunk_launch_s",
        "_decode_launch_s",
        "_knot_tokens",
        "_least_tokens",
        "_longest_s",
        "_mixed_token_s",
        "_pair_s",
        "_ramp_s",
        "_ramp_token_s",
        "_read_s",
        "_token_s",
        "_tokens_io_s",
        "_window",
    )

    def __init__(
        self,
        attention: Attention,
        peaks: Peaks,
        *,
        decode: Decode,
        prefill: Prefill,
        mixed: Mixed,
        layers: int,
        window: int | None,
    ) -> None:
        self._window = window
        self._price_decode(attention, peaks, decode, layers)
        self._mixed_token_s = mixed.reread_share * (attention.group - 1.0) * self._token_s
        chunk = chunk_costs(
            prefill,
            peaks,
            heads=attention.heads,
            head_dim=attention.head_dim,
            flops_per_pair=attention.flops_per_pair,
        )
        expand_s = attention.expand_flops / (prefill.flops_share * peaks.flops_per_s)
        kv_read_s = attention.kv_bytes / (decode.bandwidth_share * peaks.bytes_per_s)
        self._pair_s = layers * chunk.pair_s
        self._tokens_io_s = layers * chunk.token_s
        self._read_s = layers * max(kv_read_s, expand_s)
        self._longest_s = max(0.0, layers * chunk.tile_s - self._read_s)
        self._decode_launch_s = layers * decode.launch_s
        self._chunk_launch_s = layers * max(decode.launch_s, chunk.launch_s)

    def _price_decode(self, attention: Attention, peaks: Peaks, decode: Decode, layers: int) -> None:
        """Work out both lines, and the tokens at which they cross."""
        bound_bytes = attention.decode_flops_per_pair * peaks.bytes_per_s / peaks.flops_per_s
        at_peak_s = max(attention.kv_bytes, bound_bytes / decode.flops_share) / peaks.bytes_per_s
        self._least_tokens = round(decode.least_tokens)
        self._token_s = layers * at_peak_s / decode.bandwidth_share
        self._ramp_token_s = layers * at_peak_s / decode.ramp_share
        self._ramp_s = layers * decode.ramp_s
        steeper_s = self._ramp_token_s - self._token_s
        if steeper_s > 0.0:
            self._knot_tokens = self._ramp_s / steeper_s
        else:  # the lines never cross: the one without an offset is lower throughout
            self._knot_tokens = float("inf")

    def price(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return ``(first_step_s, growth_s, valid_steps)``; see `servesim.latency.pricing.StepCosts`."""
        sequences = batch.sequences
        growth_s, steps = 0.0, UNLIMITED_STEPS
        first_s = self._chunk_launch_s if batch.chunks else self._decode_launch_s
        if sequences:
            attended = batch.context_tokens
            room = -1.0
            least = self._least_tokens * sequences
            if attended < least:
                room, attended, growing = least - attended, least, 0
            else:
                growing = sequences
                if self._window is not None:
                    full = max(least, self._window * sequences)
                    if attended < full:
                        room = full - attended
                    else:
                        attended, growing = full, 0
            if attended < self._knot_tokens:
                first_s += attended * self._ramp_token_s
                growth_s = growing * self._ramp_token_s
                if growing and self._knot_tokens - attended < UNLIMITED_STEPS:
                    to_knot = self._knot_tokens - attended
                    room = to_knot if room < 0 or to_knot < room else room
            else:
                first_s += self._ramp_s + attended * self._token_s
                growth_s = growing * self._token_s
            if room >= 0:
                steps = int(room // sequences) + 1
        if batch.chunks:
            chunks_s, chunks_growth_s, chunk_steps = self._price_chunks(batch.chunks)
            first_s += chunks_s
            growth_s += chunks_growth_s
            steps = min(steps, chunk_steps)
            if sequences and self._mixed_token_s:
                first_s += self._mixed_token_s * attended
                growth_s += self._mixed_token_s * growing
        return first_s, growth_s, steps

    def _price_chunks(self, chunks: list[tuple[int, int]]) -> tuple[float, float, int]:
        """Return the price of prompt chunks; that of several together holds for one step."""
        first_s, growth_s, steps, longest = 0.0, 0.0, UNLIMITED_STEPS, 0
        pairs: float
        pair_growth: float
        window = self._window
        for tokens, start in chunks:
            if window is None:
                pairs, pair_growth = tokens * (start + (tokens + 1) * 0.5), tokens * tokens
                span, span_growth = start + tokens, tokens
            else:
                pairs, pair_growth, span_growth, steps = _within_window(tokens, start, window)
                span = min(start, window) + tokens
            first_s += self._pair_s * pairs + self._read_s * span + self._tokens_io_s * tokens
            growth_s = self._pair_s * pair_growth + (self._read_s + self._longest_s) * span_growth
            longest = max(longest, span)
        if len(chunks) > 1:
            growth_s, steps = 0.0, 1
        return first_s + self._longest_s * longest, growth_s, steps


def _within_window(tokens: int, start: int, window: int) -> tuple[float, float, int, int]:
    """Return a chunk's attended pairs within *window*, growths of pairs and span per step, and for how many steps."""
    if start >= window:
        return float(tokens * window), 0.0, 0, UNLIMITED_STEPS
    growing = min(tokens, window - start)  # tokens whose whole past lies within the window
    pairs = growing * start + growing * (growing + 1) * 0.5 + (tokens - growing) * window
    if growing < tokens:
        return pairs, 0.0, 0, 1
    return pairs, float(tokens * tokens), tokens, (window - start) // tokens
