"""A client pool from a trace, or from any requests that a YAML file describes, with a report of what was fitted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from servesim._version import __version__
from servesim.errors import TraceError
from servesim.results.saving import replacing_file, write_parquet
from servesim.servegen.fit import FEWEST_REQUESTS, fit_pool
from servesim.servegen.packed import TRACE_END, dataset_beside, packed_frames
from servesim.servegen.pool import WINDOW_S, ClientPool
from servesim.traces.datasheets import check_own_datasheet, datasheet_path, write_datasheet
from servesim.traces.pool_info import PoolInfo, datasheet_of_pool, info_of
from servesim.traces.source import read_requests
from servesim.workload.datasheet import Datasheet

By = Literal["tenant", "session"]

_NO_CLIENTS = (
    "a YAML file with workload: {source: {reader: table, path: ..., columns: {tenant: COLUMN, ...}}} in place of the "
    "trace says which column tells the client"
)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A pool that was fitted and written.

    Attributes
    ----------
    info
        What it is.
    dataset
        The file of its lengths, beside that of its rates.
    sheet
        Its datasheet, which is beside them.
    counts
        ``clients_poisson``: clients without a window of `FEWEST_REQUESTS` requests, so that no gaps were fitted;
        ``poisson_ratio``: share of the requests that are in such windows; ``clients_few_lengths``: clients with fewer
        requests than that in all, whose lengths say little; ``last_window_s``: for how long the last window was seen.
    """

    info: PoolInfo
    dataset: Path
    sheet: Datasheet
    counts: dict[str, Any]


def fit(path: Path, out: Path, *, by: By = "tenant", reader: str | None = None) -> Fitted:
    """Fit a pool to the requests at *path* and write it to *out*, with its lengths and its datasheet beside it.

    Parameters
    ----------
    path
        A trace, or a YAML file that describes a workload.
    out
        ``NAME.trace.parquet``; older files are replaced once the new ones are complete.
    by
        What tells the client of a request.
    reader
        Name of the trace's reader; None: told from the file.

    Raises
    ------
    ServesimError
        If the requests do not tell their clients or their times, or a file cannot be read or written.
    """
    dataset = dataset_beside(out)
    check_own_datasheet(out)
    requests = read_requests(path, reader=reader).frame
    _check_clients(requests, by, path)
    pool = fit_pool(requests, by=by, name=out.name.removesuffix(TRACE_END))
    activity, lengths = packed_frames(pool)
    with replacing_file(dataset) as partial_dataset, replacing_file(out) as partial_trace:
        write_parquet(partial_dataset, lengths)
        write_parquet(partial_trace, activity)
    info = info_of(pool, path=out)
    counts = _counts(pool, requests)
    sheet = _sheet(info, counts, source=path, by=by)
    write_datasheet(sheet, datasheet_path(out))
    return Fitted(info=info, dataset=dataset, sheet=sheet, counts=counts)


def _check_clients(requests: pl.DataFrame, by: By, path: Path) -> None:
    """Refuse requests that do not tell their clients, and say how they could."""
    missing = requests[by].null_count() if by in requests.columns else requests.height
    if not missing:
        return
    other: By = "session" if by == "tenant" else "tenant"
    has_other = other in requests.columns and not requests[other].null_count()
    raise TraceError(
        f"{path}: requests without a {by} (got {missing:,} of {requests.height:,}). expected one for each, which "
        "tells its client",
        hint=f"--by {other} takes {other}s as clients" if has_other else _NO_CLIENTS,
    )


def _counts(pool: ClientPool, requests: pl.DataFrame) -> dict[str, Any]:
    few = pl.col("requests") < FEWEST_REQUESTS  # in a window, or in all
    by_client = pool.activity.group_by("client").agg(pl.col("requests").sum(), few.all().alias("poisson"))
    last_s = float(requests["arrival_s"].max())  # type: ignore[arg-type]  # a number
    requests_few = pool.activity.select(pl.col("requests").filter(few).sum() / pl.col("requests").sum())
    return {
        "clients_poisson": int(by_client["poisson"].sum()),
        "poisson_ratio": float(requests_few.item()),
        "clients_few_lengths": int((by_client["requests"] < FEWEST_REQUESTS).sum()),
        "last_window_s": last_s - np.floor(last_s / WINDOW_S) * WINDOW_S,
    }


def _sheet(info: PoolInfo, counts: dict[str, Any], *, source: Path, by: By) -> Datasheet:
    sheet = datasheet_of_pool(
        info,
        motivation="A load like that of the source, client by client, for simulations.",
        collection=f"Fitted by servesim {__version__} to the requests of {source.name}; a client is a {by}.",
        preprocessing=f"Requests are counted per client and {WINDOW_S} s; gaps are those of the likelier of a Gamma "
        f"and a Weibull distribution, and of a Poisson process in windows of fewer than {FEWEST_REQUESTS} requests; "
        "lengths are counted per client and six hours.",
        uses="The generator servegen. It keeps no sessions, no prefixes, and no correlation of prompts and outputs.",
        licence=f"That of {source.name}, whose clients and lengths it counts.",
    )
    seen_s = counts["last_window_s"]
    defect = f"the source ends {seen_s:.0f} s into the last window of {WINDOW_S} s, which is less busy so"
    return sheet.model_copy(update={"known_defects": (*sheet.known_defects, defect)})
