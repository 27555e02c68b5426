"""Are two results the same: exactly in what was decided, within rounding in when it happened."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl

from servesim.results import RunResult
from servesim.results.schema import FRAMES
from servesim.scenario import Scenario

CLOCKS = {
    "requests": ("arrival_s", "scheduled_s", "first_token_s", "finished_s"),
    "segments": ("start_s",),
    "replicas": ("time_s", "busy_s"),
    "events": ("time_s",),
}
"""Columns of points in time; every other float of a row derives from them."""


def step_by_step(scenario: Scenario) -> Scenario:
    """Return *scenario* in the reference mode: one event per engine step (``engine.leap: false``)."""
    pools = tuple(
        pool.model_copy(update={"engine": pool.engine.model_copy(update={"leap": False})})
        for pool in scenario.cluster.pools
    )
    return scenario.model_copy(update={"cluster": scenario.cluster.model_copy(update={"pools": pools})})


def assert_results_equal(a: RunResult, b: RunResult, *, times_atol_ratio: float = 1e-9) -> None:
    """Assert that two runs decided alike: same frames and summary, times equal within rounding.

    Integers, text, states and what is null must be equal. A clock time t may differ by ``times_atol_ratio *
    max(1 s, t)``, and whatever derives from clock times by twice that. Scenario, provenance and host facts
    are not compared.

    Raises
    ------
    AssertionError
        The message names the frame, the column and the first row that differs, or the key of the summary.

    Examples
    --------
    >>> from servesim import load_scenario, run
    >>> scenario = load_scenario("scenarios/quickstart.yaml", overrides=["workload.max_requests=50"])
    >>> assert_results_equal(run(scenario), run(step_by_step(scenario)))
    """
    for name in FRAMES:
        first, second = a.frames.lazy(name).collect(), b.frames.lazy(name).collect()
        assert first.schema == second.schema, (
            f"{name}: columns differ (got {first.schema} and {second.schema})"
        )
        assert first.height == second.height, (
            f"{name}: number of rows differs (got {first.height} and {second.height})"
        )
        clock_s = _latest(first, CLOCKS[name])
        for column in first.columns:
            atol = times_atol_ratio * clock_s * (1 if column in CLOCKS[name] else 2)
            _assert_column(first[column], second[column], f"{name}.{column}", atol=atol)
    slack_s = 2 * times_atol_ratio * max(1.0, a.summary["duration_s"])
    _assert_value(a.summary, b.summary, "summary", atol=slack_s, rtol=4 * times_atol_ratio)


def _latest(frame: pl.DataFrame, names: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return max(1 s, latest time) of each row."""
    return frame.select(pl.max_horizontal(pl.lit(1.0), *names)).to_series().to_numpy()


def _assert_column(
    first: pl.Series, second: pl.Series, where: str, *, atol: np.ndarray[Any, np.dtype[np.float64]]
) -> None:
    differs = ~first.eq_missing(second).to_numpy()
    if first.dtype.is_float():
        both = (first.is_not_null() & second.is_not_null()).to_numpy()
        apart = np.abs(first.fill_null(0.0).to_numpy() - second.fill_null(0.0).to_numpy())
        differs &= ~(both & (apart <= atol))
    if differs.any():
        row = int(np.argmax(differs))
        raise AssertionError(
            f"{where}: differs in {int(differs.sum())} of {len(first)} rows, first in row {row} "
            f"(got {first[row]!r} and {second[row]!r}). expected "
            + (f"at most {atol[row]:.3g} apart" if first.dtype.is_float() else "equal values")
        )


def _assert_value(first: Any, second: Any, where: str, *, atol: float, rtol: float) -> None:
    if isinstance(first, dict) and isinstance(second, dict):
        assert list(first) == list(second), f"{where}: keys differ (got {list(first)} and {list(second)})"
        for key in first:
            _assert_value(first[key], second[key], f"{where}.{key}", atol=atol, rtol=rtol)
    elif isinstance(first, list) and isinstance(second, list):
        assert len(first) == len(second), f"{where}: lengths differ (got {len(first)} and {len(second)})"
        for index, pair in enumerate(zip(first, second, strict=True)):
            _assert_value(*pair, f"{where}.{index}", atol=atol, rtol=rtol)
    else:
        near = isinstance(first, float) and isinstance(second, float)
        near = near and math.isclose(first, second, rel_tol=rtol, abs_tol=atol)
        assert near or (first == second and type(first) is type(second)), (
            f"{where}: differs (got {first!r} and {second!r})"
        )
