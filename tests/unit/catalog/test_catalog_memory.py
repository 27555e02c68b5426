"""KV capacity: hand-computed, against published figures, and what happens when a model does not fit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesim.catalog import Parallelism, gpu, kv_cache_blocks, model
from servesim.catalog.memory import RUNTIME_BYTES, memory_plan
from servesim.errors import ScenarioError

SIZES: dict[str, Any] = {
    "parallelism": Parallelism(),
    "gpu_memory_utilization": 0.9,
    "kv_block_tokens": 16,
    "max_num_batched_tokens": 2048,
    "max_num_seqs": 256,
}


@pytest.mark.parametrize(
    ("name", "published_gib"),
    [("opt-1.3b", 54.48), ("opt-2.7b", 51.97), ("llama-2-7b", 44.36), ("llama-2-13b", 32.61)],
)
def test_published_kv_capacity_of_h100_64gb(name: str, published_gib: float) -> None:
    """KV memory of four models on an H100 with 64 GB (arXiv 2503.08311); met within 0.2 %.

    The one free constant, the runtime's share, was chosen on these figures: 0.45 GiB for all four.
    """
    blocks = kv_cache_blocks(model(name), gpu("h100-sxm-64gb"), **SIZES)
    gib = blocks * 16 * model(name).kv_bytes_per_token / 2**30
    assert gib == pytest.approx(published_gib, rel=0.002)


def test_hand_computed_capacity() -> None:
    """Llama-3.1-8B on an H100: 0.9 * 81,559 MiB minus weights, activations and runtime, over 16 * 128 KiB."""
    weights = 2 * 8_029_995_008
    mlp = 2048 * (2 * 4096 + 3 * 14336) * 2
    sampling = 256 * 128_256 * 10
    left = int(0.9 * 81_559 * 2**20) - weights - mlp - sampling - RUNTIME_BYTES
    assert model("llama-3.1-8b").weight_bytes == weights
    assert kv_cache_blocks(model("llama-3.1-8b"), gpu("h100-sxm"), **SIZES) == left // (16 * 131_072)


@pytest.mark.parametrize(("degree", "share"), [(1, 1.0), (2, 0.5), (8, 0.125), (16, 0.125)])
def test_kv_heads_are_split_then_replicated(degree: int, share: float) -> None:
    """Eight KV heads are split over up to eight GPUs; beyond that each GPU keeps one head."""
    sizes = {key: SIZES[key] for key in ("gpu_memory_utilization", "max_num_batched_tokens", "max_num_seqs")}
    plan = memory_plan(
        model("llama-3.1-8b"), gpu("h100-sxm"), parallelism=Parallelism(tensor=degree), **sizes
    )
    assert plan.kv_bytes_per_token == 131_072 * share


def test_latent_vector_is_never_split() -> None:
    """DeepSeek's compressed keys and values are the same on all GPUs of a replica."""
    sizes = {key: SIZES[key] for key in ("gpu_memory_utilization", "max_num_batched_tokens", "max_num_seqs")}
    plan = memory_plan(model("deepseek-v3"), gpu("h200-sxm"), parallelism=Parallelism(tensor=8), **sizes)
    assert plan.kv_bytes_per_token == 70_272


def test_sliding_layers_leave_more_blocks() -> None:
    """Setting windows aside beats storing every token of gpt-oss, and never doubles the blocks."""
    oss = model("gpt-oss-120b")
    sizes = SIZES | {"max_num_seqs": 64}
    blocks = kv_cache_blocks(oss, gpu("h100-sxm"), **sizes)
    plan_sizes = {
        key: sizes[key] for key in ("gpu_memory_utilization", "max_num_batched_tokens", "max_num_seqs")
    }
    plan = memory_plan(oss, gpu("h100-sxm"), parallelism=Parallelism(tensor=1), **plan_sizes)
    every_token = plan.kv_bytes // (16 * oss.kv_bytes_per_token)
    windows = 64 * 128 * 18 * 2048
    assert every_token < blocks < 2 * every_token
    assert blocks == (plan.kv_bytes - windows) // (16 * 18 * 2048)


def test_model_that_does_not_fit_says_by_how_much_and_what_would() -> None:
    """The smallest tensor parallelism that fits and the GPUs that hold the model are named."""
    with pytest.raises(ScenarioError, match=r"70b does not fit 1 x h100-sxm: \d+\.\d\d GiB") as caught:
        kv_cache_blocks(model("llama-3.1-70b"), gpu("h100-sxm"), **SIZES)
    assert "tensor_parallel: 2" in str(caught.value)
    assert "mi300x" in str(caught.value)
    assert (
        kv_cache_blocks(
            model("llama-3.1-70b"), gpu("h100-sxm"), **SIZES | {"parallelism": Parallelism(tensor=2)}
        )
        > 0
    )
    assert kv_cache_blocks(model("llama-3.1-70b"), gpu("mi300x"), **SIZES) > 0


def test_missing_memory_is_the_deficit() -> None:
    """Adding what the message says is missing makes the model fit, and a GiB less does not."""
    small, large = gpu("v100-sxm-16gb"), gpu("v100-sxm-32gb")
    with pytest.raises(ScenarioError) as caught:
        kv_cache_blocks(model("llama-3.1-8b"), small, **SIZES)
    missing_gib = float(str(caught.value).split("16gb: ")[1].split(" GiB")[0])
    needed = 0.9 * small.memory_bytes + missing_gib * 2**30
    fits = (needed + 2**24) / large.memory_bytes
    assert kv_cache_blocks(model("llama-3.1-8b"), large, **SIZES | {"gpu_memory_utilization": fits}) >= 1
    with pytest.raises(ScenarioError):
        short = (needed - 2**24) / large.memory_bytes
        kv_cache_blocks(model("llama-3.1-8b"), large, **SIZES | {"gpu_memory_utilization": short})


@pytest.mark.parametrize("degree", [3, 0, -1, 12])
def test_tensor_parallel_must_divide_the_model(degree: int) -> None:
    """The message lists the degrees that do."""
    with pytest.raises(ScenarioError, match=r"expected one of 1, 2, 4, 8, 16, 32\."):
        kv_cache_blocks(
            model("llama-3.1-8b"), gpu("h100-sxm"), **SIZES | {"parallelism": Parallelism(tensor=degree)}
        )


def test_mlp_width_must_be_divisible_too() -> None:
    """Llama-3.2-3B: 24 GPUs would divide its 24 heads and share its 8 KV heads, but not 8,192 columns."""
    with pytest.raises(ScenarioError, match="MLP width 8192"):
        kv_cache_blocks(
            model("llama-3.2-3b"), gpu("h100-sxm"), **SIZES | {"parallelism": Parallelism(tensor=24)}
        )


@given(
    utilization=st.floats(0.5, 0.95),
    tokens=st.sampled_from([512, 2048, 8192]),
    seqs=st.integers(1, 1024),
    degree=st.sampled_from([1, 2, 4, 8]),
)
def test_capacity_is_monotone(utilization: float, tokens: int, seqs: int, degree: int) -> None:
    """More memory or more GPUs never mean fewer blocks; larger steps and batches never more."""
    found, device = model("qwen3-8b"), gpu("h100-sxm")
    sizes = SIZES | {"parallelism": Parallelism(tensor=degree), "gpu_memory_utilization": utilization}
    sizes |= {"max_num_batched_tokens": tokens, "max_num_seqs": seqs}
    blocks = kv_cache_blocks(found, device, **sizes)
    assert kv_cache_blocks(found, device, **sizes | {"gpu_memory_utilization": utilization + 0.05}) >= blocks
    assert kv_cache_blocks(found, device, **sizes | {"max_num_batched_tokens": 2 * tokens}) <= blocks
    assert kv_cache_blocks(found, device, **sizes | {"max_num_seqs": seqs + 1}) <= blocks
    if degree < 8:
        assert (
            kv_cache_blocks(found, device, **sizes | {"parallelism": Parallelism(tensor=2 * degree)})
            >= blocks
        )
