"""One calibration is of one pool: what was measured with another GPU, model or engine is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from servesim.errors import ScenarioError
from servesim.measurements import MeasuredRun
from servesim.scenario import PoolSpec
from servesim.validation.deployment import pool_of

_KEYS = ("model", "gpu", "tensor_parallel", "dtype")


def check_same_pool(runs: Sequence[MeasuredRun], pools: Sequence[PoolSpec]) -> None:
    """Refuse runs whose pools differ, or whose files name another pool than they are replayed on.

    Raises
    ------
    ScenarioError
        It names the run and the difference.
    """
    for run, pool in zip(runs, pools, strict=True):
        for key, ours, theirs in _differences(pools[0], pool):
            raise ScenarioError(
                f"{run.source}: {run.name}: another {key} than {runs[0].name} (got {theirs}). expected {ours}: one "
                "calibration is of one pool",
                hint="choose runs with --only PATTERN",
            )
        measured = pool_of(run.deployment)
        for key in _KEYS[:3]:
            told = measured.get(key) if _names(run, key) else None
            if told is not None and told != getattr(pool, key):
                raise ScenarioError(
                    f"{run.source}: {run.name}: measured with another {key} (got {told}). "
                    f"expected {getattr(pool, key)}, the pool's"
                )


def _names(run: MeasuredRun, key: str) -> bool:
    """Return whether the file of *run* tells *key*; one GPU per layer is what is taken where nothing is told."""
    return key != "tensor_parallel" or run.deployment.gpu is not None


def _differences(first: PoolSpec, other: PoolSpec) -> list[tuple[str, Any, Any]]:
    compared = [(key, getattr(first, key), getattr(other, key)) for key in _KEYS]
    compared.append(("engine", first.engine.version, other.engine.version))
    compared.append(("latency model", first.latency.name, other.latency.name))
    return [item for item in compared if item[1] != item[2]]
