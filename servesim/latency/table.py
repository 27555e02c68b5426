"""Step time from measured tables: layers of the model that runs, or operators that any model is put together from.

Layer profiles (`servesim.profiles`) hold one model on one GPU, operator tables (`servesim.latency.operator_costs`) the
kernels of many models. Either way a step is the sum of what was measured, plus the host. Beyond the tables' edges
times grow as the roofline does, and the result's provenance says so. docs/model/latency.md has the equations and
the error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from servesim.catalog.dtypes import BYTES_PER_ELEMENT
from servesim.errors import ScenarioError
from servesim.latency.api import BatchShape, LatencyContext
from servesim.latency.coefficients import compute_dtype
from servesim.latency.collective_costs import DEEPEP, Exchange
from servesim.latency.edges import Edges
from servesim.latency.efficiency import ACTIVATION_BYTES, expected_experts, ring_s
from servesim.latency.measured_attention import MeasuredAttention, of_layers
from servesim.latency.one_kernel import one_kernel
from servesim.latency.operator_costs import profile_of
from servesim.latency.operators import operators
from servesim.latency.parallel import Price
from servesim.latency.pricing import DecodeLines, StepPrices
from servesim.latency.roofline import Roofline
from servesim.profiles import Grid, LayerProfile, read_layer_profile
from servesim.profiles.aiconfigurator import OperatorTables, operator_tables
from servesim.profiles.disturbed import smoothed
from servesim.profiles.grid import total

_Share = Annotated[float, Field(gt=0, le=1)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


NAMED = 3
"""Disturbed rows that the provenance names; of further ones it tells how many there are."""

TOO_FAST = 0.1
"""Of what the peaks allow: times below that are of another unit, GPU or model, not of a mistaken measurement."""


class Table:
    """What a profiler measured on this GPU: the layers of this model, or operators of many.

    Parameters
    ----------
    path
        Folder of a layer profile (servesim profile, LLMServingSim, Vidur) of one model, GPU and number format; or of
        the operator tables of one GPU (AIConfigurator); or the word ``aiconfigurator``, for those of the installed
        package.
    link_efficiency
        Share of the link's peak that an all-reduce attains where none was measured.
    all_reduce_s
        What an empty all-reduce takes where none was measured.
    all2all_backend
        How the tokens of data-parallel groups reach experts that are spread over their GPUs, as in vLLM's argument of
        this name: ``allgather_reducescatter``, or one of DeepEP's two, ``deepep_high_throughput`` and
        ``deepep_low_latency``, which operator tables must have.
    """

    has_host = True

    attention: Price
    """Price of the attention of all layers, as `servesim.latency.pricing.StepCosts` asks; there after `reset`."""

    decode_lines: DecodeLines | None = None

    def __init__(
        self,
        *,
        path: Path,
        link_efficiency: _Share = 0.25,
        all_reduce_s: _Seconds = 20e-6,
        all2all_backend: Exchange = "allgather_reducescatter",
    ) -> None:
        self.path = path
        self.link_efficiency = link_efficiency
        self.all_reduce_s = all_reduce_s
        self.all2all_backend = all2all_backend

    def __repr__(self) -> str:
        return (
            f"Table(path={self.path!r}, link_efficiency={self.link_efficiency}, "
            f"all_reduce_s={self.all_reduce_s}, all2all_backend={self.all2all_backend!r})"
        )

    def reset(self, context: LatencyContext) -> None:
        """Read the tables.

        Raises
        ------
        ServesimError
            If they cannot be read, or are of another GPU or model.
        """
        self._context, self._edges = context, Edges()
        path = Path(self.path)
        tables = operator_tables(path, context.gpu.name)
        if tables is None:
            profile = read_layer_profile(path, tensor_parallel=context.tensor_parallel)
            _check_is_of(profile, context, path)
            _check_experts(profile, context, path)
            if self.all2all_backend in DEEPEP:
                raise ScenarioError(
                    f"{path}: no exchanges (got all2all_backend {self.all2all_backend}). expected operator tables"
                )
        else:
            _check_gpu(tables, context, path)
            profile = profile_of(tables, context, self.all2all_backend)
        self._profile, self._disturbed = smoothed(profile)
        profile = self._profile
        roofline = Roofline()
        roofline.reset(context)
        self._curve = self._summed(profile, roofline)
        self._heads = total(profile.per_sequence.values()).raised() if profile.per_sequence else None
        self._roofline = roofline
        layers = self._layers(profile, roofline)
        self.attention = layers[0].price if len(layers) == 1 else of_layers([each.price for each in layers])
        self._prices = StepPrices(self, context, drafter=roofline.drafter)

    @property
    def sources(self) -> dict[str, str]:
        """What was measured, by which engine, and what was not, for which fitted functions stand in."""
        found = {"measured": self._profile.engine}
        if self._profile.fitted:
            found["fitted"] = ", ".join(self._profile.fitted)
        if self._profile.attention.mixed is None and one_kernel(self._context, None) is not None:
            found["derived"] = "decodes beside chunks"
        if self._disturbed:
            more = len(self._disturbed) - NAMED
            named = "; ".join(self._disturbed[:NAMED])
            found["smoothed"] = named + (f"; {more} more" if more > 0 else "")
        return found

    @property
    def extrapolated(self) -> dict[str, dict[str, float]]:
        """The axes beyond whose last point prices were asked for: to where, and how many were worked out there."""
        return self._edges.beyond

    def price(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return the price of *batch*; see `servesim.latency.api.LatencyModel.price`."""
        return self._prices.price(batch)

    def tokens_s(self, tokens: int) -> float:
        """Return the time of all layers on *tokens* tokens, attention excepted."""
        profile, model = self._profile, self._context.model
        self._edges.note("tokens", self._tokens_edge, tokens)
        total_s = self._curve(tokens)
        if model.moe and profile.experts is not None:
            visited = expected_experts(model.moe.experts, model.moe.experts_per_token, tokens)
            total_s += model.moe_layers * profile.experts(tokens, visited)
        return total_s

    def sequences_s(self, sequences: int) -> float:
        """Return the time of output head and sampling."""
        if not sequences:
            return 0.0
        return self._roofline.sequences_s(sequences) if self._heads is None else self._heads(sequences)

    def _summed(self, profile: LayerProfile, roofline: Roofline) -> Grid:
        """Return the time of a step by tokens, extended by the roofline to what a step may hold."""
        context = self._context
        layers = [
            Grid(curve.axes, curve.values * context.model.layers) for curve in profile.per_layer.values()
        ]
        curve = total([*layers, *profile.per_step.values()])
        self._check_unit(curve)
        self._tokens_edge = curve.axes["tokens"][-1]
        most = context.max_num_batched_tokens + context.max_num_seqs
        curve = curve.extended("tokens", most, lambda tokens: roofline.tokens_s(round(tokens)))
        curve = curve.raised([self._least_s(tokens) for tokens in curve.axes["tokens"]])
        reduces = profile.all_reduces or self._assumed_all_reduces()
        return curve if reduces is None else total([curve, reduces.raised()])

    def _check_unit(self, curve: Grid) -> None:
        """Refuse times that are of another unit: those of the most tokens leave no doubt."""
        tokens, took_s = curve.axes["tokens"][-1], float(curve.values[-1])
        least_s = self._least_s(tokens)
        if took_s < TOO_FAST * least_s:
            raise ScenarioError(
                f"{self.path}: times that beat the GPU's peak (got {took_s:.3g} s for the matrices of {tokens:g} "
                f"tokens). expected at least {least_s:.3g} s on {self._context.gpu.name}",
                hint="another unit, GPU, model or degree of tensor parallelism?",
            )

    def _least_s(self, tokens: float) -> float:
        """Return what the matrices take at peak FLOP/s, or to read at peak bandwidth."""
        context = self._context
        found = 0.0
        for matrix in operators(context.model, context.parallelism).matrices:
            weights = matrix.n * matrix.k
            compute_s = (
                2.0
                * weights
                * tokens
                / context.gpu.peak_flops_per_s(compute_dtype(context.gpu, matrix.dtype))
            )
            read_s = weights * BYTES_PER_ELEMENT[matrix.dtype] / context.gpu.memory_bandwidth_bytes_per_s
            found += matrix.count * max(compute_s, read_s)
        return found

    def _assumed_all_reduces(self) -> Grid | None:
        """Return all-reduces that were not measured, as a start and a ring at a share of the link's peak."""
        context, ranks = self._context, self._context.tensor_parallel
        if ranks == 1:
            return None
        link_bytes_per_s = self.link_efficiency * context.gpu.link.bandwidth_bytes_per_s
        token_bytes = float(context.model.hidden_size * ACTIVATION_BYTES)
        ends = [0, 4096]
        return Grid(
            {"tokens": ends},
            [
                2
                * context.model.layers
                * (self.all_reduce_s + ring_s(tokens * token_bytes, ranks, link_bytes_per_s))
                for tokens in ends
            ],
        )

    def _layers(self, profile: LayerProfile, roofline: Roofline) -> list[MeasuredAttention]:
        model, context = self._context.model, self._context
        sliding = 0 if profile.window is None else model.sliding_layers

        def growth(batch: BatchShape) -> float:
            return roofline.attention(batch)[0]

        found = []
        if model.layers > sliding:
            layers = model.layers - sliding
            found.append(
                MeasuredAttention(
                    profile.attention,
                    context,
                    self._edges,
                    layers=layers,
                    growth=growth,
                    one_kernel=one_kernel(context, None),
                )
            )
        if sliding and profile.window is not None:
            found.append(
                MeasuredAttention(
                    profile.window,
                    context,
                    self._edges,
                    layers=sliding,
                    growth=growth,
                    window=model.sliding_window_tokens,
                    one_kernel=one_kernel(context, model.sliding_window_tokens),
                )
            )
        return found


def _check_is_of(profile: LayerProfile, context: LatencyContext, path: Path) -> None:
    """Refuse a profile of another GPU or model."""
    _check_gpu(profile, context, path)
    model = context.model
    known = {"heads": profile.heads, "kv_heads": profile.kv_heads, **profile.architecture}
    for what, got in known.items():
        expected = getattr(model, what)
        if got is not None and got != expected:
            raise ScenarioError(
                f"{path}: a profile of another model (got {what} {got}). expected {expected} of {model.name}"
            )


def _check_experts(profile: LayerProfile, context: LatencyContext, path: Path) -> None:
    """Refuse a profile without the model's experts, and experts that are not as they were measured."""
    if context.model.moe and profile.experts is None:
        raise ScenarioError(f"{path}: no experts. expected a profile with those of {context.model.name}")
    if profile.experts is not None and (context.data_parallel > 1 or context.expert_parallel):
        raise ScenarioError(
            f"{path}: experts of one group, sliced (got data_parallel {context.data_parallel}, expert_parallel "
            f"{str(context.expert_parallel).lower()}). expected neither\n"
            "  hint: operator tables price such replicas, as the roofline does"
        )


def _check_gpu(tables: LayerProfile | OperatorTables, context: LatencyContext, path: Path) -> None:
    """Refuse tables of another GPU; those that do not tell theirs are taken."""
    measured, wanted = _squashed(tables.gpu), _squashed(context.gpu.name)
    if measured and not (wanted.startswith(measured) or measured.startswith(wanted)):
        raise ScenarioError(f"{path}: tables of another GPU (got {tables.gpu}). expected {context.gpu.name}")


def _squashed(name: str) -> str:
    return "".join(each for each in name.lower() if each.isalnum())
