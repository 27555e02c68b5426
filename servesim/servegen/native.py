"""Client pools as ServeGen releases them: ``chunk-CLIENT-trace.csv`` and ``chunk-CLIENT-dataset.json`` in a folder.

A trace has no header; its lines are window start (s), rate (requests/s), cv, pattern (Gamma, Weibull, or nothing for
an idle window), shape, scale (s). A dataset maps the start of six hours to fields, each a Python dict in a string:
value to probability. See https://github.com/alibaba/ServeGen and Xiang et al., "ServeGen", NSDI 2026.
"""

from __future__ import annotations

import ast
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from servesim.errors import TraceError
from servesim.servegen.lengths import FIELDS, RATIO_BINS, LengthTable, length_table, unknown_field, unusable
from servesim.servegen.pool import WINDOW_S, WINDOWS_PER_6H, ClientPool, check_activity, client_pool
from servesim.workload.checks import ROW, check_numbers, first_wrong
from servesim.workload.content import first_line, opened

_COLUMNS = ["start_s", "rate_per_s", "cv", "pattern", "shape", "scale"]
_TRACE = re.compile(r"^chunk-(?P<client>.+)-trace\.csv$")
_PATTERNS = ("Gamma", "Weibull")


def read_native(folder: Path) -> ClientPool:
    """Return the pool of all clients in *folder*; a client without a dataset has no lengths of its own.

    Raises
    ------
    TraceError
        If there is no client, or a file's content cannot be taken as it is.
    """
    found = {match["client"]: path for path in sorted(folder.iterdir()) if (match := _TRACE.match(path.name))}
    if not found:
        raise TraceError(
            f"{folder}: no client pool (got no chunk-*-trace.csv in it). expected a trace per client"
        )
    clients = tuple(sorted(found, key=lambda client: (len(client), client)))
    activity = pl.concat([_activity(found[client], number) for number, client in enumerate(clients)])
    datasets = {
        number: path
        for number, client in enumerate(clients)
        if (path := folder / f"chunk-{client}-dataset.json").exists()
    }
    return client_pool(folder.name, clients, activity, _lengths(datasets, folder), where=folder)


def _activity(path: Path, client: int) -> pl.DataFrame:
    """Return a client's active windows."""
    first_line(path)  # refuses what is not text
    with opened(path) as file:
        text = file.read().removeprefix(b"\xef\xbb\xbf")
    try:
        frame = pl.read_csv(
            io.BytesIO(text),
            has_header=False,
            new_columns=_COLUMNS,
            schema=dict.fromkeys(_COLUMNS, pl.String),
            row_index_name=ROW,
            row_index_offset=1,
        )
    except pl.exceptions.PolarsError as error:
        raise TraceError(
            f"{path}: not readable ({str(error).splitlines()[0]}). expected lines of {', '.join(_COLUMNS)}"
        ) from error
    numbers = [name for name in _COLUMNS if name != "pattern"]
    cast = frame.with_columns(
        pl.col(name).str.strip_chars().cast(pl.Float64, strict=False) for name in numbers
    )
    for name in numbers:
        if wrong := first_wrong(frame, cast[name].is_null()):
            got = frame[name][wrong[0]]
            raise TraceError(f"{path}: row {wrong[1]}: {name}: not a number (got {got!r}). expected a number")
        check_numbers(cast, name, path)
    if wrong := first_wrong(cast, (cast["start_s"] % WINDOW_S != 0) | (cast["start_s"] < 0)):
        got = cast["start_s"][wrong[0]]
        raise TraceError(
            f"{path}: row {wrong[1]}: start_s: not a window (got {got!r}). expected a multiple of 600"
        )
    if wrong := first_wrong(cast, cast["rate_per_s"] < 0):
        got = cast["rate_per_s"][wrong[0]]
        raise TraceError(f"{path}: row {wrong[1]}: rate_per_s: negative (got {got!r}). expected >= 0")
    active = cast.filter(pl.col("rate_per_s") > 0)
    if wrong := first_wrong(active, ~active["pattern"].is_in(_PATTERNS).fill_null(value=False)):
        got = active["pattern"][wrong[0]]
        raise TraceError(f"{path}: row {wrong[1]}: pattern: unknown (got {got!r}). expected Gamma or Weibull")
    requests = pl.col("rate_per_s") * WINDOW_S
    active = active.select(
        pl.col(ROW),
        pl.lit(client, dtype=pl.Int64).alias("client"),
        (pl.col("start_s") / WINDOW_S).alias("window"),
        pl.when((requests - requests.round()).abs() < 1e-6)
        .then(requests.round())
        .otherwise(requests)
        .alias("requests"),
        pl.col("cv"),
        (pl.col("pattern") == "Weibull").alias("weibull"),
        pl.col("shape"),
        pl.col("scale"),
    )
    check_activity(active, path)
    return active


def _lengths(datasets: dict[int, Path], folder: Path) -> LengthTable:
    """Return the histograms of all clients."""
    rows: list[tuple[int, int, str, int]] = []
    values, weights = [np.empty(0, dtype=np.int64)], [np.empty(0)]
    for client, path in datasets.items():
        for start, fields in _document(path).items():
            window = _six_hours(start, path)
            for field, text in fields.items():
                if field not in FIELDS:
                    raise TraceError(f"{path}: {start}: field: {unknown_field(field)}")
                found, shares = _histogram(text, f"{path}: {start}: {field}", bins=field == "reason_ratio")
                rows.append((client, window, field, len(found)))
                values.append(found)
                weights.append(shares)
    table = pl.DataFrame(
        rows,
        schema={"client": pl.Int64, "window6h": pl.Int64, "field": pl.String, "size": pl.Int64},
        orient="row",
    )
    return length_table(table, np.concatenate(values), np.concatenate(weights), folder)


def _document(path: Path) -> dict[str, dict[str, Any]]:
    first_line(path)
    with opened(path) as file:
        text = file.read().decode("utf-8-sig")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise TraceError(f"{path}: not JSON ({error}). expected an object") from error
    if not isinstance(found, dict) or not all(isinstance(fields, dict) for fields in found.values()):
        raise TraceError(f"{path}: not lengths by window and field. expected objects within an object")
    return found


def _six_hours(start: str, path: Path) -> int:
    six_hours_s = WINDOW_S * WINDOWS_PER_6H
    if not start.isdecimal() or int(start) % six_hours_s:
        raise TraceError(
            f"{path}: {start!r}: not the start of six hours (got {start!r}). expected a multiple of 21600"
        )
    return int(start) // six_hours_s


def _histogram(text: object, where: str, *, bins: bool) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return values and weights of a Python dict in a string; *bins*: its keys are shares of the output."""
    try:
        found = ast.literal_eval(text) if isinstance(text, str) else text
        if not isinstance(found, dict):
            raise ValueError("no dict")
        values = np.array(list(found), dtype=np.float64)
        weights = np.array(list(found.values()), dtype=np.float64)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        got = repr(text)[:40]
        raise TraceError(
            f"{where}: not a Python dict of numbers (got {got}). expected value to share"
        ) from error
    if bins:
        values = np.rint(values * RATIO_BINS)
    if len(values) and not (np.isfinite(values) & (values == np.floor(values))).all():
        got = next(
            value for value in values.tolist() if not math.isfinite(value) or value != math.floor(value)
        )
        raise TraceError(f"{where}: no whole number of tokens (got {got!r}). expected whole numbers")
    for unfit, column, what in (
        ((values < 0) | (values >= 2**31), values, "value"),
        (~(np.isfinite(weights) & (weights >= 0)), weights, "count"),
    ):
        if unfit.any():
            got = column[unfit][0].item()
            raise TraceError(f"{where}: {unusable(what, int(got) if what == 'value' else got)}")
    order = np.argsort(values, kind="stable")
    kept = order[weights[order] != 0]
    return values[kept].astype(np.int64), weights[kept]
