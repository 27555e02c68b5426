"""Model architectures against published parameter counts, KV sizes and memory figures."""

from __future__ import annotations

import pytest

from servesim.catalog import ModelArchitecture, model, model_names
from servesim.errors import ScenarioError

# Published totals in 1e9 (model cards, technical reports, safetensors metadata on the model hub). The catalog
# counts matrices only; norms, biases and learned positions are below 0.5 %, and cards round to three digits:
# 1 % together.
PUBLISHED_PARAMETERS = {
    "llama-2-7b": 6.74,
    "llama-2-13b": 13.02,
    "llama-2-70b": 68.98,
    "llama-3-8b": 8.03,
    "llama-3-70b": 70.6,
    "llama-3.1-8b": 8.03,
    "llama-3.1-70b": 70.6,
    "llama-3.1-405b": 405.9,
    "llama-3.2-1b": 1.24,
    "llama-3.2-3b": 3.21,
    "llama-3.3-70b": 70.6,
    "qwen2.5-0.5b": 0.494,
    "qwen2.5-1.5b": 1.54,
    "qwen2.5-7b": 7.62,
    "qwen2.5-7b-1m": 7.62,
    "qwen2.5-14b": 14.8,
    "qwen2.5-32b": 32.8,
    "qwen2.5-72b": 72.7,
    "qwen3-0.6b": 0.596,
    "qwen3-4b": 4.02,
    "qwen3-8b": 8.19,
    "qwen3-14b": 14.8,
    "qwen3-32b": 32.8,
    "qwen3-30b-a3b": 30.5,
    "qwen3-235b-a22b": 235,
    "mixtral-8x7b": 46.7,
    "mixtral-8x22b": 141,
    "mistral-7b": 7.25,
    "mistral-nemo-12b": 12.2,
    "deepseek-v3": 671,
    "minimax-m2.5": 229,
    "gpt-oss-20b": 20.9,
    "gpt-oss-120b": 116.8,
    "opt-1.3b": 1.316,
    "opt-2.7b": 2.652,
    "opt-6.7b": 6.658,
    "opt-13b": 12.85,
    "codellama-7b": 6.74,
    "codellama-13b": 13.02,
    "codellama-34b": 33.7,
    "yi-34b": 34.4,
}


@pytest.mark.parametrize(("name", "billions"), PUBLISHED_PARAMETERS.items())
def test_total_parameters_are_the_published_ones(name: str, billions: float) -> None:
    """Parameters follow from the shapes within 1 % of the published count."""
    assert model(name).parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_kimi_is_a_trillion_parameters() -> None:
    """Kimi-K2 is published as 1 T in total and 32 B active, without digits: 3 % and 2 %."""
    assert model("kimi-k2.5").parameters == pytest.approx(1e12, rel=0.03)
    assert model("kimi-k2.5").active_parameters == pytest.approx(32e9, rel=0.02)


@pytest.mark.parametrize(
    ("name", "billions", "with_embedding"),
    [
        ("qwen3-30b-a3b", 3.35, True),
        ("qwen3-235b-a22b", 22.2, True),
        ("mixtral-8x7b", 12.9, True),
        ("mixtral-8x22b", 39.2, True),
        ("deepseek-v3", 36.7, False),
        ("gpt-oss-20b", 3.61, False),
        ("gpt-oss-120b", 5.13, False),
    ],
)
def test_active_parameters_are_the_published_ones(name: str, billions: float, with_embedding: bool) -> None:
    """Active parameters agree within 1 %; some publishers count the input embedding, which is a look-up."""
    found = model(name)
    counted = found.active_parameters + (found.embedding_parameters if with_embedding else 0)
    assert counted / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("llama-3.1-8b", 131_072),  # 2 * 32 layers * 8 heads * 128 * 2 bytes
        ("llama-3.1-70b", 327_680),  # 2 * 80 * 8 * 128 * 2
        ("llama-2-70b", 327_680),
        ("llama-2-7b", 524_288),  # multi-head: 2 * 32 * 32 * 128 * 2
        ("deepseek-v3", 70_272),  # (512 + 64) * 61 * 2
        ("qwen3-30b-a3b", 98_304),  # 2 * 48 * 4 * 128 * 2
        ("gpt-oss-120b", 73_728),  # 2 * 36 * 8 * 64 * 2
        ("opt-13b", 819_200),  # 2 * 40 * 40 * 128 * 2
    ],
)
def test_kv_bytes_per_token(name: str, size: int) -> None:
    """The KV cache of one token takes what layers, KV heads (or the latent vector) and the format say."""
    assert model(name).kv_bytes_per_token == size


def test_sliding_layers_keep_their_window_only() -> None:
    """gpt-oss-20b: 24 layers of 2,048 bytes per token, half of which keep 128 tokens."""
    oss = model("gpt-oss-20b")
    assert oss.kv_bytes(100) == 100 * 24 * 2048
    assert oss.kv_bytes(1000) == 12 * 2048 * 1000 + 12 * 2048 * 128


def test_weights_take_their_format() -> None:
    """Weights: 2 bytes each in bf16; in fp8 one, embedding and output head excepted."""
    llama = model("llama-3.1-8b")
    assert llama.weight_bytes == 2 * llama.parameters
    embeddings = 2 * 128_256 * 4096
    assert model("llama-3.1-8b", dtype="fp8").weight_bytes == llama.parameters + embeddings


def test_published_checkpoint_sizes() -> None:
    """Checkpoints on the hub: gpt-oss-120b 65.2 GB, gpt-oss-20b 13.8 GB, Kimi-K2 int4 594 GB; within 2 %."""
    assert model("gpt-oss-120b").weight_bytes / 1e9 == pytest.approx(65.2, rel=0.02)
    assert model("gpt-oss-20b").weight_bytes / 1e9 == pytest.approx(13.8, rel=0.02)
    assert model("kimi-k2.5").weight_bytes / 1e9 == pytest.approx(594, rel=0.02)


def test_flops_per_token_are_twice_the_active_parameters() -> None:
    """A multiplication and an addition per weight: Llama-3.1-8B does 15 GFLOP per token."""
    assert model("llama-3.1-8b").flops_per_token / 1e9 == pytest.approx(15.0, rel=0.01)


def test_attention_flops_of_both_forms_of_mla() -> None:
    """Latent attention multiplies more in decode (absorbed weights) than in prefill."""
    deepseek = model("deepseek-v3")
    assert deepseek.attention_flops_per_pair == 2 * 128 * (128 + 64 + 128)
    assert deepseek.decode_attention_flops_per_pair == 2 * 128 * (512 + 64 + 512)
    assert model("llama-3.1-8b").decode_attention_flops_per_pair == 4 * 32 * 128


@pytest.mark.parametrize("name", model_names())
def test_entry_is_consistent_and_has_a_source(name: str) -> None:
    """Every entry names its source and obeys the constraints of its kind."""
    entry = model(name)
    assert entry.source
    assert entry.name == name
    assert entry.heads % entry.kv_heads == 0
    assert 0 < entry.active_parameters <= entry.parameters
    assert (entry.sliding_window_tokens is None) == (entry.sliding_layers == 0)
    assert (entry.moe is None) == (entry.moe_layers == 0)
    if entry.moe is None:
        assert entry.intermediate_size > 0


def test_unknown_model_suggests_the_nearest() -> None:
    """A typo is answered with what was meant, and with the way to use a file."""
    with pytest.raises(ScenarioError) as caught:
        model("llama-3.1-8")
    assert "did you mean 'llama-3.1-8b'?" in str(caught.value)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize("arguments", [{"dtype": "fp7"}, {"kv_dtype": "int4"}])
def test_unknown_number_format_is_refused(arguments: dict[str, str]) -> None:
    """Formats without a known size cannot be asked for."""
    with pytest.raises(ScenarioError, match="unknown number format"):
        model("llama-3.1-8b", **arguments)


def test_entries_are_shared_and_immutable() -> None:
    """The catalog hands out one object per name, which nobody can change."""
    assert model("yi-34b") is model("yi-34b")
    with pytest.raises(AttributeError):
        model("yi-34b").layers = 1  # type: ignore[misc]
    assert isinstance(hash(model("yi-34b")), int)
    assert isinstance(model("deepseek-v3"), ModelArchitecture)
