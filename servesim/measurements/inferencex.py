"""How InferenceX's public harness started vLLM for each model and GPU, by the day of the measurement.

From the scripts of SemiAnalysisAI/InferenceX (``benchmarks/``, at the commits and pull requests named below) and its
``perf-changelog.yaml``. They changed over time; which of them served a point follows from its date. What a script does
not read was not done, whatever the point is labelled with: labels come from the harness' search space.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How one version of a script starts vLLM, where that differs from vLLM's defaults.

    Attributes
    ----------
    since
        First day of measurement, ``YYYY-MM-DD``; empty: from the beginning, and of points without a date.
    settings
        Of the engine, by their keys in a scenario.
    kv_dtype
        Number format of the KV cache.
    engine_version
        Version of the image, for points that do not tell.
    as_many_sequences
        Whether ``max_num_seqs`` is the concurrency.
    prompts_in_step
        How many prompts of the nominal length ``max_num_batched_tokens`` is; None: it is not set.
    experts
        When whole experts are spread over the GPUs: always, never, or where the point is labelled so.
    groups
        Whether the script reads the label of data-parallel attention: as many groups of one GPU then.
    """

    since: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    kv_dtype: str | None = None
    engine_version: str | None = None
    as_many_sequences: bool = False
    prompts_in_step: int | None = None
    experts: Literal["always", "never", "labelled"] = "labelled"
    groups: bool = False

    def engine(self, *, concurrency: int, prompt_tokens: int) -> dict[str, Any]:
        """Return the engine's settings for a load of *concurrency* and prompts of *prompt_tokens*."""
        settings = dict(self.settings)
        if self.as_many_sequences:
            settings["max_num_seqs"] = concurrency
        if self.prompts_in_step is not None:
            settings["max_num_batched_tokens"] = self.prompts_in_step * prompt_tokens
        return settings

    def parallelism(self, *, gpus: int, data: int, experts: int) -> tuple[int, int, int]:
        """Return tensor, data and expert parallelism on *gpus*, for a point with labels *data* and *experts*."""
        if self.groups and data > 1:
            return 1, gpus, gpus
        spread = self.experts == "always" or (self.experts == "labelled" and experts > 1)
        return gpus, 1, gpus if spread else 1


_ASYNC = {"async_scheduling": True}
_GRAPHS = {"graph_tokens_max": 2048}
_ROUNDED = {"float32_matmul_precision": "high"}

_LLAMA_H200 = Recipe(engine_version="0.10.2", kv_dtype="fp8", as_many_sequences=True, settings=_ASYNC)
_LLAMA_B200 = Recipe(
    engine_version="0.10.2", kv_dtype="fp8", settings={"max_num_seqs": 512, "prompt_graphs": False} | _ASYNC
)
"""``benchmarks/70b_fp8_b200_docker.sh`` and its siblings at bb4c7f9 (``FULL_DECODE_ONLY``) and 409e9a4; image as in
``70b-tmpl.yml``."""

_GPT_OSS_H200 = (
    Recipe(
        engine_version="0.11.0",
        as_many_sequences=True,
        settings={"moe_backend": "marlin"} | _GRAPHS | _ASYNC,
    ),
)
_GPT_OSS_B200 = (
    Recipe(engine_version="0.11.0", settings={"max_num_seqs": 512} | _GRAPHS | _ASYNC),
    Recipe(since="2025-12-01", kv_dtype="fp8", settings={"max_num_seqs": 512} | _GRAPHS | _ASYNC),
)
"""Pull requests 159 (vLLM 0.11.0), 273 (KV cache in fp8, vLLM 0.11.2), 789 (0.15.1)."""

_MINIMAX_B200_FP8 = (
    Recipe(settings={"gpu_memory_utilization": 0.95}, experts="always"),
    Recipe(since="2026-04-03", kv_dtype="fp8", settings=_GRAPHS, prompts_in_step=2),
    Recipe(since="2026-04-18", kv_dtype="fp8", settings=_GRAPHS | _ROUNDED, prompts_in_step=2),
)
"""``minimaxm2.5_fp8_b200.sh``. At 13453b4 and 07e171a experts are always spread (``EP_SIZE -ge 1``); pull request 947
of 2026-04-03 corrects that, and its script does not know of data parallelism: points so labelled, and those with
expert parallelism alone, are the same within 2 % in TPOT. 1068 (between 2026-04-17 and 22) rounds the router."""

_MINIMAX_B200_NVFP4 = (
    Recipe(kv_dtype="fp8", as_many_sequences=True),
    Recipe(since="2026-04-08", kv_dtype="fp8", settings=_GRAPHS, prompts_in_step=2, groups=True),
    Recipe(since="2026-04-18", kv_dtype="fp8", settings=_GRAPHS | _ROUNDED, prompts_in_step=2, groups=True),
)
"""``minimaxm2.5_fp4_b200.sh`` at 56245be, at a52c31a (pull request 996), and with 1069."""

_MINIMAX_H200_FP8 = (
    Recipe(settings={"gpu_memory_utilization": 0.95}),
    Recipe(since="2026-03-27", settings={"gpu_memory_utilization": 0.95}, experts="always"),
)
"""``minimaxm2.5_fp8_h200.sh`` at 1c3aa8b, and a later one (``EP_SIZE -ge 1``). On eight GPUs it must be: an expert's
1,536 columns cannot be split in eight, because its scales belong to blocks of 128."""

_KIMI_B200_NVFP4 = (
    Recipe(kv_dtype="fp8", as_many_sequences=True, experts="never"),
    Recipe(
        since="2026-04-18",
        kv_dtype="fp8",
        as_many_sequences=True,
        settings=_GRAPHS,
        prompts_in_step=2,
        experts="never",
    ),
)
"""``kimik2.5_fp4_b200.sh`` at 04107b3 and after pull request 1047: both read no label but the number of GPUs. Points
labelled tensor 4 alone, expert 4, and data 4 with expert 16 are the same within their noise."""

RECIPES: dict[tuple[str, str, str], tuple[Recipe, ...]] = {
    ("gpt-oss-120b", "b200_sxm", "fp4"): _GPT_OSS_B200,
    ("gpt-oss-120b", "h200_sxm", "fp4"): _GPT_OSS_H200,
    ("Llama-3.1-70B", "b200_sxm", "fp8"): (_LLAMA_B200,),
    ("Llama-3.1-70B", "b200_sxm", "fp4"): (_LLAMA_B200,),
    ("Llama-3.1-70B", "h200_sxm", "fp8"): (_LLAMA_H200,),
    ("MiniMax-M2.5", "b200_sxm", "fp8"): _MINIMAX_B200_FP8,
    ("MiniMax-M2.5", "h200_sxm", "fp8"): _MINIMAX_H200_FP8,
    ("MiniMax-M2.5", "b200_sxm", "fp4"): _MINIMAX_B200_NVFP4,
    ("Kimi-K2.5", "b200_sxm", "int4"): (Recipe(settings={"gpu_memory_utilization": 0.95}),),
    ("Kimi-K2.5", "h200_sxm", "int4"): (
        Recipe(as_many_sequences=True, settings={"gpu_memory_utilization": 0.95}),
    ),
    ("Kimi-K2.5", "b200_sxm", "fp4"): _KIMI_B200_NVFP4,
}
"""Versions of the script of each model, GPU and format, oldest first."""


def recipe(model: str, gpu: str, precision: str, measured_on: str | None) -> Recipe | None:
    """Return how *model* was served on a day, by its name without its publisher; None: by no known script.

    Examples
    --------
    >>> recipe("MiniMax-M2.5", "b200_sxm", "fp8", "2026-03-11").experts
    'always'
    """
    versions = RECIPES.get((model, gpu, precision), ())
    return next((each for each in reversed(versions) if each.since <= (measured_on or "")), None)
