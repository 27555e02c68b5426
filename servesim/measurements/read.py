"""From a path to the measured runs that it holds, whatever tool wrote it."""

from __future__ import annotations

from pathlib import Path

from servesim.errors import TraceError
from servesim.measurements.aiperf import (
    is_aiperf_log,
    is_aiperf_summary,
    read_aiperf_log,
    read_aiperf_summary,
)
from servesim.measurements.batch_sweep import is_batch_sweep, read_batch_sweep
from servesim.measurements.inference_perf import is_inference_perf, read_inference_perf
from servesim.measurements.json_files import read_json
from servesim.measurements.request_log import clock_offset_s, is_request_log, read_request_log
from servesim.measurements.silicon import is_silicon, read_silicon
from servesim.measurements.vllm_bench import is_vllm_bench, read_vllm_bench
from servesim.measurements.workload import MeasuredRun
from servesim.workload.files import jsonl_keys

KNOWN = (
    "JSON lines with arrival, prompt, output, first and last token of every request; results of vllm bench serve, "
    "AIPerf or inference-perf; the Parquet files of batch sweeps and AIConfigurator's silicon points; or a folder of "
    "logs"
)

LOG = "requests.jsonl"
"""Name of the logs that are looked for in a folder."""

SAME_MACHINE_S = 1.0
"""Offsets between two clocks that differ by less come from one machine, since it was started."""


def read_measured(path: str | Path) -> list[MeasuredRun]:
    """Return the measured runs at *path*.

    Parameters
    ----------
    path
        A file, or a folder whose sub-folders hold ``requests.jsonl`` each: runs of one machine then share the offset
        between the clocks of arrivals and tokens.

    Raises
    ------
    TraceError
        If there is nothing, it is of no known kind, or cannot be taken as it is.
    """
    path = Path(path)
    if path.is_dir():
        return _read_logs(path)
    if not path.is_file():
        raise TraceError(f"{path}: no such file. expected a measurement: {KNOWN}")
    ending = path.suffix.lower()
    if ending == ".parquet":
        return _read_parquet(path)
    if ending in (".jsonl", ".ndjson"):
        return [_read_lines(path)]
    if ending == ".json":
        return [_read_json(path)]
    raise TraceError(f"{path}: unknown kind of file (got {path.name!r}). expected {KNOWN}")


def _read_logs(folder: Path) -> list[MeasuredRun]:
    logs = sorted([*folder.glob(LOG), *folder.glob(f"*/{LOG}")])
    if not logs:
        raise TraceError(f"{folder}: no logs (got no {LOG} here or one level below). expected {KNOWN}")
    offsets = {log: clock_offset_s(log) for log in logs}
    found = [offset for offset in offsets.values() if offset is not None]
    shared = min(found) if found and max(found) - min(found) < SAME_MACHINE_S else None
    return [
        read_request_log(log, clock_offset_s=offset if shared is None else shared)
        for log, offset in offsets.items()
    ]


def _read_parquet(path: Path) -> list[MeasuredRun]:
    if is_batch_sweep(path):
        return read_batch_sweep(path)
    if is_silicon(path):
        return read_silicon(path)
    raise TraceError(f"{path}: Parquet of unknown columns. expected {KNOWN}")


def _read_lines(path: Path) -> MeasuredRun:
    keys = jsonl_keys(path)
    if is_aiperf_log(keys):
        return read_aiperf_log(path)
    # A log that lacks a column is told which one.
    return read_request_log(path) if is_request_log(keys) or "metrics" not in keys else read_aiperf_log(path)


def _read_json(path: Path) -> MeasuredRun:
    data = read_json(path)
    if is_vllm_bench(data):
        return read_vllm_bench(path, data)
    if is_aiperf_summary(data):
        return read_aiperf_summary(path, data)
    if is_inference_perf(data):
        return read_inference_perf(path, data)
    raise TraceError(f"{path}: JSON of unknown form. expected {KNOWN}")
