"""What a model runs: shapes by hand, and sums that must agree with the architecture's own counts."""

from __future__ import annotations

import pytest

from servesim.catalog import Parallelism, model, model_names
from servesim.catalog.dtypes import BYTES_PER_ELEMENT
from servesim.latency.operators import operators

ONE = Parallelism()


def shapes(name: str, parallelism: Parallelism = ONE) -> list[tuple[float, float, int]]:
    """Return the matrices of a model's layers."""
    return [(matrix.n, matrix.k, matrix.count) for matrix in operators(model(name), parallelism).matrices]


def test_dense_layer_by_hand() -> None:
    """Llama-3.1-70B over 4 GPUs: 16 query and 2 KV heads of 128 each, a quarter of the MLP."""
    assert shapes("llama-3.1-70b", Parallelism(tensor=4)) == [
        (20 * 128, 8192, 80),
        (8192, 2048, 80),
        (2 * 7168, 8192, 80),
        (8192, 7168, 80),
    ]


def test_latent_attention_by_hand() -> None:
    """DeepSeek-V3 over 8 GPUs: compression is not split, 16 heads are expanded, experts but for 3 layers."""
    found = shapes("deepseek-v3", Parallelism(tensor=8))
    assert found[:4] == [
        (1536 + 512 + 64, 7168, 61),
        (16 * 192, 1536, 61),
        (16 * 256, 512, 61),
        (7168, 16 * 128, 61),
    ]
    assert found[4:6] == [(2 * 18432 / 8, 7168, 3), (7168, 18432 / 8, 3)]
    assert found[6:] == [(2 * 2048 / 8, 7168, 58), (7168, 2048 / 8, 58), (256, 7168, 58)]


@pytest.mark.parametrize("name", model_names())
def test_matrices_are_all_the_weights(name: str) -> None:
    """On one GPU, matrices hold the dense parameters, experts the routed ones, the head the embedding."""
    found = operators(model(name), ONE)
    dense = sum(matrix.n * matrix.k * matrix.count for matrix in found.matrices)
    assert dense == pytest.approx(model(name).dense_parameters)
    assert found.head.n * found.head.k == model(name).embedding_parameters
    routed = found.experts.weights * found.experts.experts * found.experts.count if found.experts else 0
    assert routed == model(name).routed_parameters


@pytest.mark.parametrize(("ranks", "share"), [(1, 1), (4, 1 / 4), (8, 1 / 8), (16, 1 / 8)])
def test_kv_heads_are_replicated_beyond_their_number(ranks: int, share: float) -> None:
    """A GPU reads at least one of Llama's eight KV heads, and always DeepSeek's whole latent vector."""
    split = Parallelism(tensor=ranks)
    assert operators(model("llama-3.1-8b"), split).attention.kv_bytes == 4096 * share
    latent = model("deepseek-v3")
    assert operators(latent, split).attention.kv_bytes == 576 * BYTES_PER_ELEMENT[latent.kv_dtype]


def test_sums_over_gpus() -> None:
    """Two per layer under tensor parallelism, none alone; groups gather their tokens around the experts only."""
    assert operators(model("llama-3.1-8b"), ONE).all_reduces == ()
    (sums,) = operators(model("llama-3.1-8b"), Parallelism(tensor=2)).all_reduces
    assert (sums.ranks, sums.token_bytes, sums.count) == (2, 8192, 64)
    within, over = operators(model("deepseek-v3"), Parallelism(tensor=2, data=4, expert=True)).all_reduces
    assert (within.ranks, within.token_bytes, within.count) == (2, 2 * 7168, 2 * 61 - 58)
    assert (over.ranks, over.token_bytes, over.count) == (8, 4 * 2 * 7168, 58)


def test_experts_are_sliced_or_whole() -> None:
    """Without expert parallelism every GPU has an eighth of each expert, with it an eighth of the experts."""
    sliced = operators(model("qwen3-235b-a22b"), Parallelism(tensor=8)).experts
    whole = operators(model("qwen3-235b-a22b"), Parallelism(tensor=4, data=2, expert=True)).experts
    assert sliced is not None
    assert whole is not None
    assert (sliced.weights, sliced.ranks, sliced.groups) == (3 * 4096 * 1536 / 8, 1, 1)
    assert (whole.weights, whole.ranks, whole.groups) == (3 * 4096 * 1536, 8, 2)
