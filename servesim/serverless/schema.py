"""The one form of serverless logs: three frames, their columns, units and bounds, declared once.

Readers, generators and statistics all speak this form; `servesim.serverless.contract` holds frames to it. Times are
seconds since the start of the log. A value that is unknown or has not happened is null, never 0 and never NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a frame: its type, unit, meaning, whether it may be null, and the least number in it."""

    name: str
    dtype: pl.DataType
    unit: str
    description: str
    required: bool = False
    least: float | None = None


def _time(name: str, description: str, *, required: bool = False) -> Column:
    return Column(name, pl.Float64(), "s", description, required=required, least=0.0)


def _text(name: str, description: str, *, required: bool = False) -> Column:
    return Column(name, pl.String(), "", description, required=required)


def _number(name: str, unit: str, description: str) -> Column:
    return Column(name, pl.Float64(), unit, description, least=0.0)


def _count(name: str, description: str, *, required: bool = False) -> Column:
    return Column(name, pl.Int64(), "", description, required=required, least=0.0)


COMPONENTS = ("pod_allocation_s", "deploy_code_s", "deploy_dependency_s", "scheduling_s")
"""The parts of a pod's cold start, in the order in which they add up to its total."""

LOADS = ("base_model", "pipeline", "lora", "controlnet")
"""What a cold start loads where it is not a whole pod."""

COLD_STARTS = (
    _time("start_s", "Time of the cold start", required=True),
    _text("region", "Region of the cloud"),
    _text("cluster", "Cluster of the region"),
    _text("function", "Identifier of the function; with Huawei function---user---pool"),
    _text("user", "Owner of the function"),
    _text("request", "The request that caused it; one may cause several"),
    _text("pod", "The pod or container that started"),
    _text("pool", "Kind of pod: with Huawei pool<id>-<CPU limit in mCPU>-<memory limit in MB>"),
    _number("cpu_limit_mcpu", "mCPU", "CPU limit of the pod"),
    _number("memory_limit_mb", "MB", "Memory limit of the pod"),
    _text("runtime", "Language of the function"),
    _text("trigger", "What calls the function, and whether synchronously (-S) or not (-A)"),
    _text("load", f"What was loaded ({', '.join(LOADS)}); null: a whole pod started"),
    _time(
        "total_s",
        "From the decision to start until ready; the sum of the parts where they are known",
        required=True,
    ),
    _time("pod_allocation_s", "To take a pod from the pool, or to make one"),
    _time("deploy_code_s", "To download, unpack and deploy code"),
    _time("deploy_dependency_s", "To fetch and load dependencies; 0: none"),
    _time("scheduling_s", "Network, routing and scheduling"),
    _time("useful_s", "From ready until the pod's last request has ended, keep-alive not included"),
)

INVOCATIONS = (
    _time("arrival_s", "Arrival of the request, or start of the window of a count", required=True),
    _time(
        "window_s", "Width of the window that the row counts; 0: one request at its exact time", required=True
    ),
    _count("invocations", "Requests in the window", required=True),
    _text("function", "Identifier of the function", required=True),
    _text("user", "Owner of the function or sender of the request"),
    _text("pod", "The pod or container that served it"),
    _text("trigger", "What called it"),
    _time("wait_s", "Of it, waiting for a cold start"),
    _time("duration_s", "Execution time, without a cold start"),
    Column("cold", pl.Boolean(), "", "Whether it caused a cold start"),
    _text("status", "State in which it ended, as the log has it"),
    _number("cpu_cores", "cores", "Mean CPU use of its pod meanwhile"),
    _number("memory_mb", "MB", "Mean memory use of its pod meanwhile"),
    _number("request_bytes", "bytes", "Size of the request's body"),
)

FUNCTIONS = (
    _text("function", "Identifier of the function; null: the row is of a whole application"),
    _text("app", "Application that the function is a part of"),
    _text("user", "Owner"),
    _text("pool", "Kind of pod"),
    _text("runtime", "Language"),
    _text("trigger", "What calls it"),
    _number("cpu_request_mcpu", "mCPU", "CPU asked for"),
    _number("cpu_limit_mcpu", "mCPU", "CPU limit"),
    _number("memory_limit_mb", "MB", "Memory limit"),
    _time("period_s", "Period of a timer"),
    _count("invocations", "Requests in the whole log"),
    _count("cold_starts", "Cold starts in the whole log"),
    _count("executions", "Executions that the durations are of"),
    _time("duration_s_mean", "Mean execution time"),
    _time("duration_s_min", "Shortest execution"),
    _time("duration_s_p50", "Median execution time (Azure: of means over 30 s)"),
    _time("duration_s_p99", "99th percentile of the execution time (Azure: of means over 30 s)"),
    _time("duration_s_max", "Longest execution"),
    _number("memory_mb_mean", "MB", "Mean memory"),
    _number("memory_mb_p50", "MB", "Median memory"),
    _number("memory_mb_p99", "MB", "99th percentile of memory"),
)

SERIES = (
    _time("start_s", "Start of the window", required=True),
    _time("window_s", "Width of the window", required=True),
    _text("function", "Identifier of the function", required=True),
    _text("metric", "What is measured, as the log calls it", required=True),
    _text("statistic", "avg, std, q0 to q100 over the window; null: a count"),
    _number("value", "of the metric", "The value"),
)

FRAMES: dict[str, tuple[Column, ...]] = {
    "cold_starts": COLD_STARTS,
    "invocations": INVOCATIONS,
    "functions": FUNCTIONS,
    "series": SERIES,
}
"""Columns of each frame of a log."""


def dtypes(kind: str) -> dict[str, pl.DataType]:
    """Return the names and types of the columns of a frame."""
    return {column.name: column.dtype for column in FRAMES[kind]}
