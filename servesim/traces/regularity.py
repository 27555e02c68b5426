"""Signs that the rows of a trace were made up: regularities that recorded traffic does not have."""

from __future__ import annotations

import numpy as np
import polars as pl

from servesim.traces.statistics import cv, open_arrivals

LEAST_ROWS = 100
"""Fewer rows than this show nothing."""

LONGEST_PERIOD = 12
"""Cycles of tags up to this length are looked for."""


def signs_of_fabrication(requests: pl.DataFrame) -> list[str]:
    """Return what is too regular in *requests*, in words; nothing for what may have been recorded."""
    if requests.height < LEAST_ROWS:
        return []
    signs = [
        _constant_gaps(requests),
        *(_cycle(requests, name) for name in ("model", "tenant")),
        *(_uniform(requests, name) for name in ("prompt_tokens", "output_tokens")),
        *(_progression(requests, name) for name in ("prompt_tokens", "output_tokens")),
    ]
    return [sign for sign in signs if sign is not None]


def _constant_gaps(requests: pl.DataFrame) -> str | None:
    gaps = np.diff(open_arrivals(requests))
    if len(gaps) < LEAST_ROWS or not gaps.mean():
        return None
    varies = cv(gaps)
    if varies is not None and varies < 0.01:
        return f"a request every {gaps.mean():.4g} s"
    return None


def _cycle(requests: pl.DataFrame, column: str) -> str | None:
    """Return whether the values of a tag follow each other in a cycle."""
    if column not in requests.columns or requests[column].n_unique() < 2:
        return None
    tags = requests[column]
    for period in range(2, LONGEST_PERIOD + 1):
        if tags.slice(period).eq_missing(tags.head(requests.height - period)).all():
            return f"{column} repeats itself every {period} requests"
    return None


def _uniform(requests: pl.DataFrame, column: str) -> str | None:
    """Return whether lengths look drawn uniformly: closer to a uniform law than its own samples mostly are.

    Kolmogorov and Smirnov's distance below 1.36 / sqrt(n), which 95 % of uniform samples stay below; real lengths are
    further away by an order of magnitude.
    """
    values = np.sort(requests[column].to_numpy()).astype(np.float64)
    low, high = values[0], values[-1]
    if high - low < 50:
        return None
    n = len(values)
    expected = (values - low + 0.5) / (high - low + 1)
    ranks = np.arange(n)
    distance = max(np.abs((ranks + 1) / n - expected).max(), np.abs(ranks / n - expected).max())
    if distance < 1.36 / np.sqrt(n):
        return f"{column} uniform from {low:,.0f} to {high:,.0f}"
    return None


def _progression(requests: pl.DataFrame, column: str) -> str | None:
    steps = requests[column].cast(pl.Int64).diff().drop_nulls()
    if steps.n_unique() != 1 or steps[0] == 0:
        return None
    return f"{column} grows by {steps[0]:,} from request to request"
