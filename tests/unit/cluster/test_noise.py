"""Step-time noise: its distribution, what it is a function of, and that it is off by default."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from harness import Linear, engine, run
from scipy import stats

from servesim.cluster.noise import step_noise


def test_multipliers_are_lognormal_of_mean_one():
    """Mean and coefficient of variation lie within their sampling errors, and the logarithm is normal."""
    count, cv = 200_000, 0.2
    multiplier = step_noise(cv, seed=3, replica=1)
    drawn = np.array([multiplier(step) for step in range(count)])
    assert drawn.mean() == pytest.approx(1.0, abs=4 * cv / count**0.5)
    assert drawn.std() == pytest.approx(cv, rel=4 / (2 * count) ** 0.5 * 1.1)
    sigma = np.log(1 + cv**2) ** 0.5
    assert stats.kstest(np.log(drawn), stats.norm(-(sigma**2) / 2, sigma).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 4 / count**0.5


def test_seed_replica_and_step_decide():
    """The same step of another replica, or with another seed, draws another number."""
    own = step_noise(0.1, seed=0, replica=0)(5)
    assert own == step_noise(0.1, seed=0, replica=0)(5)
    others = {step_noise(0.1, seed=1, replica=0)(5), step_noise(0.1, seed=0, replica=1)(5)}
    assert own not in others
    assert len(others) == 2


def test_segments_vary_as_asked_and_the_run_takes_as_long_on_average():
    """Of steps that all take 1 s by price, segments have the asked mean and variation."""
    work = [(1.5 * i, 4, 3) for i in range(4000)]
    segments = run(work, settings=engine(step_noise_cv=0.3), latency=Linear(base_s=1.0)).segments
    step_s = segments["step_s"]
    assert len(step_s) > 3000
    assert step_s.mean() == pytest.approx(1.0, abs=4 * 0.3 / len(step_s) ** 0.5)
    assert step_s.std() == pytest.approx(0.3, rel=0.1)
    assert len(np.unique(step_s)) == len(step_s)


def test_growth_varies_with_the_step():
    """The factor is on the whole price: a segment's growth keeps its share of the step."""
    latency = Linear(base_s=1.0, per_context_s=0.01)
    settings = engine(step_noise_cv=0.3)
    noisy = run([(0, 10, 50)], settings=settings, latency=latency).segments
    plain = run([(0, 10, 50)], settings=replace(settings, step_noise_cv=0.0), latency=latency).segments
    decode, expected = noisy[noisy["sequences"] > 0], plain[plain["sequences"] > 0]
    ratio = expected["growth_s"] / expected["step_s"]
    assert (decode["growth_s"] / decode["step_s"]).tolist() == pytest.approx(ratio.tolist(), rel=1e-12)
