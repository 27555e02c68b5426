"""Reader of inference-perf's reports: ``per_request_lifecycle_metrics.json``, ``stage_N_`` and ``summary_``.

Their clients count streamed chunks: where a server sends two chunks for a token, ``time_per_output_token`` comes out
at half of what it is (`servesim.measurements.checks.believed`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from servesim.errors import TraceError
from servesim.measurements.checks import believed, check_measured, failed_left_out, settled
from servesim.measurements.json_files import at, load, number, number_or_none, numbers
from servesim.measurements.workload import Deployment, MeasuredRun, request_metrics
from servesim.workload.checks import ROW

_LATENCIES = {
    "ttft_s": "time_to_first_token",
    "tpot_s": "time_per_output_token",
    "itl_s": "inter_token_latency",
    "e2e_s": "request_latency",
}
_STATISTICS = {"mean": "mean", "p50": "median", "p90": "p90", "p99": "p99"}
_RATES = {"requests_per_s": "requests_per_sec", "output_tokens_per_s": "output_tokens_per_sec"}
_COLUMNS = {
    "arrival_s": "start_time",
    "first_token_s": "output_token_times[0]",
    "finished_s": "output_token_times[-1]",
}


def is_inference_perf(data: Any) -> bool:
    """Return whether *data* are a report of inference-perf."""
    if isinstance(data, list):
        return bool(data) and isinstance(data[0], dict) and {"start_time", "end_time", "info"} <= set(data[0])
    return at(data, "load_summary") is not None and at(data, "successes") is not None


def read_inference_perf(path: Path, data: Any) -> MeasuredRun:
    """Return the run whose report is *data*, the content of *path*.

    Raises
    ------
    TraceError
        If it cannot be taken as it is.
    """
    return _from_requests(path, data) if isinstance(data, list) else _from_statistics(path, data)


def _from_requests(path: Path, data: list[Any]) -> MeasuredRun:
    rows = [
        _row(record, f"{path}: row {row}", row) for row, record in enumerate(data, 1) if not _failed(record)
    ]
    if not rows:
        raise TraceError(f"{path}: no completed request (got {len(data)} that failed). expected at least one")
    requests, notes = settled(pl.DataFrame(rows), path, _COLUMNS)
    return MeasuredRun(
        name=path.absolute().parent.name,
        source=path,
        deployment=Deployment(),
        requests=requests,
        metrics=request_metrics(requests),
        notes=(*failed_left_out(len(data) - len(rows)), *notes),
    )


def _failed(record: Any) -> bool:
    return not isinstance(record, dict) or bool(record.get("error")) or not record.get("info")


def _row(record: dict[str, Any], where: str, row: int) -> dict[str, float]:
    """Return a request of the report; its form changed in version 0.4, where lengths and times are one level deeper."""
    info = record["info"]
    response = info.get("response_metrics") or info
    prompt = at(info, "request_metrics", "text", "input_tokens") or info.get("input_tokens")
    times_s = numbers(response.get("output_token_times"), f"{where}: output_token_times")
    if not times_s:
        raise TraceError(f"{where}: output_token_times: no times (got 0). expected a streamed answer")
    return {
        ROW: row,
        "arrival_s": number(record["start_time"], f"{where}: start_time"),
        "prompt_tokens": number(prompt, f"{where}: input_tokens"),
        "output_tokens": number(response.get("output_tokens"), f"{where}: output_tokens"),
        "first_token_s": times_s[0],
        "finished_s": times_s[-1],
    }


def _from_statistics(path: Path, data: dict[str, Any]) -> MeasuredRun:
    done = data["successes"]
    count = int(number(at(done, "count"), f"{path}: successes.count"))
    if count < 1:
        raise TraceError(f"{path}: no completed request (got {count}). expected at least one")
    prompt = number(at(done, "prompt_len", "mean"), f"{path}: prompt_len.mean")
    output = number(at(done, "output_len", "mean"), f"{path}: output_len.mean")
    concurrency = number_or_none(at(data, "load_summary", "concurrency"), f"{path}: concurrency")
    notes = ["lengths of single requests are not in the file: every one has the mean"]
    arrivals_s = [0.0] * count
    if not concurrency:
        rate = number(at(data, "load_summary", "achieved_rate"), f"{path}: achieved_rate")
        notes.append(f"times of arrival are not in the file: evenly spaced at {rate:.4g} requests/s")
        arrivals_s = [index / rate for index in range(count)]
    metrics = believed(_metrics(done, path), output, notes)
    check_measured(metrics, path, ("ttft_s_mean",))
    return MeasuredRun(
        name=path.stem.removesuffix("_lifecycle_metrics"),
        source=path,
        deployment=Deployment(),
        requests=load(count, prompt, output, arrivals_s),
        metrics=metrics,
        max_concurrency=int(concurrency) if concurrency else None,
        notes=(*failed_left_out(int(at(data, "failures", "count") or 0)), *notes),
    )


def _metrics(done: Any, path: Path) -> dict[str, float]:
    metrics = {}
    for name, theirs in _LATENCIES.items():
        for statistic, key in _STATISTICS.items():
            value = number_or_none(at(done, "latency", theirs, key), f"{path}: {theirs}.{key}")
            if value is not None and value > 0:
                metrics[f"{name}_{statistic}"] = value
    for name, key in _RATES.items():
        metrics[name] = number(at(done, "throughput", key), f"{path}: throughput.{key}")
    return metrics
