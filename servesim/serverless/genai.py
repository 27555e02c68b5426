"""Readers of Alibaba's GenTD26: how long GPU containers took to load models, and the requests that they served.

Formats and data are described in https://github.com/alibaba/clusterdata (cluster-trace-v2026-GenAI). Its absolute
times are said to be scaled for anonymity.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from servesim.errors import TraceError
from servesim.serverless.contract import check, conform
from servesim.serverless.files import members
from servesim.serverless.log import ServerlessLog
from servesim.serverless.schema import LOADS
from servesim.workload.checks import ROW, first_wrong
from servesim.workload.files import read_csv
from servesim.workload.source import rows_behind
from servesim.workload.timestamps import seconds_since_first

GRID_S = 57.0
"""Distance of the times in the long tables."""

SUCCEEDED = "SUCCEED"
_NO_CONTAINER = ("", "NULL", "None")
_NAMED = {
    "base_model": "base_model",
    "basemodel": "base_model",
    "pipeline": "pipeline",
    "lora": "lora",
    "controlnet": "controlnet",
}
_GRID_TOLERANCE_S = 0.5


def read_loads(path: Path, *, load: str | None = None) -> ServerlessLog:
    """Return the loads of a long table, or of the four in a folder, as cold starts of containers.

    Values are milliseconds. Rows without a container (``NULL``, ``None`` or nothing) are kept and counted, so are loads
    of 0 ms. Time 0 is the earliest one in the files; rows off the grid of 57 s are counted in ``off_grid``.

    Parameters
    ----------
    path
        The CSV file or a folder of them.
    load
        What was loaded, one of `LOADS`; None: as the file's name has it.

    Raises
    ------
    TraceError
        If a file cannot be taken as it is, or does not tell what was loaded.
    """
    files = members(path)
    if path.is_dir():
        files = [file for file in files if _named(file) is not None]
    frames = [_loads(file, load or _named(file)) for file in files]
    if not frames:
        raise TraceError(
            f"{path}: no table of loads in this folder (got 0). expected any of {', '.join(LOADS)}"
        )
    whole = pl.concat(frames)
    first_s = whole["start_s"].min()
    whole = whole.with_columns(pl.col("start_s") - first_s)
    off_s = (whole["start_s"].to_numpy() + GRID_S / 2) % GRID_S - GRID_S / 2
    notes: dict[str, int | float | str] = {
        "files": len(frames),
        "rows_read": whole.height,
        "rows_sorted": rows_behind(whole["start_s"]),
        "without_container": whole["pod"].null_count(),
        "zero_loads": int((whole["total_s"] == 0).sum()),
        "off_grid": int((np.abs(off_s) > _GRID_TOLERANCE_S).sum()),
    }
    cold_starts = conform(whole.lazy().sort("start_s", maintain_order=True), "cold_starts")
    return ServerlessLog(format="genai_loads", cold_starts=cold_starts, notes=notes)


def _named(file: Path) -> str | None:
    name = file.name.lower()
    if "inference" in name:
        return None
    return next((load for word, load in _NAMED.items() if word in name), None)


def _loads(file: Path, load: str | None) -> pl.DataFrame:
    if load not in LOADS:
        raise TraceError(
            f"{file}: load: the name does not tell what was loaded (got {load!r}). expected any of {', '.join(LOADS)}",
            hint="set load",
        )
    frame = read_csv(file, numbers=["timestamp_anon", "value"], texts=["container_ip"])
    names = {"start_s": "timestamp_anon", "total_s": "value"}
    rows = frame.select(
        ROW,
        start_s="timestamp_anon",
        total_s=pl.col("value") / 1e3,
        pod=pl.when(~pl.col("container_ip").is_in(_NO_CONTAINER)).then("container_ip"),
        load=pl.lit(load),
    )
    check(rows, "cold_starts", file, names=names)
    return rows.drop(ROW)


def read_requests(path: Path) -> ServerlessLog:
    """Return the requests of ``lora_request_trace.csv``, in order of arrival.

    The function is the base model. Requests that did not succeed are kept with their status and counted.

    Raises
    ------
    TraceError
        If the file cannot be taken as it is.
    """
    texts = ["gmt_create", "predict_type", "predict_status", "groupId", "checkpoint_model_version_id"]
    frame = read_csv(path, texts=texts, numbers=["exec_time_seconds", "num_lora"])
    names = {"function": "checkpoint_model_version_id", "duration_s": "exec_time_seconds"}
    frame = frame.with_columns(arrival_s=seconds_since_first(frame, "gmt_create", path))
    if wrong := first_wrong(frame, frame["predict_status"].is_null()):
        raise TraceError(
            f"{path}: row {wrong[1]}: predict_status: missing (got an empty cell). expected a state"
        )
    rows = frame.select(
        ROW,
        "arrival_s",
        window_s=pl.lit(0.0),
        invocations=pl.lit(1),
        function="checkpoint_model_version_id",
        user="groupId",
        trigger="predict_type",
        duration_s=pl.col("exec_time_seconds").fill_nan(None),
        status="predict_status",
    )
    check(rows, "invocations", path, names=names)
    notes: dict[str, int | float | str] = {
        "files": 1,
        "rows_read": frame.height,
        "rows_sorted": rows_behind(rows["arrival_s"]),
        "not_succeeded": int((rows["status"] != SUCCEEDED).sum()),
        "with_lora": int((frame["num_lora"] > 0).sum()),
    }
    invocations = conform(rows.lazy().sort("arrival_s", maintain_order=True), "invocations")
    return ServerlessLog(format="genai_requests", invocations=invocations, notes=notes)
