"""Attention of a step under the roofline: lines in the attended tokens, with knots where one ends.

Decode takes the keys and values of all sequences, known by their sum: a line for small reads, another for large
ones, flat while sequences are shorter than a block of work, flat again where a sliding window is full. Chunks of
prompts take their pairs, the longest piece of work among them, and their queries and outputs.
"""

from __future__ import annotations

from servesim.latency.api import UNLIMITED_STEPS, BatchShape
from servesim.latency.efficiency import Decode, Mixed, Peaks, Prefill, chunk_costs
from servesim.latency.operators import Attention
from servesim.latency.parallel import Price
from servesim.latency.pricing import DecodeLines


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
        self._near_s = layers * decode.launch_s
        self._far_s = self._near_s + self._ramp_s
        self._chunk_launch_s = layers * max(decode.launch_s, chunk.launch_s)
        self.price = self._price_any if window is not None else self._price_most()

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
        else:  # the line without an offset is the lower one throughout
            self._token_s, self._ramp_s, self._knot_tokens = self._ramp_token_s, 0.0, 0.0

    def decode_lines(self) -> DecodeLines:
        """Return the price of batches that only decode, as long as no window is full."""
        return DecodeLines(
            self._least_tokens,
            self._knot_tokens,
            near=(self._near_s, self._ramp_token_s),
            far=(self._far_s, self._token_s),
        )

    def _price_most(self) -> Price:
        """Return the price of any batch, at once of those that are usual: the hot path, a closure for speed.

        They decode with contexts longer than a block, alone or beside one chunk of a prompt, without a window.
        """
        price_any, least_tokens, knot_tokens = self._price_any, self._least_tokens, self._knot_tokens
        far_s, token_s, near_s, ramp_token_s = self._far_s, self._token_s, self._near_s, self._ramp_token_s
        chunk_near_s, chunk_far_s = self._chunk_launch_s, self._chunk_launch_s + self._ramp_s
        mixed_token_s, pair_s, read_s = self._mixed_token_s, self._pair_s, self._read_s
        io_s, longest_s, span_s = self._tokens_io_s, self._longest_s, self._read_s + self._longest_s

        def price(batch: BatchShape) -> tuple[float, float, int]:
            sequences, attended, chunks = batch.sequences, batch.context_tokens, batch.chunks
            if attended < least_tokens * sequences:
                return price_any(batch)
            if not chunks:
                if attended >= knot_tokens:
                    return far_s + attended * token_s, sequences * token_s, UNLIMITED_STEPS
                steps = int((knot_tokens - attended) / sequences) + 1
                return near_s + attended * ramp_token_s, sequences * ramp_token_s, steps
            if len(chunks) > 1 or not sequences:
                return price_any(batch)
            ((tokens, start),) = chunks
            pairs, span = tokens * (start + (tokens + 1) * 0.5), start + tokens
            chunk_s = pair_s * pairs + read_s * span + io_s * tokens + longest_s * span
            chunk_growth_s = pair_s * (tokens * tokens) + span_s * tokens
            if attended >= knot_tokens:
                first_s = chunk_far_s + mixed_token_s * attended + token_s * attended + chunk_s
                growth_s = mixed_token_s * sequences + token_s * sequences + chunk_growth_s
                return first_s, growth_s, UNLIMITED_STEPS
            steps = int((knot_tokens - attended) / sequences) + 1
            first_s = chunk_near_s + mixed_token_s * attended + ramp_token_s * attended + chunk_s
            growth_s = mixed_token_s * sequences + ramp_token_s * sequences + chunk_growth_s
            return first_s, growth_s, steps

        return price

    def _price_any(self, batch: BatchShape) -> tuple[float, float, int]:
        sequences, chunks = batch.sequences, batch.chunks
        first_s, growth_s, steps = self._chunk_launch_s if chunks else self._near_s, 0.0, UNLIMITED_STEPS
        if sequences:
            attended, growing, steps = self._attended(batch)
            if attended < self._knot_tokens:
                token_s = self._ramp_token_s
                if growing:
                    steps = min(steps, int((self._knot_tokens - attended) // sequences) + 1)
            else:
                token_s = self._token_s
                first_s += self._ramp_s
            if chunks:
                first_s += self._mixed_token_s * attended
                growth_s = self._mixed_token_s * growing
            first_s += token_s * attended
            growth_s += token_s * growing
        if chunks:
            chunks_s, chunks_growth_s, chunk_steps = self._price_chunks(chunks)
            first_s += chunks_s
            growth_s += chunks_growth_s
            steps = min(steps, chunk_steps)
        return first_s, growth_s, steps

    def _attended(self, batch: BatchShape) -> tuple[float, int, int]:
        """Return the tokens that decodes pay for, how many more in the next step, and for how many steps so.

        The mean context stands for each sequence: at least a block of work, at most the window.
        """
        sequences, attended = batch.sequences, batch.context_tokens
        least = self._least_tokens * sequences
        if attended < least:
            return least, 0, int((least - attended) // sequences) + 1
        if self._window is None:
            return attended, sequences, UNLIMITED_STEPS
        full = max(least, self._window * sequences)
        if attended < full:
            return attended, sequences, int((full - attended) // sequences) + 1
        return full, 0, UNLIMITED_STEPS

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
