"""What a trace is, in one object: format, statistics, findings, and its datasheet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from servesim.errors import ServesimError
from servesim.traces.datasheets import described
from servesim.traces.detect import Detected
from servesim.traces.finding import Finding, defects_in, rubric_of
from servesim.traces.left_out import without_output
from servesim.traces.published import known_by_checksum
from servesim.traces.quality import assess
from servesim.traces.source import read_requests
from servesim.traces.statistics import Floats, open_arrivals, statistics
from servesim.traces.take import take
from servesim.workload.datasheet import Datasheet
from servesim.workload.registries import READERS


@dataclass(frozen=True, kw_only=True, eq=False)
class TraceInfo:
    """What a trace is.

    Attributes
    ----------
    path
        The file.
    detected
        Its format; None for a file that describes a workload.
    rows
        Rows in the file; for a workload, its requests.
    notes
        What the reader counted.
    statistics
        `servesim.traces.statistics.statistics`.
    findings
        `servesim.traces.quality.assess`.
    requests
        The requests themselves, as a simulation would see them.
    """

    path: Path
    detected: Detected | None
    rows: int
    notes: Mapping[str, int | float | str]
    statistics: dict[str, Any]
    findings: list[Finding]
    requests: pl.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the requests, as JSON can hold it."""
        return {
            "file": str(self.path),
            "format": self.detected.reader if self.detected else None,
            "rows": self.rows,
            "notes": dict(self.notes),
            **self.statistics,
            "findings": [asdict(finding) for finding in self.findings],
        }


def trace_info(path: Path, *, reader: str | None = None) -> TraceInfo:
    """Return what the trace at *path* is.

    Parameters
    ----------
    path
        A trace, or a YAML file that describes a workload.
    reader
        Name of the reader that takes it; None: told from the file.

    Raises
    ------
    ServesimError
        If it cannot be read.
    """
    requests = read_requests(path, reader=reader)
    whole = None
    if without_output(requests.notes) and requests.detected is not None:
        whole = take(path, reader=reader).requests
    return TraceInfo(
        path=path,
        detected=requests.detected,
        rows=int(requests.notes.get("rows_read", requests.frame.height)),
        notes=requests.notes,
        statistics=statistics(requests.frame),
        findings=assess(requests.frame, requests.notes, whole=whole, spread_s=_spreads(requests.detected)),
        requests=requests.frame,
    )


def _spreads(detected: Detected | None) -> bool:
    """Return whether the reader of a file has a parameter ``spread_s``."""
    return detected is not None and "spread_s" in signature(READERS.resolve(detected.reader)).parameters


def rate_series(requests: pl.DataFrame, bins: int) -> tuple[Floats, Floats]:
    """Return edges in s and arrivals per s of *bins* equal bins over the trace; none where it has no length."""
    arrivals = open_arrivals(requests)
    if len(arrivals) < 2 or arrivals[-1] <= arrivals[0]:
        return np.empty(0), np.empty(0)
    counts, edges = np.histogram(arrivals, bins=bins)
    return edges, counts / np.diff(edges)


def datasheet_of(info: TraceInfo) -> Datasheet:
    """Return a datasheet of the trace: what was measured, and what is published about it.

    Raises
    ------
    ServesimError
        If it is a description of a workload and no trace.
    """
    if info.detected is None:
        raise ServesimError(f"{info.path}: no trace but a description. expected a file of requests")
    sheet = described(
        info.path,
        reader=info.detected.reader,
        parameters=info.detected.parameters,
        rows=info.rows,
        composition=composition(info.statistics),
        rubric=rubric_of(info.findings),
        known_defects=defects_in(info.findings),
    )
    published = known_by_checksum(sheet.sha256)
    if published is None:
        return sheet
    told = {
        "licence": published.licence,
        "collection": f"{published.description} Published at {published.url}.",
        "preprocessing": "None: the file as it is published.",
    }
    return sheet.model_copy(update=told)


def composition(numbers: Mapping[str, Any]) -> str:
    """Return what is in a trace, in a sentence."""
    rate = "" if numbers["rate_per_s"] is None else f" at {numbers['rate_per_s']:.4g}/s"
    bursts = "" if numbers["gap_cv"] is None else f" (CV {numbers['gap_cv']:.3g})"
    prompts, outputs = numbers["prompt_tokens"]["mean"], numbers["output_tokens"]["mean"]
    lengths = f"prompts of {prompts:,.0f} tokens on average, outputs of {outputs:,.0f}"
    waiting = numbers["requests"] - numbers["arrivals"]
    followed = f", which {waiting:,} more follow as their sessions go on" if waiting else ""
    arrivals = f"{numbers['arrivals']:,} requests in {numbers['span_s']:,.0f} s{rate}{bursts}{followed}"
    return f"A row is a request. {arrivals}; {lengths}."
