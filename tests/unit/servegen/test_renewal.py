"""Arrivals of clients: mean, variation, equilibrium, and that the edges of windows leave no trace."""

from __future__ import annotations

import math

import numpy as np
import pytest

from servesim.rng import stream
from servesim.servegen.renewal import Gaps, Renewals, weibull_cv


def one(shape: float, *, weibull: bool = False, clients: int = 1) -> Gaps:
    """Return equal gaps for some clients."""
    return Gaps(np.full(clients, weibull), np.full(clients, float(shape)))


def times(gaps: Gaps, *, windows: int, expected: float, clients: int = 1, seed: int = 0) -> list[np.ndarray]:
    """Return the arrivals of each of some equal clients in units of windows."""
    renewals, everyone = Renewals(clients, stream(seed, "test")), np.arange(clients)
    rows, parts = [], []
    for window in range(windows):
        row, shares = renewals.advance(everyone, np.full(clients, expected), gaps)
        rows.append(row)
        parts.append(window + shares)
    row, arrivals = np.concatenate(rows), np.concatenate(parts)
    found = [arrivals[row == client] for client in everyone]
    assert all((np.diff(each) >= 0).all() for each in found)
    return found


@pytest.mark.parametrize(
    ("shape", "weibull", "cv"),
    [
        (1, False, 1.0),
        (0.25, False, 2.0),
        (4, False, 0.5),
        (0.5, True, 5**0.5),
        (2, True, math.sqrt(4 / math.pi - 1)),
    ],
)
@pytest.mark.parametrize(("expected", "clients"), [(0.3, 20), (7.0, 20), (20_000.0, 1)])
def test_gaps_have_mean_and_variation_across_windows(
    shape: float, weibull: bool, cv: float, expected: float, clients: int
) -> None:
    """Whether a window has many requests or less than one, the gaps, some 60,000 in all, have mean 1/rate and the
    shape's variation. That gaps which the last window cuts off do not count biases the mean by cv^2 of 3,000 at most.
    """
    windows = math.ceil(60_000 / clients / expected)
    found = times(
        one(shape, weibull=weibull, clients=clients), windows=windows, expected=expected, clients=clients
    )
    drawn = np.concatenate([np.diff(each) for each in found]) * expected
    assert drawn.mean() == pytest.approx(1.0, abs=5 * cv / len(drawn) ** 0.5)
    assert drawn.std() / drawn.mean() == pytest.approx(cv, rel=0.06)


@pytest.mark.parametrize(
    "gaps", [one(0.2, clients=4000), one(0.6, weibull=True, clients=4000), one(9, clients=4000)]
)
def test_the_process_starts_in_equilibrium(gaps: Gaps) -> None:
    """4,000 clients: the same mean count in the first, the second and the tenth part of their time.

    A renewal process that starts with a whole gap has too many arrivals at first where cv > 1, too few where cv < 1.
    """
    renewals, everyone = Renewals(4000, stream(1, "test")), np.arange(4000)
    for _ in range(10):
        rows, _ = renewals.advance(everyone, np.full(4000, 2.0), gaps)
        counts = np.bincount(rows, minlength=4000)
        assert counts.mean() == pytest.approx(2.0, abs=4.5 * counts.std() / 4000**0.5)


def test_edges_of_windows_leave_no_trace() -> None:
    """Where windows end, arrivals are as dense as within: the release restarts every client there."""
    (found,) = times(one(0.2), windows=4000, expected=50.0, seed=3)
    counts = np.histogram(found % 1.0, bins=20)[0]
    # Counts in twentieths of a window vary by the process's dispersion, cv^2 = 5 at most.
    assert np.abs(counts - counts.mean()).max() < 5 * (5 * counts.mean()) ** 0.5


def test_the_split_of_a_window_changes_no_moment() -> None:
    """A window in ten parts has as many requests as in one."""
    (whole,) = times(one(0.5), windows=200, expected=100.0)
    (parts,) = times(one(0.5), windows=2000, expected=10.0)
    assert len(whole) == pytest.approx(20_000, abs=5 * (2 * 20_000) ** 0.5)
    assert len(parts) == pytest.approx(20_000, abs=5 * (2 * 20_000) ** 0.5)


def test_clients_do_not_mix() -> None:
    """Each client's requests follow its own rate and shape, though all are drawn at once."""
    gaps = Gaps(np.array([False, True, False]), np.array([0.25, 0.5, 1e6]))
    renewals = Renewals(5, stream(0, "test"))
    rows, shares = renewals.advance(np.array([4, 0, 2]), np.array([50_000.0, 20_000.0, 10.0]), gaps)
    counts = np.bincount(rows, minlength=3)
    assert counts[0] == pytest.approx(50_000, abs=5 * 2 * 50_000**0.5)
    assert counts[1] == pytest.approx(20_000, abs=5 * 5**0.5 * 20_000**0.5)
    assert counts[2] == 10
    assert np.diff(shares[rows == 2]) == pytest.approx(np.full(9, 0.1), rel=0.01)


def test_the_variation_of_weibull_gaps() -> None:
    """Shape 1 is exponential, shape 1/2 has sqrt(5)."""
    assert weibull_cv(np.array([1.0, 0.5])) == pytest.approx([1.0, 5**0.5])
