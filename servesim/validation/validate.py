"""Validation: every measured run is replayed, and compared with what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import polars as pl

from servesim.errors import ScenarioError
from servesim.measurements import MeasuredRun
from servesim.validation.errors import METRIC_SCHEMA, Compared, compared
from servesim.validation.replay import Replay, replay
from servesim.validation.result import RUN_SCHEMA, ValidationResult

Progress = Callable[[int, int], None]
"""Called with runs done and runs in all."""


def validate(
    runs: Iterable[MeasuredRun],
    scenario: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    fitted: Sequence[str] = (),
    keep: Path | None = None,
    on_done: Progress | None = None,
) -> ValidationResult:
    """Replay measured runs and tell how far the simulation is off.

    Parameters
    ----------
    runs
        From `servesim.measurements.read_measured`.
    scenario
        Scenario file whose cluster serves every load; None: what each run says that it was served by.
    overrides
        ``"a.b.c=value"`` each, as for `servesim.run`: the latency model in question, for example.
    fitted
        Names of runs, or patterns such as ``"* batch 16"``, that the latency model was fitted to. They are kept apart:
        no error is stated over them.
    keep
        Folder to keep the replays in, as scenarios that can be run; None: they are not kept.
    on_done
        Hears of progress.

    Raises
    ------
    ScenarioError
        If none of the replays can be run, or a pattern of *fitted* fits no run. Of several, those that cannot are left
        out, with the reason.
    """
    runs = list(runs)
    _check_patterns(fitted, runs)
    how = Replay(scenario=None if scenario is None else Path(scenario), overrides=tuple(overrides))
    rows, found, refused = [], [], []
    for done, run in enumerate(runs, 1):
        split = "fitted" if any(fnmatchcase(run.name, pattern) for pattern in fitted) else "held out"
        folder = None if keep is None else keep / run.name.replace("/", "_")
        try:
            result = replay(run, how, keep=folder)
        except ScenarioError as error:
            refused.append(error)
            rows.append(_row(run, split, None, str(error)))
        else:
            comparison = compared(run, result)
            found.append(comparison)
            rows.append(_row(run, split, comparison, None))
        if on_done is not None:
            on_done(done, len(runs))
    if refused and not found:
        raise refused[0]
    return ValidationResult(
        runs=pl.DataFrame(rows, schema=RUN_SCHEMA, orient="row"),
        metrics=pl.concat([item.metrics for item in found]) if found else pl.DataFrame(schema=METRIC_SCHEMA),
        requests=_stacked([item.requests for item in found]),
        series=_stacked([_named(item) for item in found]),
        notes={run.name: run.notes for run in runs if run.notes},
    )


def _check_patterns(patterns: Sequence[str], runs: Sequence[MeasuredRun]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(run.name, pattern) for run in runs):
            raise ScenarioError(
                f"fitted: no run of this name (got {pattern!r}). expected one of "
                f"{', '.join(run.name for run in runs[:5])}{', ...' if len(runs) > 5 else ''}"
            )


def _named(item: Compared) -> pl.DataFrame | None:
    if item.series is None:
        return None
    name = item.metrics["run"][0] if item.metrics.height else ""
    return item.series.select(pl.lit(name).alias("run"), pl.all())


def _stacked(frames: Sequence[pl.DataFrame | None]) -> pl.DataFrame | None:
    present = [frame for frame in frames if frame is not None]
    return pl.concat(present) if present else None


def _row(run: MeasuredRun, split: str, item: Compared | None, reason: str | None) -> tuple[object, ...]:
    return (
        run.name,
        split,
        run.deployment.model,
        run.deployment.gpu,
        run.deployment.tensor_parallel,
        run.deployment.dtype,
        run.deployment.engine_version,
        run.max_concurrency,
        run.requests.height,
        None if item is None else item.saturated_measured,
        None if item is None else item.saturated_simulated,
        *(None if item is None else item.mape.get(name) for name in ("ttft_s", "tpot_s", "e2e_s")),
        *(
            None if item is None else item.series_error.get(name)
            for name in ("running_requests", "waiting_requests")
        ),
        reason,
    )
