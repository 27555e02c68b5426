"""How far a replay is off: one row per metric, errors of single requests, and time series side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from servesim.measurements.workload import METRICS, STATISTICS, MeasuredRun
from servesim.results import RunResult
from servesim.scenario import Scenario

REQUEST_METRICS = ("ttft_s", "tpot_s", "e2e_s")
SERIES = ("running_requests", "waiting_requests")

METRIC_SCHEMA = {
    "run": pl.String,
    "metric": pl.String,
    "measured": pl.Float64,
    "simulated": pl.Float64,
    "error": pl.Float64,
}
FULL = 0.98
"""Share of the KV cache from which on it counts as full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A measured run and its replay.

    Attributes
    ----------
    metrics
        ``metric``, ``measured``, ``simulated`` and ``error`` = simulated / measured - 1.
    requests
        Latencies of every request, measured and simulated; None where they were not measured.
    series
        ``time_s``, ``quantity``, ``measured``, ``simulated``; None where it was not measured.
    mape
        Mean absolute percentage error over single requests as a ratio, by latency.
    series_error
        Mean absolute error over mean, by quantity.
    saturated_measured, saturated_simulated
        Whether the load was more than the engine could take; None where the file cannot tell.
    """

    metrics: pl.DataFrame
    requests: pl.DataFrame | None
    series: pl.DataFrame | None
    mape: dict[str, float]
    series_error: dict[str, float]
    saturated_measured: bool | None
    saturated_simulated: bool


def compared(run: MeasuredRun, result: RunResult) -> Compared:
    """Return how far *result*, a replay of *run*, is off."""
    requests = _requests(run, result)
    series = None if run.series is None else _series(run.series, result)
    return Compared(
        metrics=_metrics(run, simulated_metrics(result, run)),
        requests=requests,
        series=series,
        mape={} if requests is None else _mape(requests),
        series_error={} if series is None else _series_error(series),
        saturated_measured=_was_saturated(run, result),
        saturated_simulated=_is_saturated(run, result),
    )


def simulated_metrics(result: RunResult, run: MeasuredRun) -> dict[str, float]:
    """Return what was simulated, by the keys of *run*'s metrics."""
    found = {name: result.summary.get(name) for name in METRICS if not name.startswith("itl_s")}
    if any(name.startswith("itl_s") for name in run.metrics):
        shares = {name: share for name, share in STATISTICS.items() if share is not None}
        gaps = result.itl_statistics(list(shares.values()))
        found |= {f"itl_s_{name}": gaps.quantiles_s[share] for name, share in shares.items()}
        found["itl_s_mean"] = gaps.mean_s
    return {name: value for name, value in found.items() if value is not None}


def _metrics(run: MeasuredRun, simulated: dict[str, float]) -> pl.DataFrame:
    rows = [
        (run.name, name, run.metrics[name], simulated[name], simulated[name] / run.metrics[name] - 1)
        for name in METRICS
        if name in run.metrics and name in simulated
    ]
    return pl.DataFrame(rows, schema=METRIC_SCHEMA, orient="row")


def _requests(run: MeasuredRun, result: RunResult) -> pl.DataFrame | None:
    """Return latencies of every request side by side: rows of both are in the order in which they were sent."""
    if not run.has_latencies:
        return None
    simulated = result.requests
    return pl.concat(
        [
            pl.DataFrame(
                {
                    "run": pl.repeat(run.name, run.requests.height, eager=True),
                    "request_id": simulated["request_id"],
                    "metric": pl.repeat(name, run.requests.height, eager=True),
                    "measured": run.requests[name],
                    "simulated": simulated[name],
                }
            )
            for name in REQUEST_METRICS
        ]
    )


def _mape(requests: pl.DataFrame) -> dict[str, float]:
    error = (pl.col("simulated") / pl.col("measured") - 1).abs().mean()
    table = (
        requests.filter(pl.col("measured") > 0)
        .group_by("metric", maintain_order=True)
        .agg(error.alias("mape"))
    )
    return {name: value for name, value in table.iter_rows() if value is not None}


def _series(measured: pl.DataFrame, result: RunResult) -> pl.DataFrame:
    """Return what ran and waited, measured and simulated, at the times of the measurement."""
    simulated = (
        result.replicas.group_by("time_s")
        .agg(pl.col(name).cast(pl.Float64).sum() for name in SERIES)
        .sort("time_s")
    )
    both = measured.sort("time_s").join_asof(simulated, on="time_s", strategy="backward", suffix="_simulated")
    end_s = float(simulated["time_s"].max() or 0.0)  # type: ignore[arg-type]
    over = pl.col("time_s") > end_s
    return pl.concat(
        [
            both.select(
                "time_s",
                quantity=pl.lit(name),
                measured=pl.col(name),
                simulated=pl.when(over).then(0.0).otherwise(pl.col(f"{name}_simulated").fill_null(0.0)),
            )
            for name in SERIES
        ]
    )


def _series_error(series: pl.DataFrame) -> dict[str, float]:
    errors = {}
    for (quantity,), rows in series.group_by("quantity", maintain_order=True):
        mean = float(rows["measured"].mean() or 0.0)  # type: ignore[arg-type]
        if mean > 0:
            errors[str(quantity)] = float((rows["simulated"] - rows["measured"]).abs().mean()) / mean  # type: ignore[arg-type]
    return errors


def _was_saturated(run: MeasuredRun, result: RunResult) -> bool | None:
    """Return whether the load of *run* was more than the engine could take.

    A closed loop is, if its requests together need more seats or KV blocks than the deployment has. An open loop is, if
    the time to the first token grew over the run: its last quarter waited longer than three times its first.
    """
    if run.max_concurrency is not None:
        return _beyond_capacity(run, run.max_concurrency, result)
    if not run.has_latencies:
        seats = run.deployment.settings.get("max_num_seqs")
        return None if seats is None else run.requests.height > seats
    ttft_s = run.requests["ttft_s"].to_numpy()
    quarter = max(1, len(ttft_s) // 4)
    return bool(np.median(ttft_s[-quarter:]) > 3 * np.median(ttft_s[:quarter]))


def _beyond_capacity(run: MeasuredRun, concurrency: int, result: RunResult) -> bool:
    scenario = result.scenario
    assert isinstance(scenario, Scenario)  # of a replay, not loaded: its settings need not be read from text
    pool = scenario.cluster.pools[0]
    load = run.requests.select((pl.col("prompt_tokens") + pl.col("output_tokens")).mean()).item()
    tokens = result.provenance["pools"][0]["kv_blocks"] * pool.engine.kv_block_tokens * pool.replicas
    seats = pool.engine.max_num_seqs * pool.data_parallel * pool.replicas
    return bool(concurrency > seats or concurrency * load > tokens)


def _is_saturated(run: MeasuredRun, result: RunResult) -> bool:
    summary = result.summary
    if run.max_concurrency is None:
        return bool(summary["backlog_growing"]) or bool(_was_saturated(run, result) and not run.has_latencies)
    return bool(summary["preemptions"] > 0 or summary["kv_used_ratio_max"] >= FULL)
