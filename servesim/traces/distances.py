"""How far two traces are apart: their gaps, lengths and burstiness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from servesim.traces.sample import Sample
from servesim.traces.statistics import open_arrivals, parts, statistics
from servesim.workload.schema import RESULT_EXTRAS

QUANTITIES = ("gap_s", "prompt_tokens", "output_tokens", "requests_per_1s")
"""What is compared as a distribution: gaps between arrivals, lengths, and counts in bins of 1 s. Image, audio and
reasoning tokens are too, where one of the traces has some."""


def distances(one: pl.DataFrame, other: pl.DataFrame) -> dict[str, Any]:
    """Return how far the distributions of two traces are apart, and the numbers that describe each.

    Returns
    -------
    dict
        ``distributions``: for each quantity the Kolmogorov-Smirnov statistic ``ks``, the mean distance of
        quantiles ``quantile_distance`` (Wasserstein's of order 1, in the unit of the quantity), the same over the
        mean of the first trace, and mean, quantiles and maximum of ``a`` and ``b``. ``numbers``: rate, CV, D@1s,
        correlation.
    """
    has = {*parts(one), *parts(other)}
    extras = [name for name in RESULT_EXTRAS if name in has]
    a, b = _samples(one, extras), _samples(other, extras)
    described = [statistics(frame) for frame in (one, other)]
    names = ("requests", "span_s", "rate_per_s", "gap_cv", "dispersion_1s", "peak_1s", "correlation")
    return {
        "distributions": {name: _apart(a[name], b[name]) for name in (*QUANTITIES, *extras)},
        "numbers": {name: {"a": described[0][name], "b": described[1][name]} for name in names},
    }


def _apart(a: Sample, b: Sample) -> dict[str, Any]:
    distance = quantile_distance(a, b)
    mean = float(np.abs(a.values) @ a.counts) / len(a) if len(a) else 0.0
    return {
        "ks": ks_statistic(a, b),
        "quantile_distance": distance,
        "relative": distance / mean if distance is not None and mean else None,
        "a": a.spread(),
        "b": b.spread(),
    }


def ks_statistic(a: Sample, b: Sample) -> float | None:
    """Return the largest difference between two empirical distribution functions; None where one is empty."""
    if not len(a) or not len(b):
        return None
    values = np.union1d(a.values, b.values)
    return float(np.abs(a.shares_up_to(values) - b.shares_up_to(values)).max())


def quantile_distance(a: Sample, b: Sample) -> float | None:
    """Return the mean over all shares of the distance between quantiles: Wasserstein's of order 1.

    It is the area between the two distribution functions.
    """
    if not len(a) or not len(b):
        return None
    values = np.union1d(a.values, b.values)
    return float(np.abs(a.shares_up_to(values[:-1]) - b.shares_up_to(values[:-1])) @ np.diff(values))


def _samples(frame: pl.DataFrame, extras: Sequence[str]) -> Mapping[str, Sample]:
    arrivals = open_arrivals(frame)
    found = parts(frame)
    none = np.zeros(frame.height)
    return {
        "gap_s": Sample.of(np.diff(arrivals)),
        "prompt_tokens": Sample.of(frame["prompt_tokens"].to_numpy()),
        "output_tokens": Sample.of(frame["output_tokens"].to_numpy()),
        "requests_per_1s": Sample.of_arrivals_per_s(arrivals),
        **{name: Sample.of(found.get(name, none)) for name in extras},
    }
