"""Resampling: blocks of time drawn with replacement, and thinning."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from workloads import frame

from servesim.workload.resample import bootstrap_blocks
from servesim.workload.spec import WorkloadSpec

times = st.lists(st.floats(0, 1e4), min_size=1, max_size=60).map(sorted)


def sample(
    arrivals: list[float], block_s: float, *, seed: int = 0, period_s: float | None = None
) -> pl.DataFrame:
    """Return a bootstrap sample of requests whose prompt lengths number them from 1."""
    whole = frame(arrivals).with_columns(prompt_tokens=pl.int_range(1, len(arrivals) + 1, dtype=pl.Int32))
    parts = bootstrap_blocks(iter([whole]), block_s=block_s, period_s=period_s, seed=seed)
    return pl.concat([whole.clear(), *parts])


@given(times, st.floats(0.5, 2e4), st.integers(0, 99))
def test_a_sample_is_in_order_and_within_the_period(arrivals: list[float], block_s: float, seed: int) -> None:
    """Times never fall, and none lies beyond the original's period."""
    arrival_s = sample(arrivals, block_s, seed=seed)["arrival_s"]
    gap_s = (arrivals[-1] - arrivals[0]) / max(len(arrivals) - 1, 1)
    assert arrival_s.is_sorted()
    assert all(0.0 <= time_s <= (arrivals[-1] + gap_s) * (1 + 1e-9) + 1e-6 for time_s in arrival_s)


@given(times, st.floats(0.5, 1e3), st.integers(0, 99), st.integers(1, 59))
def test_frames_and_repetitions_do_not_matter(
    arrivals: list[float], block_s: float, seed: int, cut: int
) -> None:
    """The seed alone decides."""
    whole = frame(arrivals)
    parts = [whole.head(cut), whole.slice(cut)]
    again = list(bootstrap_blocks(iter(parts), block_s=block_s, period_s=None, seed=seed))
    once = list(bootstrap_blocks(iter([whole]), block_s=block_s, period_s=None, seed=seed))
    assert pl.concat([whole.clear(), *again]).equals(pl.concat([whole.clear(), *once]))


def test_distances_within_a_block_stay() -> None:
    """A trace with one request a second in blocks of ten: nine of ten neighbours are one second apart and
    follow each other in the original (around its end, too).
    """
    found = sample([float(time) for time in range(1000)], 10.0, period_s=1000.0)
    pairs = list(itertools.pairwise(found.select("arrival_s", "prompt_tokens").iter_rows()))
    neighbours = [(before, after) for before, after in pairs if after[1] - before[1] in (1, -999)]
    assert len(neighbours) >= 0.88 * len(pairs)
    assert all(after[0] - before[0] == pytest.approx(1.0) for before, after in neighbours)


def test_every_request_is_as_likely() -> None:
    """100 requests, 2,000 samples: each comes once per sample in the mean, within five standard errors. The blocks
    of a sample are independent, and each holds a given request with probability 1/10 here: variance 0.9 at most.
    """
    counts = np.zeros(101)
    arrivals = sorted(float(time) for time in np.random.default_rng(1).uniform(0, 100, 100))
    for seed in range(2000):
        counts += np.bincount(
            sample(arrivals, 10.0, seed=seed, period_s=100.0)["prompt_tokens"], minlength=101
        )
    assert abs(counts[1:] / 2000 - 1.0).max() < 5 * np.sqrt(0.9 / 2000)


def test_seeds_differ_and_a_single_block_is_a_shift() -> None:
    """A block longer than the trace leaves everything, turned around a random time."""
    arrivals = [1.0, 2.0, 5.0]
    one = sample(arrivals, 1e9, seed=1, period_s=10.0)
    assert sorted(one["prompt_tokens"]) == [1, 2, 3]
    assert not one["arrival_s"].equals(sample(arrivals, 1e9, seed=2, period_s=10.0)["arrival_s"])


def test_nothing_and_no_time_pass() -> None:
    """No request, and requests that all arrive at once."""
    assert sample([], 1.0).is_empty()
    assert sample([0.0, 0.0], 1.0).height == 2


@pytest.mark.parametrize(
    ("resample", "message"),
    [({}, "nothing to draw"), ({"block_s": 5.0}, "no single trace"), ({"block_s": 0}, "greater than")],
)
def test_refused(resample: dict[str, float], message: str) -> None:
    """An empty block, and blocks of a generator, which draws anew for each seed by itself."""
    generator = {"name": "poisson", "rate_per_s": 1.0, "requests": 5}
    with pytest.raises(ValidationError, match=message):
        WorkloadSpec.model_validate({"generator": generator, "resample": resample})
