"""Values measured on a grid, and what lies between its points.

Between grid points values are interpolated linearly along every axis, which keeps them monotone where the points
are. Beyond the last point of an axis they grow as over its last half: what is bound by computing or by memory
grows linearly, and a single interval is too noisy to tell how fast. Below the first point they stay.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
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
            (
                points,
                int(np.prod(self.values.shape[axis + 1 :])),
                max(0, bisect_right(points, points[-1] / 2) - 1),
            )
            for axis, points in enumerate(self.axes.values())
        ]

    def __call__(self, *position: float) -> float:
        """Return the value at *position*, one coordinate per axis."""
        places, weights = [0], [1.0]
        for value, (points, stride, half) in zip(position, self._axes):  # noqa: B905 (strict= costs)
            last = len(points) - 1
            low = bisect_right(points, value) - 1
            if low < 0 or value == points[low] or last == 0:
                low = max(low, 0) * stride
                places = [place + low for place in places]
                continue
            low, high = (low, low + 1) if low < last else (half, last)
            share = (value - points[low]) / (points[high] - points[low])
            low, high = low * stride, high * stride
            places = [place + low for place in places] + [place + high for place in places]
            weights = [weight * (1.0 - share) for weight in weights] + [weight * share for weight in weights]
        flat = self._flat
        return sum([weight * flat[place] for weight, place in zip(weights, places)])  # noqa: B905 (strict= costs)

    def covers(self, *position: float) -> bool:
        """Return whether *position* lies within the grid."""
        return all(value <= points[-1] for points, value in zip(self.axes.values(), position, strict=True))

    def raised(self, floor: npt.ArrayLike = 0.0) -> Grid:
        """Return the grid with no value below *floor* or below a value that lies before it on any axis.

        A measurement that falls with more work is noise; one below what the hardware allows is a mistake.
        """
        values = np.maximum(self.values, floor)
        for axis in range(values.ndim):
            values = np.maximum.accumulate(values, axis=axis)
        return Grid(self.axes, values)


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
