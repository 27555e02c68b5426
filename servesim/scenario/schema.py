"""The scenario: every key of the YAML file, with its meaning, unit, default and limits.

The ``workload:`` block is declared in `servesim.workload.spec`. Reading files, overrides and messages with
line numbers are in `servesim.scenario.load`; a scenario can as well be made in Python from keywords or a
dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from servesim.catalog import NO_FRONT_END, Parallelism
from servesim.registry import ComponentSpec
from servesim.scenario.calibration import calibrated
from servesim.scenario.checks import (
    check_engine,
    check_engine_version,
    check_gpu,
    check_model,
    check_models_served,
    check_pool,
    check_pools,
    check_run,
    check_speculation,
)
from servesim.scenario.components import path_context, path_text, resolve_component, resolve_workload
from servesim.scenario.problems import shown
from servesim.scenario.slots import SLOTS
from servesim.workload.spec import WorkloadSpec


class _Section(BaseModel):
    """A block of the scenario: immutable, no unknown keys, no silent conversion between types."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True
    )


class HostSpec(_Section):
    """What the host takes for an engine step, besides the GPU; null: what the engine's version takes."""

    launch_s: float | None = Field(
        default=None,
        ge=0,
        description="Time of every step that is never hidden: inputs, kernel starts, copies.",
    )
    launch_per_sequence_s: float | None = Field(
        default=None, ge=0, description="What each sequence in the step adds to that."
    )
    schedule_s: float | None = Field(
        default=None, ge=0, description="Time of every step that async_scheduling hides behind the GPU."
    )
    schedule_per_sequence_s: float | None = Field(
        default=None, ge=0, description="What each sequence in the step adds to that."
    )
    eager_kernel_s: float | None = Field(
        default=None,
        ge=0,
        description="Time to start one kernel of a step with more tokens than the largest CUDA graph, but for those of "
        "routed experts.",
    )
    eager_experts_s: float | None = Field(
        default=None, ge=0, description="Time to start the routed experts of one layer in such a step."
    )


class FrontEndSpec(_Section):
    """What stands before and behind the engine of each replica: HTTP, tokenization, streaming; null: as its version.

    A request waits for one of the workers, first come, first served, then joins the engine's queue.
    """

    workers: int | None = Field(default=None, ge=1, description="Requests that it works on at once.")
    request_s: float | None = Field(
        default=None, ge=0, description="Time of a worker for each request, before the engine sees it."
    )
    prompt_token_s: float | None = Field(
        default=None, ge=0, description="What each token of the prompt adds to that."
    )
    stream_s: float | None = Field(
        default=None, ge=0, description="Time that each token takes from the engine to the client."
    )


class SpeculativeSpec(_Section):
    """Speculative decoding: what drafts tokens, how many, and how many of them are accepted."""

    method: Literal["mtp", "eagle", "eagle3", "draft_model", "ngram"] = Field(
        description="What drafts. mtp: the model's own layer for further tokens; eagle, eagle3: a trained layer; "
        "draft_model: a smaller model; ngram: a look-up on the host."
    )
    draft_tokens: int = Field(ge=1, le=64, description="Tokens drafted for each sequence in each step.")
    acceptance: str | None = Field(
        default=None, description="Name of measured acceptance lengths in the catalog; one of three keys."
    )
    acceptance_length: float | None = Field(
        default=None,
        ge=1,
        allow_inf_nan=False,
        description="Mean number of tokens that a step emits for a sequence, from 1 to 1 + draft_tokens; one of three "
        "keys.",
    )
    acceptance_ratio: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Probability that a drafted token is accepted, given that all before it were; one of three keys.",
    )
    draft_model: str | None = Field(
        default=None, description="Catalog name of the smaller model, with method: draft_model."
    )

    @property
    def step_tokens(self) -> int:
        """Tokens that a step computes for every decoding sequence."""
        return 1 + self.draft_tokens

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        check_speculation(self)
        return self


class EngineSpec(_Section):
    """Settings of the inference engine on every replica of a pool, named as vLLM names them where it does."""

    version: str = Field(
        default="vllm-0.19",
        description="Engine and version, from the catalog: its defaults, and what its host takes.",
    )
    host: HostSpec = Field(
        default_factory=HostSpec, description="What its host takes, where you know better."
    )
    front_end: FrontEndSpec = Field(
        default_factory=FrontEndSpec,
        description="What stands before and behind it; none: nothing that takes time, as with latency models of "
        "whole steps.",
    )
    max_num_seqs: int = Field(default=256, ge=1, description="Most sequences in one step's batch.")
    max_num_batched_tokens: int = Field(
        default=2048,
        ge=1,
        description="Most tokens that one step computes, decodes and prompt chunks together.",
    )
    kv_block_tokens: int = Field(default=16, ge=1, description="Tokens that one block of the KV cache holds.")
    gpu_memory_utilization: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Share of GPU memory that weights, activations and KV cache may take, 0-1.",
    )
    chunked_prefill: bool = Field(
        default=True, description="Whether a prompt may be computed in chunks over several steps."
    )
    prefix_caching: bool = Field(
        default=False,
        description="Whether prompts share KV blocks of equal prefixes. Not yet: must be false.",
    )
    leap: bool = Field(
        default=True,
        description="Whether runs of identical steps are simulated at once. false simulates step by step: "
        "same results, slower, for checking.",
    )
    step_noise_cv: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Coefficient of variation of a random factor, lognormal of mean 1, on the times of each run of "
        "identical steps, 0.05 being 5 %; 0: none (docs/model/step-noise.md).",
    )
    speculative: SpeculativeSpec | None = Field(
        default=None, description="Speculative decoding; null: none (docs/model/speculative-decoding.md)."
    )
    max_model_len: int | None = Field(
        default=None,
        ge=1,
        description="Longest sequence, prompt and output, in tokens; null: the model's own limit.",
    )
    kv_blocks: int | None = Field(
        default=None,
        ge=1,
        description="Blocks in the KV cache of one replica; null: computed from GPU memory. What vLLM calls "
        "num_gpu_blocks_override.",
    )
    kv_watermark_ratio: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the KV blocks that admitting a request must leave free while others run, 0-1: the "
        "watermark of vLLM's V0 engine, 0.01 there.",
    )
    async_scheduling: bool | None = Field(
        default=None,
        description="Whether the host prepares the next step while the GPU computes this one; null: as the "
        "engine's version does by default (vLLM: since 0.14).",
    )
    graph_tokens_max: int | None = Field(
        default=None,
        ge=0,
        description="Most tokens of a step that runs as a CUDA graph, what vLLM calls max_cudagraph_capture_size; "
        "null: what the engine's version captures, at most twice max_num_seqs.",
    )
    prompt_graphs: bool | None = Field(
        default=None,
        description="Whether steps that hold prompts run as CUDA graphs, too; false: those of decodes alone, what vLLM "
        "calls cudagraph_mode: FULL_DECODE_ONLY; null: as the engine's version does.",
    )
    float32_matmul_precision: Literal["highest", "high"] = Field(
        default="highest",
        description="How matrices of 32 bits are multiplied, which routers of some models are: highest, or high, as "
        "tensor cores round them. What vLLM calls VLLM_FLOAT32_MATMUL_PRECISION.",
    )
    moe_backend: Literal["auto", "marlin"] = Field(
        default="auto",
        description="Kernels of routed experts, where their times are not those of a measured model. auto: what a "
        "recent vLLM takes by itself. marlin: those that unpack four-bit weights to 16 bits, for mxfp4 too.",
    )
    encoder_s_per_token: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Time that the encoder takes for each token of an image or of audio, added to the step that "
        "begins with its prompt; null: computed for an image encoder of 0.67e9 parameters "
        "(docs/model/latency.md).",
    )
    prefill_only_steps: bool = Field(
        default=False,
        description="Whether a step carries either prompts or decodes, never both, as vLLM's V0 engine did; "
        "needs "
        "chunked_prefill: false.",
    )
    preemption: Literal["recompute", "swap"] = Field(
        default="recompute",
        description="What happens to a preempted request's KV cache. recompute: dropped and computed again. "
        "swap: not "
        "yet.",
    )

    @field_validator("front_end", mode="before")
    @classmethod
    def _may_be_none(cls, value: Any) -> Any:
        if value == "none":
            return asdict(NO_FRONT_END)
        if not isinstance(value, Mapping | FrontEndSpec):
            keys = ", ".join(FrontEndSpec.model_fields)
            raise ValueError(f"unknown value (got {shown(value)}). expected none, or the keys {keys}.")
        return value

    @field_validator("version", mode="after")
    @classmethod
    def _is_known_version(cls, value: str) -> str:
        check_engine_version(value)
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        check_engine(self)
        return self


class PoolSpec(_Section):
    """A group of identical replicas that serve one model."""

    name: str = Field(
        default="main",
        pattern=r"^[A-Za-z][A-Za-z0-9_-]*$",
        description="Name of the pool in results and overrides: a letter, then letters, digits, - and _.",
    )
    model: str = Field(description="A catalog name, or the path of a Hugging Face config.json or its folder.")
    gpu: str = Field(description="A catalog name such as h100-sxm.")
    replicas: int = Field(default=1, ge=1, description="Number of replicas.")
    tensor_parallel: int = Field(
        default=1, ge=1, description="GPUs that each replica's weights are split over."
    )
    data_parallel: int = Field(
        default=1,
        ge=1,
        description="Groups of tensor_parallel GPUs in a replica, each with all the attention and its share of the "
        "sequences; experts are split over all groups. Limits of the engine are those of one group.",
    )
    pipeline_parallel: int = Field(
        default=1, ge=1, description="Stages that each replica's layers are split into."
    )
    expert_parallel: bool = Field(
        default=False, description="Whether GPUs hold whole experts; false: a slice of each."
    )
    dtype: str | None = Field(
        default=None,
        description="Number format of the weights, such as bf16 or fp8; null: as the model is published.",
    )
    kv_dtype: str | None = Field(
        default=None, description="Number format of the KV cache; null: 16 bits, as engines choose."
    )
    engine: EngineSpec = Field(default_factory=EngineSpec, description="Settings of the engine.")
    latency: ComponentSpec = Field(
        default=ComponentSpec(name="roofline"),
        description="Latency model: how long a step takes. {calibration: FILE} takes that of a calibration.",
    )
    calibration: Path | None = Field(
        default=None,
        strict=False,
        description="File of servesim calibrate that gives what latency and engine.host leave open; null: none. "
        "latency: {calibration: FILE} is the same.",
    )

    @model_validator(mode="before")
    @classmethod
    def _take_calibration(cls, value: Any, info: ValidationInfo) -> Any:
        return calibrated(value, Path(path_context(info)["base_dir"]))

    @property
    def parallelism(self) -> Parallelism:
        """All degrees of parallelism of a replica."""
        return Parallelism(
            tensor=self.tensor_parallel,
            data=self.data_parallel,
            pipeline=self.pipeline_parallel,
            expert=self.expert_parallel,
        )

    @field_validator("model", mode="after")
    @classmethod
    def _resolve_model(cls, value: str, info: ValidationInfo) -> str:
        if value.endswith(".json") or "/" in value or "\\" in value:
            value = path_text(Path(path_context(info)["base_dir"]) / value)
        check_model(value)
        return value

    @field_validator("gpu", mode="after")
    @classmethod
    def _is_known_gpu(cls, value: str) -> str:
        check_gpu(value)
        return value

    @field_validator("latency", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("latency", mode="after")
    @classmethod
    def _resolve_latency(cls, value: ComponentSpec, info: ValidationInfo) -> ComponentSpec:
        return resolve_component(value, SLOTS["PoolSpec", "latency"], info)

    @model_validator(mode="after")
    def _can_run(self) -> Self:
        check_pool(self)
        return self


class ClusterSpec(_Section):
    """The replicas that serve requests."""

    # A list in the file; a tuple here, because a scenario never changes.
    pools: Annotated[tuple[PoolSpec, ...], Field(strict=False)] = Field(
        description="Pools of replicas; requests go to those whose model serves them."
    )

    @model_validator(mode="after")
    def _has_distinct_pools(self) -> Self:
        check_pools(self)
        return self


class PoliciesSpec(_Section):
    """The decisions that a cluster leaves to plugins."""

    router: ComponentSpec = Field(
        default=ComponentSpec(name="round_robin"), description="Which replica serves an arriving request."
    )
    scheduler: ComponentSpec = Field(
        default=ComponentSpec(name="fcfs"), description="In which order a replica admits waiting requests."
    )

    @field_validator("router", "scheduler", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("router", mode="after")
    @classmethod
    def _resolve_router(cls, value: ComponentSpec, info: ValidationInfo) -> ComponentSpec:
        return resolve_component(value, SLOTS["PoliciesSpec", "router"], info)

    @field_validator("scheduler", mode="after")
    @classmethod
    def _resolve_scheduler(cls, value: ComponentSpec, info: ValidationInfo) -> ComponentSpec:
        return resolve_component(value, SLOTS["PoliciesSpec", "scheduler"], info)


class RunSpec(_Section):
    """When a run begins to count, and when it ends."""

    horizon_s: float | None = Field(
        default=None,
        gt=0,
        description="Requests that arrive at or after this time in s are left out; null: all arrive.",
    )
    warm_up_s: float = Field(
        default=0.0,
        ge=0,
        description="Requests that arrive before this time in s are simulated but left out of latency "
        "statistics.",
    )
    drain: bool = Field(
        default=True,
        description="Whether the run goes on until every request is finished. false: it ends at horizon_s "
        "(null: at "
        "the last arrival), and what is left counts as unfinished.",
    )
    sample_interval_s: float | None = Field(
        default=None,
        ge=1e-3,
        description="Time in s between two rows of a replica's time series, at least 0.001; null: 1 s, doubled "
        "as the run goes on, so that a replica of a long run has between 128 and 256 rows, fewer with many "
        "replicas.",
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        check_run(self)
        return self


class SloTargets(_Section):
    """Latencies that a request must not exceed to count as served well; null: no such target."""

    ttft_s: float | None = Field(
        default=None, gt=0, description="Most time in s from arrival to first token."
    )
    tpot_s: float | None = Field(
        default=None, gt=0, description="Most time in s per output token after the first."
    )
    e2e_s: float | None = Field(default=None, gt=0, description="Most time in s from arrival to last token.")


class SloSpec(SloTargets):
    """Service-level objectives: one set of targets for all requests, others for classes that are named."""

    classes: dict[str, SloTargets] = Field(
        default_factory=dict,
        description="SLO class to its targets, which replace those of all other requests. A source's "
        "slo_class tag "
        "puts its requests into a class.",
    )

    def targets(self, slo_class: str | None) -> SloTargets:
        """Return the targets of the requests of *slo_class*, None meaning those without a class."""
        return self.classes.get(slo_class, self) if slo_class is not None else self


class CostSpec(_Section):
    """What the cluster costs."""

    gpu_usd_per_h: float | None = Field(
        default=None,
        ge=0,
        description="Price of one GPU in USD per hour; null: the catalog's list price, quoted with its "
        "source.",
    )


class Scenario(_Section):
    """Everything that a run depends on, besides the version of servesim.

    Components and paths are resolved when a scenario is made: every parameter of a reader, generator, latency
    model or policy is checked against its class and written out, and relative paths start from the folder of
    the file (from the working directory for a scenario made in Python).

    Examples
    --------
    >>> scenario = Scenario.model_validate({
    ...     "workload": {"generator": {"name": "poisson", "rate_per_s": 2.0, "requests": 100,
    ...         "prompt_tokens": {"distribution": "constant", "value": 512},
    ...         "output_tokens": {"distribution": "constant", "value": 64}}},
    ...     "cluster": {"pools": [{"name": "main", "model": "llama-3.1-8b", "gpu": "h100-sxm"}]},
    ... })
    >>> scenario.policies.router.name
    'round_robin'
    """

    name: str = Field(default="scenario", min_length=1, description="Name of the scenario in results.")
    seed: int = Field(default=0, ge=0, description="Seed of every random number of the run.")
    workload: WorkloadSpec = Field(description="Where requests come from, and what is done to them.")
    cluster: ClusterSpec = Field(description="The replicas that serve them.")
    policies: PoliciesSpec = Field(default_factory=PoliciesSpec, description="The decisions left to plugins.")
    run: RunSpec = Field(
        default_factory=RunSpec, description="When the run begins to count, and when it ends."
    )
    slo: SloSpec = Field(default_factory=SloSpec, description="Service-level objectives.")
    cost: CostSpec = Field(default_factory=CostSpec, description="What the cluster costs.")

    @field_validator("workload", mode="wrap")
    @classmethod
    def _resolve_workload(
        cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> WorkloadSpec:
        return resolve_workload(value, handler, info)

    @model_validator(mode="after")
    def _serves_every_model(self) -> Self:
        check_models_served(self)
        return self

    def to_yaml(self) -> str:
        """Return the scenario as YAML with every default written out; it loads as an equal scenario."""
        from servesim.scenario.saved import scenario_yaml

        return scenario_yaml(self)
