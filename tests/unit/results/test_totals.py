"""Tests of the running totals."""

from __future__ import annotations

import numpy as np

from servesim.results.totals import PerReplica


def test_per_replica_sums():
    """Values are summed per replica, -1 apart, over any number of batches; an unseen replica has zero."""
    sums = PerReplica()
    sums.add(np.array([0, 2, 0, -1]), np.array([1.0, 2.0, 4.0, 8.0]))
    sums.add(np.array([1]), np.array([16.0]))
    sums.add(np.array([], dtype=np.int32))
    assert [sums[replica] for replica in range(-1, 4)] == [8.0, 5.0, 16.0, 2.0, 0.0]
    assert sums.total() == 31.0
    assert sums.replicas() == 3


def test_sums_over_batches_are_exact():
    """A thousand batches of 1 survive beside one of 1e16, which float additions would swallow."""
    sums = PerReplica()
    sums.add(np.array([0]), np.array([1e16]))
    for _ in range(1000):
        sums.add(np.array([0]), np.array([1.0]))
    sums.add(np.array([0]), np.array([-1e16]))
    assert sums[0] == 1000.0


def test_copy_is_independent():
    """Adding to a copy leaves the original."""
    sums = PerReplica()
    sums.add(np.array([0]))
    other = sums.copy()
    other.add(np.array([0]))
    assert (sums[0], other[0]) == (1.0, 2.0)
