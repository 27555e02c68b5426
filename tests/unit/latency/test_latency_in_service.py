"""What a served model has besides its largest kernels: joint norms, checkpoints, graphs, backends, lasting clocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from profile_format import operator_rows, write

from servesim.catalog import Parallelism, gpu, model
from servesim.catalog.speculative import Speculation
from servesim.cluster.build import build_pool, graph_tokens_max
from servesim.latency import efficiency as e
from servesim.latency.api import BatchShape, LatencyContext
from servesim.latency.coefficients import sustained_share
from servesim.latency.operators import operators
from servesim.latency.roofline import Roofline
from servesim.latency.table import Table
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
    assert (
        sustained_share(gpu("b200-sxm"))
        < sustained_share(gpu("h200-sxm"))
        == sustained_share(gpu("h100-sxm"))
        < 1.0
    )
    assert sustained_share(gpu("a100-80gb-sxm")) == sustained_share(gpu("rtx-pro-6000")) == 1.0


def test_activations_that_outgrow_the_cache_move_at_the_memorys_rate() -> None:
    """Of a cache of 100 bytes: 100 bytes at twice the peak, 200 at half of it, 150 half at each, and launches."""
    kernels = e.Elementwise(launch_s=1.0, cache_share=2.0, memory_share=0.5)
    peaks = e.Peaks(flops_per_s=1.0, bytes_per_s=10.0, multiprocessors=1, cache_bytes=100.0)
    assert [float(e.elementwise_s(kernels, peaks, moved, 1)) for moved in (100.0, 150.0, 200.0)] == [
        *(1.0 + 100.0 / 20.0, 1.0 + 150.0 * (0.5 / 20.0 + 0.5 / 5.0), 1.0 + 200.0 / 5.0)
    ]


def test_a_router_of_32_bits_is_multiplied_as_such() -> None:
    """MiniMax-M2.5: without tensor cores, a tenth of a prefill more; rounded for them, next to nothing."""
    served = model("minimax-m2.5")
    router = operators(served, Parallelism(tensor=4)).matrices[-1]
    assert (router.n, router.k, router.count, router.dtype) == (256, 3072, 62, "fp32")
    assert operators(model("kimi-k2.5"), Parallelism()).matrices[-1].dtype == "bf16"
    assert model("kimi-k2.5").with_rounded_router() == model("kimi-k2.5")
    assert served.moe is not None
    narrow = replace(served, moe=replace(served.moe, router_dtype="bf16"))
    times = {}
    for name, each in (("full", served), ("rounded", served.with_rounded_router()), ("narrow", narrow)):
        prices = Roofline()
        prices.reset(replace(CONTEXT, model=each, tensor_parallel=4))
        times[name] = prices.tokens_s(8192)
    assert 1.08 < times["full"] / times["narrow"] < 1.3
    assert 1.0 < times["rounded"] / times["narrow"] < 1.06


def test_the_scenario_says_how_32_bits_are_multiplied_and_what_graphs_hold() -> None:
    """``float32_matmul_precision: high`` rounds the router; ``prompt_graphs: false`` keeps prompts out of graphs."""
    pool = PoolSpec(name="main", model="minimax-m2.5", gpu="h200-sxm", tensor_parallel=4)
    rounded = pool.model_copy(
        update={"engine": EngineSpec(float32_matmul_precision="high", prompt_graphs=False)}
    )
    prompt = BatchShape(0, 0, [(512, 0)])
    first, second = (build_pool(spec).latency.price(prompt)[0] for spec in (pool, rounded))
    assert second > first  # the host starts the kernels of a prompt one by one
    long = BatchShape(0, 0, [(8192, 0)])
    first, second = (build_pool(spec).latency.price(long)[0] for spec in (pool, rounded))
    assert second < first


def test_shared_experts_hide_beside_few_tokens() -> None:
    """Kimi-K2.5, up to 256 tokens on NVIDIA's GPUs: their kernels' starts cost nothing, what they read does."""
    served = model("kimi-k2.5", dtype="nvfp4")
    assert served.moe is not None
    without = replace(served, moe=replace(served.moe, shared_experts=0))
    more = {}
    for name in ("b200-sxm", "mi300x"):
        for tokens in (64, 512):
            both, routed = Roofline(), Roofline()
            for prices, each in ((both, served), (routed, without)):
                prices.reset(replace(CONTEXT, model=each, gpu=gpu(name), tensor_parallel=8))
            more[name, tokens] = both.tokens_s(tokens) - routed.tokens_s(tokens)
    assert 0 < more["b200-sxm", 64] < 0.4 * more["b200-sxm", 512]
    assert more["mi300x", 64] > 0.5 * more["mi300x", 512]
    assert sum(matrix.shared for matrix in operators(served, Parallelism()).matrices) == 2


def test_tables_hide_shared_experts_too(tmp_path: Path) -> None:
    """A shared expert by operator tables: beside few tokens its weights and activations count, as by the roofline."""
    without = model("qwen3-30b-a3b")
    assert without.moe is not None
    served = replace(without, moe=replace(without.moe, shared_experts=1))
    path = write(tmp_path, operator_rows(), meta=None)
    more = {}
    for name, prices in (("table", lambda: Table(path=path)), ("roofline", Roofline)):
        for tokens in (64, 512):
            both, routed = prices(), prices()
            both.reset(replace(CONTEXT, model=served, tensor_parallel=4))
            routed.reset(replace(CONTEXT, model=without, tensor_parallel=4))
            more[name, tokens] = both.tokens_s(tokens) - routed.tokens_s(tokens)
    assert more["table", 64] == pytest.approx(more["roofline", 64])
    assert more["table", 512] > 2 * more["table", 64]


def test_a_draft_model_has_the_kernels_of_the_model_that_it_drafts_for() -> None:
    """They run on one GPU: a share of its rate that lasts makes both longer."""
    drafts = Speculation(
        method="draft_model", draft_tokens=3, acceptance_ratio=0.8, draft=model("llama-3.2-1b")
    )
    took_s = []
    for share in (0.2, 1.0):
        prices = Roofline(sustained_share=share)
        prices.reset(replace(CONTEXT, model=model("llama-3.1-8b"), speculation=drafts))
        assert prices.drafter is not None
        took_s.append(prices.drafter.tokens_s(4096))
    assert took_s[0] > 2 * took_s[1]
