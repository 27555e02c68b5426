"""Generated functions, their invocations, and which of these are cold."""

from __future__ import annotations

import polars as pl
import pytest

from servesim.errors import TraceError
from servesim.serverless import ServerlessLog, cold_by_gap, generate_functions
from servesim.serverless.contract import totals_off, typed
from servesim.serverless.summary import pod_time_shares

TIMER = pl.col("trigger") == "TIMER-A"


def frames(log: ServerlessLog) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return functions, invocations and cold starts."""
    assert log.functions is not None
    assert log.invocations is not None
    assert log.cold_starts is not None
    return log.functions.collect(), log.invocations.collect(), log.cold_starts.collect()


@pytest.fixture(scope="module")
def mixed() -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return 5,000 functions, 60 % of them timers, over a day."""
    return frames(generate_functions(seed=1, functions=5000, timer_ratio=0.6, requests_per_pod_most=5))


def calls(period_s: float, count: int, *, busy_s: float = 0.0) -> pl.DataFrame:
    """Return the calls of one timer."""
    times = [period_s * call for call in range(count)]
    return pl.DataFrame({"function": ["f"] * count, "arrival_s": times, "duration_s": [busy_s] * count})


@pytest.mark.parametrize(("period_s", "cold"), [(60.001, 10), (61.0, 10), (300.0, 10), (60.0, 1), (10.0, 1)])
def test_a_timer_slower_than_the_keep_alive_is_always_cold(period_s: float, cold: int) -> None:
    """Identity: period > 60 s, every call is cold; else only the first."""
    assert cold_by_gap(calls(period_s, 10), 60.0).sum() == cold


def test_keep_alive_counts_from_the_end_of_what_runs_longest() -> None:
    """Calls of 40 s every 90 s find a warm pod; a long call keeps the pod for later ones; rows may be in any order."""
    assert cold_by_gap(calls(90.0, 5, busy_s=40.0), 60.0).to_list() == [True, False, False, False, False]
    rows = pl.DataFrame(
        {
            "function": ["f", "g", "f", "f"],
            "arrival_s": [400.0, 5.0, 0.0, 10.0],
            "wait_s": [None, 1.0, 2.0, None],
            "duration_s": [1.0, 1.0, 339.0, 1.0],
        }
    )
    assert cold_by_gap(rows, 60.0).to_list() == [False, True, True, False]  # idle since 341 s
    assert cold_by_gap(rows, 58.0).to_list() == [True, True, True, False]


def test_longer_keep_alive_never_makes_more_cold(mixed: tuple[pl.DataFrame, ...]) -> None:
    """Cold invocations are a subset of those of a shorter keep-alive."""
    invocations = mixed[1]
    series = [cold_by_gap(invocations, keep_alive_s) for keep_alive_s in (10.0, 60.0, 600.0)]
    assert series[0].sum() >= series[1].sum() >= series[2].sum() > 0
    assert not (series[2] & ~series[1]).any()


def test_every_call_of_a_slow_timer_is_cold(mixed: tuple[pl.DataFrame, ...]) -> None:
    """Exactly: those with a period above 60 s always, faster ones once; and the gaps say the same."""
    functions, invocations, _ = mixed
    timers = invocations.with_columns(by_gap=cold_by_gap(invocations, 60.0)).join(
        functions.filter(TIMER).select("function", "period_s"), on="function"
    )
    slow = pl.col("period_s") > 60
    assert timers.filter(slow).height > 10_000
    assert timers.filter(slow)["cold"].all()
    fast = timers.filter(~slow)
    assert fast["cold"].sum() == fast["function"].n_unique() > 0
    assert timers["cold"].equals(timers["by_gap"].alias("cold"))


def test_calls_of_timers_are_periodic(mixed: tuple[pl.DataFrame, ...]) -> None:
    """Each distance between calls is the period."""
    functions, invocations, _ = mixed
    timers = invocations.join(functions.filter(TIMER).select("function", "period_s"), on="function")
    gap = (pl.col("arrival_s").diff().over("function") - pl.col("period_s")).abs()
    assert timers.sort("function", "arrival_s").select(gap.max()).item() < 1e-6


def test_timers_among_cold_starts_and_pods(mixed: tuple[pl.DataFrame, ...]) -> None:
    """60 % of functions are timers: 25 to 35 % of cold starts, 3 to 8 % of the time that pods exist."""
    functions, _, cold_starts = mixed
    assert functions.filter(TIMER).height == 3000
    share = cold_starts.filter(TIMER).height / cold_starts.height
    assert 0.25 < share < 0.35
    assert 0.03 < pod_time_shares(cold_starts, "trigger", 60.0)["TIMER-A"] < 0.08


def test_a_cold_start_for_every_cold_invocation(mixed: tuple[pl.DataFrame, ...]) -> None:
    """One for one, same pod, same time; it waits for the cold start; counts agree with the functions'."""
    functions, invocations, cold_starts = mixed
    pairs = invocations.filter("cold").join(cold_starts, on="pod", validate="1:1")
    assert pairs.height == cold_starts.height
    assert (pairs["arrival_s"] == pairs["start_s"]).all()
    assert (pairs["wait_s"] == pairs["total_s"]).all()
    assert functions["cold_starts"].sum() == cold_starts.height
    assert functions["invocations"].sum() == invocations.height
    assert totals_off(cold_starts) == 0


def test_a_pod_serves_within_its_useful_life(mixed: tuple[pl.DataFrame, ...]) -> None:
    """From ready to the end of its last request is the useful life; idle times are below the keep-alive."""
    _, invocations, cold_starts = mixed
    end_s = pl.col("arrival_s") + pl.col("wait_s") + pl.col("duration_s")
    spans = invocations.group_by("pod").agg(end_s.max().alias("end_s"))
    known = cold_starts.filter(pl.col("useful_s").is_not_null()).join(spans, on="pod")
    assert known.height > 0.9 * cold_starts.height
    useful_s = pl.col("end_s") - pl.col("start_s") - pl.col("total_s")
    assert known.select((useful_s - pl.col("useful_s")).abs().max()).item() < 1e-6
    idle_s = (pl.col("arrival_s") - end_s.shift(1)).over("pod")
    assert invocations.sort("pod", "arrival_s").select(idle_s.max()).item() < 60


def test_most_functions_are_seldom_called(mixed: tuple[pl.DataFrame, ...]) -> None:
    """Popularity is skewed: a tenth of the functions has more than two thirds of the cold starts."""
    counts = mixed[0]["cold_starts"].sort(descending=True)
    assert counts[:500].sum() > 2 / 3 * counts.sum()


def test_frames_hold_the_contract(mixed: tuple[pl.DataFrame, ...]) -> None:
    """All three are what readers must return, in order of time."""
    functions, invocations, cold_starts = mixed
    typed(functions, "functions", "generated")
    typed(invocations, "invocations", "generated")
    typed(cold_starts, "cold_starts", "generated")
    assert invocations["arrival_s"].is_sorted()
    assert cold_starts["start_s"].is_sorted()


def test_the_same_seed_gives_the_same_log() -> None:
    """And another one another."""
    first, again, other = (frames(generate_functions(seed=seed, functions=50)) for seed in (1, 1, 2))
    assert all(one.equals(two) for one, two in zip(first, again, strict=True))
    assert not first[2].equals(other[2])


def test_requests_above_the_most_are_left_out_and_counted() -> None:
    """The lives of pods stay as they are."""
    few, many = (generate_functions(seed=1, functions=50, requests_per_pod_most=most) for most in (1, 10))
    assert few.notes["cold_starts"] == many.notes["cold_starts"]
    left, kept = (log.notes["invocations_left_out"] for log in (few, many)), few.notes["invocations"]
    first, second = left
    assert isinstance(first, int)
    assert isinstance(second, int)
    assert isinstance(kept, int)
    assert first + kept == second + many.notes["invocations"]  # type: ignore[operator]  # counts


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"functions": 0}, "functions .got 0"),
        ({"seed": -1}, "seed .got -1"),
        ({"duration_s": 60.0}, "duration_s .got 60.0"),
        ({"timer_ratio": 1.5}, "timer_ratio .got 1.5"),
        ({"keep_alive_s": -1.0}, "keep_alive_s .got -1.0"),
        ({"requests_per_pod_most": 0}, "requests_per_pod_most .got 0"),
    ],
)
def test_bad_parameters(parameters: dict[str, object], message: str) -> None:
    """Named with their values."""
    with pytest.raises(TraceError, match=message):
        generate_functions(**({"seed": 0} | parameters))  # type: ignore[arg-type]


@pytest.mark.parametrize("timer_ratio", [0.0, 1.0])
def test_all_or_no_timers(timer_ratio: float) -> None:
    """Both ends work, down to a single function."""
    for functions in (1, 20):
        table, invocations, _ = frames(
            generate_functions(seed=5, functions=functions, timer_ratio=timer_ratio)
        )
        assert table.filter(TIMER).height == timer_ratio * functions
        assert invocations.columns[0] == "arrival_s"
