"""Rows of a profile that something disturbed: far above all of their neighbours, more work included.

More work takes no less time, so prices never fall: a single disturbed measurement would lift everything after it.
Such a row is replaced by what lies between its neighbours, and named.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from servesim.profiles.grid import Floats, Grid
from servesim.profiles.layer_profile import AttentionProfile, LayerProfile

FACTOR = 1.5
"""From how many times its neighbours on a row is taken to be disturbed: repeated measurements differ by far less."""


def smoothed(profile: LayerProfile) -> tuple[LayerProfile, tuple[str, ...]]:
    """Return *profile* without disturbed rows, and the names of these."""
    found: list[str] = []

    def one(name: str, grid: Grid | None) -> Grid | None:
        return None if grid is None else _smoothed(name, grid, found)

    def attention(name: str, of: AttentionProfile) -> AttentionProfile:
        return AttentionProfile(
            decode=_smoothed(f"decode{name}", of.decode, found),
            prefill=_smoothed(f"prefill{name}", of.prefill, found),
            mixed=one(f"mixed{name}", of.mixed),
        )

    changed = replace(
        profile,
        per_layer={name: _smoothed(name, grid, found) for name, grid in profile.per_layer.items()},
        per_step={name: _smoothed(name, grid, found) for name, grid in profile.per_step.items()},
        per_sequence={name: _smoothed(name, grid, found) for name, grid in profile.per_sequence.items()},
        experts=one("experts", profile.experts),
        attention=attention("", profile.attention),
        window=None if profile.window is None else attention(" in a window", profile.window),
        all_reduces=one("all-reduces", profile.all_reduces),
    )
    return changed, tuple(found)


def _smoothed(name: str, grid: Grid, found: list[str]) -> Grid:
    values, axes = grid.values, list(grid.axes.values())
    long = [axis for axis in range(values.ndim) if values.shape[axis] > 2]
    if not long:
        return grid
    above = np.ones(values.shape, dtype=bool)
    between = np.zeros(values.shape)
    for axis in long:
        expected, higher = _neighbours(values, axes[axis], axis)
        above &= values > FACTOR * higher
        between += expected / len(long)
    places = np.argwhere(above)
    if not len(places):
        return grid
    for place in places:
        shape = [
            f"{axis} {points[at]:g}" for at, (axis, points) in zip(place, grid.axes.items(), strict=True)
        ]
        found.append(f"{name} at {', '.join(shape)}")
    return Grid(grid.axes, np.where(above, between, values))


def _neighbours(values: Floats, points: list[float], axis: int) -> tuple[Floats, Floats]:
    """Return what lies between the neighbours of every value along *axis*, and the higher one; none above the last."""
    moved, at = np.moveaxis(values, axis, 0), np.array(points).reshape(-1, *[1] * (values.ndim - 1))
    before, after = np.roll(moved, 1, axis=0), np.roll(moved, -1, axis=0)
    before[0] = moved[1]
    after[-1] = np.inf  # growth at the end may be steep: nothing tells that it is none
    share = (at[1:-1] - at[:-2]) / (at[2:] - at[:-2])
    expected = before.copy()
    expected[1:-1] += share * (after[1:-1] - before[1:-1])
    return np.moveaxis(expected, 0, axis), np.moveaxis(np.maximum(before, after), 0, axis)
