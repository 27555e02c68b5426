"""Least squares with a simulator in the loop: parameters and residuals are logarithms, differences are wide.

A simulated latency is no smooth function of a step's time: a request may join a batch a step earlier or later. Central
differences over a tenth of a parameter look past that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from servesim.calibration.parameters import Parameter
from servesim.errors import ServesimError

Floats = NDArray[np.float64]
Simulate = Callable[[Sequence[Sequence[float]]], Floats]
"""Returns a row of simulated values for each of many sets of parameters."""

STEPS = (0.1, 0.03, 0.01)
"""Widths of differences, as logarithms: wide ones lead past the jumps of the simulator, narrow ones to the least."""

EVALUATIONS_MAX = 25
GROUPS_PER_PARAMETER = 3
"""From more groups of residuals than this for each parameter, how they go together is seen from themselves."""

AT_BOUND = 0.01
"""A value nearer to a bound than this, as a logarithm, is at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What least squares found.

    Attributes
    ----------
    values
        The parameters.
    jacobian
        Change of each residual, in units of its noise, by the logarithm of each parameter.
    residuals
        In units of their noise.
    intervals
        What holds the true parameters with 95 % confidence, low and high.
    at_bound
        Which of them ended at a bound.
    converged
        Whether the fit ended by itself.
    """

    values: tuple[float, ...]
    jacobian: Floats
    residuals: Floats
    intervals: tuple[tuple[float, float], ...]
    at_bound: tuple[bool, ...]
    converged: bool


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number to be fitted: its value, its standard deviation as a ratio, and the group that it goes with."""

    value: float
    noise: float
    group: int


class Residuals:
    """Residuals of a set of parameters, and their derivatives, in units of the noise of each measurement."""

    def __init__(
        self, simulate: Simulate, rows: Sequence[Measurement], parameters: Sequence[Parameter]
    ) -> None:
        self._simulate = simulate
        self._measured = np.log([row.value for row in rows])
        self._noise = np.array([row.noise for row in rows])
        self.groups = np.array([row.group for row in rows], dtype=np.float64)
        self._low = np.log([parameter.low for parameter in parameters])
        self._high = np.log([parameter.high for parameter in parameters])
        self._start = np.log([parameter.start for parameter in parameters])
        self._known: dict[tuple[float, ...], Floats] = {}

    @property
    def start(self) -> Floats:
        """Logarithms of where the fit begins: within the bounds."""
        inside: Floats = np.clip(self._start, self._low + 1e-6, self._high - 1e-6)
        return inside

    def at_start(self) -> Floats:
        """Return the derivatives where the fit begins."""
        return self.jacobian(self.start)

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        """Logarithms of the bounds."""
        return self._low, self._high

    def __call__(self, logs: Floats) -> Floats:
        """Return the residuals at the logarithms of parameters."""
        return self._many([logs])[0]

    def jacobian(self, logs: Floats, step: float = STEPS[0]) -> Floats:
        """Return central differences at *logs*, one-sided at a bound; all of them are simulated together."""
        ends = []
        for index in range(len(logs)):
            for sign in (-1.0, 1.0):
                moved = logs.copy()
                moved[index] = min(max(moved[index] + sign * step, self._low[index]), self._high[index])
                ends.append(moved)
        found = self._many(ends)
        columns = [
            (found[2 * index + 1] - found[2 * index]) / (ends[2 * index + 1][index] - ends[2 * index][index])
            for index in range(len(logs))
        ]
        return np.stack(columns, axis=1)

    def _many(self, points: Sequence[Floats]) -> list[Floats]:
        keys = [tuple(float(value) for value in np.exp(point)) for point in points]
        new = list(dict.fromkeys(key for key in keys if key not in self._known))
        if new:
            for key, values in zip(new, self._simulate(new), strict=True):
                self._known[key] = (np.log(values) - self._measured) / self._noise
        return [self._known[key] for key in keys]


def fit(residuals: Residuals, parameters: Sequence[Parameter]) -> Fit:
    """Return the parameters whose residuals have the least squares.

    Raises
    ------
    ServesimError
        If there are fewer measurements than parameters.
    """
    from scipy.optimize import least_squares

    low, high = residuals.bounds
    logs = residuals.start
    rows = len(residuals(logs))
    if rows <= len(parameters):
        raise ServesimError(
            f"calibrate: too few measurements (got {rows} for {len(parameters)} parameters). "
            f"expected at least {len(parameters) + 1}",
            hint="add runs, or fit fewer parameters with --fit",
        )
    for step in STEPS:
        found = least_squares(
            residuals,
            np.clip(logs, low + 1e-6, high - 1e-6),
            jac=partial(residuals.jacobian, step=step),
            bounds=(low, high),
            ftol=1e-5,
            xtol=1e-4,
            max_nfev=EVALUATIONS_MAX,
        )
        logs = np.asarray(found.x, dtype=np.float64)
    jacobian, final = residuals.jacobian(logs), residuals(logs)
    half = _half_widths(jacobian, final, residuals.groups)
    return Fit(
        values=tuple(float(value) for value in np.exp(logs)),
        jacobian=jacobian,
        residuals=final,
        intervals=tuple(
            (float(np.exp(log - width)), float(np.exp(log + width)))
            for log, width in zip(logs, half, strict=True)
        ),
        at_bound=tuple(bool(near) for near in np.minimum(logs - low, high - logs) < AT_BOUND),
        converged=bool(found.status > 0),
    )


def _half_widths(jacobian: Floats, residuals: Floats, groups: Floats) -> Floats:
    """Return half the 95 % intervals of the parameters' logarithms, from the scatter that the fit leaves.

    Residuals of one group (the latencies of the same requests) go up and down together. With many groups that is seen
    from the residuals (the sandwich of Liang and Zeger, Biometrika 1986); with few, all of a group count as one.
    """
    from scipy.stats import t

    rows, count = jacobian.shape
    inverse = np.linalg.pinv(jacobian.T @ jacobian)
    names = np.unique(groups)
    if len(names) > GROUPS_PER_PARAMETER * count:
        scores = np.stack([jacobian[groups == name].T @ residuals[groups == name] for name in names])
        covariance = inverse @ (scores.T @ scores) @ inverse * len(names) / (len(names) - count)
        freedom = len(names) - count
    else:
        variance = float(residuals @ residuals) / (rows - count)
        covariance, freedom = variance * rows / len(names) * inverse, rows - count
    widths: Floats = float(t.ppf(0.975, freedom)) * np.sqrt(np.clip(np.diag(covariance), 0.0, None))
    # Nothing is told finer than the narrowest difference, nor does a factor beyond 1e20 tell more than "unknown".
    return np.clip(widths, STEPS[-1], 46.0)
