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
    expected = replace(model(name), name=str(path), source=str(path), note="", bf16_attention=())
    assert model(str(path)) == expected


BILLIONS: dict[str, tuple[float, dict[str, Any]]] = {
    "gemma-2-9b": (
        9.24,
        LLAMA
        | {"model_type": "gemma2", "hidden_size": 3584, "num_hidden_layers": 42, "num_attention_heads": 16}
        | {"head_dim": 256, "vocab_size": 256000, "sliding_window": 4096},
    ),
    "gemma-3-27b, its text part": (
        27.0,
        {
            "model_type": "gemma3",
            "text_config": LLAMA
            | {"model_type": "gemma3_text", "hidden_size": 5376, "intermediate_size": 21504, "head_dim": 128}
            | {"num_hidden_layers": 62, "num_key_value_heads": 16, "vocab_size": 262208}
            | {"sliding_window": 1024, "sliding_window_pattern": 6},
        },
    ),
    "phi-2": (
        2.78,
        LLAMA
        | {"model_type": "phi", "hidden_size": 2560, "intermediate_size": 10240, "vocab_size": 51200}
        | {"num_key_value_heads": None},
    ),
    "qwen1.5-moe-a2.7b": (
        14.3,
        LLAMA
        | {"model_type": "qwen2_moe", "hidden_size": 2048, "num_hidden_layers": 24, "vocab_size": 151936}
        | {"num_attention_heads": 16, "num_key_value_heads": 16, "num_experts": 60, "num_experts_per_tok": 4}
        | {"moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632},
    ),
    "olmoe-1b-7b": (
        6.92,
        LLAMA
        | {"model_type": "olmoe", "hidden_size": 2048, "num_hidden_layers": 16, "vocab_size": 50304}
        | {"num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 1024}
        | {"num_experts": 64, "num_experts_per_tok": 8},
    ),
    "deepseek-v2-lite": (
        15.7,
        DEEPSEEK
        | {"model_type": "deepseek_v2", "hidden_size": 2048, "intermediate_size": 10944, "q_lora_rank": None}
        | {"num_hidden_layers": 27, "num_attention_heads": 16, "vocab_size": 102400, "n_routed_experts": 64}
        | {"n_shared_experts": 2, "num_experts_per_tok": 6, "moe_intermediate_size": 1408}
        | {"first_k_dense_replace": 1, "moe_layer_freq": 1},
    ),
    "glm-4.5-air": (
        106.85,
        LLAMA
        | {"model_type": "glm4_moe", "num_hidden_layers": 46, "num_attention_heads": 96, "head_dim": 128}
        | {"intermediate_size": 10944, "vocab_size": 151552, "n_routed_experts": 128, "n_shared_experts": 1}
        | {"num_experts_per_tok": 8, "moe_intermediate_size": 1408, "first_k_dense_replace": 1},
    ),
    "falcon-7b": (
        6.92,
        {"model_type": "falcon", "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71}
        | {"multi_query": True, "vocab_size": 65024},
    ),
    "bloom": (
        176.2,
        {"model_type": "bloom", "n_embed": 14336, "n_layer": 70, "num_attention_heads": 112}
        | {"vocab_size": 250880, "seq_length": 2048},
    ),
}
"""Published sizes of models, in billions of parameters, on their Hugging Face pages."""


@pytest.mark.parametrize("name", BILLIONS)
def test_parameters_are_those_that_are_published(name: str, tmp_path: Path) -> None:
    """A family is read right if its matrices add up to the published size; norms and biases do not count."""
    billions, config = BILLIONS[name]
    assert model(write(tmp_path, config)).parameters == pytest.approx(billions * 1e9, rel=0.005)


def test_routers_of_32_bits(tmp_path: Path) -> None:
    """Those of GLM-4.5 and MiniMax-M2 are kept so by vLLM, that of DeepSeek-V3 is not."""
    router = {}
    for name in ("glm-4.5-air", "deepseek-v2-lite"):
        found = model(write(tmp_path, BILLIONS[name][1]))
        assert found.moe is not None
        router[name] = found.moe.router_dtype
    assert router == {"glm-4.5-air": "fp32", "deepseek-v2-lite": "bf16"}


def test_gemma_slides_in_all_but_every_sixth_layer(tmp_path: Path) -> None:
    """Of 62 layers of Gemma 3 ten attend to everything; a list of layers says the same."""
    config = BILLIONS["gemma-3-27b, its text part"][1]["text_config"]
    assert model(write(tmp_path, config)).sliding_layers == 52
    kinds = [("full" if layer % 6 == 5 else "sliding") + "_attention" for layer in range(62)]
    assert model(write(tmp_path, config | {"layer_types": kinds})).sliding_layers == 52


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": "x"}, "hidden_size: not a count (got 'x')"),
        ({"num_attention_heads": 0}, "num_attention_heads: not a count (got 0)"),
        ({"num_hidden_layers": None}, "num_hidden_layers: missing"),
        ({"num_attention_heads": 30}, "does not divide into 30 heads"),
        ({"quantization_config": [1]}, "has another form"),
        (
            {"model_type": "gemma2", "layer_types": ["linear_attention"]},
            "not modelled (got 'linear_attention')",
        ),
        ({"model_type": "gemma2", "layer_types": 3}, "has another form"),
        ({"model_type": "mamba"}, "expected one of llama"),
    ],
)
def test_fields_of_another_form_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    """A damaged or foreign config is the user's to mend: the file and the field are named."""
    path = write(tmp_path, LLAMA | change)
    with pytest.raises(ScenarioError) as caught:
        model(path)
    assert message in str(caught.value)


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
