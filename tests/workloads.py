"""What tests of workloads share: collecting a workload, and streams from literal numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl

from servesim.workload.build import build_workload
from servesim.workload.contract import conform
from servesim.workload.schema import SCHEMA, Workload
from servesim.workload.spec import WorkloadSpec
from servesim.workload.stream import RequestStream


def build(spec: dict[str, Any], *, seed: int = 0, base_dir: Path | None = None) -> Workload:
    """Return the workload of a ``workload:`` block written as a dict."""
    return build_workload(WorkloadSpec.model_validate(spec), seed=seed, base_dir=base_dir)


def collect(spec: dict[str, Any], *, seed: int = 0) -> pl.DataFrame:
    """Return all requests of a ``workload:`` block."""
    return pl.concat(list(build(spec, seed=seed).frames()))


def arrivals(spec: dict[str, Any]) -> list[float]:
    """Return the arrival times of a ``workload:`` block."""
    return collect(spec)["arrival_s"].to_list()


def frame(times: Iterable[float], **columns: Any) -> pl.DataFrame:
    """Return a frame with all columns of the schema; lengths are 1 unless given."""
    times = list(times)
    lengths = {"prompt_tokens": [1] * len(times), "output_tokens": [1] * len(times)}
    filled = conform(
        pl.DataFrame({"arrival_s": times, **(lengths | columns)}, schema_overrides={"arrival_s": pl.Float64})
    )
    return filled.cast(SCHEMA)  # type: ignore[arg-type]


def stream_of(*frames: pl.DataFrame) -> RequestStream:
    """Return a stream of the given frames."""
    return RequestStream(frames=lambda: iter(frames), requests=sum(part.height for part in frames))


def rows(path: Path, text: str) -> Path:
    """Write *text* to *path* as it stands and return the path."""
    path.write_bytes(text.encode())
    return path
