"""Fit what the default host and front end take to closed loops: python scripts/fit_front_end.py.

Three numbers: the start of a layer's experts that no CUDA graph covers and a token's way to the client, which all
engine versions share, and the share of short benchmarks' computing rate that lasts on Blackwell; that of Hopper is
measured.
They are chosen from a grid, because the data hold no more than that: each configuration that may be fitted
(`servesim.validation.splits`) counts as one observation of its mean TTFT, whose kernels are priced wrongly by an
unknown share (Laplace, as wide as the data say), and each number has a prior from public measurements. The same again
without each model and each GPU says how the numbers do where they were not fitted.

Writes them into servesim/catalog/engines.toml and servesim/latency/fitted/clocks.toml, and intervals and errors into
``front_end.json`` beside this script. It takes minutes: what reads the file does not fit anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.catalog.gpus import gpu
from servesim.measurements import MeasuredRun, read_measured
from servesim.measurements.silicon import OTHER_HARNESS
from servesim.validation import validate
from servesim.validation.splits import configuration_split

ROOT = Path(__file__).resolve().parents[1]
POINTS = ROOT.parent / "shared" / "calibration" / "batch_curves" / "silicon_e2e_h200_b200.parquet"
ENGINES = ROOT / "servesim" / "catalog" / "engines.toml"
CLOCKS = ROOT / "servesim" / "latency" / "fitted" / "clocks.toml"
RESULT = Path(__file__).with_name("front_end.json")

SHARE = "latency.sustained_share"

GRID: dict[str, tuple[float, ...]] = {
    "engine.host.eager_experts_s": (1.5e-4, 2.5e-4, 4e-4, 6.3e-4, 1e-3, 1.6e-3),
    "engine.front_end.stream_s": (2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2),
    "latency.sustained_share": (0.66, 0.72, 0.78, 0.85, 0.92),
}
PRIORS = {
    "engine.host.eager_experts_s": 3e-4,
    "engine.front_end.stream_s": 2e-3,
    "latency.sustained_share": 0.9,
}
"""Medians before any fit. Experts: six kernels, twice as long each as others take, 25 us, because Python wraps them; by
estimate. Stream: two hops between processes and an event of a stream, by estimate. Share: clocks of GPUs at their power
limit, by estimate."""

PRIOR_FACTORS = {
    "engine.host.eager_experts_s": 2.0,
    "engine.front_end.stream_s": 2.0,
    "latency.sustained_share": 1.15,
}
"""One standard deviation of each prior, as a factor."""

Floats = NDArray[np.float64]


def main() -> None:
    """Fit, and write both files."""
    runs = [run for run in read_measured(POINTS) if run.deployment.engine_version != OTHER_HARNESS]
    fit = [run for run in runs if configuration_split(run) == "fitted"]
    misfits = _misfits(fit)
    values, intervals = _fitted(misfits, lambda run: True)
    result = {
        "parameters": {
            key: {"value": values[key], "low": intervals[key][0], "high": intervals[key][1]} for key in GRID
        },
        "configurations": len({run.configuration for run in fit}),
        "left_out": [_left_out(runs, misfits, kind, name) for kind, name in _groups(runs)],
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _write_engines(values)


def _misfits(runs: list[MeasuredRun]) -> list[tuple[MeasuredRun, Floats]]:
    """Return for each run the magnitude of the logarithmic error of its TTFT at every point of the grid."""
    shape, axis = tuple(len(values) for values in GRID.values()), list(GRID).index(SHARE)
    found: dict[str, Floats] = {run.name: np.empty(shape) for run in runs}
    blackwell = [run for run in runs if _is_blackwell(run)]
    for place in np.ndindex(shape):
        point = {key: values[at] for (key, values), at in zip(GRID.items(), place, strict=True)}
        # The share of others is not fitted: they are replayed once for each point of the rest.
        for name, error in _ttft_errors(blackwell if place[axis] else runs, point).items():
            found[name][place] = abs(np.log1p(error))
    for run in runs:
        if not _is_blackwell(run):
            found[run.name][...] = found[run.name].take([0], axis=axis)
    return [(run, found[run.name]) for run in runs]


def _ttft_errors(runs: list[MeasuredRun], point: Mapping[str, float]) -> dict[str, float]:
    errors: dict[str, float] = {}
    for kind in (True, False):
        group = [run for run in runs if _is_blackwell(run) == kind]
        if group:
            found = validate(group, overrides=_overrides(point, share=kind)).metrics
            errors |= dict(found.filter(pl.col("metric") == "ttft_s_mean").select("run", "error").iter_rows())
    return errors


def _is_blackwell(run: MeasuredRun) -> bool:
    return gpu(str(run.deployment.gpu).replace("_", "-")).generation == "blackwell"


def _overrides(values: Mapping[str, float], *, share: bool) -> list[str]:
    """Return the scenario's keys of *values*, the lasting share only where it is fitted."""
    engine = [f"cluster.pools.main.{key}={value!r}" for key, value in values.items() if key != SHARE]
    latency = f"cluster.pools.main.latency={{name: roofline, sustained_share: {values[SHARE]!r}}}"
    return [*engine, latency] if share else engine


def _fitted(
    misfits: list[tuple[MeasuredRun, Floats]], used: Callable[[MeasuredRun], bool]
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return the most probable values given the runs in *used*, and which hold 95 % of the probability."""
    configurations: dict[str, list[Floats]] = {}
    for run, misfit in misfits:
        if used(run):
            configurations.setdefault(str(run.configuration), []).append(misfit)
    shape = tuple(len(values) for values in GRID.values())
    spread = np.mean([np.median(rows, axis=0) for rows in configurations.values()], axis=0)
    loss = len(configurations) * np.log(spread)
    for axis, (key, values) in enumerate(GRID.items()):
        deviations = np.log(np.array(values) / PRIORS[key]) / np.log(PRIOR_FACTORS[key])
        loss += np.expand_dims(deviations**2 / 2, tuple(other for other in range(len(GRID)) if other != axis))
    probability = np.exp(loss.min() - loss)
    probability /= probability.sum()
    best = np.unravel_index(int(loss.argmin()), shape)
    intervals = {}
    for axis, (key, values) in enumerate(GRID.items()):
        below = np.cumsum(probability.sum(axis=tuple(other for other in range(len(GRID)) if other != axis)))
        intervals[key] = (
            values[int(np.searchsorted(below, 0.025))],
            values[min(int(np.searchsorted(below, 0.975)), len(values) - 1)],
        )
    return {key: values[best[axis]] for axis, (key, values) in enumerate(GRID.items())}, intervals


def _groups(runs: list[MeasuredRun]) -> list[tuple[str, str]]:
    return [
        (kind, name)
        for kind in ("model", "gpu")
        for name in sorted({str(getattr(run.deployment, kind)) for run in runs})
    ]


def _left_out(
    runs: list[MeasuredRun], misfits: list[tuple[MeasuredRun, Floats]], kind: str, name: str
) -> dict[str, Any]:
    """Return what is fitted without a model or GPU, and how far its runs are off then."""
    values, _ = _fitted(misfits, lambda run: getattr(run.deployment, kind) != name)
    without = [run for run in runs if getattr(run.deployment, kind) == name]
    groups = [(share, [run for run in without if _is_blackwell(run) == share]) for share in (True, False)]
    found = [validate(group, overrides=_overrides(values, share=share)) for share, group in groups if group]
    table = pl.concat(each.runs for each in found)
    metrics = pl.concat(each.metrics for each in found)
    below = table.filter(pl.col("left_out").is_null(), ~pl.col("saturated_measured"))["run"]
    told: dict[str, Any] = {"left_out": kind, "name": name, "runs": len(below), "parameters": values}
    for metric in ("tpot_s_mean", "ttft_s_mean"):
        errors = metrics.filter(pl.col("metric") == metric, pl.col("run").is_in(below.implode()))["error"]
        told[metric] = {"bias": errors.median(), "median": errors.abs().median(), "mean": errors.abs().mean()}
    return told


def _write_engines(values: Mapping[str, float]) -> None:
    clocks = re.sub(r"blackwell = .*", f"blackwell = {values[SHARE]!r}", CLOCKS.read_text(encoding="utf-8"))
    CLOCKS.write_text(clocks, encoding="utf-8")
    text = ENGINES.read_text(encoding="utf-8")
    for key, value in values.items():
        name = key.rpartition(".")[2]
        text = re.sub(rf"\b{name} = [^\s,}}]+(?=.*# fitted)", f"{name} = {value!r}", text)
    ENGINES.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
