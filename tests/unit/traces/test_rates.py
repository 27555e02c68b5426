"""Does the rate stay the same? Drift, long bursts and daily cycles, on processes whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesim.rng import stream
from servesim.traces.arrival_checks import daily_cycle, drift, long_bursts, rate_checks
from servesim.traces.finding import Finding
from servesim.traces.look import look
from servesim.traces.time_bins import TimeBins

DAY_S = 86_400.0


def arrivals(seed: int, *, days: float, per_day: float, factor: float = 1.0) -> np.ndarray:
    """Return a Poisson process whose rate at noon is *factor* times that at midnight."""
    rng = stream(seed, "arrivals")
    times = np.sort(rng.random(rng.poisson(days * per_day)) * days * DAY_S)
    swing = (factor - 1) / (factor + 1)
    kept = rng.random(len(times)) < (1 - swing * np.cos(2 * np.pi * times / DAY_S)) / (1 + swing)
    return times[kept]


def checked(times: np.ndarray) -> dict[str, Finding]:
    """Return the findings on the rate of *times*."""
    bins = TimeBins()
    bins.add(times)
    return {each.check: each for each in rate_checks(bins, len(times))}


def test_a_daily_cycle_is_no_drift_and_is_found() -> None:
    """A week in which noon has 11 times the requests of midnight comes back every day: KPSS cannot see it."""
    found = checked(arrivals(1, days=7, per_day=3000, factor=11))
    assert {name: each.level for name, each in found.items()} == {
        "drift": "ok",
        "long bursts": "note",
        "daily cycle": "note",
    }
    assert "in the mean of 6 days" in found["daily cycle"].text  # the seventh ends with its last request


def test_the_generator_with_a_daily_profile_has_a_cycle(tmp_path: Path) -> None:
    """BurstGPT's typical week, whose busiest hour has some 11 times the requests of the quietest."""
    spec = "workload: {generator: {name: burstgpt, profile: typical, duration_s: 604_800}}\n"
    (tmp_path / "week.yaml").write_text(spec)
    levels = {each.check: each.level for each in look(tmp_path / "week.yaml").findings}
    assert (levels["drift"], levels["daily cycle"]) == ("ok", "note")


def test_a_real_week_has_a_cycle(shared: Callable[[str], Path]) -> None:
    """RAGPulse: seven days of questions, hardly any at night."""
    levels = {each.check: each.level for each in look(shared("traces/ragpulse/0_trace.jsonl")).findings}
    assert levels["daily cycle"] == "note"


def test_a_constant_rate_seldom_alarms() -> None:
    """Poisson processes of a week: each test at the 1 % level; of 100, hardly more than 5 alarm (2 scales: 2 %)."""
    alarms = dict.fromkeys(("drift", "long bursts", "daily cycle"), 0)
    for seed in range(100):
        for name, each in checked(arrivals(seed, days=7, per_day=2000)).items():
            alarms[name] += each.level != "ok"
    assert alarms["long bursts"] <= 7
    assert alarms["daily cycle"] <= 5
    assert alarms["drift"] <= 12  # at the 5 % level


def test_bursts_of_an_hour_are_no_cycle() -> None:
    """A flood every now and then makes the counts vary; the time of day tells nothing about when."""
    rng = stream(3, "floods")
    counts = rng.poisson(20, 10 * 144).astype(np.float64)
    for start in rng.integers(0, len(counts) - 6, 30):
        counts[start : start + 6] += 200
    assert daily_cycle(counts).level == "ok"
    assert long_bursts({"10 min": counts}).level == "note"


def test_dispersion_by_hand() -> None:
    """Counts 5 and 15 in turn, 20 times: mean 10, variance 500 / 19, so D 2.63; chi-squared(19) at 1 % is 36.19."""
    found = long_bursts({"10 min": np.tile([5.0, 15.0], 10), "1 h": np.array([1.0])})
    assert found.level == "note"
    assert "D 2.63 over 10 min, a Poisson process' at most 1.9" in found.text
    assert long_bursts({"1 h": np.full(20, 4.9)}).text == "too few requests, or too short, to test"


def test_nothing_is_tested_of_nothing() -> None:
    """No arrivals, one, all at once, two days."""
    for times in ([], [3.0], [2.0] * 500, arrivals(0, days=2, per_day=100)):
        found = checked(np.asarray(times, dtype=np.float64))
        assert found["daily cycle"].level == "ok"
    assert drift(np.zeros(50), 1.0).level == "ok"


@given(
    st.lists(st.floats(0, 3e6), min_size=1, max_size=60), st.integers(1, 5), st.sampled_from([600.0, 3600.0])
)
def test_bins_are_those_of_a_histogram(times: list[float], parts: int, bin_s: float) -> None:
    """However the arrivals come, and however often bins become wider; the last, unfinished bin is left out."""
    whole = np.sort(np.array(times))
    bins = TimeBins()
    for part in np.array_split(whole, parts):
        bins.add(part)
    since_s = whole - whole[0]
    assert bins.span_s == since_s[-1]
    full = int(since_s[-1] / bin_s)
    expected = np.bincount((since_s / bin_s).astype(int), minlength=full)[:full]
    assert bins.counts(bin_s).tolist() == expected.tolist()


def test_spans_of_decades_have_wider_bins() -> None:
    """Memory stays the same: 10 min are gone, equal bins are there."""
    bins = TimeBins()
    bins.add(np.linspace(0, 40 * 365 * DAY_S, 10_000))
    assert not len(bins.counts(600.0))
    counts, bin_s = bins.equal(200)
    assert counts.sum() * 1.0 == pytest.approx(10_000, rel=0.02)
    assert len(counts) * bin_s == pytest.approx(40 * 365 * DAY_S, rel=0.02)
