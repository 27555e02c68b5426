"""The result of a calibration: parameters, errors, and the file that pools take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from servesim.results.saving import replacing_file
from servesim.scenario.calibration import Calibration, FittedParameter, MetricError
from servesim.scenario.document import document_text

STEP_METRIC = "step_s"

ROW_SCHEMA = {
    "run": pl.String,
    "split": pl.String,
    "metric": pl.String,
    "measured": pl.Float64,
    "before": pl.Float64,
    "after": pl.Float64,
}
"""Columns of `CalibrationResult.rows`."""


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationResult:
    """What was fitted, and how far simulations with it are off.

    Attributes
    ----------
    calibration
        The content of the file that a pool takes as ``latency: {calibration: FILE}``.
    rows
        ``run``, ``split`` (fitted or held out), ``metric``, ``measured``, and what was simulated ``before`` and
        ``after`` the fit.
    warnings
        What to know before its use.
    """

    calibration: Calibration
    rows: pl.DataFrame
    warnings: tuple[str, ...] = ()

    @property
    def parameters(self) -> list[FittedParameter]:
        """The fitted parameters with their intervals and bounds."""
        return self.calibration.parameters

    def errors(self, split: str = "held out") -> dict[str, MetricError]:
        """Return the mean magnitude of the errors of each metric over the rows of *split*, before and after."""
        return errors_of(self.rows, split)

    def to_yaml(self) -> str:
        """Return the calibration file's text."""
        return document_text(self.calibration.model_dump(mode="json"))

    def save(self, path: str | Path) -> None:
        """Write the calibration file, whole or not at all.

        Raises
        ------
        ServesimError
            If it cannot be written.
        """
        with replacing_file(Path(path)) as new:
            new.write_text(self.to_yaml(), encoding="utf-8")

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "calibration": self.calibration.model_dump(mode="json"),
            "rows": self.rows.to_dicts(),
            "warnings": list(self.warnings),
        }

    def __repr__(self) -> str:
        values = ", ".join(f"{each.key}={each.value:.4g}" for each in self.parameters)
        return f"<CalibrationResult: {values}>"


def errors_of(rows: pl.DataFrame, split: str) -> dict[str, MetricError]:
    """Return the mean magnitude of the errors of each metric over the rows of *split*, before and after."""
    table = (
        rows.filter(pl.col("split") == split)
        .group_by("metric", maintain_order=True)
        .agg(
            pl.len().alias("rows"),
            *((pl.col(name) / pl.col("measured") - 1).abs().mean() for name in ("before", "after")),
        )
    )
    return {row.pop("metric"): MetricError(**row) for row in table.iter_rows(named=True)}


def rows_frame(rows: Sequence[tuple[object, ...]]) -> pl.DataFrame:
    """Return *rows* as a frame with the columns of `ROW_SCHEMA`."""
    return pl.DataFrame(rows, schema=ROW_SCHEMA, orient="row")
