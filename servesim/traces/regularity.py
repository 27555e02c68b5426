"""Signs that the rows of a trace were made up: regularities that recorded traffic does not have.

A few exceptions hide nothing: what holds for 95 % of the rows is a sign.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from servesim.traces.statistics import cv, open_arrivals

LEAST_ROWS = 100
"""Fewer rows than this show nothing."""

LONGEST_PERIOD = 12
"""Cycles of tags up to this length are looked for."""

NEARLY_ALL = 0.95
"""Share of the rows for which a rule must hold."""

AGAINST_NEIGHBOURS = 0.2
"""How much rarer than over a period of a cycle equal tags must be from row to row: tags that seldom change are none."""


def signs_of_fabrication(requests: pl.DataFrame, whole: pl.DataFrame) -> list[str]:
    """Return what is too regular, in words; nothing for what may have been recorded.

    Parameters
    ----------
    requests
        Those whose lengths are looked at.
    whole
        The same with failed ones: their times and tags are looked at.
    """
    if requests.height < LEAST_ROWS:
        return []
    signs = [
        _constant_gaps(whole),
        *(_cycle(whole, name) for name in ("model", "tenant")),
        *(_uniform(requests, name) for name in ("prompt_tokens", "output_tokens")),
        *(_progression(requests, name) for name in ("prompt_tokens", "output_tokens")),
    ]
    return [sign for sign in signs if sign is not None]


def _constant_gaps(requests: pl.DataFrame) -> str | None:
    gaps = np.diff(open_arrivals(requests))
    if len(gaps) < LEAST_ROWS - 1 or not (usual := float(np.median(gaps))):
        return None
    equal = np.abs(gaps / usual - 1) < 0.01
    varies = cv(gaps)
    if equal.mean() >= NEARLY_ALL or (varies is not None and varies < 0.01):
        return f"a request every {usual:.4g} s{_exceptions(equal.mean())}"
    return None


def _cycle(requests: pl.DataFrame, column: str) -> str | None:
    """Return whether the values of a tag follow each other in a cycle."""
    if column not in requests.columns or requests[column].n_unique() < 2:
        return None
    tags = requests[column]
    neighbours = _equal_share(tags, 1)
    for period in range(2, LONGEST_PERIOD + 1):
        equal = _equal_share(tags, period)
        if equal == 1 or (equal >= NEARLY_ALL and neighbours <= equal - AGAINST_NEIGHBOURS):
            return f"{column} repeats itself every {period} requests{_exceptions(equal)}"
    return None


def _equal_share(tags: pl.Series, apart: int) -> float:
    return float(tags.slice(apart).eq_missing(tags.head(len(tags) - apart)).mean())  # type: ignore[arg-type]


def _exceptions(share: float) -> str:
    return "" if share > 0.999 else f" (in {share:.1%})"


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
    steps = np.diff(requests[column].to_numpy().astype(np.int64))
    usual = int(np.median(steps))
    equal = float((steps == usual).mean())
    if not usual or equal < NEARLY_ALL:
        return None
    return f"{column} grows by {usual:,} from request to request{_exceptions(equal)}"
