"""Running check files of traces: from YAML to verdicts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from servesim.checks.report import CheckReport
from servesim.checks.trace_files import Job, Made, Numbers, Spec, compare, make
from servesim.checks.trace_spec import Distance, Identical, Ks, TraceCheckSpec, TraceExpectation, names_in
from servesim.checks.verdicts import Verdict, bounds_verdict, named, verdict_of
from servesim.errors import ScenarioError, nearest
from servesim.experiments.axes import overrides_of
from servesim.experiments.backends import Backend
from servesim.experiments.points import Failure
from servesim.experiments.replications import OnDone
from servesim.traces.source import read_spec

Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class TraceCheck:
    """A check file of traces, ready to run.

    Attributes
    ----------
    file, spec
        It, read.
    specs
        For each trace that is generated what is, once for each seed.
    """

    file: Path
    spec: TraceCheckSpec
    specs: Mapping[str, Sequence[Spec]]

    @property
    def seeds(self) -> list[int]:
        """The seeds of the first trace that is generated; one where none is."""
        first = next(iter(self.specs.values()), None)
        return [0] if first is None else [spec.seed for spec in first]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The traces that are compared."""
        pairs = [(each.of, each.to) for each in self.spec.expect if isinstance(each, Distance)]
        return list(dict.fromkeys(pairs))

    @property
    def size(self) -> int:
        """How many tasks there are."""
        files = sum(len(self.specs.get(name, [None])) for name in self.spec.traces)
        return files + len(self.pairs) * len(self.seeds)


def prepare_traces(file: Path, spec: TraceCheckSpec) -> TraceCheck:
    """Return the check in *file*, the descriptions of what it generates read.

    Raises
    ------
    ScenarioError
        If anything in one of them is wrong.
    """
    specs = {}
    for name, trace in spec.traces.items():
        if trace.generate is not None:
            own = read_spec(trace.generate, overrides_of(trace.set))
            seeds = (
                [own.seed + index for index in range(spec.seeds)]
                if isinstance(spec.seeds, int)
                else spec.seeds
            )
            specs[name] = [own.model_copy(update={"seed": seed}) for seed in seeds]
    return TraceCheck(file, spec, specs)


def run_traces(prepared: TraceCheck, backend: Backend, *, on_done: OnDone | None = None) -> CheckReport:
    """Run what `prepare_traces` returned and judge it.

    Raises
    ------
    ServesimError
        If a file cannot be used, or lacks a number that is asked for.
    """
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if on_done is not None:
            on_done(done, prepared.size)

    with tempfile.TemporaryDirectory(prefix="servesim-check-") as folder:
        made = _make(prepared, Path(folder), backend, count)
        apart = _compare(prepared, made, backend, count)
    judge = _Judge(prepared, made, apart)
    return CheckReport(
        name=prepared.spec.name or prepared.file.stem,
        file=prepared.file,
        seeds=prepared.seeds,
        random=bool(prepared.specs),
        verdicts=[judge.verdict(expectation) for expectation in prepared.spec.expect],
    )


def _make(
    prepared: TraceCheck, folder: Path, backend: Backend, count: Callable[[], None]
) -> dict[str, list[Made]]:
    """Return the files of each trace, one for each seed, or the only one."""
    spec, names = prepared.spec, list(prepared.spec.traces)
    plain = [each for each in spec.expect if not isinstance(each, Ks | Distance | Identical)]
    told = {name for each in plain for name in names_in(each, names)}
    jobs = []
    for name, trace in spec.traces.items():
        for number, described in enumerate(prepared.specs.get(name, [None])):
            below = folder / f"{list(spec.traces).index(name)}.{number}"
            below.mkdir()
            jobs.append(
                Job(
                    name=f"trace{number}",
                    trace=trace,
                    spec=described,
                    folder=below,
                    ks=tuple(_ks_of(spec, name)),
                    told=name in told,
                )
            )
    owners = [name for name in names for _ in prepared.specs.get(name, [None])]
    found = _run(backend, make, jobs, [f"{prepared.file}: {name}" for name in owners], count)
    return {
        name: [made for owner, made in zip(owners, found, strict=True) if owner == name] for name in names
    }


def _compare(
    prepared: TraceCheck, made: Mapping[str, list[Made]], backend: Backend, count: Callable[[], None]
) -> dict[tuple[str, str], list[Numbers]]:
    """Return for each pair of traces the numbers that tell them apart, once for each seed."""
    seeds = len(prepared.seeds)
    pairs = [(pair, seed) for pair in prepared.pairs for seed in range(seeds)]
    paths = [(_at(made[of], seed).path, _at(made[to], seed).path) for (of, to), seed in pairs]
    where = [f"{prepared.file}: {of} to {to}" for (of, to), _ in pairs]
    found = _run(backend, compare, paths, where, count)
    return {pair: found[n * seeds : (n + 1) * seeds] for n, pair in enumerate(prepared.pairs)}


def _run(
    backend: Backend,
    task: Callable[[Item], Value],
    items: Sequence[Item],
    where: Sequence[str],
    count: Callable[[], None],
) -> list[Value]:
    """Return what *task* makes of each item; the first failure is raised, *where* says of what."""
    found: dict[int, Value] = {}
    for index, outcome in backend.run(task, items):
        if isinstance(outcome, Failure):
            raise outcome.error(where[index])
        found[index] = outcome
        count()
    return [found[index] for index in range(len(items))]


def _ks_of(spec: TraceCheckSpec, name: str) -> list[Ks]:
    names = list(spec.traces)
    return [each for each in spec.expect if isinstance(each, Ks) and names_in(each, names) == [name]]


def _at(files: Sequence[Made], seed: int) -> Made:
    return files[seed] if len(files) > 1 else files[0]


@dataclass(frozen=True, slots=True)
class _Judge:
    prepared: TraceCheck
    made: Mapping[str, list[Made]]
    apart: Mapping[tuple[str, str], list[Numbers]]

    def verdict(self, expected: TraceExpectation) -> Verdict:
        """Return the verdict on an expectation."""
        spec = self.prepared.spec
        if isinstance(expected, Identical):
            return self._identical(expected)
        if isinstance(expected, Ks):
            (name,) = names_in(expected, list(spec.traces))
            place = _ks_of(spec, name).index(expected)
            values = [made.ks[place] for made in self.made[name]]
            law = "points" if expected.law is None else expected.law.name
            return bounds_verdict(
                expected, f"KS of {expected.column} of {name} to {law}", values, spec.confidence
            )
        if isinstance(expected, Distance):
            where = f"{self.prepared.file}: {expected.of} to {expected.to}"
            found = self.apart[expected.of, expected.to]
            values = [_number(numbers, expected.metric, where, "trace compare") for numbers in found]
            name = f"{expected.metric}, {expected.of} to {expected.to}"
            return bounds_verdict(expected, name, values, spec.confidence)
        return verdict_of(expected, list(spec.traces), self._values, None, spec.confidence)

    def _values(self, name: str, metric: str) -> list[float]:
        """Return a number of a trace for each seed."""
        where = f"{self.prepared.file}: {name}"
        seeds = range(len(self.prepared.seeds))
        return [_number(_at(self.made[name], seed).numbers, metric, where, "trace info") for seed in seeds]

    def _identical(self, expected: Identical) -> Verdict:
        seeds = range(len(self.prepared.seeds))
        alike = [
            _at(self.made[expected.of], seed).sha256 == _at(self.made[expected.to], seed).sha256
            for seed in seeds
        ]
        times = f" at {sum(alike)} of {len(alike)} seeds" if len(alike) > 1 else ""
        measured = "the same" if all(alike) else "different" if not any(alike) else "the same"
        verdict = Verdict(
            name="",
            expected="the same bytes" if expected.same else "different bytes",
            published="",
            measured=measured + times,
            outcome="passed" if all(same is expected.same for same in alike) else "failed",
        )
        return named(verdict, expected, f"{expected.of} and {expected.to}")


def _number(numbers: Numbers, metric: str, where: str, command: str) -> float:
    value = numbers.get(metric)
    if value is not None:
        return value
    known = [name for name, number in numbers.items() if number is not None]
    what = "no value" if metric in numbers else "unknown metric"
    raise ScenarioError(
        f"{where}: {what} (got {metric!r}). expected a number of servesim {command} --json, with dots",
        hint=nearest(metric, known) or f"it has {', '.join(known[:12])}, ...",
    )
