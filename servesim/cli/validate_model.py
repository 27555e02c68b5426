"""``servesim validate-model``: how far the simulation is off what was measured."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesim.cli.exits import GATE_FAILED, OK
from servesim.cli.output import write, write_json
from servesim.errors import ServesimError

if TYPE_CHECKING:
    from rich.table import Table

    from servesim.validation import ValidationResult

FEW_RUNS = 3
"""Up to so many runs are shown metric by metric; of more, the distribution of errors is."""

_SHOWN_NOTES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where and how a validation is shown.

    Attributes
    ----------
    as_json, quiet
        Print JSON instead of tables; print nothing on stderr.
    plots, out
        Folders for figures and for the result; None: neither is written.
    """

    as_json: bool
    quiet: bool
    plots: Path | None
    out: Path | None


def validate_model(
    measured: Path,
    scenario: Path | None,
    overrides: Sequence[str],
    *,
    fitted: Sequence[str],
    fail_above: Sequence[str],
    how: Output,
) -> int:
    """Replay what was measured, print the errors, and return 1 if one exceeds what is allowed."""
    from servesim.cli.progress import PointsProgress
    from servesim.measurements import read_measured
    from servesim.results.saving import check_destination
    from servesim.validation import validate
    from servesim.validation.result import is_validation

    limits = [_limit(text) for text in fail_above]
    if how.out is not None:
        check_destination(how.out, is_older=is_validation, what="validation")
    with PointsProgress(enabled=not how.quiet and sys.stderr.isatty()) as progress:
        result = validate(
            read_measured(measured), scenario, overrides=overrides, fitted=fitted, on_done=progress
        )
    exceeded = [(metric, most) for metric, most in limits if result.mean_error(metric) > most]
    if how.as_json:
        write_json(result.to_dict() | {"exceeded": [metric for metric, _ in exceeded]})
    else:
        write(validation_text(result))
    if how.plots is not None:
        write_plots(result, how.plots)
    if how.out is not None:
        result.save(how.out)
    for metric, most in exceeded:
        got = result.mean_error(metric)
        print(
            f"failed: {metric}: mean error {got:.1%} of held-out runs. expected at most {most:.1%}",
            file=sys.stderr,
        )
    return GATE_FAILED if exceeded else OK


def _limit(text: str) -> tuple[str, float]:
    from servesim.errors import nearest
    from servesim.measurements.workload import METRICS

    metric, _, number = text.partition("=")
    try:
        most = float(number)
    except ValueError:
        most = -1.0
    if metric not in METRICS or not 0 <= most < float("inf"):
        raise ServesimError(
            f"--fail-above: not a limit (got {text!r}). expected METRIC=RATIO, such as tpot_s_mean=0.1",
            hint=nearest(metric, METRICS),
        )
    return metric, most


def write_plots(result: ValidationResult, folder: Path) -> list[Path]:
    """Draw what there is to draw into *folder*, as PNG, and return the files.

    Raises
    ------
    ServesimError
        If it cannot be written.
    """
    from servesim.results.frames import disk_errors

    figures: dict[str, Any] = {}
    if result.runs.height - result.runs["left_out"].count() > FEW_RUNS:
        for metric in ("ttft_s_mean", "tpot_s_mean", "e2e_s_mean", "output_tokens_per_s"):
            if (result.metrics["metric"] == metric).any():
                figures[f"scatter_{metric}"] = result.plot.scatter(metric)
    for name, frame in (("cdf", result.requests), ("series", result.series)):
        runs = [] if frame is None else frame["run"].unique(maintain_order=True).to_list()
        for run in runs:
            figures[f"{name}_{run.replace('/', '_')}"] = getattr(result.plot, name)(run)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=130)
    return [folder / f"{name}.png" for name in figures]


def validation_text(result: ValidationResult) -> str:
    """Return the page that ``servesim validate-model`` prints."""
    from rich.markup import escape

    from servesim.cli.summary import rendered

    parts: list[Any] = []
    if result.runs.height <= FEW_RUNS:
        for row in result.runs.iter_rows(named=True):
            parts += _run_parts(result, row)
    else:
        for split in ("held out", "fitted"):
            errors = result.errors(split=split)
            if errors.height:
                parts += [f"[bold]{split}[/bold]", _errors_table(result, split), ""]
    parts += [f"left out: {count} runs: {escape(reason)}" for reason, count in _left_out(result)]
    notes = list(dict.fromkeys(note for lines in result.notes.values() for note in lines))
    parts += [f"note: {escape(note)}" for note in notes[:_SHOWN_NOTES]]
    if not result.runs["split"].is_in(["fitted"]).any():
        parts.append("note: no run is known to be fitted: all count as held out")
    return rendered(parts)


def _left_out(result: ValidationResult) -> list[tuple[str, int]]:
    counted = result.runs["left_out"].drop_nulls().value_counts(sort=True)
    return [(reason, count) for reason, count in counted.iter_rows()]


def _run_parts(result: ValidationResult, row: dict[str, Any]) -> list[Any]:
    from rich.markup import escape

    if row["left_out"]:
        return []
    served = ", ".join(str(part) for part in (row["model"], row["gpu"]) if part)
    parts: list[Any] = [
        f"[bold]{escape(row['run'])}[/bold]  ({row['requests']:,} requests, {row['split']}"
        + (f"; {escape(served)})" if served else ")"),
        _run_table(result, row),
    ]
    for kind, keys in (
        ("series", ("running_requests", "waiting_requests")),
        ("request", ("ttft_s", "tpot_s", "e2e_s")),
    ):
        suffix = "error" if kind == "series" else "mape"
        known = [(key, row[f"{key}_{suffix}"]) for key in keys if row[f"{key}_{suffix}"] is not None]
        if known:
            what = (
                "series (mean absolute error / mean)"
                if kind == "series"
                else "mean absolute error of a request"
            )
            parts.append(f"  {what}: " + ", ".join(f"{key} {value:.1%}" for key, value in known))
    return [
        *parts,
        f"  saturated: measured {_word(row['saturated_measured'])}, simulated {_word(row['saturated_simulated'])}",
        "",
    ]


def _word(value: bool | None) -> str:
    return "unknown" if value is None else "yes" if value else "no"


def _run_table(result: ValidationResult, row: dict[str, Any]) -> Table:
    import polars as pl

    from servesim.results.units import latency_unit, number_text

    table = _new_table("  metric", "measured", "simulated", "unit", "error")
    for item in result.metrics.filter(pl.col("run") == row["run"]).iter_rows(named=True):
        metric = item["metric"]
        unit, scale = ("1/s", 1.0) if metric.endswith("per_s") else latency_unit([item["measured"]])
        values = [number_text(item[name] * scale) for name in ("measured", "simulated")]
        table.add_row(f"  {metric}", *values, unit, f"{item['error']:+z.1%}")
    return table


def _errors_table(result: ValidationResult, split: str) -> Table:
    table = _new_table("  error of", "runs", "bias", "mean", "median", "p90", "max")
    for row in result.errors(split=split).iter_rows(named=True):
        values = [f"{row[name]:.1%}" for name in ("mean", "median", "p90", "max")]
        table.add_row(f"  {row['metric']}", f"{row['runs']:,}", f"{row['bias']:+z.1%}", *values)
    return table


def _new_table(*headings: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left", no_wrap=True)
    return table
