"""``servesim calibrate``: parameters fitted to a user's own measurements."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesim.cli.exits import OK
from servesim.cli.output import write, write_json

if TYPE_CHECKING:
    from rich.table import Table

    from servesim.calibration import CalibrationResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where and how a calibration is shown.

    Attributes
    ----------
    as_json, quiet
        Print JSON instead of tables; print nothing on stderr.
    out
        The calibration file; None: it is not written.
    """

    as_json: bool
    quiet: bool
    out: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be calibrated, by the options of the command."""

    scenario: Path | None
    overrides: Sequence[str]
    fit: str | None
    hold_out: str
    only: str | None


def calibrate_model(measured: Sequence[Path], question: Question, *, workers: int | None, how: Output) -> int:
    """Fit, print parameters and errors, and write the calibration."""
    from servesim.calibration import calibrate
    from servesim.calibration.read import read_all
    from servesim.cli.progress import PointsProgress

    with PointsProgress(enabled=not how.quiet and sys.stderr.isatty()) as progress:
        result = calibrate(
            read_all(measured, only=question.only),
            question.scenario,
            overrides=question.overrides,
            parameters=[key for key in (question.fit or "").split(",") if key.strip()],
            hold_out=question.hold_out,
            workers=workers,
            on_done=progress,
        )
    if how.as_json:
        write_json(result.to_dict())
    else:
        write(calibration_text(result, how.out))
    if how.out is not None:
        result.save(how.out)
    return OK


def calibration_text(result: CalibrationResult, out: Path | None) -> str:
    """Return the page that ``servesim calibrate`` prints."""
    from rich.markup import escape

    from servesim.cli.summary import rendered

    measured = result.calibration.measured
    parts: list[Any] = [
        f"[bold]{escape(measured.model)}[/bold] on {measured.tensor_parallel} x {measured.gpu}, "
        f"{measured.engine_version}, latency model {result.calibration.latency.name}",
        "",
        _parameters_table(result),
        "",
        _errors_table(result),
        "",
        f"valid for {_validity_text(result)}",
    ]
    parts += [f"warning: {escape(warning)}" for warning in result.warnings]
    if out is None:
        parts.append("note: not written: --out FILE writes it for latency: {calibration: FILE}")
    else:
        parts.append(f"written to {escape(str(out))}: latency: {{calibration: {escape(str(out))}}} takes it")
    return rendered(parts)


def _parameters_table(result: CalibrationResult) -> Table:
    table = _new_table("parameter", "before", "after", "95 % interval", "bounds of the fit")
    for each in result.parameters:
        table.add_row(
            each.key,
            f"{each.start:.4g}",
            f"{each.value:.4g}",
            f"{each.low:.3g} to {each.high:.3g}",
            f"{each.bounds[0]:.3g} to {each.bounds[1]:.3g}",
        )
    return table


def _errors_table(result: CalibrationResult) -> Table:
    table = _new_table("mean error of", "", "rows", "before", "after")
    for split in ("fitted", "held out"):
        for metric, error in result.errors(split).items():
            table.add_row(metric, split, f"{error.rows:,}", f"{error.before:.1%}", f"{error.after:.1%}")
    return table


def _validity_text(result: CalibrationResult) -> str:
    validity = result.calibration.validity
    texts = [
        f"{what} of {limits[0]:,} to {limits[1]:,} tokens"
        for what, limits in (("prompts", validity.prompt_tokens), ("outputs", validity.output_tokens))
        if limits is not None
    ]
    return ", ".join([*texts, f"batches of up to {validity.batch_sequences:,} sequences"])


def _new_table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 or not heading else "right", no_wrap=True)
    return table
