"""Readers of the Azure Functions traces: 2019 (counts a minute, durations, memory) and 2021 (invocations).

Formats and data are described in https://github.com/Azure/AzurePublicDataset; in Shahrad et al., "Serverless in the
Wild", USENIX ATC 2020; and in Zhang et al., "Faster and Cheaper Serverless Computing on Harvested Resources",
SOSP 2021.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from servesim.serverless.contract import check, conform
from servesim.serverless.files import Table, members, read_parts
from servesim.serverless.log import ServerlessLog
from servesim.workload.checks import ROW
from servesim.workload.files import read_csv
from servesim.workload.source import rows_behind

MINUTES = [str(minute) for minute in range(1, 1441)]
"""Columns of the counts of 2019: minutes of the day, from 1."""

_DAY = re.compile(r"\.d(\d\d)\.")
_OWNED = {"user": "HashOwner", "app": "HashApp"}
_DURATIONS = Table(
    kind="functions",
    numbers={
        "duration_s_mean": "Average",
        "executions": "Count",
        "duration_s_min": "Minimum",
        "duration_s_max": "Maximum",
        "duration_s_p50": "percentile_Average_50",
        "duration_s_p99": "percentile_Average_99",
    },
    texts={**_OWNED, "name": "HashFunction"},
    ticks_per_s=1e3,
)
_MEMORY = Table(
    kind="functions",
    numbers={
        "executions": "SampleCount",
        "memory_mb_mean": "AverageAllocatedMb",
        "memory_mb_p50": "AverageAllocatedMb_pct50",
        "memory_mb_p99": "AverageAllocatedMb_pct99",
    },
    texts=_OWNED,
)
_FUNCTION = pl.concat_str("app", "name", separator="/")
"""Hashes of functions are unique within an application only."""


def read_2019_invocations(path: Path) -> ServerlessLog:
    """Return the counts of 2019, one day's file or a folder of days: a row for every function and minute with any.

    The day is that of the file's name (``.d01.`` is the first); without one it is the first.

    Raises
    ------
    TraceError
        If a file cannot be taken as it is.
    """
    files = members(path)
    frames = [_day(file) for file in files]
    whole = pl.concat([frame for frame, _ in frames]).sort("arrival_s", maintain_order=True)
    counts = whole.group_by("function", "user", "trigger", maintain_order=True).agg(
        pl.col("invocations").sum()
    )
    notes: dict[str, int | float | str] = {
        "files": len(files),
        "rows_read": sum(rows for _, rows in frames),
        "invocations": int(whole["invocations"].sum()),
    }
    functions = counts.with_columns(app=pl.col("function").str.split("/").list.get(0))
    return ServerlessLog(
        format="azure_functions_2019_invocations",
        invocations=whole.lazy(),
        functions=conform(functions.lazy(), "functions"),
        notes=notes,
    )


def _day(file: Path) -> tuple[pl.DataFrame, int]:
    """Return the counts of a day that are not 0, and how many rows its file has."""
    wide = read_csv(file, texts=["HashOwner", "HashApp", "HashFunction", "Trigger"], numbers=MINUTES)
    found = _DAY.search(file.name)
    day = int(found[1]) - 1 if found else 0
    long = (
        wide.select(ROW, *MINUTES, app="HashApp", name="HashFunction", user="HashOwner", trigger="Trigger")
        .unpivot(
            MINUTES,
            index=[ROW, "app", "name", "user", "trigger"],
            variable_name="minute",
            value_name="invocations",
        )
        .filter(pl.col("invocations") != 0)
        .with_columns(
            function=_FUNCTION,
            arrival_s=(pl.col("minute").cast(pl.Float64) - 1 + 1440 * day) * 60,
            window_s=pl.lit(60.0),
        )
    )
    check(long, "invocations", file, names={"invocations": "counts of minutes"})
    return conform(long.lazy(), "invocations").collect(), wide.height


def read_2019_durations(path: Path) -> ServerlessLog:
    """Return the durations of 2019, in seconds; a row for every function and day.

    Percentiles are of means over 30 s. Minima that were not recorded are as the file has them.

    Raises
    ------
    TraceError
        If a file cannot be taken as it is.
    """
    rows, numbers, files = read_parts(path, lambda _: _DURATIONS)
    whole = pl.concat(rows).with_columns(function=_FUNCTION)
    return _of_functions("azure_functions_2019_durations", whole, numbers, files)


def read_2019_memory(path: Path) -> ServerlessLog:
    """Return the memory of 2019: a row for every application and day, since memory belongs to applications.

    Raises
    ------
    TraceError
        If a file cannot be taken as it is.
    """
    rows, numbers, files = read_parts(path, lambda _: _MEMORY)
    return _of_functions("azure_functions_2019_memory", pl.concat(rows), numbers, files)


def _of_functions(
    name: str, rows: pl.LazyFrame, numbers: list[pl.DataFrame], files: list[Path]
) -> ServerlessLog:
    notes: dict[str, int | float | str] = {"files": len(files), "rows_read": sum(map(len, numbers))}
    return ServerlessLog(format=name, functions=conform(rows, "functions"), notes=notes)


def read_2021(path: Path) -> ServerlessLog:
    """Return the invocations of 2021: arrival is end less duration, time 0 the first arrival.

    Rows stand in order of their ends; ``rows_sorted`` counts those that arrived before an earlier row.

    Raises
    ------
    TraceError
        If the file cannot be taken as it is.
    """
    frame = read_csv(path, texts=["app", "func"], numbers=["end_timestamp", "duration"])
    names = {"end_s": "end_timestamp", "duration_s": "duration"}
    check(
        frame.select(ROW, duration_s="duration", arrival_s="end_timestamp"), "invocations", path, names=names
    )
    arrival_s = frame["end_timestamp"] - frame["duration"]
    notes: dict[str, int | float | str] = {
        "files": 1,
        "rows_read": frame.height,
        "rows_sorted": rows_behind(arrival_s),
        "first_arrival_s": float(arrival_s.min()),  # type: ignore[arg-type]  # a number, checked
    }
    rows = frame.lazy().select(
        arrival_s=arrival_s - arrival_s.min(),
        window_s=pl.lit(0.0),
        invocations=pl.lit(1),
        function=pl.concat_str("app", "func", separator="/"),
        duration_s="duration",
    )
    invocations = conform(rows.sort("arrival_s", maintain_order=True), "invocations")
    return ServerlessLog(format="azure_functions_2021", invocations=invocations, notes=notes)
