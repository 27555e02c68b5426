"""How far two traces are apart: their gaps, lengths and burstiness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.traces.statistics import Floats, open_arrivals, spread, statistics

QUANTITIES = ("gap_s", "prompt_tokens", "output_tokens", "requests_per_1s")
"""What is compared as a distribution: gaps between arrivals, lengths, and counts in bins of 1 s."""


def distances(one: pl.DataFrame, other: pl.DataFrame) -> dict[str, Any]:
    """Return how far the distributions of two traces are apart, and the numbers that describe each.

    Returns
    -------
    dict
        ``distributions``: for each of `QUANTITIES` the Kolmogorov-Smirnov statistic ``ks``, the mean distance of
        quantiles ``quantile_distance`` (Wasserstein's of order 1, in the unit of the quantity), the same over the
        mean of the first trace, and mean, quantiles and maximum of ``a`` and ``b``. ``numbers``: rate, CV, D@1s,
        correlation.
    """
    samples = [(_samples(frame)) for frame in (one, other)]
    distributions = {}
    for name in QUANTITIES:
        a, b = (sample[name] for sample in samples)
        distance, mean = quantile_distance(a, b), float(np.abs(a).mean()) if len(a) else 0.0
        distributions[name] = {
            "ks": ks_statistic(a, b),
            "quantile_distance": distance,
            "relative": distance / mean if distance is not None and mean else None,
            "a": spread(a),
            "b": spread(b),
        }
    described = [statistics(frame) for frame in (one, other)]
    names = ("requests", "span_s", "rate_per_s", "gap_cv", "dispersion_1s", "peak_1s", "correlation")
    return {
        "distributions": distributions,
        "numbers": {name: {"a": described[0][name], "b": described[1][name]} for name in names},
    }


def ks_statistic(a: NDArray[Any], b: NDArray[Any]) -> float | None:
    """Return the largest difference between two empirical distribution functions; None where one is empty."""
    if not len(a) or not len(b):
        return None
    a, b = np.sort(a), np.sort(b)
    values = np.concatenate([a, b])
    shares = [np.searchsorted(sample, values, side="right") / len(sample) for sample in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())


def quantile_distance(a: NDArray[Any], b: NDArray[Any]) -> float | None:
    """Return the mean over all shares of the distance between quantiles: Wasserstein's of order 1.

    It is the area between the two distribution functions.
    """
    if not len(a) or not len(b):
        return None
    a, b = np.sort(a).astype(np.float64), np.sort(b).astype(np.float64)
    values = np.sort(np.concatenate([a, b]))
    shares = [np.searchsorted(sample, values[:-1], side="right") / len(sample) for sample in (a, b)]
    return float(np.abs(shares[0] - shares[1]) @ np.diff(values))


def _samples(frame: pl.DataFrame) -> Mapping[str, Floats]:
    arrivals = open_arrivals(frame)
    return {
        "gap_s": np.diff(arrivals),
        "prompt_tokens": frame["prompt_tokens"].to_numpy(),
        "output_tokens": frame["output_tokens"].to_numpy(),
        "requests_per_1s": _counts(arrivals),
    }


def _counts(arrivals: Floats) -> Floats:
    """Return the counts in bins of 1 s, as `servesim.traces.statistics.dispersion` takes them."""
    if not len(arrivals):
        return np.empty(0)
    cells = np.floor(arrivals - arrivals[0]).astype(np.int64)
    return np.bincount(cells).astype(np.float64)
