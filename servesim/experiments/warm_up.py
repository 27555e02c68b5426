"""Where the warm-up of a comparison ends: as the scenario says, at a given time, or found by MSER-5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from servesim.experiments.backends import Backend
from servesim.experiments.points import Failure, Point, run_point
from servesim.experiments.replications import Case
from servesim.experiments.statistics import mser5
from servesim.scenario import Scenario

Rule = Literal["scenario", "auto"] | float


@dataclass(frozen=True, slots=True)
class WarmUp:
    """The warm-up of an experiment, one for all variants.

    Attributes
    ----------
    warm_up_s
        Requests that arrive before it are left out of latency statistics; None: each scenario's own.
    text
        The rule, as a report states it.
    found
        False where MSER-5 saw no steady state in some variant.
    """

    warm_up_s: float | None
    text: str
    found: bool = True


def find_warm_up(cases: Sequence[Case], rule: Rule, seed: int, backend: Backend) -> WarmUp:
    """Return the warm-up that *rule* means for *cases*.

    ``auto`` runs each case once, with *seed* and without any warm-up, and applies MSER-5 to the end-to-end
    latencies in order of arrival. The longest warm-up of any case is taken for all: to compare, all must be
    over the same requests.

    Raises
    ------
    ServesimError
        If a run fails.
    """
    if rule == "scenario":
        own = sorted({case.scenario.run.warm_up_s for case in cases})
        return WarmUp(None, f"as in the scenario, {' and '.join(f'{value:g}' for value in own)} s")
    if rule != "auto":
        return WarmUp(float(rule), f"{rule:g} s, as given")
    pilots = [replace(case, scenario=with_warm_up(case.scenario, 0.0)).point(seed) for case in cases]
    ends_s = []
    for index, outcome in backend.run(_truncation_s, pilots):
        if isinstance(outcome, Failure):
            raise outcome.error(pilots[index].name)
        ends_s.append(outcome)
    known = [end_s for end_s in ends_s if end_s >= 0.0]
    if len(known) < len(ends_s):
        text = "MSER-5 found no steady state in every variant: nothing is left out"
        return WarmUp(0.0, text, found=False)
    return WarmUp(
        max(known), f"{max(known):.4g} s, by MSER-5 on e2e_s of one run per variant, the longest of them"
    )


def with_warm_up(scenario: Scenario, warm_up_s: float) -> Scenario:
    """Return *scenario* with another warm-up."""
    return scenario.model_copy(update={"run": scenario.run.model_copy(update={"warm_up_s": warm_up_s})})


def _truncation_s(point: Point) -> float:
    """Return the arrival time of the first request to keep; negative where there is no steady state."""
    requests = run_point(point).requests
    done = requests.filter(requests["state"] == "completed")
    cut = mser5(done["e2e_s"].to_numpy())
    if cut is None:
        return -1.0
    return float(done["arrival_s"][cut]) if cut else 0.0
