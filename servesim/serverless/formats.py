"""Which format a serverless log has, told from its header, and reading it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from servesim.errors import TraceError, nearest
from servesim.serverless import azure_functions, genai, huawei, huawei_series, parquet
from servesim.serverless.files import members
from servesim.serverless.log import ServerlessLog
from servesim.workload.content import check_is_data
from servesim.workload.files import csv_header, parquet_columns

FORMATS: dict[str, tuple[frozenset[str], Callable[..., ServerlessLog]]] = {
    "huawei_cold_starts": (frozenset({"totalCost_cold_start", "podID"}), huawei.read_cold_starts),
    "huawei_requests": (frozenset({"time_worker", "totalCost_worker"}), huawei.read_requests),
    "huawei_functions": (frozenset({"funcID"}), huawei.read_functions),
    "azure_functions_2019_invocations": (
        frozenset({"HashFunction", "Trigger", "1", "1440"}),
        azure_functions.read_2019_invocations,
    ),
    "azure_functions_2019_durations": (
        frozenset({"HashFunction", "percentile_Average_50"}),
        azure_functions.read_2019_durations,
    ),
    "azure_functions_2019_memory": (
        frozenset({"HashApp", "AverageAllocatedMb"}),
        azure_functions.read_2019_memory,
    ),
    "azure_functions_2021": (
        frozenset({"app", "func", "end_timestamp", "duration"}),
        azure_functions.read_2021,
    ),
    "genai_loads": (frozenset({"timestamp_anon", "value", "container_ip"}), genai.read_loads),
    "genai_requests": (frozenset({"gmt_create", "predict_status"}), genai.read_requests),
}
"""Name of a format to columns that only it has, and its reader."""

_SERIES = "huawei_series"

NAMES = (*FORMATS, _SERIES, *parquet.FORMS)
"""Names of all formats."""


def detect(path: Path) -> str | None:
    """Return the name of the format of a serverless log, a file or folder, or None if it is none.

    Raises
    ------
    TraceError
        If there is no such file, or no text in it.
    """
    if _is_parquet(path):
        return parquet.form_of(path)
    header = csv_header(members(path)[0])
    names = set(header)
    if {"day", "time"} <= names and any("---" in name for name in names):
        return _SERIES
    return next((name for name, (columns, _) in FORMATS.items() if columns <= names), None)


def read(path: Path | str, *, form: str | None = None, **parameters: Any) -> ServerlessLog:
    """Return a serverless log.

    Parameters
    ----------
    path
        A file, or a folder of the files of one table.
    form
        Name of the format; None: as the header tells.
    **parameters
        Of the format's reader.

    Raises
    ------
    TraceError
        If the format is unknown or a file cannot be taken as it is.
    """
    path = Path(path)
    name = form or detect(path)
    if name not in NAMES:
        raise TraceError(
            f"{path}: not a serverless log that is known (got {name or _columns(path)!r}). "
            f"expected any of {', '.join(NAMES)}",
            hint=nearest(name or "", NAMES),
        )
    if name in parquet.FORMS:
        return parquet.read_frame(path, **parameters)
    reader = huawei_series.read_series if name == _SERIES else FORMATS[name][1]
    return reader(path, **parameters)


def _columns(path: Path) -> list[str]:
    return parquet_columns(path) if _is_parquet(path) else csv_header(members(path)[0])


def _is_parquet(path: Path) -> bool:
    return not path.is_dir() and check_is_data(path).startswith(b"PAR1")
