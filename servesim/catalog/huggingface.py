"""Read a Hugging Face ``config.json`` from disk into a `ModelArchitecture`.

One function per family of configurations. Multimodal configs, remote code and networks are not in here: a
vision model's text part is read if the file nests it under ``text_config``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from servesim.catalog.architecture import Experts, LatentAttention, ModelArchitecture
from servesim.errors import ScenarioError, nearest

Config = Mapping[str, Any]

_WEIGHT_DTYPES = {("int", 4): "int4", ("int", 8): "int8", ("float", 8): "fp8", ("float", 4): "nvfp4"}
_TORCH_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def read_config(path: Path) -> ModelArchitecture:
    """Return the architecture that the ``config.json`` at *path* describes.

    Raises
    ------
    ScenarioError
        If the file is not JSON, its ``model_type`` is of no known family, or a field is missing.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(
            f"{path}: not JSON (got {error}). expected a Hugging Face config.json."
        ) from error
    if not isinstance(config, dict):
        raise ScenarioError(f"{path}: not an object (got {type(config).__name__}). expected a config.json.")
    outer, config = config, config.get("text_config") or config
    if not isinstance(config, dict):
        raise ScenarioError(f"{path}: text_config: not an object (got {config!r}). expected a config.")
    config = {_OTHER_NAMES.get(key, key): value for key, value in config.items() if value is not None}
    family = config.get("model_type")
    config = {**_DEFAULTS.get(str(family), {}), **config}
    if family not in FAMILIES:
        raise ScenarioError(
            f"{path}: model_type: unknown family (got {family!r}). expected one of {', '.join(FAMILIES)}.",
            hint=nearest(str(family), FAMILIES)
            or "a decoder with gated MLPs of one width reads right as a copy that says model_type: llama",
        )
    _check_numbers(config, path)
    quantized = config.get("quantization_config", outer.get("quantization_config"))
    try:
        fields = {**_common(config), **_dtypes(config, quantized, path), **FAMILIES[family](config)}
    except KeyError as error:
        raise ScenarioError(
            f"{path}: {error.args[0]}: missing (got {sorted(config)}). expected it in a config of {family}."
        ) from error
    except (AttributeError, TypeError, ValueError) as error:
        raise ScenarioError(
            f"{path}: a field has another form than in a config of {family} (got {error}). expected a Hugging Face "
            "config.json."
        ) from error
    return ModelArchitecture(name=str(path), source=str(path), **fields)


_COUNTS = frozenset(
    [
        *("hidden_size", "num_hidden_layers", "vocab_size", "max_position_embeddings", "intermediate_size"),
        *("num_attention_heads", "num_key_value_heads", "num_kv_heads", "head_dim", "v_head_dim"),
        *("sliding_window", "sliding_window_pattern", "ffn_dim", "ffn_hidden_size"),
        *("num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok"),
        *("moe_intermediate_size", "shared_expert_intermediate_size"),
        *("q_lora_rank", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim"),
    ]
)
"""Fields that are whole numbers from 1 on, where a config has them."""

_COUNTS_FROM_0 = frozenset(["first_k_dense_replace", "max_window_layers", "n_shared_experts"])
"""Fields that may be 0, too."""

_OTHER_NAMES = {
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_embed": "hidden_size",
    "seq_length": "max_position_embeddings",
}
"""Names in the configs of BLOOM and of the first Falcons."""


_DEFAULTS: dict[str, Config] = {"falcon": {"max_position_embeddings": 2048}}
"""What configs of a family leave to its class."""


def _check_numbers(config: Config, path: Path) -> None:
    for key in sorted((_COUNTS | _COUNTS_FROM_0) & config.keys()):
        value, least = config[key], 0 if key in _COUNTS_FROM_0 else 1
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ScenarioError(
                f"{path}: {key}: not a count (got {value!r}). expected a whole number from {least} on."
            )


def _common(config: Config) -> dict[str, Any]:
    heads = config["num_attention_heads"]
    hidden = config["hidden_size"]
    if "head_dim" not in config and hidden % heads:
        raise ScenarioError(
            f"hidden_size: does not divide into {heads} heads (got {hidden}). expected head_dim beside it."
        )
    return {
        "layers": config["num_hidden_layers"],
        "hidden_size": hidden,
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or heads,
        "head_dim": config.get("head_dim") or hidden // heads,
        "vocab_size": config["vocab_size"],
        "context_tokens": config["max_position_embeddings"],
        "tied_embeddings": config.get("tie_word_embeddings", False),
    }


def _dtypes(config: Config, quantized: Config | None, path: Path) -> dict[str, Any]:
    """Return the number formats; GPTQ, AWQ and the like are known by their number of bits."""
    plain = _TORCH_DTYPES.get(str(config.get("torch_dtype", config.get("dtype", "bfloat16"))), "bf16")
    found = {"dtype": plain, "expert_dtype": plain, "kv_dtype": "bf16" if plain == "fp32" else plain}
    if not quantized:
        return found
    dtype, experts_only = _quantized_dtype(quantized), _experts_only(quantized)
    if dtype is None:
        raise ScenarioError(
            f"{path}: quantization_config: unknown method (got {quantized.get('quant_method')!r}). "
            "expected fp8, mxfp4, modelopt, compressed-tensors, or one with bits 4 or 8.",
            hint="remove quantization_config from a copy of the file and give the format as dtype",
        )
    return (
        {**found, "expert_dtype": dtype} if experts_only else {**found, "dtype": dtype, "expert_dtype": dtype}
    )


def _quantized_dtype(quantized: Config) -> str | None:
    method = str(quantized.get("quant_method"))
    known = {"fp8": "fp8", "fbgemm_fp8": "fp8", "mxfp4": "mxfp4", "NVFP4": "nvfp4", "FP8": "fp8"}
    if method in known:
        return known[method]
    if method == "modelopt":
        return known.get(str(quantized.get("quant_algo")))
    bits, kind = quantized.get("bits"), "int"
    if method == "compressed-tensors":
        groups: list[Config] = list(quantized.get("config_groups", {}).values())
        weights: Config = groups[0]["weights"] if groups else {}
        bits, kind = weights.get("num_bits"), weights.get("type", "int")
    return _WEIGHT_DTYPES.get((str(kind), int(bits or 0)))


def _experts_only(quantized: Config) -> bool:
    """Tell whether attention keeps its plain format: for mxfp4, and where a list of exceptions says so."""
    exceptions = quantized.get("ignore") or quantized.get("modules_to_not_convert") or []
    return quantized.get("quant_method") == "mxfp4" or any("self_attn" in str(name) for name in exceptions)


def _dense(config: Config) -> dict[str, Any]:
    return {"intermediate_size": config["intermediate_size"]} | _every_layer_slides(config)


def _tied(config: Config) -> dict[str, Any]:
    """Families whose embeddings are tied unless their config says otherwise."""
    return {"tied_embeddings": config.get("tie_word_embeddings", True)}


def _listed_layers_slide(config: Config, pattern: int) -> dict[str, Any]:
    """Layers slide as ``layer_types`` lists them, or all but every *pattern*-th where there is no list."""
    layers = config["num_hidden_layers"]
    if "layer_types" in config:
        kinds = list(config["layer_types"])
        if other := sorted(set(kinds) - {"sliding_attention", "full_attention"}):
            raise ScenarioError(
                f"layer_types: not modelled (got {other[0]!r}). expected full and sliding layers."
            )
        sliding = kinds.count("sliding_attention")
    else:
        sliding = layers - layers // config.get("sliding_window_pattern", pattern)
    if not sliding or "sliding_window" not in config:
        return {}
    return {"sliding_window_tokens": config["sliding_window"], "sliding_layers": sliding}


def _gemma(config: Config) -> dict[str, Any]:
    return {"intermediate_size": config["intermediate_size"]} | _tied(config)


def _gemma2(config: Config) -> dict[str, Any]:
    return _gemma(config) | _listed_layers_slide(config, 2)


def _gemma3(config: Config) -> dict[str, Any]:
    return _gemma(config) | _listed_layers_slide(config, 6)


def _cohere2(config: Config) -> dict[str, Any]:
    return _gemma(config) | _listed_layers_slide(config, 4)


def _olmo3(config: Config) -> dict[str, Any]:
    return {"intermediate_size": config["intermediate_size"]} | _listed_layers_slide(config, 4)


def _ungated(config: Config) -> dict[str, Any]:
    """GPT-NeoX and Phi: two matrices in the MLP."""
    return {"intermediate_size": config["intermediate_size"], "gated_mlp": False}


def _starcoder2(config: Config) -> dict[str, Any]:
    return _ungated(config) | _every_layer_slides(config) | _tied(config)


def _falcon(config: Config) -> dict[str, Any]:
    """Falcon: an MLP of four times the width; one KV head, or as many as the newer form says."""
    heads = config["num_attention_heads"]
    kv_heads = 1 if config.get("multi_query", True) else heads
    if config.get("new_decoder_architecture"):
        kv_heads = config.get("num_kv_heads", heads)
    found = {
        "intermediate_size": config.get("ffn_hidden_size", 4 * config["hidden_size"]),
        "gated_mlp": False,
    }
    return found | {"kv_heads": kv_heads} | _tied(config)


def _bloom(config: Config) -> dict[str, Any]:
    return {"intermediate_size": 4 * config["hidden_size"], "gated_mlp": False} | _tied(config)


def _every_layer_slides(config: Config) -> dict[str, Any]:
    window = config.get("sliding_window")
    if not window or not config.get("use_sliding_window", True):
        return {}
    return {"sliding_window_tokens": window, "sliding_layers": config["num_hidden_layers"]}


def _qwen(config: Config) -> dict[str, Any]:
    """Qwen slides in the layers from ``max_window_layers`` on, if asked to at all."""
    found: dict[str, Any] = {"intermediate_size": config["intermediate_size"]}
    if config.get("use_sliding_window") and config.get("sliding_window"):
        layers = config["num_hidden_layers"]
        sliding = max(0, layers - config.get("max_window_layers", layers))
        found |= (
            {"sliding_window_tokens": config["sliding_window"], "sliding_layers": sliding} if sliding else {}
        )
    return found


def _qwen3_moe(config: Config) -> dict[str, Any]:
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
        raise ScenarioError(
            f"qwen3_moe: mlp_only_layers: not modelled (got {config.get('mlp_only_layers')!r}). expected []."
        )
    experts = Experts(
        experts=config["num_experts"],
        experts_per_token=config["num_experts_per_tok"],
        intermediate_size=config["moe_intermediate_size"],
    )
    return {"intermediate_size": 0, "moe": experts}


def _local_experts(config: Config) -> dict[str, Any]:
    """Mixtral and MiniMax-M2 write the width of an expert as ``intermediate_size``."""
    experts = Experts(
        experts=config["num_local_experts"],
        experts_per_token=config["num_experts_per_tok"],
        intermediate_size=config["intermediate_size"],
    )
    return {"intermediate_size": 0, "moe": experts} | _every_layer_slides(config)


def _minimax_m2(config: Config) -> dict[str, Any]:
    found = _local_experts(config)
    return found | {"moe": replace(found["moe"], router_dtype="fp32")}


def _gpt_oss(config: Config) -> dict[str, Any]:
    found = {key: value for key, value in _local_experts(config).items() if not key.startswith("sliding")}
    return found | _listed_layers_slide(config, 2)


def _olmoe(config: Config) -> dict[str, Any]:
    experts = Experts(
        experts=config["num_experts"],
        experts_per_token=config["num_experts_per_tok"],
        intermediate_size=config["intermediate_size"],
    )
    return {"intermediate_size": 0, "moe": experts}


def _qwen2_moe(config: Config) -> dict[str, Any]:
    """One shared expert as wide as several routed ones."""
    found = _qwen3_moe(config)
    width, shared = config["moe_intermediate_size"], config["shared_expert_intermediate_size"]
    if shared % width:
        raise ScenarioError(
            f"qwen2_moe: shared_expert_intermediate_size: not modelled (got {shared}). expected a multiple of "
            f"moe_intermediate_size, {width}."
        )
    return found | {"moe": replace(found["moe"], shared_experts=shared // width)}


def _glm4_moe(config: Config) -> dict[str, Any]:
    experts = replace(_routed_experts(config), router_dtype="fp32")
    return {"intermediate_size": config["intermediate_size"], "moe": experts}


def _routed_experts(config: Config) -> Experts:
    """Return the experts of the configs that follow DeepSeek's."""
    if config.get("moe_layer_freq", 1) != 1:
        raise ScenarioError(f"moe_layer_freq: not modelled (got {config['moe_layer_freq']!r}). expected 1.")
    return Experts(
        experts=config["n_routed_experts"],
        experts_per_token=config["num_experts_per_tok"],
        intermediate_size=config["moe_intermediate_size"],
        shared_experts=config.get("n_shared_experts") or 0,
        dense_layers=config.get("first_k_dense_replace", 0),
    )


def _deepseek_v3(config: Config) -> dict[str, Any]:
    return {
        "intermediate_size": config["intermediate_size"],
        "kv_heads": 1,
        "head_dim": 0,
        "moe": _routed_experts(config),
        "mla": LatentAttention(
            q_lora_rank=config.get("q_lora_rank"),
            kv_lora_rank=config["kv_lora_rank"],
            qk_rope_head_dim=config["qk_rope_head_dim"],
            qk_nope_head_dim=config["qk_nope_head_dim"],
            v_head_dim=config["v_head_dim"],
        ),
    }


def _opt(config: Config) -> dict[str, Any]:
    if config.get("word_embed_proj_dim", config["hidden_size"]) != config["hidden_size"]:
        raise ScenarioError(
            f"opt: word_embed_proj_dim: not modelled (got {config['word_embed_proj_dim']!r}). "
            f"expected hidden_size, {config['hidden_size']}."
        )
    tied = config.get("tie_word_embeddings", True)
    return {"intermediate_size": config["ffn_dim"], "gated_mlp": False, "tied_embeddings": tied}


FAMILIES: dict[str, Callable[[Config], dict[str, Any]]] = {
    "llama": _dense,
    "mistral": _dense,
    "phi3": _dense,
    "granite": _dense,
    "glm": _dense,
    "glm4": _dense,
    "olmo": _dense,
    "olmo2": _dense,
    "olmo3": _olmo3,
    "stablelm": _dense,
    "smollm3": _dense,
    "seed_oss": _dense,
    "internlm2": _dense,
    "cohere": _gemma,
    "cohere2": _cohere2,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "qwen2": _qwen,
    "qwen3": _qwen,
    "qwen2_moe": _qwen2_moe,
    "qwen3_moe": _qwen3_moe,
    "mixtral": _local_experts,
    "granitemoe": _local_experts,
    "minimax_m2": _minimax_m2,
    "olmoe": _olmoe,
    "glm4_moe": _glm4_moe,
    "deepseek_v2": _deepseek_v3,
    "deepseek_v3": _deepseek_v3,
    "kimi_k2": _deepseek_v3,
    "gpt_oss": _gpt_oss,
    "gpt_neox": _ungated,
    "phi": _ungated,
    "starcoder2": _starcoder2,
    "falcon": _falcon,
    "bloom": _bloom,
    "opt": _opt,
}
"""``model_type`` to the function that reads what is particular to it."""
