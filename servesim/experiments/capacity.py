"""How much load does a cluster bear within its objectives, and how many replicas does a load need?

The search is in `search`, what a load gives in `load_points`, what an objective is in `slo`, and what was found in
`capacity_result`. Methods and what they assume: docs/model/statistics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from servesim.errors import ScenarioError
from servesim.experiments.backends import Backend, local_backend
from servesim.experiments.capacity_findings import capacity_of
from servesim.experiments.capacity_question import Find, Question, question_of
from servesim.experiments.capacity_result import Capacity, Findings
from servesim.experiments.ladders import ladder_of, loads_of
from servesim.experiments.load_points import LoadPoints, Measured
from servesim.experiments.metrics import unit_of
from servesim.experiments.points import seeds_from
from servesim.experiments.search import Boundary, Scale, boundary
from servesim.scenario import Scenario, load_scenario

EASED_BY_LOAD = ("_per_s", "usd_per_million_output_tokens", "cost_usd", "gpu_hours", "duration_s")
"""Ends of the names of metrics that are the worst in an unloaded cluster."""

OnDone = Callable[[int, int | None], None]


def capacity(
    scenario: Scenario | str | Path,
    *,
    slo: Sequence[str] = (),
    find: Find = "max-rate",
    pool: str | None = None,
    overrides: Sequence[str] = (),
    seeds: int | Sequence[int] = 5,
    confidence: float = 0.95,
    workers: int | None = None,
) -> Capacity:
    """Find the highest rate of requests, or the least number of replicas, at which objectives are met.

    Parameters
    ----------
    scenario
        A scenario file, or a `Scenario` made in Python.
    slo
        Objectives, ``"ttft_s_p99<=1"`` each; any number of the summary, with dots for tables in it. Without
        any, 99 % of the requests must meet the scenario's own ``slo``.
    find
        ``max-rate`` plays the same requests faster or slower; ``min-replicas`` changes a pool's size.
    pool
        Whose replicas are counted; needed where there are several.
    overrides
        ``"a.b.c=value"`` each, applied to the file; a `Scenario` takes none.
    seeds
        So many, from the scenario's own seed on, or the seeds themselves.
    confidence
        Of intervals.
    workers
        Processes that compute; None: one per CPU core.

    Raises
    ------
    ServesimError
        If an objective is malformed or missed by an unloaded cluster already, or a run fails.

    Examples
    --------
    >>> import servesim
    >>> found = servesim.capacity(
    ...     "scenarios/quickstart.yaml", slo=["ttft_s_p99<=0.5"], find="min-replicas",
    ...     overrides=["workload.max_requests=200"], workers=1)
    >>> found.value, found.unit
    (1, 'replicas')
    """
    if not isinstance(scenario, Scenario):
        scenario = load_scenario(scenario, overrides=overrides, with_files=True)
    elif overrides:
        raise ScenarioError(
            f"overrides: only a file takes them (got {overrides[0]!r} with a Scenario). expected none"
        )
    numbers = seeds_from(scenario, seeds)
    question = question_of(scenario, slo, find=find, pool=pool, seeds=numbers, confidence=confidence)
    return find_capacity(question, local_backend(workers, len(numbers)))


def find_capacity(question: Question, backend: Backend, *, on_done: OnDone | None = None) -> Capacity:
    """Return the answer to *question*; runs are computed on *backend*.

    Raises
    ------
    ServesimError
        If an unloaded cluster misses an objective already, the largest one misses one, or a run fails.
    """
    loads = loads_of(question, backend)
    ladder = ladder_of(question, loads)
    closed = any(load.is_closed for load in loads)
    points = LoadPoints(
        ladder.scenario_at,
        question.slos,
        backend,
        confidence=question.confidence,
        requests=[load.requests for load in loads] if closed else None,
        on_done=on_done,
    )
    pilots = points.start(ladder.unloaded, question.seeds)
    unloaded = points(ladder.unloaded)
    if not unloaded.met:
        raise _infeasible(unloaded, question, "an unloaded cluster")
    scale, coarse = ladder.scales(unloaded)

    def where(holds: Callable[[Measured], bool]) -> Boundary:
        explored = [level for level in points.measured if level != ladder.unloaded] or [ladder.start]
        return boundary(explored, lambda level: holds(points(level)), scale)

    met = where(lambda measured: measured.met)
    if met.inside is None:
        assert met.outside is not None, "it holds nowhere"
        most = f"{met.outside:,} replicas of pool {question.pool}"
        raise _infeasible(points.whole(met.outside), question, most)
    random = pilots.random and len(points.seeds) > 1
    surely_met = met
    if random:  # what an unloaded cluster does not do for certain, no other load will
        sure = unloaded.surely_met
        surely_met = where(lambda measured: measured.surely_met) if sure else Boundary(None, None)
    not_surely_missed = where(lambda measured: not measured.surely_missed) if random else met
    knee = _knee(points, met.inside, coarse)
    findings = Findings(
        met=where(lambda measured: measured.met),  # again: the other searches may have seen an easier miss
        surely_met=surely_met,
        not_surely_missed=not_surely_missed,
        knee=knee,
        measured=points.measured,
        seeds=points.seeds,
        random=pilots.random,
    )
    return capacity_of(question, ladder, findings)


def _knee(points: LoadPoints, level: float, scale: Scale) -> Boundary:
    """Return where the backlog begins to grow; *level* is one that was run to its end."""
    whole = [known for known, measured in points.measured.items() if not measured.stopped]
    easy = scale.difficulty(level)
    explored = [known for known in whole if scale.difficulty(known) >= easy]
    return boundary(explored, lambda level: not points.whole(level).saturated, scale)


def _infeasible(measured: Measured, question: Question, what: str) -> ScenarioError:
    """Return the error that even the easiest load misses an objective."""
    if not measured.served:
        return ScenarioError(
            f"--slo: {what} does not serve {measured.unserved_ratio:.1%} of the requests, whatever the load. "
            "expected 1 % at most, because those served say nothing about the others",
            hint="servesim run says why; workload.prompt_tokens.max shortens prompts that are too long",
        )
    missed = [
        slo for slo, judgement in zip(measured.slos, measured.judgements, strict=True) if not judgement.met
    ]
    if not missed:
        return ScenarioError(
            f"--slo: the backlog of {what} grows until the end. expected a load that it serves"
        )
    slo = missed[0]
    values = measured.values(slo.metric)
    hint = None
    if slo.metric.endswith(EASED_BY_LOAD):
        hint = "the load makes it better; objectives are for what the load makes worse, such as latencies"
    unit = unit_of(slo.metric).replace("0-1", "-")
    got = f"{sum(values) / len(values):.4g}{'' if unit == '-' else f' {unit}'}"
    return ScenarioError(
        f"--slo {str(slo)!r}: {what} misses it already (got {got}). expected a limit that it can keep",
        hint=hint,
    )
