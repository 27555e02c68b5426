"""What a client pool is, in one object: its statistics, findings, and its datasheet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from servesim.errors import ServesimError
from servesim.servegen.fit import FEWEST_REQUESTS
from servesim.servegen.native import read_native
from servesim.servegen.packed import DATASET_END, TRACE_END, dataset_beside, read_packed
from servesim.servegen.parametric import pool_file, shipped_name, shipped_pool
from servesim.servegen.pool import WINDOW_S, ClientPool
from servesim.traces.arrival_checks import daily_cycle, drift
from servesim.traces.datasheets import described, sha256_of
from servesim.traces.finding import Finding, defects_in, rubric_of
from servesim.traces.kinds import POOL_READER
from servesim.traces.pool_statistics import (
    cv_against_shapes,
    filled_shares,
    pool_statistics,
    requests_by_window,
)
from servesim.traces.statistics import Floats
from servesim.workload.datasheet import Datasheet

HALF = 0.5
"""Bursts that fill less than this share of their window are counted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PoolInfo:
    """What a client pool is.

    Attributes
    ----------
    path
        Its folder, or its ``NAME.trace.parquet``, or its file in the package.
    form
        ``native``, ``packed`` or ``parametric``.
    pool
        It.
    statistics
        `servesim.traces.pool_statistics.pool_statistics`.
    findings
        What is odd about it.
    """

    path: Path
    form: str
    pool: ClientPool
    statistics: dict[str, Any]
    findings: list[Finding]

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the pool, as JSON can hold it."""
        return {
            "file": str(self.path),
            "format": POOL_READER,
            "form": self.form,
            **self.statistics,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def rates(self) -> tuple[Floats, Floats]:
        """Return edges in s of the windows and the requests per s in each."""
        requests = requests_by_window(self.pool)
        return np.arange(len(requests) + 1.0) * WINDOW_S, requests / WINDOW_S


def pool_info(path: Path) -> PoolInfo:
    """Return what the client pool at *path* is: a folder, either of the two files of a packed one, or one that ships.

    Raises
    ------
    TraceError
        If it cannot be taken as it is.
    """
    if (name := shipped_name(path)) is not None:
        return info_of(shipped_pool(name), path=pool_file(name), form="parametric")
    if path.is_dir():
        form, pool = "native", read_native(path)
    else:
        if path.name.endswith(DATASET_END):
            path = path.with_name(path.name.removesuffix(DATASET_END) + TRACE_END)
        form, pool = "packed", read_packed(path)
    return info_of(pool, path=path, form=form)


def info_of(pool: ClientPool, *, path: Path, form: str = "packed") -> PoolInfo:
    """Return what *pool* is, which is at *path*."""
    statistics = pool_statistics(pool)
    return PoolInfo(
        path=path, form=form, pool=pool, statistics=statistics, findings=assess_pool(pool, statistics)
    )


def assess_pool(pool: ClientPool, statistics: Mapping[str, Any]) -> list[Finding]:
    """Return the findings on *pool*, whose *statistics* are known."""
    return [
        _lengths(statistics),
        _never_active(statistics),
        _few_requests(pool),
        *_shapes(pool),
        _bursts(pool),
        drift(requests_by_window(pool), float(WINDOW_S)),
        daily_cycle(requests_by_window(pool)),
    ]


def datasheet_of_pool(info: PoolInfo, **told: str) -> Datasheet:
    """Return a datasheet of the pool: what was measured, and what is *told* about the rest.

    Raises
    ------
    ServesimError
        If it is a folder, which has no checksum.
    """
    if info.form == "native":
        raise ServesimError(
            f"{info.path}: a folder (got {info.statistics['clients']} clients' files). expected a packed pool, which "
            "is one file"
        )
    if info.form == "parametric":
        rows, row = len(info.pool.clients), "the numbers of a client"
        more = "Numbers are those of the days that the pool unfolds to."
    else:
        rows, row = info.pool.activity.height, f"a window of {WINDOW_S} s in which a client sends requests"
        dataset = dataset_beside(info.path)
        more = f"Lengths are in {dataset.name}, sha256 {sha256_of(dataset)}."
    return described(
        info.path,
        reader=POOL_READER,
        parameters={},
        rows=rows,
        composition=f"A row is {row}. {composition_of_pool(info.statistics)} {more}",
        rubric=rubric_of(info.findings),
        known_defects=defects_in(info.findings),
        **told,
    )


def composition_of_pool(statistics: Mapping[str, Any]) -> str:
    """Return what is in a pool, in a sentence."""
    top = statistics["clients_for_90_percent"]
    return (
        f"{statistics['clients']:,} clients, "
        f"{statistics['requests']:,.0f} requests in {statistics['span_s']:,.0f} s at "
        f"{statistics['rate_per_s']['mean']:.4g}/s; {top:,} of the clients send 90% of them."
    )


def _lengths(statistics: Mapping[str, Any]) -> Finding:
    without = statistics["clients_without_lengths"]
    if not without:
        return Finding("lengths", "ok", "every client has lengths of its own")
    return Finding(
        "lengths",
        "note",
        f"{without:,} of {statistics['clients']:,} clients, which send {statistics['without_lengths_ratio']:.1%} of "
        "the requests, have none: they borrow those of the client nearest in rate and CV, and are left out above",
    )


def _never_active(statistics: Mapping[str, Any]) -> Finding:
    never = statistics["clients"] - statistics["clients_active"]
    if not never:
        return Finding("active clients", "ok", "every client sends something")
    return Finding(
        "active clients", "note", f"{never:,} of {statistics['clients']:,} clients never send anything"
    )


def _few_requests(pool: ClientPool) -> Finding:
    requests = pool.activity["requests"].to_numpy()
    few = requests < FEWEST_REQUESTS
    if not few.any():
        return Finding("few requests", "ok", f"every active window has {FEWEST_REQUESTS} requests or more")
    share = float(requests[few].sum() / requests.sum())
    return Finding(
        "few requests",
        "note",
        f"{int(few.sum()):,} of {len(few):,} active windows, with {share:.1%} of the requests, have fewer than "
        f"{FEWEST_REQUESTS}: they tell little about gaps",
    )


def _shapes(pool: ClientPool) -> list[Finding]:
    findings = []
    for pattern, ratio in cv_against_shapes(pool).items():
        off = abs(ratio - 1) > 0.05
        text = f"shapes of {pattern.capitalize()} windows imply {ratio:.2f} of the CV that is stated (in the median)"
        findings.append(Finding(f"{pattern} windows", "note" if off else "ok", text))
    return findings


def _bursts(pool: ClientPool) -> Finding:
    short = filled_shares(pool) < HALF
    requests = pool.activity["requests"].to_numpy()
    share = float(requests[short].sum() / requests.sum())
    text = f"{share:.1%} of the requests are in windows that their burst fills less than half"
    return Finding("bursts", "note" if share > 0.01 else "ok", text)
