"""Checks between keys, and against the catalog: what single fields cannot know.

Each function raises `Problems` with paths relative to the section it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from servesim import catalog
from servesim.catalog.memory import check_parallelism
from servesim.catalog.speculative import MTP_MODELS, measured_acceptance
from servesim.errors import ScenarioError, nearest
from servesim.scenario.problems import Path, Problem, Problems
from servesim.workload.ending import NOTHING_ENDS_IT, endless_generators

if TYPE_CHECKING:
    from servesim.scenario.schema import ClusterSpec, EngineSpec, PoolSpec, RunSpec, Scenario, SpeculativeSpec
    from servesim.workload.spec import TransformSpec, WorkloadSpec


def check_engine(engine: EngineSpec) -> None:
    """Check the settings of an engine against each other, and refuse what is not yet simulated."""
    problems = []
    if engine.max_num_seqs > engine.max_num_batched_tokens:
        problems.append(
            Problem(
                ("max_num_seqs",),
                f"more sequences than tokens in a step (got {engine.max_num_seqs}). "
                f"expected at most max_num_batched_tokens, {engine.max_num_batched_tokens}.",
                "every sequence of a batch computes at least one token per step",
            )
        )
    elif (
        engine.speculative
        and engine.max_num_seqs * engine.speculative.step_tokens > engine.max_num_batched_tokens
    ):
        problems.append(
            Problem(
                ("max_num_seqs",),
                f"more drafted tokens than fit a step (got {engine.max_num_seqs} sequences of "
                f"{engine.speculative.step_tokens} tokens). expected at most max_num_batched_tokens, "
                f"{engine.max_num_batched_tokens}.",
                "a step verifies 1 + draft_tokens tokens of every sequence",
            )
        )
    if engine.prefill_only_steps and engine.chunked_prefill:
        problems.append(
            Problem(
                ("prefill_only_steps",),
                "steps that carry prompts alone cannot carry chunks of them (got True). "
                "expected chunked_prefill: false beside it.",
            )
        )
    if engine.prefix_caching:
        problems.append(Problem(("prefix_caching",), "not yet supported (got True). expected false."))
    if engine.preemption == "swap":
        problems.append(Problem(("preemption",), "not yet supported (got 'swap'). expected 'recompute'."))
    _raise(problems)


def check_speculation(spec: SpeculativeSpec) -> None:
    """Check that it is said once how much is accepted, and what drafts."""
    given = [
        key
        for key in ("acceptance", "acceptance_length", "acceptance_ratio")
        if getattr(spec, key) is not None
    ]
    if len(given) != 1:
        got = " and ".join(given) or "none"
        expected = "acceptance, acceptance_length or acceptance_ratio"
        _raise([Problem((), f"one key says how much is accepted (got {got}). expected {expected}.")])
    most = spec.step_tokens
    if spec.acceptance_length is not None and spec.acceptance_length > most:
        got = f"more tokens than a step verifies (got {spec.acceptance_length!r})"
        _raise([Problem(("acceptance_length",), f"{got}. expected at most 1 + draft_tokens, {most}.")])
    if spec.acceptance is not None:
        _check_measured(spec, spec.acceptance)
    if (spec.method == "draft_model") != (spec.draft_model is not None):
        got = f"got {spec.draft_model!r} with method: {spec.method}"
        _raise(
            [Problem(("draft_model",), f"the model of method: draft_model ({got}). expected both or none.")]
        )
    if spec.draft_model is not None:
        try:
            catalog.model(spec.draft_model)
        except ScenarioError as error:
            raise Problems([_from_catalog(error, "model", ("draft_model",))]) from error


def _check_measured(spec: SpeculativeSpec, name: str) -> None:
    try:
        measured = measured_acceptance(name)
    except ScenarioError as error:
        raise Problems([_from_catalog(error, "acceptance")]) from error
    if measured.method != spec.method:
        got = f"measured with method: {measured.method} (got method: {spec.method})"
        _raise([Problem(("acceptance",), f"{got}. expected one of that method, or acceptance_length.")])
    if spec.draft_tokens > len(measured.lengths):
        got = f"more than were measured (got {spec.draft_tokens})"
        _raise([Problem(("draft_tokens",), f"{got}. expected at most {len(measured.lengths)} with {name}.")])


def _speculation_problems(pool: PoolSpec) -> list[Problem]:
    """Return what speaks against the speculation of a pool: its model, its parallelism, its latency model."""
    spec = pool.engine.speculative
    if spec is None:
        return []
    path = ("engine", "speculative", "method")
    if spec.method == "mtp" and pool.model not in MTP_MODELS:
        return [
            Problem(
                path,
                f"{pool.model} is not known to have layers that predict further tokens (got 'mtp'). "
                f"expected one of {', '.join(MTP_MODELS)}, or another method.",
                "method: eagle takes as long: a layer of the model's shape drafts",
            )
        ]
    if pool.pipeline_parallel > 1:
        got = f"not with a pipeline (got pipeline_parallel {pool.pipeline_parallel})"
        return [Problem(path, f"{got}. expected pipeline_parallel: 1.")]
    if pool.data_parallel > 1:
        got = f"not with data-parallel groups (got data_parallel {pool.data_parallel})"
        return [Problem(path, f"{got}. expected data_parallel: 1.")]
    return []


def draft_of(engine: EngineSpec) -> catalog.ModelArchitecture | None:
    """Return the model that drafts, or None."""
    spec = engine.speculative
    return catalog.model(spec.draft_model) if spec is not None and spec.draft_model is not None else None


def check_gpu(name: str) -> None:
    """Check that the catalog has the GPU called *name*."""
    try:
        catalog.gpu(name)
    except ScenarioError as error:
        raise Problems([_from_catalog(error, "gpu", ())]) from error


def check_engine_version(name: str) -> None:
    """Check that the catalog has the engine version called *name*."""
    try:
        catalog.engine_version(name)
    except ScenarioError as error:
        raise Problems([_from_catalog(error, "engine version", ())]) from error


def check_model(name: str) -> None:
    """Check that the catalog has the model called *name*, or that it is the path of a readable config."""
    try:
        catalog.model(name)
    except ScenarioError as error:
        raise Problems([_from_catalog(error, "model", ())]) from error


def check_pool(pool: PoolSpec) -> None:
    """Check the number formats of a pool, and that its model fits its GPUs."""
    key = "dtype"
    try:
        catalog.model(pool.model, dtype=pool.dtype)
        key = "kv_dtype"
        model = catalog.model(pool.model, dtype=pool.dtype, kv_dtype=pool.kv_dtype)
    except ScenarioError as error:
        raise Problems([_from_catalog(error, key)]) from error
    _raise(_speculation_problems(pool))
    _raise(_length_problems(pool.engine, model.context_tokens) + _memory_problems(pool, model))


def _length_problems(engine: EngineSpec, context_tokens: int) -> list[Problem]:
    if engine.max_model_len is not None and engine.max_model_len > context_tokens:
        got = f"longer than the model allows (got {engine.max_model_len})"
        return [Problem(("engine", "max_model_len"), f"{got}. expected at most {context_tokens} tokens.")]
    longest = engine.max_model_len or context_tokens
    if not engine.chunked_prefill and engine.max_num_batched_tokens < longest:
        return [
            Problem(
                ("engine", "max_num_batched_tokens"),
                f"too small for whole prompts (got {engine.max_num_batched_tokens}). "
                f"expected at least the longest sequence, {longest} tokens, with chunked_prefill: false.",
                "set engine.max_model_len to the longest sequence that you need",
            )
        ]
    return []


def _memory_problems(pool: PoolSpec, model: catalog.ModelArchitecture) -> list[Problem]:
    try:
        check_parallelism(model, pool.parallelism)
    except ScenarioError as error:
        return [_from_catalog(error, str(error.args[0]).partition(":")[0])]
    # Who gives the size of the cache takes the answer for its memory; the weights have to fit all the same.
    block_tokens = pool.engine.kv_block_tokens if pool.engine.kv_blocks is None else 1
    try:
        catalog.kv_cache_blocks(
            model,
            catalog.gpu(pool.gpu),
            parallelism=pool.parallelism,
            gpu_memory_utilization=pool.engine.gpu_memory_utilization,
            kv_block_tokens=block_tokens,
            max_num_batched_tokens=pool.engine.max_num_batched_tokens,
            max_num_seqs=pool.engine.max_num_seqs,
            draft=draft_of(pool.engine),
        )
    except ScenarioError as error:
        return [_from_catalog(error, "model")]
    return []


def _from_catalog(error: ScenarioError, key: str, path: Path | None = None) -> Problem:
    """Return a problem of *key* in the catalog's words, less the place that they begin with."""
    message = str(error.args[0])
    where, separator, rest = message.partition(f"{key}: ")
    told = rest if separator and len(where) < 40 else message  # "model llama-2-7b: dtype: unknown ..."
    return Problem((key,) if path is None else path, told, error.hint)


def check_pools(cluster: ClusterSpec) -> None:
    """Check that there is a pool, and that no two have the same name."""
    if not cluster.pools:
        _raise([Problem(("pools",), "no pool (got an empty list). expected at least one.")])
    first: dict[str, int] = {}
    problems = []
    for index, pool in enumerate(cluster.pools):
        if first.setdefault(pool.name, index) != index:
            got = f"the name of pools.{first[pool.name]} too (got {pool.name!r})"
            problems.append(Problem(("pools", index, "name"), f"{got}. expected distinct names."))
    _raise(problems)


def check_run(run: RunSpec) -> None:
    """Check that the warm-up ends before the run does."""
    if run.horizon_s is not None and run.warm_up_s >= run.horizon_s:
        got = f"no arrival would count (got {run.warm_up_s!r})"
        _raise([Problem(("warm_up_s",), f"{got}. expected less than horizon_s, {run.horizon_s!r}.")])


def check_ends(workload: WorkloadSpec) -> None:
    """Check that something ends every generator of the workload; paths start from it."""
    _raise([Problem(path, f"{NOTHING_ENDS_IT}.", at_key=True) for path in endless_generators(workload)])


def check_models_served(scenario: Scenario) -> None:
    """Check that a pool serves every model that the workload's keys name."""
    served = list(dict.fromkeys(pool.model for pool in scenario.cluster.pools))
    _raise(
        [
            Problem(
                ("workload", *path),
                f"no pool serves this model (got {model!r}). expected one of {', '.join(served)}.",
                nearest(model, served),
            )
            for path, model in _models_named(scenario.workload)
            if model not in served
        ]
    )


def _models_named(workload: WorkloadSpec) -> list[tuple[Path, str]]:
    named: list[tuple[Path, str]] = []
    parts: list[tuple[Path, TransformSpec]] = [((), workload)]
    parts += [(("sources", index), part) for index, part in enumerate(workload.sources or [])]
    for prefix, part in parts:
        if workload.model is not None and prefix:
            continue  # the outer tag overrides what the parts say
        if part.model is not None:
            named.append(((*prefix, "model"), part.model))
        elif part.model_map is not None:
            named += [((*prefix, "model_map", tag), model) for tag, model in part.model_map.items()]
    return named


def _raise(problems: list[Problem]) -> None:
    if problems:
        raise Problems(problems)
