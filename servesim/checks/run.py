"""Running check files: from YAML to verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from servesim.checks.baseline import (
    Baseline,
    StoredVariant,
    check_baseline,
    read_baseline,
    stored_variant,
    write_baseline,
)
from servesim.checks.report import CheckReport
from servesim.checks.spec import CheckSpec, NoRegression, named_variants
from servesim.checks.trace_run import TraceCheck, prepare_traces, run_traces
from servesim.checks.trace_spec import TraceCheckSpec
from servesim.checks.verdicts import verdict_of
from servesim.errors import ScenarioError, ServesimError, nearest
from servesim.experiments.backends import Backend, local_backend
from servesim.experiments.metrics import value_of
from servesim.experiments.points import seeds_from
from servesim.experiments.replications import Case, OnDone, Replications, replicate
from servesim.scenario.document import read_document
from servesim.scenario.load import checked


@dataclass(frozen=True, slots=True)
class _Check:
    """A check file, ready to run."""

    file: Path
    spec: CheckSpec
    cases: list[Case]
    seeds: list[int]

    @property
    def size(self) -> int:
        """How many runs there are."""
        return len(self.cases) * len(self.seeds)


def check(
    file: str | Path,
    *,
    objects: Mapping[str, Mapping[str, Any]] | None = None,
    update_baseline: bool = False,
    workers: int | None = None,
) -> CheckReport:
    """Run a check file.

    Parameters
    ----------
    file
        Path of the check file.
    objects
        Variant to ``{"router": ...}``, ``{"scheduler": ...}`` or ``{"latency": ...}``: objects that replace what
        its scenario names.
    update_baseline
        Store the numbers as the file's new baseline.
    workers
        Processes that compute; None: one per CPU core.

    Returns
    -------
    CheckReport
        With a verdict per expectation; ``report.passed()`` is the gate.

    Raises
    ------
    ServesimError
        If the file, a scenario or the baseline cannot be used, or a run fails.
    """
    prepared = prepare(file, objects=objects or {})
    backend = local_backend(workers, prepared.size)
    return run_check(prepared, backend, update_baseline=update_baseline)


def prepare(file: str | Path, *, objects: Mapping[str, Mapping[str, Any]]) -> _Check | TraceCheck:
    """Return a check file, read, its scenarios or the descriptions of its traces loaded."""
    file = Path(file)
    document = read_document(file, what="a check file")
    folder = file.absolute().parent
    if isinstance(document.data, dict) and "traces" in document.data:
        if objects:
            raise ScenarioError(
                f"{file}: a check of traces (got objects {', '.join(objects)}). expected none"
            )
        spec = checked(document, TraceCheckSpec, what="a check file", base_dir=folder)
        return prepare_traces(file, spec)
    return _prepare_runs(file, checked(document, CheckSpec, what="a check file", base_dir=folder), objects)


def _prepare_runs(file: Path, spec: CheckSpec, objects: Mapping[str, Mapping[str, Any]]) -> _Check:
    variants = spec.all_variants()
    names = [variant.name for variant in variants]
    for name in objects:
        if name not in names:
            raise ScenarioError(
                f"{file}: no variant {name!r} for an object. expected one of {', '.join(names)}",
                hint=nearest(name, names),
            )
    cases = [
        Case(
            name=variant.name,
            scenario=spec.load(dict(variant.coordinates)),
            objects=objects.get(variant.name, {}),
        )
        for variant in variants
    ]
    return _Check(file, spec, cases, seeds_from(cases[0].scenario, spec.seeds))


def run_check(
    prepared: _Check | TraceCheck,
    backend: Backend,
    *,
    update_baseline: bool = False,
    on_done: OnDone | None = None,
) -> CheckReport:
    """Run what `prepare` returned and judge it; parameters and errors as for `check`."""
    if isinstance(prepared, TraceCheck):
        return run_traces(prepared, backend, on_done=on_done)
    spec = prepared.spec
    baseline = None
    needs_baseline = any(isinstance(expectation, NoRegression) for expectation in spec.expect)
    names = [case.name for case in prepared.cases]
    if needs_baseline and not update_baseline:
        # What cannot be compared is refused before anything is run.
        baseline = read_baseline(Path(spec.baseline or ""))
        check_baseline(Path(spec.baseline or ""), baseline, prepared.seeds, _wanted(prepared, names))
    runs = replicate(prepared.cases, prepared.seeds, backend, on_done=on_done)
    values = _values_of(runs, str(prepared.file), len(prepared.seeds))
    updated = None
    if needs_baseline and update_baseline:
        path = Path(spec.baseline or "")
        stored = _wanted(prepared, names, values)
        updated = _moved(path, stored)
        write_baseline(path, prepared.seeds, stored)
        baseline = read_baseline(path)
    return CheckReport(
        name=spec.name or prepared.file.stem,
        file=prepared.file,
        seeds=runs.seeds,
        random=runs.random,
        verdicts=[
            verdict_of(
                expectation,
                names,
                values if runs.random or isinstance(expectation, NoRegression) else _once(values),
                _stored_values(baseline) if baseline is not None else None,
                spec.confidence,
            )
            for expectation in spec.expect
        ],
        updated=updated,
    )


Values = Callable[[str, str], list[float]]


def _values_of(runs: Replications, where: str, seeds: int) -> Values:
    """Return the numbers of a variant and metric, one per seed that was asked for."""

    def values(variant: str, metric: str) -> list[float]:
        found = [value_of(run.summary, metric, where=where) for run in runs.by_variant[variant]]
        return found if runs.random else found * seeds

    return values


def _once(values: Values) -> Values:
    """Return a single number where all are the same run: it is exact, and has no interval."""
    return lambda variant, metric: values(variant, metric)[:1]


def _stored_values(baseline: Baseline) -> Values:
    return lambda variant, metric: baseline.variants[variant].values[metric]


def _wanted(prepared: _Check, names: Sequence[str], values: Values | None = None) -> dict[str, StoredVariant]:
    """Return what the baseline must hold: the variants and metrics of non-regression, with *values*."""
    metrics: dict[str, list[str]] = {}
    for expectation in prepared.spec.expect:
        if isinstance(expectation, NoRegression):
            (variant,) = named_variants(expectation, list(names))
            metrics.setdefault(variant, []).append(expectation.metric)
    cases = {case.name: case for case in prepared.cases}
    return {
        name: stored_variant(
            cases[name].scenario,
            {metric: values(name, metric) if values is not None else [] for metric in wanted},
        )
        for name, wanted in metrics.items()
    }


def _moved(path: Path, stored: Mapping[str, StoredVariant]) -> list[str]:
    """Return a line for every mean that differs from the older baseline at *path*, if that can be read."""
    try:
        older = read_baseline(path)
    except ServesimError:
        return ["written"]
    lines = []
    for name, variant in stored.items():
        before = older.variants.get(name)
        for metric, numbers in variant.values.items():
            old = [] if before is None else before.values.get(metric, [])
            if old != numbers:
                mean = sum(numbers) / len(numbers)
                was = f"{sum(old) / len(old):.6g}" if old else "nothing"
                lines.append(f"{name}: {metric}: {was} -> {mean:.6g}")
    return lines


def check_all(
    files: Sequence[str | Path],
    *,
    workers: int | None = None,
    update_baseline: bool = False,
    on_done: OnDone | None = None,
) -> list[CheckReport]:
    """Run several check files, each as `check` does; all are read before the first is run."""
    checks = [prepare(file, objects={}) for file in files]
    sizes = [prepared.size for prepared in checks]
    reports = []
    done = 0
    for prepared, size in zip(checks, sizes, strict=True):
        before = done

        def told(count: int, _: int, before: int = before) -> None:
            if on_done is not None:
                on_done(before + count, sum(sizes))

        backend = local_backend(workers, size)
        reports.append(run_check(prepared, backend, update_baseline=update_baseline, on_done=told))
        done += size
    return _distinct(reports)


def _distinct(reports: list[CheckReport]) -> list[CheckReport]:
    """Give reports of the same name their files' paths instead."""
    names = [report.name for report in reports]
    return [
        replace(report, name=str(report.file)) if names.count(report.name) > 1 else report
        for report in reports
    ]
