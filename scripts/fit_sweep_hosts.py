"""Fit the host of the batch sweep's engine, one model at a time: python scripts/fit_sweep_hosts.py.

Fits batches 1, 16 and 128 of each model with the default latency model and writes ``sweep_hosts.json`` beside this
script: values, intervals, and the errors of the runs that were not fitted. It takes minutes: what reads the file does
not fit anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

import servesim
from servesim.calibration.identify import NotIdentifiedError
from servesim.measurements import MeasuredRun, read_measured
from servesim.validation import validate
from servesim.validation.splits import sweep_split

ROOT = Path(__file__).resolve().parents[1]
SWEEP = ROOT.parent / "shared" / "calibration" / "batch_curves" / "vllm_h100_64gb_batch_sweep.parquet"
HOSTS = Path(__file__).with_name("sweep_hosts.json")
PARAMETERS = ("engine.host.launch_s", "engine.host.schedule_per_sequence_s")


def fitted_host(runs: list[MeasuredRun]) -> dict[str, Any]:
    """Return what was fitted to the *runs* of one model that may be, and how far the others are off."""
    fit = [run for run in runs if sweep_split(run) == "fitted"]
    others = [run for run in runs if sweep_split(run) == "held out"]
    try:
        found = servesim.calibrate(fit, parameters=PARAMETERS, hold_out="0").parameters
    except NotIdentifiedError:  # steps of 20 ms and more hide a launch: it keeps its default
        found = servesim.calibrate(fit, parameters=PARAMETERS[1:], hold_out="0").parameters
    overrides = [f"cluster.pools.0.{each.key}={each.value!r}" for each in found]
    errors = validate(others, overrides=overrides).metrics.with_columns(pl.col("error").abs())
    told = {
        metric: errors.filter(pl.col("metric") == metric).select(
            pl.len().alias("runs"), mean=pl.col("error").mean(), max=pl.col("error").max()
        )
        for metric in ("itl_s_mean", "output_tokens_per_s")
    }
    return {
        "parameters": {
            each.key: {"value": float(f"{each.value:.4g}"), "low": each.low, "high": each.high}
            for each in found
        },
        "errors": {metric: frame.row(0, named=True) for metric, frame in told.items()},
    }


def main() -> None:
    """Write the file."""
    runs = read_measured(SWEEP)
    models = dict.fromkeys(str(run.deployment.model) for run in runs)
    hosts = {model: fitted_host([run for run in runs if run.deployment.model == model]) for model in models}
    HOSTS.write_text(json.dumps(hosts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
