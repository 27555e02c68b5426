"""Values measured on a grid, and what lies between its points.

Between grid points values are interpolated linearly along every axis, which keeps them monotone where the points
are. Beyond the last point of an axis they grow as over its last half: what is bound by computing or by memory
grows linearly, and a single interval is too noisy to tell how fast. Below the first point they stay. Beyond the ends
of several axes at once such lines may cross: a grid that is used so is extended first, and then raised.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt

from servesim.errors import ServesimError

Floats = npt.NDArray[np.float64]


class Grid:
    """Values on a product of axes.

    Parameters
    ----------
    axes
        Name of each axis to its points, increasing, at least one.
    values
        Array of one value per point.

    Examples
    --------
    >>> grid = Grid({"tokens": [1, 10]}, [2.0, 11.0])
    >>> grid(4), grid(20)
    (5.0, 21.0)
    """

    __slots__ = ("_axes", "_flat", "axes", "values")

    def __init__(self, axes: Mapping[str, Sequence[float]], values: npt.ArrayLike) -> None:
        self.axes = {name: [float(point) for point in points] for name, points in axes.items()}
        self.values: Floats = np.asarray(values, dtype=np.float64)
        self._flat: list[float] = self.values.ravel().tolist()
        self._axes = [
            (points, int(np.prod(self.values.shape[axis + 1 :])), half(points))
            for axis, points in enumerate(self.axes.values())
        ]

    def __call__(self, *position: float) -> float:
        """Return the value at *position*, one coordinate per axis."""
        flat = self._flat
        return sum([weight * flat[place] for place, weight in self.corners(*position)])

    def corners(self, *position: float) -> list[tuple[int, float]]:
        """Return place among the flat values, and weight, of every point that the value at *position* is made of.

        Axes without a coordinate, the last ones, stand at their first point.
        """
        found = [(0, 1.0)]
        for value, (points, stride, half) in zip(position, self._axes):  # noqa: B905 (the last may be left out)
            low, high, share = bracket(points, half, value)
            if not share:
                found = [(place + low * stride, weight) for place, weight in found]
                continue
            found = [
                (place + end * stride, weight * part)
                for end, part in ((low, 1.0 - share), (high, share))
                for place, weight in found
            ]
        return found

    def at(self, axis: str, value: float) -> Grid:
        """Return the grid of the other axes at *value* of *axis*."""
        points, place = self.axes[axis], list(self.axes).index(axis)
        rest = {name: each for name, each in self.axes.items() if name != axis}
        low, high, share = bracket(points, half(points), value)
        before, after = self.values.take(low, axis=place), self.values.take(high, axis=place)
        return Grid(rest, (1.0 - share) * before + share * after)

    def raised(self, floor: npt.ArrayLike = 0.0) -> Grid:
        """Return the grid with no value below *floor* or below a value that lies before it on any axis.

        A measurement that falls with more work is noise; one below what the hardware allows is a mistake.
        """
        values = np.maximum(self.values, floor)
        for axis in range(values.ndim):
            values = np.maximum.accumulate(values, axis=axis)
        return Grid(self.axes, values)

    def extended(self, axis: str, end: float, growth: Callable[..., float] | None = None) -> Grid:
        """Return the grid with points up to *end* on *axis*, each twice the one before.

        A value there is that at the old edge times ``growth(*point) / growth(*edge)``, where the point and the edge
        have one coordinate per axis; without *growth*, as beyond the last point of any grid.
        """
        points, place = self.axes[axis], list(self.axes).index(axis)
        edge, more = points[-1], list[float]()
        while 0 < edge * 2 ** len(more) < end:
            more.append(edge * 2 ** (len(more) + 1))
        if not more:
            return self
        last = self.values.take([-1], axis=place)
        if growth is None:
            start = half(points)
            slope = (last - self.values.take([start], axis=place)) / max(edge - points[start], 1e-300)
            new = [last + slope * (value - edge) for value in more]
        else:
            corners = list(product(*[[edge] if name == axis else each for name, each in self.axes.items()]))

            def grown(value: float) -> Floats:
                there = [growth(*corner[:place], value, *corner[place + 1 :]) for corner in corners]
                return np.array(there).reshape(last.shape)

            new = [last * grown(value) / grown(edge) for value in more]
        return Grid({**self.axes, axis: [*points, *more]}, np.concatenate([self.values, *new], axis=place))


def half(points: Sequence[float]) -> int:
    """Return the place of the last point up to half of the last: from there on growth beyond the end is told."""
    return max(0, bisect_right(points, points[-1] / 2) - 1)


def bracket(points: Sequence[float], half: int, value: float) -> tuple[int, int, float]:
    """Return places of the two points that the value at *value* is made of, and the share of the second.

    *half* is `half` of the points. The share is 0 on a point and before the first; beyond the last it exceeds 1.
    """
    high = bisect_right(points, value)
    if high == 0 or len(points) == 1:
        return 0, 0, 0.0
    low = high - 1
    before = points[low]
    if value == before:
        return low, low, 0.0
    if high == len(points):
        low, high = half, low
        before = points[low]
    return low, high, (value - before) / (points[high] - before)


def grid_of(rows: Iterable[tuple[float, ...]], axes: Mapping[str, Sequence[float]], *, where: str) -> Grid:
    """Return the grid on *axes* whose values are the last elements of *rows*; other rows are left out.

    Raises
    ------
    ServesimError
        If a point of the grid has no row.
    """
    known = {tuple(map(float, row[:-1])): float(row[-1]) for row in rows}
    points = list(product(*[[float(point) for point in each] for each in axes.values()]))
    missing = [point for point in points if point not in known]
    if missing:
        named = ", ".join(f"{name}={value:g}" for name, value in zip(axes, missing[0], strict=True))
        raise ServesimError(
            f"{where}: {len(missing)} of {len(points)} shapes are missing, the first at {named}. expected a "
            f"value for every combination of {', '.join(axes)}"
        )
    shape = [len(each) for each in axes.values()]
    return Grid(axes, np.array([known[point] for point in points]).reshape(shape))


def ragged_grid(rows: Iterable[tuple[float, float, float]], names: tuple[str, str]) -> Grid:
    """Return a grid of two axes from *rows* that lack some shapes: memory and time end different rows early.

    Each line along the second axis is interpolated, and extrapolated as a `Grid` is, over all that were measured.
    """
    lines: dict[float, dict[float, float]] = {}
    for first, second, value in rows:
        lines.setdefault(float(first), {})[float(second)] = float(value)
    points = sorted({second for line in lines.values() for second in line})
    values = []
    for first in sorted(lines):
        line = sorted(lines[first].items())
        # Raised first: a fall between two shapes, which is noise, must not be carried beyond the last.
        curve = Grid({names[1]: [second for second, _ in line]}, [value for _, value in line]).raised()
        values.append([curve(second) for second in points])
    return Grid({names[0]: sorted(lines), names[1]: points}, values)


def total(curves: Iterable[Grid]) -> Grid:
    """Return the sum of grids of one axis, exact within their ranges: the points are those of all of them."""
    known = list(curves)
    name = next(iter(known[0].axes))
    points = sorted({point for curve in known for point in curve.axes[name]})
    return Grid({name: points}, [sum(curve(point) for curve in known) for point in points])
