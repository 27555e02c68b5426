"""Reader of the per-minute series of the Huawei trace: wide CSV, a column for every function."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from servesim.serverless.contract import check, conform
from servesim.serverless.files import members
from servesim.serverless.huawei import DAY_S
from servesim.serverless.log import ServerlessLog
from servesim.workload.checks import ROW, require_columns
from servesim.workload.files import csv_header, read_csv

WINDOW_S = 60.0
STATISTICS = ("avg", "std", "q0", "q25", "q50", "q75", "q90", "q95", "q99", "q100")
_COUNTS = ("requests", "num_pods", "num_cold_starts")
_TIMES = ("day", "time")


def read_series(path: Path, *, metric: str | None = None, statistic: str | None = None) -> ServerlessLog:
    """Return the series of a metric, one file or a folder of days: a row for every function and minute with a value.

    The counts of requests are also the frame ``invocations``. Cells that are empty or NaN are no values. Where all
    times are below a day although the days differ, they are taken as times of the day.

    Parameters
    ----------
    path
        The CSV file or a folder of them.
    metric, statistic
        What the series is of, and which statistic (one of `STATISTICS`); None: as the file's name has it, such as
        ``totalCost_q50.csv`` or ``requests.csv``.

    Raises
    ------
    TraceError
        If a file cannot be taken as it is.
    """
    frames = [_long(file, metric, statistic) for file in members(path)]
    whole = pl.concat(frames).sort("start_s", maintain_order=True)
    notes: dict[str, int | float | str] = {"files": len(frames), "values": whole.height}
    requests = whole.filter(pl.col("metric") == "requests")
    invocations = requests.select("function", "window_s", arrival_s="start_s", invocations="value")
    return ServerlessLog(
        format="huawei_series",
        series=whole.lazy(),
        invocations=None if requests.is_empty() else conform(invocations.lazy(), "invocations"),
        notes=notes,
    )


def _long(file: Path, metric: str | None, statistic: str | None) -> pl.DataFrame:
    header = csv_header(file)
    require_columns(_TIMES, header, file)
    functions = [name for name in header if "---" in name]
    wide = read_csv(file, numbers=[*_TIMES, *functions])
    check(wide.select(ROW, start_s="time"), "series", file, names={"start_s": "time"})
    of_day = wide["time"].max() < DAY_S < DAY_S * (wide["day"].max() + 1)  # type: ignore[operator]  # numbers
    named = _named(file)
    found_metric, found_statistic = metric or named[0], statistic or named[1]
    long = wide.select(
        ROW, *functions, start_s=pl.col("time") + (pl.col("day") * DAY_S if of_day and named else 0.0)
    ).unpivot(functions, index=[ROW, "start_s"], variable_name="function")
    long = long.filter(pl.col("value").is_not_null() & pl.col("value").is_not_nan()).with_columns(
        window_s=pl.lit(WINDOW_S),
        metric=pl.lit(found_metric),
        statistic=pl.lit(found_statistic, dtype=pl.String),
    )
    check(long, "series", file, names={"value": found_metric})
    return conform(long.lazy(), "series").collect()


def _named(file: Path) -> tuple[str, str | None]:
    """Return the metric and the statistic that a file is named after."""
    stem = file.name.split(".")[0]
    for statistic in STATISTICS:
        if stem.endswith(f"_{statistic}"):
            return stem.removesuffix(f"_{statistic}"), statistic
    return next((name for name in _COUNTS if stem.startswith(name)), stem), None
