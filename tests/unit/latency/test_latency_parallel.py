"""Data-parallel groups and pipelines: by hand from the price of one group."""

from __future__ import annotations

import pytest

from servesim.catalog import Parallelism, gpu, kv_cache_blocks, model
from servesim.catalog.memory import memory_plan
from servesim.errors import ScenarioError
from servesim.latency.api import BatchShape
from servesim.latency.parallel import of_groups, of_stages

SIZES = {"gpu_memory_utilization": 0.9, "max_num_batched_tokens": 2048, "max_num_seqs": 128}


def price(batch: BatchShape) -> tuple[float, float, int]:
    """One second and what the batch holds: 1 ms per sequence, 1 us per attended token, 1 ms per chunk token."""
    chunks = sum(tokens for tokens, _ in batch.chunks)
    first_s = 1.0 + 1e-3 * batch.sequences + 1e-6 * batch.context_tokens + 1e-3 * chunks
    return first_s, 1e-6 * batch.sequences, 1000


def test_groups_share_the_decodes() -> None:
    """Nine sequences of 100 tokens on four groups: the fullest has three of them."""
    assert of_groups(price, 4)(BatchShape(9, 900)) == (pytest.approx(1.0 + 3e-3 + 300e-6), 3e-6, 1000)


def test_a_group_s_context_grows_as_the_whole() -> None:
    """Step k of a leap costs what the grown batch costs."""
    first_s, growth_s, _ = of_groups(price, 4)(BatchShape(9, 900))
    assert of_groups(price, 4)(BatchShape(9, 900 + 7 * 9))[0] == pytest.approx(
        first_s + 7 * growth_s, rel=1e-12
    )


def test_the_group_with_the_longest_chunk_decides() -> None:
    """Three chunks on two groups: the longest and the shortest share one."""
    chunks = [(10, 0), (300, 5), (200, 0)]
    first_s, growth_s, steps = of_groups(price, 2)(BatchShape(2, 0, chunks))
    assert (first_s, growth_s, steps) == (pytest.approx(1.0 + 1e-3 + 0.310), 0.0, 1)


def test_a_pipeline_of_decodes_takes_one_microbatch_s_time() -> None:
    """Four stages, four microbatches of two sequences: stages work on all of them, a quarter of the layers each."""
    assert of_stages(price, 4)(BatchShape(8, 800)) == (pytest.approx(1.0 + 2e-3 + 200e-6), 2e-6, 1000)


def test_a_long_chunk_makes_bubbles() -> None:
    """Its microbatch takes longer through all stages than a stage works on all microbatches."""
    first_s, _, steps = of_stages(price, 2)(BatchShape(2, 0, [(5000, 0)]))
    assert (first_s, steps) == (pytest.approx(1.0 + 1e-3 + 5.0), 1)
    alike_s = of_stages(price, 2)(BatchShape(2, 0, [(500, 0), (500, 0)]))[0]
    assert alike_s == pytest.approx(1.0 + 1e-3 + 0.5)


def test_weights_are_split_by_layer_and_by_expert() -> None:
    """DeepSeek-V3 on 16 GPUs: attention in every group, experts once, layers in stages."""
    architecture = model("deepseek-v3")
    dense = architecture.dense_parameters + 2 * architecture.embedding_parameters * 2
    routed = architecture.routed_parameters
    plan = memory_plan(architecture, gpu("h200-sxm"), parallelism=Parallelism(data=16, expert=True), **SIZES)
    assert plan.weight_bytes == pytest.approx(dense + routed / 16)
    half = memory_plan(architecture, gpu("h200-sxm"), parallelism=Parallelism(tensor=8, pipeline=2), **SIZES)
    embeddings = architecture.embedding_parameters * 2 / 8
    assert half.weight_bytes == pytest.approx(embeddings + (architecture.dense_parameters + routed) / 16)
    assert half.kv_bytes_per_token == architecture.kv_bytes_per_token / 2


@pytest.mark.parametrize(
    ("name", "parallelism", "message"),
    [
        (
            "llama-3.1-8b",
            Parallelism(pipeline=33),
            "pipeline_parallel: more stages than llama-3.1-8b has layers",
        ),
        ("llama-3.1-8b", Parallelism(tensor=2, expert=True), "expert_parallel: llama-3.1-8b has no experts"),
        (
            "mixtral-8x7b",
            Parallelism(tensor=4, data=4, expert=True),
            "mixtral-8x7b has 8 experts (got 16 GPUs)",
        ),
    ],
)
def test_degrees_must_fit_the_model(name: str, parallelism: Parallelism, message: str) -> None:
    """What cannot be split is refused by name."""
    with pytest.raises(ScenarioError) as caught:
        kv_cache_blocks(model(name), gpu("h200-sxm"), parallelism=parallelism, kv_block_tokens=16, **SIZES)
    assert message in str(caught.value)
