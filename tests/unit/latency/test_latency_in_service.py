"""What a served model has besides its largest kernels: joint norms, checkpoints, graphs, backends, lasting clocks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from servesim.catalog import Parallelism, gpu, model
from servesim.cluster.build import build_pool, graph_tokens_max
from servesim.latency import efficiency as e
from servesim.latency.api import LatencyContext
from servesim.latency.coefficients import sustained_share
from servesim.latency.operators import operators
from servesim.latency.roofline import Roofline
from servesim.scenario.schema import EngineSpec, PoolSpec

CONTEXT = LatencyContext(
    model=model("gpt-oss-120b"),
    gpu=gpu("h200-sxm"),
    tensor_parallel=1,
    max_num_seqs=64,
    max_num_batched_tokens=8192,
    async_scheduling=True,
)


def test_a_joint_norm_sums_squares_over_the_gpus_of_every_layer() -> None:
    """MiniMax-M2.5: two sums of 32 bits per token in each of 62 layers; nothing to add up on one GPU."""
    sums = operators(model("minimax-m2.5"), Parallelism(tensor=4)).all_reduces
    assert [(each.ranks, each.token_bytes, each.count) for each in sums if each.token_bytes == 8] == [
        (4, 8, 62)
    ]
    assert operators(model("minimax-m2.5"), Parallelism()).all_reduces == ()
    other = replace(model("minimax-m2.5"), joint_qk_norm=False)
    assert len(operators(other, Parallelism(tensor=4)).all_reduces) == len(sums) - 1


def test_attention_stays_in_16_bits_where_the_checkpoint_has_it() -> None:
    """Kimi-K2.5 in NVFP4: 61 layers of attention take two bytes per weight, not 4.5 bits."""
    quantised, published = model("kimi-k2.5", dtype="nvfp4"), model("kimi-k2.5")
    assert (quantised.attention_dtype, published.attention_dtype) == ("bf16", "bf16")
    everywhere = replace(quantised, bf16_attention=())
    assert everywhere.attention_dtype == "nvfp4"
    more = 61 * quantised.attention_parameters * (2 - 4.5 / 8)
    assert quantised.weight_bytes - everywhere.weight_bytes == pytest.approx(more, abs=1)
    assert operators(quantised, Parallelism()).matrices[0].dtype == "bf16"
    assert model("minimax-m2.5").attention_dtype == "fp8"


def test_graphs_are_captured_up_to_twice_the_largest_batch() -> None:
    """As vLLM does by itself; a step that holds less, or the scenario, say otherwise."""
    assert graph_tokens_max(EngineSpec(max_num_seqs=4)) == 8
    assert graph_tokens_max(EngineSpec(max_num_seqs=1024, max_num_batched_tokens=8192)) == 512
    assert graph_tokens_max(EngineSpec(max_num_seqs=64, max_num_batched_tokens=100)) == 100
    assert graph_tokens_max(EngineSpec(max_num_seqs=4, graph_tokens_max=2048)) == 2048


def test_marlin_multiplies_mxfp4_as_int4() -> None:
    """On an H200 a prefill of gpt-oss takes longer then, a decode about as long; other formats are as they were."""
    marlin = replace(CONTEXT, moe_backend="marlin")
    assert (CONTEXT.expert_kernels, marlin.expert_kernels) == ("mxfp4", "int4")
    assert replace(marlin, model=model("minimax-m2.5")).expert_kernels == "fp8"
    by_default, unpacking = Roofline(), Roofline()
    by_default.reset(CONTEXT)
    unpacking.reset(marlin)
    assert 1.3 < unpacking.tokens_s(8192) / by_default.tokens_s(8192) < 2.5
    assert 0.8 < unpacking.tokens_s(4) / by_default.tokens_s(4) < 1.2
    pool = PoolSpec(
        name="main", model="gpt-oss-120b", gpu="h200-sxm", engine=EngineSpec(moe_backend="marlin")
    )
    assert build_pool(pool).latency.tokens_s(8192) == unpacking.tokens_s(8192)  # type: ignore[attr-defined]


def test_computing_is_slower_under_load_reading_is_not() -> None:
    """Half the rate doubles a large prefill at most, and leaves a single token alone."""
    dense = replace(CONTEXT, model=model("llama-3.1-70b"))
    boost, lasting = Roofline(sustained_share=1.0), Roofline(sustained_share=0.5)
    boost.reset(dense)
    lasting.reset(dense)
    assert 1.6 < lasting.tokens_s(8192) / boost.tokens_s(8192) < 2.0
    assert lasting.tokens_s(1) == pytest.approx(boost.tokens_s(1), rel=0.01)
    assert sustained_share(gpu("h200-sxm")) == sustained_share(gpu("b200-sxm")) < 1.0
    assert sustained_share(gpu("a100-80gb-sxm")) == sustained_share(gpu("rtx-pro-6000")) == 1.0


def test_activations_that_outgrow_the_cache_move_at_the_memorys_rate() -> None:
    """Of a cache of 100 bytes: 100 bytes at twice the peak, 200 at half of it, 150 half at each, and launches."""
    kernels = e.Elementwise(launch_s=1.0, cache_share=2.0, memory_share=0.5)
    peaks = e.Peaks(flops_per_s=1.0, bytes_per_s=10.0, multiprocessors=1, cache_bytes=100.0)
    assert [float(e.elementwise_s(kernels, peaks, moved, 1)) for moved in (100.0, 150.0, 200.0)] == [
        *(1.0 + 100.0 / 20.0, 1.0 + 150.0 * (0.5 / 20.0 + 0.5 / 5.0), 1.0 + 200.0 / 5.0)
    ]
