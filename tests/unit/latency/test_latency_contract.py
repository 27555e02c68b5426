"""What every latency model owes the engine: properties over random batches of every built-in model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from profile_format import profile
from pydantic import ValidationError

from servesim.catalog import HostCosts, gpu, model
from servesim.errors import PluginError
from servesim.latency import LATENCY_MODELS
from servesim.latency.api import NO_HOST, UNLIMITED_STEPS, BatchShape, LatencyContext, LatencyModel
from servesim.latency.constant import Constant
from servesim.latency.linear import Linear
from servesim.latency.roofline import Roofline
from servesim.latency.table import Table

MAX_NUM_SEQS = 64
REPLICAS = {
    "dense": ("llama-3.1-8b", "h100-sxm", 1),
    "tensor parallel": ("llama-3.1-70b", "h100-sxm", 4),
    "experts": ("qwen3-30b-a3b", "b200-sxm", 1),
    "latent attention": ("deepseek-v3", "h200-sxm", 8),
    "sliding window": ("gpt-oss-20b", "h100-sxm", 1),
    "no bf16": ("opt-1.3b", "v100-sxm-16gb", 1),
}


def context(name: str, *, async_scheduling: bool, host: HostCosts) -> LatencyContext:
    """Return one of the replicas above."""
    model_name, gpu_name, tensor_parallel = REPLICAS[name]
    return LatencyContext(
        model=model(model_name),
        gpu=gpu(gpu_name),
        tensor_parallel=tensor_parallel,
        max_num_seqs=MAX_NUM_SEQS,
        max_num_batched_tokens=2048,
        async_scheduling=async_scheduling,
        host=host,
    )


def roofline(name: str, *, async_scheduling: bool = False, host: HostCosts = NO_HOST) -> Roofline:
    """Return a roofline model that is ready to price."""
    ready = Roofline()
    ready.reset(context(name, async_scheduling=async_scheduling, host=host))
    return ready


SLOW_HOST = HostCosts(launch_s=1e-3, schedule_s=4e-4, schedule_per_sequence_s=3e-4)


MODELS: dict[str, LatencyModel] = {
    "constant": Constant(step_s=0.01),
    "linear": Linear(
        base_s=5e-3,
        per_sequence_s=1e-5,
        per_context_token_s=3e-8,
        per_prefill_token_s=2e-5,
        per_prefill_pair_s=1e-10,
    ),
}
for replica in REPLICAS:
    MODELS[f"roofline, {replica}"] = roofline(replica)
    # A slow host makes the step time change sides while the context grows.
    MODELS[f"roofline, {replica}, async"] = roofline(replica, async_scheduling=True, host=SLOW_HOST)
for replica in ("dense", "tensor parallel", "experts"):
    for async_scheduling in (False, True):
        MODELS[f"table, {replica}{', async' if async_scheduling else ''}"] = measured = Table(path=profile())
        measured.reset(context(replica, async_scheduling=async_scheduling, host=SLOW_HOST))


def grown(batch: BatchShape, steps: int) -> BatchShape:
    """Return what *batch* works on after it was repeated *steps* times."""
    chunks = [(tokens, start + steps * tokens) for tokens, start in batch.chunks]
    return BatchShape(batch.sequences, batch.context_tokens + steps * batch.sequences, chunks)


@st.composite
def batches(draw: st.DrawFn) -> BatchShape:
    """Batches of decodes, chunks, or both; contexts around the windows of the catalog and far beyond."""
    chunks = draw(st.lists(st.tuples(st.integers(1, 512), st.integers(0, 20_000)), max_size=3))
    sequences = draw(st.integers(0 if chunks else 1, MAX_NUM_SEQS - 4))
    mean = draw(st.integers(1, 300) | st.integers(1, 50_000))
    extra = draw(st.integers(0, sequences)) if sequences else 0
    return BatchShape(sequences, sequences * mean + extra, chunks)


each_model = pytest.mark.parametrize("name", MODELS)


@each_model
@given(batch=batches())
def test_price_is_positive_and_never_shrinks(name: str, batch: BatchShape) -> None:
    """A step takes time, the next ones no less, and the price holds for at least one step."""
    first_s, growth_s, valid_steps = MODELS[name].price(batch)
    assert first_s > 0
    assert growth_s >= 0
    assert 1 <= valid_steps <= UNLIMITED_STEPS
    assert isinstance(valid_steps, int)


@each_model
@given(batch=batches(), data=st.data())
def test_leap_prices_each_step_as_if_it_were_priced_alone(name: str, batch: BatchShape, data: Any) -> None:
    """Step k of a leap takes first + k * growth, which is what the grown batch costs by itself."""
    first_s, growth_s, valid_steps = MODELS[name].price(batch)
    last = min(valid_steps - 1, 5_000)
    for k in {0, last, data.draw(st.integers(0, last))}:
        alone_s, _, alone_valid = MODELS[name].price(grown(batch, k))
        assert alone_s == pytest.approx(first_s + k * growth_s, rel=1e-12, abs=0)
        if valid_steps < UNLIMITED_STEPS:
            assert alone_valid >= valid_steps - k or k == 0


@each_model
@given(batch=batches(), tokens=st.integers(1, 512), start=st.integers(0, 5_000))
def test_more_work_never_takes_less_time(name: str, batch: BatchShape, tokens: int, start: int) -> None:
    """The time does not fall with context, sequences, chunks, their length or their position."""
    price = MODELS[name].price
    chunks, sequences, context_tokens = batch.chunks, batch.sequences, batch.context_tokens
    first_s = price(batch)[0] * (1 - 1e-12)
    if sequences:
        assert price(BatchShape(sequences, context_tokens + start, chunks))[0] >= first_s
    assert price(BatchShape(sequences + 1, context_tokens + start + 1, chunks))[0] >= first_s
    assert price(BatchShape(sequences, context_tokens, [*chunks, (tokens, start)]))[0] >= first_s
    for index, (old_tokens, old_start) in enumerate(chunks):
        for bigger in ((old_tokens + tokens, old_start), (old_tokens, old_start + start)):
            changed = [*chunks[:index], bigger, *chunks[index + 1 :]]
            assert price(BatchShape(sequences, context_tokens, changed))[0] >= first_s


@each_model
@given(batch=batches())
def test_price_leaves_the_batch_alone_and_repeats(name: str, batch: BatchShape) -> None:
    """Models only read; the same batch costs the same again."""
    before = repr(batch)
    assert MODELS[name].price(batch) == MODELS[name].price(batch)
    assert repr(batch) == before


def test_registry_builds_every_model_by_name() -> None:
    """The built-ins resolve, and what a scenario gives beside the name reaches the constructor."""
    assert LATENCY_MODELS.names()[:3] == ["roofline", "table", "constant"]
    assert LATENCY_MODELS.build("constant", {"step_s": 0.02}).price(BatchShape(1, 1)) == (
        0.02,
        0.0,
        UNLIMITED_STEPS,
    )
    assert LATENCY_MODELS.build("linear", {"base_s": 0.5}).base_s == 0.5
    assert LATENCY_MODELS.build("roofline", {"gemm_scale": 1.5}).gemm_scale == 1.5
    with pytest.raises(PluginError, match="unknown latency model"):
        LATENCY_MODELS.resolve("rooflin")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("constant", {}),
        ("constant", {"step_s": 0}),
        ("constant", {"step_s": float("inf")}),
        ("constant", {"step_s": float("nan")}),
        ("linear", {"base_s": 1, "per_sequence_s": -1}),
        ("linear", {"base_s": 1, "per_token_s": 1}),
        ("roofline", {"gemm_scale": 0}),
        ("roofline", {"memory_scale": -1}),
        ("roofline", {"kernel_s": -1e-3}),
        ("table", {}),
        ("table", {"path": "profile", "link_efficiency": 1.5}),
        ("table", {"path": "profile", "all_reduce_s": -1e-6}),
    ],
)
def test_parameters_outside_their_range_are_refused(name: str, parameters: dict[str, float]) -> None:
    """A step that takes no time, a kernel beyond its peak or an unknown parameter never reach a run."""
    with pytest.raises(ValidationError):
        LATENCY_MODELS.build(name, parameters)


@pytest.mark.parametrize(
    "build",
    [lambda: Constant(step_s=0.01), lambda: Linear(base_s=0.1), Roofline, lambda: Table(path=str(profile()))],
)
def test_repr_builds_an_equal_object(build: Callable[[], Any]) -> None:
    """The representation names every parameter, before and after a run."""
    built = build()
    namespace = {"Constant": Constant, "Linear": Linear, "Roofline": Roofline, "Table": Table}
    assert vars(eval(repr(built), namespace)) == vars(built)
    built.reset(context("dense", async_scheduling=False, host=NO_HOST))
    assert vars(eval(repr(built), namespace)) == vars(build())
