"""Intervals keep what they promise: how often they cover the truth, over many repetitions.

An interval of confidence 95 % misses the truth in 5 % of repetitions. Of 200 repetitions that is 10 on average, with a
standard deviation of sqrt(200 * 0.05 * 0.95) = 3.1; 4 to 16 misses (2 to 8 %) are within two of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from servesim.experiments.backends import InProcess
from servesim.experiments.compare import Options, compare_cases
from servesim.experiments.replications import Case
from servesim.experiments.statistics import (
    mean_interval,
    mser5,
    paired_interval,
    quantile_interval,
    sectioned_quantile,
)
from servesim.experiments.warm_up import with_warm_up
from servesim.policies.api import PolicyContext
from servesim.rng import stream
from servesim.scenario import Scenario

from .replications import queue

REPETITIONS, SEEDS = 200, 3
FEWEST, MOST = 0.02 * REPETITIONS, 0.08 * REPETITIONS


class Coin:
    """Send each request to a replica drawn uniformly, from a stream of its own."""

    def __init__(self, label: str) -> None:
        self.label = label

    def reset(self, context: PolicyContext) -> None:
        self._rng = stream(context.seed, "coin", self.label)

    def route(self, request: Any, replicas: Any) -> int:
        return int(self._rng.integers(len(replicas)))


def short(scenario: Scenario) -> Scenario:
    """Return *scenario* with 50 requests, all of them measured."""
    workload = scenario.workload.model_copy(update={"max_requests": 50})
    return with_warm_up(scenario.model_copy(update={"workload": workload}), 0.0)


def misses(cases: list[Case], metric: str, truth: float) -> int:
    """Return in how many repetitions the interval of the difference of two *cases* misses *truth*."""
    missed = 0
    for repetition in range(REPETITIONS):
        seeds = range(SEEDS * repetition, SEEDS * (repetition + 1))
        found = compare_cases(
            cases, list(seeds), InProcess(), baseline=None, options=Options(metrics=[metric])
        )
        row = found.table.row(1, named=True)
        assert row["difference_low"] < row["difference_high"], "the variants are not identical"
        missed += not row["difference_low"] <= truth <= row["difference_high"]
    return missed


def test_without_a_difference_the_interval_excludes_zero_in_5_percent_of_repetitions() -> None:
    """Two routers that toss coins of their own: same law, other draws. The mean time in a queue is a mean over
    50 requests and three seeds, so that its differences are near normal, and symmetric because the two can be
    swapped: Student's interval holds.
    """
    scenario = queue(8.0, replicas=10)
    cases = [Case(name=name, scenario=short(scenario), objects={"router": Coin(name)}) for name in "ab"]
    assert FEWEST <= misses(cases, "e2e_s_mean", 0.0) <= MOST


def test_a_known_difference_is_covered_in_95_percent_of_repetitions() -> None:
    """Without queueing, time in the system is length times step time. Lengths are uniform on 500 to 1500 tokens,
    so steps that are 0.1 ms longer take 0.1 s more in the mean; the mean of 50 uniform lengths is all but
    normal.
    """
    lengths = {"distribution": "uniform", "low": 500, "high": 1500}
    cases = []
    for name, step_s in (("fast", 1.0e-3), ("slow", 1.1e-3)):
        latency = {"name": "constant", "step_s": step_s}
        scenario = queue(8.0, seats=1000, output_tokens=lengths, latency=latency)
        cases.append(Case(name=name, scenario=short(scenario), objects={}))
    assert FEWEST <= misses(cases, "e2e_s_mean", 0.1) <= MOST


@pytest.mark.parametrize("method", ["t", "bootstrap"])
def test_intervals_of_a_mean_cover_it(method: Any) -> None:
    """Normal values: Student's t is exact. The bootstrap is nearly so with forty values."""
    rng = stream(1, "normal")
    samples = rng.normal(3.0, 2.0, size=(REPETITIONS, 40))
    intervals = [mean_interval(sample, method=method) for sample in samples]
    assert FEWEST <= sum(interval.excludes(3.0) for interval in intervals) <= MOST


def test_pairing_removes_what_both_share() -> None:
    """A = shared + noise, b = shared + other noise: the interval's width is that of the noises alone."""
    rng = stream(2, "shared")
    shared, one, other = rng.normal(0, 100, 50), rng.normal(0, 1, 50), rng.normal(0, 1, 50)
    interval = paired_interval(shared + one, shared + other)
    assert interval.low is not None and interval.high is not None
    # Half a width is t(0.975, 49) * sqrt(2/50) = 0.402 for unit noises.
    assert interval.high - interval.low == pytest.approx(2 * 0.402, rel=0.25)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_order_statistics_cover_a_quantile_of_any_law(quantile: float) -> None:
    """Exponential values: the quantile is -ln(1-q). Ranks are whole numbers, so coverage is 95 % or more."""
    samples = stream(3, "exponential").exponential(size=(REPETITIONS, 2000))
    truth = -np.log(1.0 - quantile)
    intervals = [quantile_interval(sample, quantile) for sample in samples]
    assert sum(interval.excludes(truth) for interval in intervals) <= MOST


def test_sectioning_covers_a_quantile_of_dependent_values() -> None:
    """An AR(1) process with coefficient 0.9: its law is normal with variance 1/(1-0.81); neighbours are so alike
    that order statistics, made for independent values, miss the quantile in most repetitions.
    """
    rng, truth = stream(4, "ar1"), 1.2815515655446004 / np.sqrt(1 - 0.81)
    sectioned = independent = 0
    for _ in range(REPETITIONS):
        noise = rng.normal(size=5000)
        values = np.empty_like(noise)
        last = noise[0] / np.sqrt(1 - 0.81)
        for index, step in enumerate(noise.tolist()):
            last = 0.9 * last + step
            values[index] = last
        sectioned += sectioned_quantile(values, 0.9).excludes(truth)
        independent += quantile_interval(values, 0.9).excludes(truth)
    assert sectioned <= MOST
    assert independent > 0.3 * REPETITIONS


def test_mser5_finds_the_end_of_a_transient() -> None:
    """Unit noise around 0 after 500 values that start 10 higher and come down: the cut lies near their end."""
    rng = stream(5, "transient")
    cuts = []
    for _ in range(20):
        values = rng.normal(size=5000)
        values[:500] += 10.0 * np.linspace(1.0, 0.0, 500)
        cuts.append(mser5(values))
    found = [cut for cut in cuts if cut is not None]
    assert len(found) == 20
    assert 350 <= np.median(found) <= 550


def test_mser5_sees_that_there_is_no_steady_state() -> None:
    """A queue that only grows: the best cut is as late as allowed, which means none."""
    assert mser5(np.arange(1000.0)) is None
