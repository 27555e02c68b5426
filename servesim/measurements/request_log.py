"""Reader of request logs: JSON lines with the time stamps and lengths of every request.

``meta.json`` beside the log (as LLMServingSim's benchmarks of vLLM have it) tells model, engine and settings,
``config.json`` the GPU, ``timeseries.csv`` what ran and waited second by second.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from servesim.errors import TraceError
from servesim.measurements.checks import check_increasing, settled
from servesim.measurements.json_files import at, read_json
from servesim.measurements.workload import Deployment, MeasuredRun, request_metrics
from servesim.workload.checks import ROW, check_numbers, check_tokens, require_columns
from servesim.workload.files import jsonl_keys, read_csv, read_jsonl

NAMES = {
    "arrival_s": ("arrival_s", "arrival_time", "arrival", "send_time"),
    "prompt_tokens": ("prompt_tokens", "input_toks", "input_tokens", "prompt"),
    "output_tokens": ("output_tokens", "output_toks", "output"),
    "first_token_s": ("first_token_s", "first_token_ts", "first_token_time", "first"),
    "finished_s": ("finished_s", "last_token_ts", "last_token_time", "last"),
}
"""What logs call the columns that are needed; times in s."""

QUEUED = "queued_ts"
"""When the engine got the request, on the clock of its tokens: ties that clock to the one of arrivals."""

SAME_CLOCK_S = 60.0
"""No request is under way longer than this to the engine: a larger distance is one of two clocks."""

_SETTINGS = ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "gpu_memory_utilization")


def is_request_log(keys: list[str]) -> bool:
    """Return whether JSON lines with *keys* are a request log."""
    return all(any(name in keys for name in names) for names in NAMES.values())


def read_request_log(path: Path, *, clock_offset_s: float | None = None) -> MeasuredRun:
    """Return the run of the log at *path*.

    Parameters
    ----------
    path
        The log.
    clock_offset_s
        What the clock of the tokens shows at 0 s of the arrivals' clock, where they differ; None: the least distance
        from arrival to queue of this log, as if the fastest request took no time on its way.

    Raises
    ------
    TraceError
        If the log cannot be taken as it is.
    """
    columns = _columns(path)
    frame, notes = _on_one_clock(_frame(path, columns), path, clock_offset_s)
    requests, more = settled(frame, path, columns)
    meta = _beside(path, "meta.json")
    return MeasuredRun(
        name=path.absolute().parent.name if path.stem == "requests" else path.stem,
        source=path,
        deployment=_deployment(meta, _beside(path, "config.json")),
        requests=requests,
        metrics=request_metrics(requests),
        series=_series(path, meta, first_arrival_s=float(_frame(path, columns)["arrival_s"].min())),  # type: ignore[arg-type]
        notes=(*notes, *more),
    )


def clock_offset_s(path: Path) -> float | None:
    """Return the least distance from arrival to queue in the log at *path*; None where one clock tells both times."""
    frame = _frame(path, _columns(path))
    if QUEUED not in frame.columns:
        return None
    least = float((frame[QUEUED] - frame["arrival_s"]).min())  # type: ignore[arg-type]
    return least if abs(least) > SAME_CLOCK_S else None


def _columns(path: Path) -> dict[str, str]:
    found = jsonl_keys(path)
    columns = {name: next((key for key in keys if key in found), keys[0]) for name, keys in NAMES.items()}
    require_columns(columns.values(), found, path)
    return columns


def _frame(path: Path, columns: dict[str, str]) -> pl.DataFrame:
    queued = [QUEUED] if QUEUED in jsonl_keys(path) else []
    frame = read_jsonl(path, numbers=[*columns.values(), *queued], others={})
    for name, key in columns.items():
        check_numbers(frame, key, path)
        if name.endswith("_tokens"):
            check_tokens(frame, key, path, least=1 if name == "prompt_tokens" else 0)
    return frame.select(ROW, *queued, **{name: pl.col(key) for name, key in columns.items()})


def _on_one_clock(frame: pl.DataFrame, path: Path, offset_s: float | None) -> tuple[pl.DataFrame, list[str]]:
    """Return *frame* with arrivals on the clock of the tokens, and a note if they were on another one."""
    distance_s = float((frame["first_token_s"] - frame["arrival_s"]).median())  # type: ignore[arg-type]
    if abs(distance_s) < 1e6:  # eleven days
        return frame, []
    if QUEUED not in frame.columns:
        raise TraceError(
            f"{path}: arrivals and tokens are on different clocks (got {distance_s:.6g} s from one to the other, and "
            f"no {QUEUED}). expected times of one clock"
        )
    if offset_s is None:
        offset_s = float((frame[QUEUED] - frame["arrival_s"]).min())  # type: ignore[arg-type]
    note = f"arrivals moved to the clock of the tokens by {offset_s:.6f} s"
    return frame.with_columns(arrival_s=pl.col("arrival_s") + offset_s), [note]


def _beside(path: Path, name: str) -> Any:
    other = path.with_name(name)
    return read_json(other) if other.is_file() else {}


def _deployment(meta: Any, config: Any) -> Deployment:
    given = at(meta, "engine_kwargs") or {}
    nodes = at(config, "nodes") or [{}]
    instances = at(nodes[0], "instances") or [{}]
    settings = {name: given[name] for name in _SETTINGS if given.get(name) is not None}
    version = at(meta, "vllm_version")
    return Deployment(
        model=at(meta, "model"),
        gpu=at(instances[0], "hardware"),
        tensor_parallel=given.get("tensor_parallel_size", 1),
        data_parallel=given.get("data_parallel_size", 1),
        dtype={"bfloat16": "bf16", "float16": "fp16"}.get(str(given.get("dtype"))),
        engine="vllm" if version else None,
        engine_version=version,
        settings=settings,
    )


def _series(path: Path, meta: Any, first_arrival_s: float) -> pl.DataFrame | None:
    """Return the time series beside the log, its clock set to 0 at the first arrival."""
    file = path.with_name("timeseries.csv")
    if not file.is_file():
        return None
    frame = read_csv(file, texts=[], numbers=["t", "running", "waiting"])
    check_increasing(frame["t"], file, "t")
    started = at(meta, "started_at")
    origin_s = datetime.fromisoformat(started).timestamp() - first_arrival_s if started else 0.0
    return frame.select(
        time_s=pl.col("t") + origin_s,
        running_requests=pl.col("running").cast(pl.Float64),
        waiting_requests=pl.col("waiting").cast(pl.Float64),
    )
