"""One evaluation of a fit: a measured run replayed, or the steps of a log priced, with given parameters.

These are what worker processes compute: plain functions of plain data.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from servesim.calibration.targets import SplitRun, simulated_values
from servesim.cluster.build import build_pool
from servesim.latency.api import BatchShape
from servesim.measurements import MeasuredRun
from servesim.measurements.step_log import Step, StepLog
from servesim.scenario import PoolSpec
from servesim.validation.replay import Replay, replay, scenario_of

STEP_NOISE = 0.05
"""By how much two steps of the same batch differ, as a ratio."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCase:
    """A run to replay, on *how*'s pool with *overrides*."""

    split: SplitRun
    how: Replay
    overrides: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCase:
    """Steps to price, on *how*'s pool with *overrides*."""

    log: StepLog
    how: Replay
    overrides: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was simulated: a value for each fitted row, for each judged one, and the largest batch."""

    rows: tuple[float, ...]
    judged: tuple[float, ...]
    batch_sequences: int


def evaluate(case: RunCase | StepCase) -> Outcome:
    """Return what *case* gives.

    Raises
    ------
    ServesimError
        If its scenario cannot be run.
    """
    return _evaluate_steps(case) if isinstance(case, StepCase) else _evaluate_run(case)


def _evaluate_run(case: RunCase) -> Outcome:
    split = case.split
    result = replay(split.run, _with(case.how, case.overrides))
    batch = result.segments.select((pl.col("sequences") + pl.col("prefill_sequences")).max()).item()
    return Outcome(
        rows=tuple(simulated_values(split.run, result, split.rows)),
        judged=tuple(simulated_values(split.run, result, split.judged)),
        batch_sequences=int(batch or 1),
    )


def _evaluate_steps(case: StepCase) -> Outcome:
    pool = build_pool(pool_of_steps(case.log, _with(case.how, case.overrides)))
    cache_tokens = pool.engine.kv_blocks * pool.engine.kv_block_tokens
    prices = tuple(
        pool.latency.price(BatchShape(step.sequences, _attended(step, cache_tokens), list(step.chunks)))[0]
        for step in case.log.steps
    )
    largest = max(step.sequences + len(step.chunks) for step in case.log.steps)
    return Outcome(rows=prices, judged=prices, batch_sequences=largest)


def _attended(step: Step, cache_tokens: int) -> int:
    if step.context_tokens is not None:
        return step.context_tokens
    if not step.sequences:
        return 0
    held = (step.kv_used_ratio or 0.0) * cache_tokens - sum(tokens for tokens, _ in step.chunks)
    return max(step.sequences, round(held))


def pool_of_steps(log: StepLog, how: Replay) -> PoolSpec:
    """Return the pool that the steps of *log* are priced on."""
    return pool_of_run(run_of_steps(log), how)


def pool_of_run(run: MeasuredRun, how: Replay) -> PoolSpec:
    """Return the pool that *run* is replayed on.

    Raises
    ------
    ScenarioError
        If the file does not tell it, nor *how*.
    """
    with tempfile.TemporaryDirectory() as folder:
        return scenario_of(run, how, Path(folder)).cluster.pools[0]


def run_of_steps(log: StepLog) -> MeasuredRun:
    """Return a run that stands for *log* where a deployment is asked for."""
    load = {"arrival_s": [0.0], "prompt_tokens": [1], "output_tokens": [1]}
    return MeasuredRun(
        name=log.name,
        source=log.source,
        deployment=log.deployment,
        requests=pl.DataFrame(load),
        metrics={},
    )


def _with(how: Replay, overrides: Sequence[str]) -> Replay:
    return Replay(scenario=how.scenario, overrides=(*how.overrides, *overrides))
