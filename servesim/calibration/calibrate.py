"""The table of contents of a calibration: read, check, split, fit, refuse what is not identified, judge, tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from servesim._version import __version__
from servesim.calibration.cases import (
    STEP_NOISE,
    Outcome,
    RunCase,
    StepCase,
    evaluate,
    pool_of_run,
    run_of_steps,
)
from servesim.calibration.fit import Fit, Floats, Measurement, Residuals, fit
from servesim.calibration.identify import AFTER, BEFORE, NotIdentifiedError, check_identified
from servesim.calibration.parameters import Parameter, find_parameters, known_values
from servesim.calibration.read import measured_of
from servesim.calibration.result import STEP_METRIC, CalibrationResult, errors_of, rows_frame
from servesim.calibration.same_pool import check_same_pool
from servesim.calibration.targets import split_runs
from servesim.errors import ScenarioError
from servesim.experiments.backends import Backend, local_backend
from servesim.experiments.points import Failure
from servesim.measurements import MeasuredRun
from servesim.measurements.step_log import StepLog
from servesim.registry import ComponentSpec
from servesim.results.provenance import input_facts
from servesim.scenario import PoolSpec
from servesim.scenario.calibration import (
    FORMAT,
    Calibration,
    FittedParameter,
    MeasuredFile,
    MeasuredPool,
    Validity,
)
from servesim.validation.replay import Replay

Progress = Callable[[int, int | None], None]
"""Called with simulations done, and None: how many a fit takes is not known."""

HOLD_OUT = "0.2"
BATCHES_OF_STEPS = (1, 4096)


@dataclass(slots=True, kw_only=True)
class _Simulations:
    """All cases of a calibration, and the backend that computes them."""

    cases: list[RunCase | StepCase]
    parameters: list[Parameter]
    backend: Backend
    on_done: Progress | None
    done: int = 0

    def outcomes(self, points: Sequence[Sequence[float]]) -> list[list[Outcome]]:
        """Return what every case gives at every one of *points*; all are computed together."""
        items: list[RunCase | StepCase] = []
        for values in points:
            overrides = tuple(
                parameter.override(value) for parameter, value in zip(self.parameters, values, strict=True)
            )
            items += [replace(case, overrides=overrides) for case in self.cases]
        found: list[Outcome | None] = [None] * len(items)
        for index, outcome in self.backend.run(evaluate, items):
            if isinstance(outcome, Failure):
                raise outcome.error(f"calibrate: {_name(items[index])}")
            found[index] = outcome
            self.done += 1
            if self.on_done is not None:
                self.on_done(self.done, None)
        each = len(self.cases)
        return [
            [outcome for outcome in found[start : start + each] if outcome is not None]
            for start in range(0, len(found), each)
        ]

    def rows(self, points: Sequence[Sequence[float]]) -> Floats:
        """Return the values of all fitted rows at *points*."""
        return np.array(
            [[value for outcome in outcomes for value in outcome.rows] for outcomes in self.outcomes(points)]
        )


def calibrate(
    measured: str | Path | Iterable[str | Path | MeasuredRun | StepLog],
    scenario: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    parameters: Sequence[str] = (),
    hold_out: str = HOLD_OUT,
    workers: int | None = None,
    on_done: Progress | None = None,
) -> CalibrationResult:
    """Fit parameters of a latency model and of an engine's host to measured runs, by simulating these.

    Residuals are logarithms of simulated over measured means (TTFT, TPOT, ITL, E2E, output tokens per second, step
    times) in units of their noise (`servesim.calibration.targets.NOISE`).

    Parameters
    ----------
    measured
        Results of benchmarks and step logs of one deployment: files, folders, or what `servesim.measurements` made
        of them.
    scenario
        Scenario file whose first pool is calibrated; None: what the runs say that they were served by.
    overrides
        ``"a.b.c=value"`` each: the latency model, for example.
    parameters
        Keys below the pool, such as ``"engine.host.launch_s"``, or their last parts; empty: a default set.
    hold_out
        What is judged and not fitted: a share, ``"last"`` (run), or a name or pattern of runs.
    workers
        Processes that simulate; None: one per CPU core.
    on_done
        Hears of progress.

    Returns
    -------
    CalibrationResult
        Parameters with intervals, errors before and after on fitted and held-out rows, and the calibration file.

    Raises
    ------
    NotIdentifiedError
        If the measurements cannot tell the parameters; it names the runs to add.
    ServesimError
        If runs are of different deployments, or of another than the scenario's, or cannot be replayed.
    """
    known = measured_of([measured] if isinstance(measured, str | Path) else measured)
    how = Replay(scenario=None if scenario is None else Path(scenario), overrides=tuple(overrides))
    runs = [run for run in known if isinstance(run, MeasuredRun)]
    logs = [log for log in known if isinstance(log, StepLog)]
    pool = _pool(runs, logs, how)
    splits = split_runs(runs, hold_out)
    # A scenario that leaves the latency model to its default has no place for a parameter of it.
    how = replace(how, overrides=(*how.overrides, f"cluster.pools.0.latency.name={pool.latency.name}"))
    cases: list[RunCase | StepCase] = [RunCase(split=split, how=how, overrides=()) for split in splits]
    cases += [StepCase(log=log, how=how, overrides=()) for log in logs]
    chosen, warnings = find_parameters(pool, parameters), list[str]()
    while True:
        simulations = _Simulations(
            cases=cases,
            parameters=chosen,
            backend=local_backend(workers, len(cases) * 2 * len(chosen)),
            on_done=on_done,
        )
        try:
            return _result(simulations, _fitted(simulations), pool, warnings)
        except NotIdentifiedError as error:
            if parameters or len(chosen) == 1:
                raise
            # Nobody asked for this one: the rest of the default set is fitted without it.
            warnings.append(f"{chosen[-1].key} is left as it is: {error.args[0].removeprefix('calibrate: ')}")
            chosen = chosen[:-1]


def _pool(runs: Sequence[MeasuredRun], logs: Sequence[StepLog], how: Replay) -> PoolSpec:
    """Return the pool that is calibrated, the same for everything that was measured."""
    stand_ins = [*runs, *(run_of_steps(log) for log in logs)]
    if not stand_ins:
        raise ScenarioError("calibrate: nothing was measured (got no runs and no steps). expected some")
    pools = [pool_of_run(run, how) for run in stand_ins]
    check_same_pool(stand_ins, pools)
    return pools[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitted:
    """A fit, and what every case gives before and after it."""

    fit: Fit
    before: list[Outcome]
    after: list[Outcome]
    batch_sequences: int


def _fitted(simulations: _Simulations) -> _Fitted:
    """Return the fit, once before and after it the data are seen to tell every parameter."""
    parameters = simulations.parameters
    residuals = _residuals(simulations)
    before = simulations.outcomes([[parameter.start for parameter in parameters]])[0]
    batches = [
        outcome.batch_sequences
        for case, outcome in zip(simulations.cases, before, strict=True)
        if not isinstance(case, RunCase) or case.split.rows
    ]
    # Before the fit, which would wander, and after it, where the parameters may weigh differently.
    check_identified(residuals.at_start(), parameters, BEFORE, fewest=min(batches), most=max(batches))
    found = fit(residuals, parameters)
    check_identified(found.jacobian, parameters, AFTER, fewest=min(batches), most=max(batches))
    after = simulations.outcomes([found.values])[0]
    return _Fitted(fit=found, before=before, after=after, batch_sequences=max(batches))


def _residuals(simulations: _Simulations) -> Residuals:
    rows: list[Measurement] = []
    groups: dict[object, int] = {}
    for index, case in enumerate(simulations.cases):
        known: list[tuple[float, float, object]]
        if isinstance(case, StepCase):
            known = [(step.duration_s, STEP_NOISE, place) for place, step in enumerate(case.log.steps)]
        else:
            known = [(target.measured, target.noise, target.requests) for target in case.split.rows]
        rows += [
            Measurement(value, noise, groups.setdefault((index, of), len(groups)))
            for value, noise, of in known
        ]
    return Residuals(simulations.rows, rows, simulations.parameters)


def _result(
    simulations: _Simulations, found: _Fitted, pool: PoolSpec, dropped: Sequence[str]
) -> CalibrationResult:
    parameters = [
        FittedParameter(
            key=parameter.key,
            value=value,
            low=low,
            high=high,
            start=parameter.start,
            bounds=(parameter.low, parameter.high),
            at_bound=at_bound,
        )
        for parameter, value, (low, high), at_bound in zip(
            simulations.parameters, found.fit.values, found.fit.intervals, found.fit.at_bound, strict=True
        )
    ]
    rows = rows_frame(_rows(simulations.cases, found.before, found.after))
    warnings = (*dropped, *_warnings(parameters, found.fit, "held out" in rows["split"]))
    latency, engine = _calibrated(pool, parameters)
    calibration = Calibration(
        servesim_calibration=FORMAT,
        servesim_version=__version__,
        measured=MeasuredPool(
            model=pool.model,
            gpu=pool.gpu,
            tensor_parallel=pool.tensor_parallel,
            dtype=pool.dtype,
            engine_version=pool.engine.version,
        ),
        latency=latency,
        engine=engine,
        parameters=parameters,
        files=_files(simulations.cases),
        errors_fitted=errors_of(rows, "fitted"),
        errors_held_out=errors_of(rows, "held out"),
        validity=_validity(simulations.cases, found.batch_sequences),
        notes=list(warnings),
    )
    return CalibrationResult(calibration=calibration, rows=rows, warnings=warnings)


def _rows(
    cases: Sequence[RunCase | StepCase], before: Sequence[Outcome], after: Sequence[Outcome]
) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for case, first, last in zip(cases, before, after, strict=True):
        if isinstance(case, StepCase):
            known = [("fitted", STEP_METRIC, step.duration_s) for step in case.log.steps]
        else:
            known = [(target.split, target.metric, target.measured) for target in case.split.judged]
        rows += [
            (_name(case), *facts, old, new)
            for facts, old, new in zip(known, first.judged, last.judged, strict=True)
        ]
    return rows


def _name(case: RunCase | StepCase) -> str:
    return case.log.name if isinstance(case, StepCase) else case.split.run.name


def _warnings(parameters: Sequence[FittedParameter], found: Fit, judged: bool) -> tuple[str, ...]:
    warnings = [
        f"{each.key} ended at a bound of its fit ({each.value:.3g} in {each.bounds[0]:.3g} to {each.bounds[1]:.3g}): "
        "what it stands for is not what is slow; fit another parameter, or look at the data"
        for each in parameters
        if each.at_bound
    ]
    if not found.converged:
        warnings.append("the fit did not settle: more of it may change the values")
    if not judged:
        warnings.append("nothing was held out: no error is known but that of what was fitted")
    return tuple(warnings)


def _calibrated(
    pool: PoolSpec, parameters: Sequence[FittedParameter]
) -> tuple[ComponentSpec, dict[str, dict[str, float]]]:
    """Return the latency model, and the sections of the engine that have fitted values, with all their values."""
    fitted = {parameter.key: parameter.value for parameter in parameters}
    values = {**known_values(pool), **fitted}
    latency = pool.latency.model_dump()
    engine: dict[str, dict[str, float]] = {"host": {}}
    for key, value in values.items():
        part, _, name = key.partition(".")
        if part == "latency" and key in fitted:
            latency[name] = value
        elif part == "engine":
            section, _, name = name.partition(".")
            engine.setdefault(section, {})[name] = value
    return ComponentSpec.model_validate(latency), engine


def _files(cases: Sequence[RunCase | StepCase]) -> list[MeasuredFile]:
    names: dict[Path, list[str]] = {}
    for case in cases:
        source = case.log.source if isinstance(case, StepCase) else case.split.run.source
        names.setdefault(source, []).append(_name(case))
    facts = input_facts([((), path) for path in names])
    return [
        MeasuredFile(
            name=fact["name"],
            size_bytes=fact["size_bytes"] or 0,
            sha256=fact["sha256"] or "",
            runs=runs,
        )
        for fact, runs in zip(facts, names.values(), strict=True)
    ]


def _validity(cases: Sequence[RunCase | StepCase], batch_sequences: int) -> Validity:
    """Return the range of what was fitted."""
    loads = [case.split.run.requests for case in cases if isinstance(case, RunCase) and case.split.rows]

    def limits(name: str) -> tuple[int, int] | None:
        if not loads:
            return None
        return min(int(load[name].min()) for load in loads), max(int(load[name].max()) for load in loads)  # type: ignore[arg-type]

    return Validity(
        prompt_tokens=limits("prompt_tokens"),
        output_tokens=limits("output_tokens"),
        batch_sequences=batch_sequences,
    )
