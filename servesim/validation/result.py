"""The result of a validation: frames of errors, what they sum up to, and how they are saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from servesim.errors import ServesimError
from servesim.measurements.workload import METRICS
from servesim.results.saving import replacing, write_json

if TYPE_CHECKING:
    from servesim.validation.plots import ValidationPlots

RUN_SCHEMA = {
    "run": pl.String,
    "split": pl.String,
    "model": pl.String,
    "gpu": pl.String,
    "tensor_parallel": pl.Int64,
    "dtype": pl.String,
    "engine_version": pl.String,
    "max_concurrency": pl.Int64,
    "requests": pl.Int64,
    "saturated_measured": pl.Boolean,
    "saturated_simulated": pl.Boolean,
    "ttft_s_mape": pl.Float64,
    "tpot_s_mape": pl.Float64,
    "e2e_s_mape": pl.Float64,
    "running_requests_error": pl.Float64,
    "waiting_requests_error": pl.Float64,
    "left_out": pl.String,
}
"""Columns of `ValidationResult.runs`."""

SUMMARY_FILE = "validation.json"


@dataclass(frozen=True, slots=True, eq=False)
class ValidationResult:
    """How far replays are off what was measured.

    Attributes
    ----------
    runs
        A row per measured run: what served it, whether the latency model was fitted to it (``split``), whether it was
        saturated, mean absolute errors over its requests and its time series, and why it was ``left_out``, if it was.
    metrics
        ``run``, ``metric``, ``measured``, ``simulated`` and ``error`` = simulated / measured - 1.
    requests
        ``run``, ``request_id``, ``metric``, ``measured``, ``simulated``; None where no run has single requests.
    series
        ``run``, ``time_s``, ``quantity``, ``measured``, ``simulated``; None where no run has time series.
    notes
        What the readers left out, repaired or assumed, by run.
    """

    runs: pl.DataFrame
    metrics: pl.DataFrame
    requests: pl.DataFrame | None = None
    series: pl.DataFrame | None = None
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def errors(self, *, split: str = "held out") -> pl.DataFrame:
        """Return the distribution of absolute errors over the runs of *split*, a row per metric.

        Columns are ``metric``, ``runs``, ``bias`` (mean error), ``mean``, ``median``, ``p90`` and ``max`` of the
        magnitude.
        """
        names = self.runs.filter(pl.col("split") == split)["run"]
        error = pl.col("error")
        table = (
            self.metrics.filter(pl.col("run").is_in(names.implode()))
            .group_by("metric")
            .agg(
                runs=pl.len(),
                bias=error.mean(),
                mean=error.abs().mean(),
                median=error.abs().median(),
                p90=error.abs().quantile(0.9, interpolation="linear"),
                max=error.abs().max(),
            )
        )
        order = {name: position for position, name in enumerate(METRICS)}
        return table.sort(pl.col("metric").replace_strict(order, return_dtype=pl.Int32))

    def mean_error(self, metric: str) -> float:
        """Return the mean absolute error of *metric* over the runs that were not fitted.

        Raises
        ------
        ServesimError
            If no such run has it.
        """
        rows = self.errors().filter(pl.col("metric") == metric)
        if rows.is_empty():
            known = self.metrics["metric"].unique(maintain_order=True).to_list()
            raise ServesimError(
                f"validation: no held-out run has this metric (got {metric!r}). expected one of {', '.join(known)}"
            )
        return float(rows["mean"][0])

    @property
    def plot(self) -> ValidationPlots:
        """Figures, such as ``result.plot.scatter("tpot_s_mean")``."""
        from servesim.validation.plots import ValidationPlots

        return ValidationPlots(self)

    def to_dict(self) -> dict[str, Any]:
        """Return runs, metrics, errors and notes as plain data."""
        return {
            "runs": self.runs.to_dicts(),
            "metrics": self.metrics.to_dicts(),
            "errors": {split: self.errors(split=split).to_dicts() for split in ("held out", "fitted")},
            "notes": {name: list(notes) for name, notes in self.notes.items()},
        }

    def save(self, directory: str | Path) -> None:
        """Save ``validation.json`` and a Parquet file per frame, replacing an older validation there.

        Raises
        ------
        ServesimError
            If *directory* holds something else, or cannot be written.
        """
        with replacing(Path(directory), is_older=is_validation, what="validation") as new:
            for name in ("runs", "metrics", "requests", "series"):
                frame = getattr(self, name)
                if frame is not None:
                    frame.write_parquet(new / f"{name}.parquet")
            write_json(new / SUMMARY_FILE, self.to_dict())


def is_validation(directory: Path) -> bool:
    """Return whether *directory* holds a saved validation."""
    return (directory / SUMMARY_FILE).is_file()
