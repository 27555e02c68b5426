"""What a search for capacity is asked, checked before anything is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from servesim.errors import ScenarioError, nearest
from servesim.experiments.loads import to_the_end
from servesim.experiments.slo import Slo, slos_of
from servesim.scenario import Scenario

Find = Literal["max-rate", "min-replicas"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be found.

    Attributes
    ----------
    scenario
        Its runs go on until every request is finished.
    find
        ``max-rate`` or ``min-replicas``.
    pool
        Whose replicas are counted; None for a rate.
    slos
        The objectives.
    by_default
        Whether they are the scenario's own targets, for want of others.
    seeds
        To run every load with.
    confidence
        Of intervals.
    """

    scenario: Scenario
    find: Find
    pool: str | None
    slos: tuple[Slo, ...]
    by_default: bool
    seeds: tuple[int, ...]
    confidence: float


def question_of(
    scenario: Scenario,
    slo: Sequence[str],
    *,
    find: str,
    pool: str | None,
    seeds: Sequence[int],
    confidence: float,
) -> Question:
    """Return what is asked; parameters as for `servesim.experiments.capacity.capacity`.

    Raises
    ------
    ScenarioError
        If a word is unknown, or an objective malformed.
    """
    what: Find | None = next((known for known in get_args(Find) if known == find), None)
    if what is None:
        raise ScenarioError(
            f"--find: unknown (got {find!r}). expected max-rate or min-replicas",
            hint=nearest(find, get_args(Find)),
        )
    return Question(
        scenario=to_the_end(scenario),
        find=what,
        pool=_pool(scenario, what, pool),
        slos=tuple(slos_of(scenario, slo)),
        by_default=not slo,
        seeds=tuple(seeds),
        confidence=confidence,
    )


def _pool(scenario: Scenario, find: Find, pool: str | None) -> str | None:
    """Return the pool whose replicas are counted, None for a rate."""
    names = [spec.name for spec in scenario.cluster.pools]
    if find == "max-rate":
        if pool is not None:
            raise ScenarioError(f"--pool: only for min-replicas (got {pool!r} with max-rate). expected none")
        return None
    if pool is None and len(names) > 1:
        raise ScenarioError(f"--pool: not given, and there are several. expected one of {', '.join(names)}")
    chosen = names[0] if pool is None else pool
    if chosen not in names:
        raise ScenarioError(
            f"--pool: unknown pool (got {chosen!r}). expected one of {', '.join(names)}",
            hint=nearest(chosen, names),
        )
    return chosen
