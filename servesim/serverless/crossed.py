"""A quantity whose distributions by runtime and by trigger are published, but not by both at once.

Values are put into bins; how much of each bin has which runtime and trigger is fitted to both margins by iterative
proportional fitting, from what is known of the pairs. Distributions by runtime are met exactly, those by trigger as
far as the two can be met together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from servesim.serverless.curves import Curve, Floats

Indices = NDArray[np.intp]

_BINS = 60
_ROUNDS = 200


def proportional(seed: Floats, *margins: tuple[tuple[int, ...], Floats], rounds: int = _ROUNDS) -> Floats:
    """Return *seed* scaled in turn to each of *margins*, sums over all but some axes; the last one is met exactly."""
    table = seed.astype(float)
    for _ in range(rounds):
        for axes, wanted in margins:
            others = tuple(axis for axis in range(table.ndim) if axis not in axes)
            now = table.sum(axis=others, keepdims=True)
            target = np.expand_dims(wanted, others)
            table = table * np.divide(target, now, out=np.zeros_like(now), where=now > 0)
    return np.asarray(table)


@dataclass(frozen=True, slots=True, eq=False)
class Crossed:
    """A quantity by runtime and trigger.

    Attributes
    ----------
    below
        Share of a runtime's and trigger's values in all bins up to each; axes bin, runtime, trigger.
    ranks
        Cumulative probability of each runtime's values at the edges of the bins; axes runtime, edge.
    curves
        Distribution of each runtime's values.
    """

    below: Floats
    ranks: Floats
    curves: tuple[Curve, ...]

    def draw_ranks(self, rng: np.random.Generator, runtime: Indices, trigger: Indices) -> Floats:
        """Return ranks of values among those of their runtime, from 0 to 1."""
        u = rng.random(len(runtime))
        bins = np.empty(len(runtime), dtype=np.intp)
        cells = runtime * self.below.shape[2] + trigger
        for cell in np.unique(cells).tolist():
            row, column = divmod(cell, self.below.shape[2])
            mine = cells == cell
            bins[mine] = np.searchsorted(self.below[:-1, row, column], u[mine], side="right")
        low, high = self.ranks[runtime, bins], self.ranks[runtime, bins + 1]
        return np.asarray(low + (high - low) * rng.random(len(runtime)))

    def values(self, ranks: Floats, runtime: Indices) -> Floats:
        """Return the values at these ranks of their runtimes."""
        values = np.empty(len(ranks))
        for row, curve in enumerate(self.curves):
            mine = runtime == row
            values[mine] = curve.quantile(ranks[mine])
        return values


def crossed(by_runtime: Sequence[Curve], by_trigger: Sequence[Curve | None], weights: Floats) -> Crossed:
    """Return the quantity with these distributions; the trigger that has none has what the others leave.

    *weights* are the shares of runtimes and triggers, axes runtime and trigger.
    """
    edges = np.geomspace(
        min(curve.x[0] for curve in by_runtime), max(curve.x[-1] for curve in by_runtime), _BINS + 1
    )
    ranks = np.array([curve.cdf(edges) for curve in by_runtime])
    ranks[:, 0], ranks[:, -1] = 0.0, 1.0
    runtime_margin = np.diff(ranks, axis=1).T * weights.sum(axis=1)
    trigger_margin = np.zeros((_BINS, weights.shape[1]))
    for column, curve in enumerate(by_trigger):
        if curve is not None:
            trigger_margin[:, column] = np.diff(curve.cdf(edges), prepend=0.0)[1:] * weights[:, column].sum()
    rest = np.maximum(runtime_margin.sum(axis=1) - trigger_margin.sum(axis=1), 1e-9)
    for column, curve in enumerate(by_trigger):
        if curve is None:
            trigger_margin[:, column] = rest / rest.sum() * weights[:, column].sum()
    seed = np.broadcast_to(np.maximum(weights, 1e-9), (_BINS, *weights.shape))
    table = proportional(seed, ((0, 2), trigger_margin), ((1, 2), weights), ((0, 1), runtime_margin))
    total = table.sum(axis=0)
    below = np.cumsum(table, axis=0) / np.where(total > 0, total, 1.0)
    return Crossed(below, ranks, tuple(by_runtime))
