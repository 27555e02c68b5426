"""Segments expanded to the step boundaries they stand for.

The expression is the one of `servesim.cluster.records.SEGMENT`, evaluated in the same order of operations, so
that the times computed here equal those of the running cluster to the last bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def durations_s(step_s: Floats, growth_s: Floats, steps: NDArray[Any]) -> Floats:
    """Return T(k) = k*step_s + growth_s*k*(k-1)/2, the time that the first k = *steps* steps take."""
    k = steps.astype(np.float64)  # k*(k-1) overflows 32-bit integers from 46,342 steps on
    result: Floats = k * step_s + growth_s * (k * (k - 1.0) * 0.5)
    return result


def boundaries_s(start_s: Floats, step_s: Floats, growth_s: Floats, steps: NDArray[Any]) -> Floats:
    """Return the end of every step of every segment, segment by segment.

    Parameters
    ----------
    start_s, step_s, growth_s, steps
        Columns of the segments, one element per segment.

    Returns
    -------
    numpy.ndarray
        Seconds, ``steps.sum()`` of them; time order when the segments are.
    """
    ends = np.cumsum(steps, dtype=np.int64)
    number = np.arange(1, (ends[-1] if len(ends) else 0) + 1) - np.repeat(ends - steps, steps)
    start, step, growth = (np.repeat(column, steps) for column in (start_s, step_s, growth_s))
    result: Floats = start + durations_s(step, growth, number)
    return result
