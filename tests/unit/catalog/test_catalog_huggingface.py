"""Reading config.json: each family gives the catalog's own entry; what is unknown is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from servesim.catalog import model
from servesim.errors import ScenarioError

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
DEEPSEEK: dict[str, Any] = {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 2048,
    "first_k_dense_replace": 3,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "torch_dtype": "bfloat16",
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama-3.1-8b": LLAMA,
    "mistral-nemo-12b": LLAMA
    | {"model_type": "mistral", "hidden_size": 5120, "num_hidden_layers": 40, "head_dim": 128}
    | {"vocab_size": 131072, "sliding_window": None},
    "qwen2.5-7b": LLAMA
    | {"model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28}
    | {"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064}
    | {"max_position_embeddings": 32768, "use_sliding_window": False, "sliding_window": 131072},
    "qwen3-4b": LLAMA
    | {"model_type": "qwen3", "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36}
    | {"head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 40960, "tie_word_embeddings": True},
    "qwen3-30b-a3b": LLAMA
    | {"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48}
    | {"num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 40960}
    | {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "mlp_only_layers": []},
    "mixtral-8x7b": LLAMA
    | {"model_type": "mixtral", "vocab_size": 32000, "max_position_embeddings": 32768}
    | {"num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None},
    "deepseek-v3": DEEPSEEK,
    "kimi-k2.5": {
        "model_type": "kimi_k25",
        "text_config": DEEPSEEK
        | {"model_type": "kimi_k2", "num_attention_heads": 64, "n_routed_experts": 384}
        | {"first_k_dense_replace": 1, "vocab_size": 163840, "max_position_embeddings": 262144}
        | {
            "quantization_config": {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}},
                "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*"],
            }
        },
    },
    "gpt-oss-20b": LLAMA
    | {"model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_hidden_layers": 24}
    | {"num_attention_heads": 64, "head_dim": 64, "vocab_size": 201088, "num_local_experts": 32}
    | {"num_experts_per_tok": 4, "sliding_window": 128}
    | {"layer_types": ["sliding_attention", "full_attention"] * 12}
    | {
        "quantization_config": {
            "quant_method": "mxfp4",
            "modules_to_not_convert": ["model.layers.*.self_attn"],
        }
    },
    "opt-1.3b": {
        "model_type": "opt",
        "hidden_size": 2048,
        "ffn_dim": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "vocab_size": 50272,
        "max_position_embeddings": 2048,
        "word_embed_proj_dim": 2048,
        "torch_dtype": "float16",
    },
}


def write(folder: Path, config: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", CONFIGS)
def test_config_gives_the_catalog_entry(name: str, tmp_path: Path) -> None:
    """A family's config.json reads as the architecture that the catalog holds under its name."""
    path = write(tmp_path, CONFIGS[name])
    expected = replace(model(name), name=str(path), source=str(path), note="")
    assert model(str(path)) == expected


def test_directory_with_a_config_is_a_model(tmp_path: Path) -> None:
    """A checkpoint's folder can be given instead of the file, and formats can be overridden."""
    write(tmp_path, LLAMA)
    assert model(tmp_path, kv_dtype="fp8").kv_bytes_per_token == 65_536


def test_every_layer_of_the_first_mistral_slides(tmp_path: Path) -> None:
    """A window without a list of layers holds for all of them."""
    found = model(write(tmp_path, LLAMA | {"model_type": "mistral", "sliding_window": 4096}))
    assert (found.sliding_window_tokens, found.sliding_layers) == (4096, 32)


def test_qwen_slides_from_max_window_layers_on(tmp_path: Path) -> None:
    """Qwen's first max_window_layers layers attend to everything."""
    window = {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": 4096,
        "max_window_layers": 20,
    }
    found = model(write(tmp_path, LLAMA | window))
    assert (found.sliding_window_tokens, found.sliding_layers) == (4096, 12)


@pytest.mark.parametrize(
    ("quantization", "dtype"),
    [
        ({"quant_method": "awq", "bits": 4}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8"),
        ({"quant_method": "fbgemm_fp8"}, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
    ],
)
def test_quantized_checkpoints(quantization: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    """Common quantisation methods give their number format; the KV cache stays 16 bits wide."""
    found = model(write(tmp_path, LLAMA | {"quantization_config": quantization}))
    assert (found.dtype, found.kv_dtype) == (dtype, "bf16")


def test_unknown_quantization_is_refused(tmp_path: Path) -> None:
    """An unknown method would make the weights' size a guess."""
    path = write(tmp_path, LLAMA | {"quantization_config": {"quant_method": "magic"}})
    with pytest.raises(ScenarioError, match=r"unknown method \(got 'magic'\)"):
        model(path)


def test_unknown_family_lists_the_known_ones(tmp_path: Path) -> None:
    """A model_type that is not modelled is refused with the list and the nearest."""
    with pytest.raises(ScenarioError) as caught:
        model(write(tmp_path, LLAMA | {"model_type": "qwen3_mo"}))
    assert "did you mean 'qwen3_moe'?" in str(caught.value)
    assert "deepseek_v3" in str(caught.value)


def test_missing_field_is_named(tmp_path: Path) -> None:
    """The message names the field and the file."""
    config = {key: value for key, value in LLAMA.items() if key != "vocab_size"}
    with pytest.raises(ScenarioError, match=r"config\.json: vocab_size: missing"):
        model(write(tmp_path, config))


@pytest.mark.parametrize("text", ["{", "[1]", "version https://git-lfs.github.com/spec/v1"])
def test_file_that_is_no_config_is_refused(text: str, tmp_path: Path) -> None:
    """Broken JSON, other JSON and a Git-LFS pointer are no config."""
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"expected a (Hugging Face )?config\.json"):
        model(path)


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "qwen3_moe", "mlp_only_layers": [0], "num_experts": 8, "num_experts_per_tok": 2},
        {"model_type": "opt", "word_embed_proj_dim": 512, "ffn_dim": 4096},
    ],
)
def test_shapes_that_are_not_modelled_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    """A variant whose parameters would be counted wrongly is refused instead."""
    with pytest.raises(ScenarioError, match="not modelled"):
        model(write(tmp_path, LLAMA | change))
