"""Step time from measured layer tables.

The layers of the model that runs were measured on the GPU that it runs on (`servesim.profiles`); a step is their sum,
plus all-reduces, which layer profilers leave out, and the host. Beyond the tables' edges times are extrapolated, and
the result's provenance says so. docs/model/latency.md has the equations and the error.
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Annotated

from pydantic import Field

from servesim.errors import ScenarioError
from servesim.latency.api import UNLIMITED_STEPS, BatchShape, LatencyContext
from servesim.latency.efficiency import ACTIVATION_BYTES, expected_experts, ring_s
from servesim.latency.operators import kv_bytes_per_token_layer
from servesim.latency.pricing import StepPrices
from servesim.profiles import AttentionProfile, Grid, LayerProfile, read_layer_profile

_Share = Annotated[float, Field(gt=0, le=1)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Table:
    """Layer times that a profiler measured for this model on this GPU.

    Parameters
    ----------
    path
        Folder of the profile; LLMServingSim's for one model, GPU and number format.
    link_efficiency
        Share of the link's peak that an all-reduce attains.
    all_reduce_s
        What an empty all-reduce takes.
    """

    def __init__(self, *, path: Path, link_efficiency: _Share = 0.25, all_reduce_s: _Seconds = 20e-6) -> None:
        self.path = path
        self.link_efficiency = link_efficiency
        self.all_reduce_s = all_reduce_s

    def __repr__(self) -> str:
        return (
            f"Table(path={str(self.path)!r}, link_efficiency={self.link_efficiency}, "
            f"all_reduce_s={self.all_reduce_s})"
        )

    def reset(self, context: LatencyContext) -> None:
        """Read the profile.

        Raises
        ------
        ServesimError
            If it cannot be read, or is one of another GPU or model.
        """
        profile = read_layer_profile(self.path, tensor_parallel=context.tensor_parallel)
        _check_is_of(profile, context, self.path)
        self._context = context
        self._profile = profile
        self._attention = _Attention(profile.attention, context)
        self._prices = StepPrices(self, context)

    def price(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return the price of *batch*; see `servesim.latency.api.LatencyModel.price`."""
        return self._prices.price(batch)

    def tokens_s(self, tokens: int) -> float:
        """Return the time of all layers on *tokens* tokens, attention excepted."""
        profile, context = self._profile, self._context
        model, ranks = context.model, context.tensor_parallel
        layer_s = sum(curve(tokens) for curve in profile.per_layer.values())
        total_s = model.layers * layer_s + sum(curve(tokens) for curve in profile.per_step.values())
        if model.moe and profile.experts is not None:
            visited = expected_experts(model.moe.experts, model.moe.experts_per_token, tokens)
            total_s += model.moe_layers * profile.experts(tokens, visited)
        if ranks > 1:
            message = float(tokens * model.hidden_size * ACTIVATION_BYTES)
            link_bytes_per_s = self.link_efficiency * context.gpu.link.bandwidth_bytes_per_s
            total_s += 2 * model.layers * (self.all_reduce_s + ring_s(message, ranks, link_bytes_per_s))
        return total_s

    def sequences_s(self, sequences: int) -> float:
        """Return the time of output head and sampling."""
        return sum(curve(sequences) for curve in self._profile.per_sequence.values()) if sequences else 0.0

    def attention(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return the price of the attention of all layers, as `servesim.latency.pricing.StepCosts` asks."""
        return self._attention.mixed(batch) if batch.chunks else self._attention.decode(batch)


class _Attention:
    """Attention of all layers of a replica."""

    def __init__(self, profile: AttentionProfile, context: LatencyContext) -> None:
        model = context.model
        self._layers = model.layers
        self._read_s = (
            kv_bytes_per_token_layer(model, context.tensor_parallel)
            / context.gpu.memory_bandwidth_bytes_per_s
        )
        self._decode_grid = self._bounded(profile.decode)
        self._prefill = profile.prefill.raised()
        self._empty_s = self._prefill(0, 0)
        self._mixed = None if profile.mixed is None else profile.mixed.raised()
        self._decode: dict[int, tuple[list[float], list[float], list[float]]] = {}

    def _bounded(self, grid: Grid) -> Grid:
        """Return the grid of decodes with no value below the time to read their keys and values once."""
        floor = [
            [count * context * self._read_s for context in grid.axes["context"]]
            for count in grid.axes["sequences"]
        ]
        return grid.raised(floor)

    def decode(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return the price of decodes alone: linear in the context between two points of the grid."""
        sequences, context_tokens = batch.sequences, batch.context_tokens
        knots, values, slopes = self._decode.get(sequences) or self._fill(sequences)
        place = bisect_right(knots, context_tokens) - 1
        first_s = values[place] + slopes[place] * (context_tokens - knots[place])
        if place == len(slopes) - 1:
            return first_s, slopes[place] * sequences, UNLIMITED_STEPS
        steps = int(knots[place + 1] - context_tokens) // sequences + 1
        return first_s, (slopes[place] * sequences if steps > 1 else 0.0), steps

    def _fill(self, sequences: int) -> tuple[list[float], list[float], list[float]]:
        """Work out knots in tokens of context, the times there, and the slopes after each, for *sequences*."""
        points = self._decode_grid.axes["context"]
        ends = [0.0, *points, 2.0 * points[-1]]
        knots = [sequences * point for point in ends]
        values = [self._layers * self._decode_grid(sequences, point) for point in ends]
        slopes = [
            (after - before) / (end - start)
            for before, after, start, end in zip(values, values[1:], knots, knots[1:], strict=False)
        ]
        filled = self._decode[sequences] = (knots[:-1], values[:-1], slopes)
        return filled

    def mixed(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return the price of a step with chunks of prompts, for this step alone.

        One chunk is priced together with the decodes, as it was measured; each other one adds what it takes beyond an
        empty kernel. Which is the one is chosen so that more work never takes less time: the dearest combination.
        """
        sequences, chunks = batch.sequences, batch.chunks
        others = [max(0.0, self._prefill(tokens, start) - self._empty_s) for tokens, start in chunks]
        if not sequences:
            firsts = [self._prefill(tokens, start) for tokens, start in chunks]
        else:
            context = batch.context_tokens / sequences
            decode_s = self._decode_grid(sequences, context)
            if self._mixed is None:
                firsts = [decode_s + self._prefill(tokens, start) for tokens, start in chunks]
            else:
                firsts = [
                    max(decode_s, self._mixed(tokens, start, sequences, context)) for tokens, start in chunks
                ]
        total_s = sum(others) + max([first - other for first, other in zip(firsts, others, strict=True)])
        return self._layers * total_s, 0.0, 1


def _check_is_of(profile: LayerProfile, context: LatencyContext, path: Path) -> None:
    """Refuse a profile of another GPU or model."""
    measured, wanted = _squashed(profile.gpu), _squashed(context.gpu.name)
    if measured and not (wanted.startswith(measured) or measured.startswith(wanted)):
        raise ScenarioError(
            f"{path}: a profile of another GPU (got {profile.gpu}). expected {context.gpu.name}"
        )
    model = context.model
    for what, got, expected in (
        ("heads", profile.heads, model.heads),
        ("kv_heads", profile.kv_heads, model.kv_heads),
    ):
        if got is not None and got != expected:
            raise ScenarioError(
                f"{path}: a profile of another model (got {what} {got}). expected {expected} of {model.name}"
            )


def _squashed(name: str) -> str:
    return "".join(each for each in name.lower() if each.isalnum())
