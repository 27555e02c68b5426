"""Tests of statistics of weighted values that come in pieces: those of the values written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servesim.results.weighted import Histogram, Moments


@st.composite
def weighted(draw: st.DrawFn):
    """Draw values and weights in pieces, and the same values written out."""
    values = draw(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40))
    weights = [draw(st.integers(1, 5)) for _ in values]
    pieces = [
        (np.array(values[start : start + 7]), np.array(weights[start : start + 7]))
        for start in range(0, len(values), 7)
    ]
    return pieces, np.repeat(values, weights)


@settings(max_examples=50, deadline=None)
@given(weighted())
def test_order_statistics_are_exact(drawn):
    """Whatever the values and weights, an order statistic is the element of the listed, sorted values."""
    pieces, listed = drawn
    histogram = Histogram()
    for piece in pieces:
        histogram.add(*piece)
    ranks = list(range(len(listed)))
    expected = dict(zip(ranks, np.sort(listed).tolist(), strict=True))
    assert histogram.order_statistics(ranks, iter(pieces)) == expected


@settings(max_examples=50, deadline=None)
@given(weighted())
def test_moments_of_pieces_are_those_of_all(drawn):
    """Count, sum, mean and squared deviations do not depend on how the values are cut into pieces."""
    pieces, listed = drawn
    moments = Moments()
    for piece in [(np.empty(0), np.empty(0, dtype=np.int64)), *pieces]:
        moments.add(*piece)
    assert moments.count == len(listed)
    assert moments.sum == pytest.approx(listed.sum(), rel=1e-12)
    assert moments.mean == pytest.approx(listed.mean(), rel=1e-12)
    assert moments.squares == pytest.approx(((listed - listed.mean()) ** 2).sum(), rel=1e-9, abs=1e-9)
