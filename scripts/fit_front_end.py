"""Fit what the default host and front end take to closed loops: python scripts/fit_front_end.py.

Three numbers: the start of a kernel that no CUDA graph covers and a token's way to the client, which all engine
versions share, and the share of short benchmarks' computing rate that lasts, which Hopper and Blackwell do.
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
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.measurements import MeasuredRun, read_measured
from servesim.validation import validate
from servesim.validation.splits import configuration_split

ROOT = Path(__file__).resolve().parents[1]
POINTS = ROOT.parent / "shared" / "calibration" / "batch_curves" / "silicon_e2e_h200_b200.parquet"
ENGINES = ROOT / "servesim" / "catalog" / "engines.toml"
CLOCKS = ROOT / "servesim" / "latency" / "fitted" / "clocks.toml"
RESULT = Path(__file__).with_name("front_end.json")

OTHER_HARNESS = "0.12.0"
"""Version of vLLM whose points come from a harness of unknown settings."""

GRID: dict[str, tuple[float, ...]] = {
    "engine.host.eager_kernel_s": (1e-5, 1.6e-5, 2.5e-5, 4e-5, 6.3e-5, 1e-4),
    "engine.front_end.stream_s": (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2),
    "latency.sustained_share": (0.66, 0.72, 0.78, 0.85, 0.92, 1.0),
}
PRIORS = {
    "engine.host.eager_kernel_s": 2.5e-5,
    "engine.front_end.stream_s": 2e-3,
    "latency.sustained_share": 0.9,
}
"""Medians before any fit. Kernels: decode steps without graphs that are published, over their kernels: Llama-3.1-8B on
an H100, 8.4 ms where a graph takes 5.1 (cloudai.pt), 26 us; Qwen2.5-Omni-7B's thinker on an A800 in vLLM, 22 ms where a
graph takes 13 (vllm-omni issue 7960), 78 us, not compiled. Stream: two hops between processes and an event of a stream,
by estimate. Share: clocks of GPUs at their power limit, by estimate."""

PRIOR_FACTORS = {
    "engine.host.eager_kernel_s": 2.0,
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
    columns = []
    for point in product(*GRID.values()):
        found = validate(runs, overrides=_overrides(dict(zip(GRID, point, strict=True)))).metrics
        errors = found.filter(pl.col("metric") == "ttft_s_mean").select("run", "error")
        by_run = dict(errors.iter_rows())
        columns.append([abs(np.log1p(by_run[run.name])) for run in runs])
    shape = tuple(len(values) for values in GRID.values())
    return [
        (run, np.array(row).reshape(shape)) for run, row in zip(runs, zip(*columns, strict=True), strict=True)
    ]


def _overrides(values: Mapping[str, float]) -> list[str]:
    engine = [f"cluster.pools.main.{key}={value!r}" for key, value in values.items() if "latency" not in key]
    share = values["latency.sustained_share"]
    return [*engine, f"cluster.pools.main.latency={{name: roofline, sustained_share: {share!r}}}"]


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
    found = validate(
        [run for run in runs if getattr(run.deployment, kind) == name], overrides=_overrides(values)
    )
    below = found.runs.filter(pl.col("left_out").is_null(), ~pl.col("saturated_measured"))["run"]
    told: dict[str, Any] = {"left_out": kind, "name": name, "runs": len(below), "parameters": values}
    for metric in ("tpot_s_mean", "ttft_s_mean"):
        errors = found.metrics.filter(pl.col("metric") == metric, pl.col("run").is_in(below.implode()))[
            "error"
        ]
        told[metric] = {"bias": errors.median(), "median": errors.abs().median(), "mean": errors.abs().mean()}
    return told


def _write_engines(values: Mapping[str, float]) -> None:
    share = f"sustained_share = {values['latency.sustained_share']!r}"
    clocks = re.sub(r"sustained_share = .*", share, CLOCKS.read_text(encoding="utf-8"))
    CLOCKS.write_text(clocks, encoding="utf-8")
    text = ENGINES.read_text(encoding="utf-8")
    for key, value in values.items():
        name = key.rpartition(".")[2]
        text = re.sub(rf"\b{name} = [^\s,}}]+(?=.*# fitted)", f"{name} = {value!r}", text)
    ENGINES.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
