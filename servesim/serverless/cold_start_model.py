"""How long a cold start takes, and of what: totals by region or runtime, and their four parts.

Totals come from published curves; pod allocation is one of three steps, of which the last belongs to the longest
totals; the rest of a total is split at random, with the published means. Only region R2 is published by runtime and
trigger. docs/model/serverless.md has the equations and the errors.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np

from servesim.serverless.crossed import Crossed, Indices, crossed
from servesim.serverless.curves import Floats, bent, mapping
from servesim.serverless.parameters import coefficients, curve, total_law

TotalLaw = Literal["published", "measured"]
"""Whether all regions together follow the published LogNormal, or each region the curve that was measured."""

_CONCENTRATION = 6.0
"""How little the split of a total varies from one cold start to the next; not published."""
_ALLOCATION_MOST, _DEPENDENCY_MOST = 0.9, 0.98
"""Most that pod allocation may take of a total, and dependencies of the rest."""


def draw_region(rng: np.random.Generator, region: str, size: int, law: TotalLaw) -> Floats:
    """Return the four parts of *size* cold starts of a region other than R2, a row each."""
    row = coefficients()["regions"][region]
    step = rng.choice(3, size, p=_shares(row["steps"])).astype(np.intp)
    total_s = curve(row["total_s"]).quantile(_ranks(rng, step, np.full(size, row["steps"][2])))
    total_s = to_law(region, total_s) if law == "published" else total_s
    return split(rng, total_s, step, np.zeros(size, dtype=np.intp), [row["parts"]])


def draw_runtimes_and_triggers(rng: np.random.Generator, size: int) -> tuple[Indices, Indices]:
    """Return runtimes and triggers of cold starts of R2, as positions in the coefficients' lists."""
    cells = np.array(coefficients()["R2"]["cold_starts"]).sum(axis=0)
    drawn = rng.choice(cells.size, size, p=_shares(cells.ravel()))
    runtime, trigger = np.divmod(drawn, cells.shape[1])
    return runtime, trigger


def draw_r2(rng: np.random.Generator, runtime: Indices, trigger: Indices, law: TotalLaw) -> Floats:
    """Return the four parts of cold starts of R2 with these runtimes and triggers, a row each."""
    saved: dict[str, Any] = coefficients()["R2"]
    cells = np.array(saved["cold_starts"])
    totals = _crossed("total_s")
    ranks = totals.draw_ranks(rng, runtime, trigger)
    third = cells.sum(axis=2)[2] / cells.sum(axis=(0, 2))
    hits = cells[0] / np.maximum(cells[0] + cells[1], 1e-12)
    step = (rng.random(len(runtime)) > hits[runtime, trigger]).astype(np.intp)
    step[ranks > 1 - third[runtime]] = 2
    total_s = totals.values(ranks, runtime)
    total_s = to_law("R2", total_s) if law == "published" else total_s
    return split(rng, total_s, step, runtime, [saved["parts"][name] for name in saved["runtimes"]])


def draw_utility(rng: np.random.Generator, runtime: Indices, trigger: Indices) -> Floats:
    """Return pod utility ratios, (lifetime - keep-alive) / cold start, of pods of R2."""
    ratios = _crossed("utility")
    return ratios.values(ratios.draw_ranks(rng, runtime, trigger), runtime)


@cache
def _crossed(quantity: str) -> Crossed:
    saved = coefficients()["R2"]
    by_trigger = saved[quantity]["by_trigger"]
    return crossed(
        [curve(knots) for knots in saved[quantity]["by_runtime"].values()],
        [curve(by_trigger[name]) if name in by_trigger else None for name in saved["triggers"]],
        np.array(saved["cold_starts"]).sum(axis=0),
    )


def to_law(region: str, total_s: Floats) -> Floats:
    """Return measured totals of a region where the published law of all regions together has them."""
    saved = coefficients()
    factors = saved["total_factors"]
    curves = {name: curve(row["total_s"]).bent(factors[name]) for name, row in saved["regions"].items()}
    shares = {name: float(row["cold_starts"]) for name, row in saved["regions"].items()}
    return mapping(curves, shares, total_law())(bent(total_s, factors[region]))


def split(
    rng: np.random.Generator, total_s: Floats, step: Indices, kind: Indices, parts: list[dict[str, float]]
) -> Floats:
    """Return the four parts of *total_s*, to the microsecond, a row each; they add up to it.

    *parts* are the mean shares of what pod allocation leaves, and how many cold starts have dependencies to load, of
    each *kind*. The others' shares are in proportion, so that means come out whatever the totals are.
    """
    steps = coefficients()["allocation_steps"]
    median_s, sigma = np.array(steps["median_s"])[step], np.array(steps["sigma"])[step]
    allocation_s = np.minimum(
        median_s * np.exp(sigma * rng.standard_normal(len(step))), _ALLOCATION_MOST * total_s
    )
    names = ("deploy_code_s", "deploy_dependency_s", "scheduling_s")
    mean = np.array([[part[name] for name in names] for part in parts])
    loading = np.array([part["with_dependencies_ratio"] for part in parts])
    loading = np.maximum(loading, mean[:, 1] / _DEPENDENCY_MOST)
    loads = rng.random(len(step)) < loading[kind]
    dependency = np.where(loads, (mean[:, 1] / loading)[kind], 0.0)
    code = (1 - dependency) * (mean[:, 0] / (mean[:, 0] + mean[:, 2]))[kind]
    shares = np.stack([code, dependency, 1 - dependency - code], axis=1)
    weights = rng.standard_gamma(_CONCENTRATION * shares)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
    rest_s = (total_s - allocation_s)[:, None] * weights
    return np.round(np.column_stack([allocation_s, rest_s]), 6)


def _ranks(rng: np.random.Generator, step: Indices, third: Floats) -> Floats:
    """Return ranks of totals: those of the third step are the top ones, *third* of all."""
    u = rng.random(len(step))
    return np.asarray(np.where(step == 2, 1 - third * u, (1 - third) * u))


def _shares(weights: Any) -> Floats:
    values = np.array(weights, dtype=float)
    return np.asarray(values / values.sum())
