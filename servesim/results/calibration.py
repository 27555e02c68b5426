"""What a result says of the calibrations that its pools took: their errors, and whether the run left their range."""

from __future__ import annotations

from typing import Any

import polars as pl

from servesim.results.error_bands import NOT_VALIDATED, parameters_of
from servesim.results.run_result import RunResult
from servesim.scenario import PoolSpec, Scenario
from servesim.scenario.calibration import Calibration, read_calibration

TOLERANCE = 1.1
"""A run may hold so much more than what was fitted before it counts as outside."""

BASIS = "calibration"


def calibrated_error(pool: PoolSpec) -> dict[str, Any] | str:
    """Return the expected error of a pool that took a calibration, from what was held out of it.

    Returns
    -------
    dict or str
        ``basis``, ``file``, and ``metrics``: of each the mean magnitude of the relative error and the ``rows`` that it
        is the mean of. `NOT_VALIDATED` if the pool's model or values are others than those that were fitted, or
        nothing was held out.
    """
    assert pool.calibration is not None
    calibration = read_calibration(pool.calibration)
    if not is_as_fitted(pool, calibration) or not calibration.errors_held_out:
        return NOT_VALIDATED
    return {
        "basis": BASIS,
        "file": pool.calibration.name,
        "metrics": {
            name: {"mean": error.after, "rows": error.rows}
            for name, error in calibration.errors_held_out.items()
        },
    }


def is_as_fitted(pool: PoolSpec, calibration: Calibration) -> bool:
    """Return whether *pool* serves the model that was measured, with the values that were fitted."""
    measured = calibration.measured
    served = (pool.model, pool.tensor_parallel, pool.dtype)
    if served != (measured.model, measured.tensor_parallel, measured.dtype):
        return False
    fitted = parameters_of(calibration.latency.model_dump())
    ours = pool.latency.model_dump()
    return all(ours.get(name) == value for name, value in fitted.items()) and all(
        getattr(getattr(pool.engine, section, None), name, None) == value
        for section, values in calibration.engine.items()
        for name, value in values.items()
    )


def outside_fitted(result: RunResult, scenario: Scenario) -> dict[str, list[str]]:
    """Return, for each pool that took a calibration, in what the run left the loads that were fitted."""
    first = 0
    found = {}
    for pool in scenario.cluster.pools:
        replicas = pl.col("replica").is_between(first, first + pool.replicas - 1)
        first += pool.replicas
        if pool.calibration is not None:
            found[pool.name] = _outside(result, replicas, read_calibration(pool.calibration))
    return found


def _outside(result: RunResult, replicas: pl.Expr, calibration: Calibration) -> list[str]:
    fitted = calibration.validity
    texts = []
    batch = pl.col("sequences") + pl.col("prefill_sequences")
    largest = result.frames.lazy("segments").filter(replicas).select(batch.max()).collect().item() or 0
    if largest > TOLERANCE * fitted.batch_sequences:
        texts.append(f"batches of up to {largest} sequences (fitted: {fitted.batch_sequences})")
    requests = result.frames.lazy("requests").filter(replicas)
    for name, what, limits in (
        ("prompt_tokens", "prompts", fitted.prompt_tokens),
        ("output_tokens", "outputs", fitted.output_tokens),
    ):
        if limits is None:
            continue
        beyond = (pl.col(name) > TOLERANCE * limits[1]) | (pl.col(name) < limits[0] / TOLERANCE)
        share = requests.select(beyond.mean()).collect().item() or 0.0
        if share > 0.01:
            texts.append(f"{share:.0%} of {what} (fitted: {limits[0]} to {limits[1]} tokens)")
    return texts
