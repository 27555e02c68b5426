"""Readers of the Huawei Public Cloud Trace 2025: cold starts, requests, functions.

Format and data are described in https://github.com/sir-lab/data-release and in Joosen et al., "Serverless Cold
Starts and Where to Find Them", EuroSys 2025. Per-minute series are in `servesim.serverless.huawei_series`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import polars as pl

from servesim.serverless.contract import conform, totals_off
from servesim.serverless.files import Table, read_parts, read_table
from servesim.serverless.log import ServerlessLog
from servesim.serverless.schema import COMPONENTS
from servesim.workload.checks import ROW
from servesim.workload.files import csv_header
from servesim.workload.source import rows_behind

_LIMITS = (300, 400, 600, 800, 1000, 1200, 1400, 1600, 1800, 2200, 2600, 3000, 3400, 6600, 8200, 13000, 25800)
_ASKED = (100, 125, 300, 375, 500, 625, 750, 875, 1000, 1250, 1500, 1750, 2000, 4000, 5000, 6500, 12900)
CPU_REQUEST_MCPU = dict(zip(_LIMITS, _ASKED, strict=True))
"""CPU that a pod of a CPU limit asks for, in mCPU; from the description of the release."""

DAY_S = 86400.0

_POOL = r"^(pool\d+-(\d+)-(\d+))-\d+$"
_PARTS = {
    "pod_allocation_s": "podAllocationCost",
    "deploy_code_s": "deployCodeCost",
    "deploy_dependency_s": "deployDependencyCost",
    "scheduling_s": "schedulingCost",
}
_COLD_STARTS = Table(
    kind="cold_starts",
    numbers={"start_s": "time", "total_s": "totalCost_cold_start", **_PARTS},
    texts={
        "cluster": "clusterName",
        "function_name": "funcName",
        "user": "userID",
        "request": "requestID",
        "pod": "podID",
        "runtime": "runtime",
        "trigger": "triggerType-invocationType",
        "region": "region",
    },
    optional=frozenset({"runtime", "trigger", "region"}),
)
_REQUESTS = Table(
    kind="invocations",
    numbers={
        "arrival_s": "time_worker",
        "duration_s": "totalCost_worker",
        "cpu_cores": "cpu_usage",
        "memory_mb": "memory_usage",
        "request_bytes": "requestBodySize",
    },
    texts={"function_name": "funcName", "user": "userID", "pod": "podID"},
)
_FUNCTIONS = Table(
    kind="functions",
    numbers={
        "cpu_request_mcpu": "cpu_request",
        "cpu_limit_mcpu": "cpu_limit",
        "memory_limit_mb": "memory_limit",
        "invocations": "requests",
    },
    texts={"function": "funcID", "runtime": "runtime", "trigger": "triggerType-invocationType"},
    optional=frozenset(
        {"cpu_request_mcpu", "cpu_limit_mcpu", "memory_limit_mb", "invocations", "runtime", "trigger"}
    ),
)


def read_cold_starts(path: Path, *, functions: Path | str | None = None) -> ServerlessLog:
    """Return the cold-start table: one file, or a folder ``cold_start`` of regions and days.

    Notes count rows that stood behind a later one (``rows_sorted``), rows whose total is not the sum of its parts
    (``totals_off``), and pods whose name does not tell their pool (``pods_without_pool``).

    Parameters
    ----------
    path
        A CSV file, or a folder; folders named R1 to R5 above a file tell its region.
    functions
        The function table of the region, for runtime and trigger.

    Raises
    ------
    TraceError
        If a file cannot be taken as it is.
    """
    rows, numbers, files = read_parts(path, lambda _: _COLD_STARTS, _with_identity)
    checked = pl.concat(numbers)
    pods = pl.concat([part.select(bad=~pl.col("pod").str.contains(_POOL)) for part in rows]).collect()["bad"]
    notes: dict[str, int | float | str] = {
        "files": len(files),
        "rows_read": checked.height,
        "rows_sorted": rows_behind(checked["start_s"]),
        "totals_off": totals_off(checked),
        "pods_without_pool": int(pods.sum()),
    }
    whole = pl.concat(rows, how="diagonal")
    if functions is not None:
        known = read_functions(Path(functions)).functions
        assert known is not None
        wanted = [name for name in ("runtime", "trigger") if name not in whole.collect_schema()]
        whole = whole.join(
            known.select("function", *wanted), on="function", how="left", maintain_order="left"
        )
    cold_starts = conform(whole.sort("start_s", maintain_order=True), "cold_starts")
    return ServerlessLog(format="huawei_cold_starts", cold_starts=cold_starts, notes=notes)


def read_requests(path: Path) -> ServerlessLog:
    """Return the request table: one file or a folder of them.

    Times are those of the worker; the frontend's are missing in some rows, counted in ``without_frontend``.

    Raises
    ------
    TraceError
        If a file cannot be taken as it is.
    """
    rows, numbers, files = read_parts(path, lambda _: _REQUESTS, _with_identity)
    checked = pl.concat(numbers)
    notes: dict[str, int | float | str] = {
        "files": len(files),
        "rows_read": checked.height,
        "rows_sorted": rows_behind(checked["arrival_s"]),
        "without_frontend": checked["request_bytes"].null_count(),
    }
    whole = pl.concat(rows, how="diagonal").with_columns(window_s=pl.lit(0.0), invocations=pl.lit(1))
    invocations = conform(whole.sort("arrival_s", maintain_order=True), "invocations")
    return ServerlessLog(format="huawei_requests", invocations=invocations, notes=notes)


def read_functions(path: Path) -> ServerlessLog:
    """Return the function table: ``funcID`` taken apart, the CPU request from the limit where it is missing.

    The requests of a function are in a column ``requests`` or ``num_requests``.

    Raises
    ------
    TraceError
        If the file cannot be taken as it is.
    """
    table = _FUNCTIONS
    if "requests" not in csv_header(path):
        table = replace(table, numbers={**table.numbers, "invocations": "num_requests"})
    rows, checked = read_table(path, table)
    there = set(rows.collect_schema())
    split = pl.col("function").str.split("---")
    pool = split.list.get(2, null_on_oob=True)
    limits = [
        pool.str.split("-").list.get(at, null_on_oob=True).cast(pl.Float64, strict=False) for at in (1, 2)
    ]
    rows = _plain_trigger(rows.with_columns(user=split.list.get(1, null_on_oob=True), pool=pool))
    for name, value in zip(("cpu_limit_mcpu", "memory_limit_mb"), limits, strict=True):
        rows = rows.with_columns(pl.col(name).fill_null(value) if name in there else value.alias(name))
    request = pl.col("cpu_limit_mcpu").replace_strict(CPU_REQUEST_MCPU, default=None, return_dtype=pl.Float64)
    name = "cpu_request_mcpu"
    rows = rows.with_columns(pl.col(name).fill_null(request) if name in there else request.alias(name))
    notes: dict[str, int | float | str] = {"files": 1, "rows_read": checked.height}
    return ServerlessLog(format="huawei_functions", functions=conform(rows, "functions"), notes=notes)


def cold_start_table(cold_starts: pl.DataFrame) -> pl.DataFrame:
    """Return cold starts in the columns of the release, what `read_cold_starts` reads back to the same frame."""
    return cold_starts.select(
        day=(pl.col("start_s") // DAY_S).cast(pl.Int64),
        time="start_s",
        clusterName="cluster",
        funcName=pl.col("function").str.split("---").list.get(0),
        userID="user",
        requestID="request",
        totalCost_cold_start="total_s",
        **{theirs: ours for ours, theirs in _PARTS.items()},
        podID="pod",
    )


def _with_identity(rows: pl.LazyFrame, file: Path) -> pl.LazyFrame:
    """Return rows with what the pod's name tells: pool, limits, and so the function; and the region of the folder."""
    parts = [pl.col("pod").str.extract(_POOL, group) for group in (1, 2, 3)]
    rows = rows.with_columns(
        pool=parts[0], cpu_limit_mcpu=parts[1].cast(pl.Float64), memory_limit_mb=parts[2].cast(pl.Float64)
    )
    identity = pl.concat_str("function_name", "user", "pool", separator="---", ignore_nulls=True)
    rows = _plain_trigger(rows.with_columns(function=identity).drop("function_name", ROW))
    region = next((part for part in reversed(file.parts[:-1]) if re.fullmatch(r"R\d+", part)), None)
    if region is None or "region" in rows.collect_schema():
        return rows
    return rows.with_columns(region=pl.lit(region))


def _plain_trigger(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Return rows in which an unknown trigger, of unknown invocation type, is plainly unknown."""
    if "trigger" not in rows.collect_schema():
        return rows
    return rows.with_columns(pl.col("trigger").replace("unknown-unknown", "unknown"))


assert set(_PARTS) == set(COMPONENTS)
