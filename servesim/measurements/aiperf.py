"""Reader of AIPerf's exports: ``profile_export.jsonl`` (every request) and ``profile_export_aiperf.json`` (statistics).

AIPerf's ``inter_token_latency`` is one number per request, (latency - TTFT) / (output tokens - 1): the TPOT of other
tools. The gaps themselves are its ``inter_chunk_latency``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from servesim.errors import TraceError
from servesim.measurements.checks import believed, check_measured, failed_left_out, settled
from servesim.measurements.json_files import at, load, number, read_json, read_json_lines
from servesim.measurements.workload import Deployment, MeasuredRun, all_due, request_metrics
from servesim.workload.checks import ROW

SUMMARY_FILE = "profile_export_aiperf.json"

_LATENCIES = {
    "ttft_s": "time_to_first_token",
    "tpot_s": "inter_token_latency",
    "itl_s": "inter_chunk_latency",
    "e2e_s": "request_latency",
}
_STATISTICS = {"mean": "avg", "p50": "p50", "p90": "p90", "p99": "p99"}
_RATES = {"requests_per_s": "request_throughput", "output_tokens_per_s": "output_token_throughput"}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "seconds": 1.0}
_COLUMNS = {
    "arrival_s": "request_start_ns",
    "first_token_s": "time_to_first_token",
    "finished_s": "request_latency",
}


def is_aiperf_log(keys: list[str]) -> bool:
    """Return whether JSON lines with *keys* are AIPerf's records of requests."""
    return {"metadata", "metrics"} <= set(keys)


def is_aiperf_summary(data: Any) -> bool:
    """Return whether *data* are AIPerf's statistics."""
    return at(data, "request_latency", "unit") is not None


def read_aiperf_log(path: Path) -> MeasuredRun:
    """Return the run of the records at *path*; the statistics beside it tell the model and the concurrency.

    Raises
    ------
    TraceError
        If it cannot be taken as it is.
    """
    rows, failed = [], 0
    for row, record in read_json_lines(path):
        if at(record, "metadata", "benchmark_phase") not in (None, "profiling"):
            continue
        if record.get("error") or at(record, "metadata", "was_cancelled"):
            failed += 1
            continue
        rows.append(_row(record, path, row))
    if not rows:
        raise TraceError(f"{path}: no completed request (got {failed} that failed). expected at least one")
    requests, notes = settled(pl.DataFrame(rows), path, _COLUMNS)
    metrics = request_metrics(requests)
    summary = path.with_name(SUMMARY_FILE)
    config = at(read_json(summary), "input_config") if summary.is_file() else None
    concurrency = _max_concurrency(config)
    return MeasuredRun(
        name=path.absolute().parent.name,
        source=path,
        deployment=_deployment(config),
        requests=requests if concurrency is None else all_due(requests),
        metrics=metrics,
        max_concurrency=concurrency,
        notes=(*failed_left_out(failed), *notes),
    )


def read_aiperf_summary(path: Path, data: dict[str, Any]) -> MeasuredRun:
    """Return the run whose statistics are *data*, the content of *path*.

    Raises
    ------
    TraceError
        If they cannot be taken as they are.
    """
    config = data.get("input_config")
    count = int(_value(data, "request_count", "avg", path) or 0)
    prompt = _value(data, "input_sequence_length", "avg", path)
    output = _value(data, "output_sequence_length", "avg", path)
    if count < 1 or not prompt or not output:
        raise TraceError(
            f"{path}: no load (got {count} requests of {prompt} and {output} tokens). "
            "expected request_count, input_sequence_length and output_sequence_length"
        )
    concurrency = _max_concurrency(config)
    rate = at(config, "loadgen", "request_rate")
    notes = ["lengths of single requests are not in the file: every one has the mean"]
    if rate is not None:
        notes.append(f"times of arrival are not in the file: evenly spaced at {rate:g} requests/s")
    elif concurrency is None:
        notes.append("neither concurrency nor rate are in the file: all requests arrive at once")
    spacing_s = 1 / number(rate, f"{path}: loadgen.request_rate") if rate is not None else 0.0
    metrics = believed(_metrics(data, path), output, notes)
    check_measured(metrics, path, ("ttft_s_mean",))
    return MeasuredRun(
        name=path.absolute().parent.name,
        source=path,
        deployment=_deployment(config),
        requests=load(count, prompt, output, [spacing_s * index for index in range(count)]),
        metrics=metrics,
        max_concurrency=concurrency,
        notes=tuple(notes),
    )


def _row(record: dict[str, Any], path: Path, row: int) -> dict[str, float]:
    where = f"{path}: row {row}"
    start_s = number(at(record, "metadata", "request_start_ns"), f"{where}: request_start_ns") / 1e9
    metrics = record["metrics"]
    return {
        ROW: row,
        "arrival_s": start_s,
        "prompt_tokens": number(
            at(metrics, "input_sequence_length", "value"), f"{where}: input_sequence_length"
        ),
        "output_tokens": number(
            at(metrics, "output_sequence_length", "value"), f"{where}: output_sequence_length"
        ),
        "first_token_s": start_s
        + _seconds(at(metrics, "time_to_first_token"), f"{where}: time_to_first_token"),
        "finished_s": start_s + _seconds(at(metrics, "request_latency"), f"{where}: request_latency"),
    }


def _seconds(entry: Any, where: str, key: str = "value") -> float:
    unit = at(entry, "unit")
    if unit not in _SECONDS:
        raise TraceError(f"{where}: unknown unit (got {unit!r}). expected one of {', '.join(_SECONDS)}")
    return number(at(entry, key), where) * _SECONDS[unit]


def _value(data: dict[str, Any], name: str, key: str, path: Path) -> float | None:
    value = at(data, name, key)
    return None if value is None else number(value, f"{path}: {name}.{key}")


def _metrics(data: dict[str, Any], path: Path) -> dict[str, float]:
    metrics = {}
    for name, theirs in _LATENCIES.items():
        for statistic, key in _STATISTICS.items():
            if at(data, theirs, key) is not None:
                metrics[f"{name}_{statistic}"] = _seconds(data[theirs], f"{path}: {theirs}.{key}", key)
    rates = {name: _value(data, theirs, "avg", path) for name, theirs in _RATES.items()}
    return metrics | {name: value for name, value in rates.items() if value is not None}


def _deployment(config: Any) -> Deployment:
    names = at(config, "endpoint", "model_names") or [None]
    return Deployment(model=names[0])


def _max_concurrency(config: Any) -> int | None:
    concurrency = at(config, "loadgen", "concurrency")
    return None if concurrency is None or at(config, "loadgen", "request_rate") else int(concurrency)
