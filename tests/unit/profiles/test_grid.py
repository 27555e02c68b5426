"""Grids: values between points and beyond them, by hand and as properties."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesim.errors import ServesimError
from servesim.profiles import Grid
from servesim.profiles.grid import grid_of, ragged_grid, total

POINTS = st.lists(st.integers(0, 4096), min_size=1, max_size=5, unique=True).map(sorted)
SECONDS = st.floats(0, 1e3, allow_nan=False)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Grids of one to three axes with any values."""
    axes = {name: draw(POINTS) for name in "abc"[: draw(st.integers(1, 3))]}
    shape = [len(points) for points in axes.values()]
    size = int(np.prod(shape))
    values = draw(st.lists(SECONDS, min_size=size, max_size=size))
    return Grid(axes, np.array(values).reshape(shape))


def test_one_axis_by_hand() -> None:
    """Between points linear, before the first its value, beyond the last as over the last half."""
    grid = Grid({"tokens": [2, 4, 8, 16]}, [1.0, 2.0, 3.0, 7.0])
    assert [grid(2), grid(3), grid(12)] == [1.0, 1.5, 5.0]
    assert grid(0) == 1.0
    assert grid(24) == 7.0 + 8 * (7.0 - 3.0) / 8  # the last half begins at 8
    assert Grid({"tokens": [2, 10, 16, 18]}, [1.0, 2.0, 9.0, 10.0])(20) == 10.0 + 2 * 9.0 / 16  # here at 2


def test_two_axes_by_hand() -> None:
    """Weights of the corners are products: (0.25, 0.75) on the first axis, (0.5, 0.5) on the second."""
    grid = Grid({"a": [0, 4], "b": [0, 2]}, [[0.0, 8.0], [16.0, 40.0]])
    assert grid(3, 1) == 0.25 * (0.5 * 0.0 + 0.5 * 8.0) + 0.75 * (0.5 * 16.0 + 0.5 * 40.0)
    assert grid.at("a", 3)(1) == grid(3, 1)
    assert grid.at("b", 1)(3) == grid(3, 1)
    assert Grid({"a": [7], "b": [0, 2]}, [[1.0, 3.0]])(100, 1) == 2.0  # one point: the same everywhere


@given(grid=grids(), data=st.data())
def test_points_are_kept_and_values_between_lie_between(grid: Grid, data: st.DataObject) -> None:
    """A grid is exact on its points; within its axes no value leaves the range of the values."""
    place = [data.draw(st.integers(0, len(points) - 1)) for points in grid.axes.values()]
    point = [points[i] for points, i in zip(grid.axes.values(), place, strict=True)]
    assert grid(*point) == grid.values[tuple(place)]
    inside = [data.draw(st.integers(0, int(points[-1]))) for points in grid.axes.values()]
    low, high = grid.values.min(), grid.values.max()
    assert low - 1e-9 <= grid(*inside) <= high + 1e-9


@given(grid=grids(), data=st.data())
def test_extended_and_raised_grids_never_fall(grid: Grid, data: st.DataObject) -> None:
    """After `extended` and `raised`, more on any axis takes no less time; no value was lowered."""
    assert (grid.raised().values >= grid.values).all()
    position = [data.draw(st.integers(0, 9000)) for _ in grid.axes]
    extended = grid
    for name in grid.axes:
        extended = extended.extended(name, 14_000)
    raised = extended.raised()
    for axis, points in enumerate(grid.axes.values()):
        room = 5000 if points[-1] else 0  # an axis that ends at 0 has nothing to double
        further = [value + (i == axis) * data.draw(st.integers(0, room)) for i, value in enumerate(position)]
        assert raised(*further) >= raised(*position) - 1e-9 * (1 + raised(*position))


@given(grid=grids(), data=st.data())
def test_an_axis_taken_first_gives_the_same(grid: Grid, data: st.DataObject) -> None:
    """`at` and the corners are other ways to the same value."""
    position = [data.draw(st.integers(0, 9000)) for _ in grid.axes]
    corners = grid.corners(*position)
    assert sum(weight for _, weight in corners) == pytest.approx(1.0)
    flat = grid.values.ravel()
    assert sum(weight * flat[place] for place, weight in corners) == pytest.approx(grid(*position))
    if len(position) > 1:
        assert grid.at("a", position[0])(*position[1:]) == pytest.approx(grid(*position), abs=1e-6)


def test_extension_follows_the_growth_it_is_given() -> None:
    """Points beyond the edge are its value times the ratio of growth; the old ones stay."""
    grid = Grid({"chunk": [1, 4], "start": [0, 8]}, [[1.0, 2.0], [3.0, 6.0]])
    extended = grid.extended("chunk", 10, lambda chunk, start: chunk * chunk + start)
    assert extended.axes["chunk"] == [1, 4, 8, 16]
    assert extended.values[:2].tolist() == grid.values.tolist()
    assert extended.values[2].tolist() == [3.0 * 64 / 16, 6.0 * 72 / 24]
    assert extended.values[3].tolist() == [3.0 * 256 / 16, 6.0 * 264 / 24]
    assert grid.extended("chunk", 4, lambda *_: 1.0) is grid
    assert grid.extended("start", 10).values.tolist() == [
        [1.0, 2.0, 3.0],
        [3.0, 6.0, 9.0],
    ]  # as beyond any end


def test_floor_is_kept() -> None:
    """A value below its floor is raised to it, and what follows with it."""
    assert Grid({"a": [1, 2, 3]}, [1.0, 1.0, 5.0]).raised([0.0, 2.0, 0.0]).values.tolist() == [1.0, 2.0, 5.0]


def test_missing_shapes_are_counted_and_named() -> None:
    """A grid with a hole is refused."""
    with pytest.raises(
        ServesimError, match=r"t: 1 of 4 shapes are missing, the first at a=2, b=3\. expected"
    ):
        grid_of([(1, 3, 0.1), (1, 4, 0.1), (2, 4, 0.2)], {"a": [1, 2], "b": [3, 4]}, where="t")


def test_lines_of_different_lengths_are_filled() -> None:
    """A line that ends early goes on as its last half did; noise is raised first."""
    grid = ragged_grid([(1, 2, 2.0), (1, 4, 4.0), (1, 8, 8.0), (2, 2, 3.0), (2, 4, 7.0)], ("a", "b"))
    assert grid.values.tolist() == [[2.0, 4.0, 8.0], [3.0, 7.0, 15.0]]
    assert ragged_grid([(1, 2, 5.0), (1, 4, 4.0), (2, 8, 9.0)], ("a", "b")).values.tolist() == [
        [5.0] * 3,
        [9.0] * 3,
    ]


def test_sum_is_exact() -> None:
    """A sum has the points of all: no bend of any is lost."""
    curves = [Grid({"t": [1, 5]}, [0.0, 4.0]), Grid({"t": [1, 3, 5]}, [0.0, 0.0, 6.0])]
    summed = total(curves)
    assert summed.axes == {"t": [1, 3, 5]}
    for at in (1, 2, 3, 4, 5, 7):
        assert summed(at) == pytest.approx(sum(curve(at) for curve in curves))
    assert all(before <= after for before, after in pairwise(summed.values))
