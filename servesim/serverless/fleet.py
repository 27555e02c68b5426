"""Generator of functions, their invocations and the cold starts that these cause; after region R2.

A function that is no timer has pods, one after another in each of as many *lanes* as it needs: a pod starts for a
request that finds none, serves requests for its useful life, is kept for the keep-alive, and then nothing comes for
some time. A timer calls with its period; each call is cold if the period is longer than the keep-alive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from servesim.errors import TraceError
from servesim.rng import stream
from servesim.serverless.cold_start_model import draw_r2, draw_utility
from servesim.serverless.contract import conform
from servesim.serverless.crossed import Indices
from servesim.serverless.curves import Floats
from servesim.serverless.function_mix import FunctionMix, draw_functions
from servesim.serverless.log import ServerlessLog
from servesim.serverless.parameters import coefficients
from servesim.serverless.schema import COMPONENTS

R2_FUNCTIONS = 2418
_LANE_BUSY_MOST, _LANE_BUSY_USUAL = 0.95, 0.5
_MARGIN = 0.999
"""A timer's call is over a little earlier than the keep-alive before the next."""


@dataclass(slots=True, eq=False)
class Lives:
    """Lives of pods, a position in each array; times in seconds.

    ``regular_s`` is the period of the requests of a timer that keeps its pod warm, NaN elsewhere.
    """

    function: Indices
    lane: Indices
    arrival_s: Floats
    parts: Floats
    useful_s: Floats
    requests: Indices
    regular_s: Floats

    @property
    def total_s(self) -> Floats:
        """Cold-start times, added up in the order of the parts."""
        return np.asarray(self.parts[:, 0] + self.parts[:, 1] + self.parts[:, 2] + self.parts[:, 3])


def generate_functions(
    *,
    seed: int,
    functions: int = R2_FUNCTIONS,
    duration_s: float = 86400.0,
    timer_ratio: float | None = None,
    keep_alive_s: float = 60.0,
    requests_per_pod_most: int = 100,
) -> ServerlessLog:
    """Return functions with invocations and cold starts.

    Parameters
    ----------
    seed
        What they are drawn from.
    functions
        How many.
    duration_s
        Time after which no pod starts, and no pod is in use.
    timer_ratio
        Share of the functions that are timers; None: 0.56, as in R2.
    keep_alive_s
        How long an idle pod is kept.
    requests_per_pod_most
        Busy functions send many thousand requests to a pod in its life. More than this many are left out, and
        counted in the note ``invocations_left_out``; the pod's life stays as it is.

    Raises
    ------
    TraceError
        If a number is out of bounds.
    """
    if seed < 0:
        raise TraceError(f"functions: seed (got {seed!r}). expected a whole number >= 0")
    _check(functions, duration_s, timer_ratio, keep_alive_s, requests_per_pod_most)
    mix = draw_functions(stream(seed, "fleet", "functions"), functions, timer_ratio)
    lives = _concatenated(
        _pods(stream(seed, "fleet", "pods"), mix, duration_s, keep_alive_s),
        _timers(stream(seed, "fleet", "timers"), mix, duration_s, keep_alive_s),
    )
    notes: dict[str, int | float | str] = {"seed": seed, "keep_alive_s": keep_alive_s}
    most = np.where(np.isnan(lives.regular_s), requests_per_pod_most, lives.requests)
    notes["invocations_left_out"] = int(np.maximum(lives.requests - most, 0).sum())
    lives.requests = np.minimum(lives.requests, most)
    pods = pl.Series([f"{serial:010d}" for serial in range(len(lives.function))], dtype=pl.String)
    invocations = _invocations(stream(seed, "fleet", "invocations"), mix, lives, pods, keep_alive_s)
    cold_starts = _cold_starts(mix, lives, pods)
    return ServerlessLog(
        format="huawei_2025",
        cold_starts=cold_starts.lazy(),
        invocations=invocations.lazy(),
        functions=_functions(mix, invocations).lazy(),
        notes=notes | {"cold_starts": cold_starts.height, "invocations": invocations.height},
    )


def _check(
    functions: int, duration_s: float, timer_ratio: float | None, keep_alive_s: float, most: int
) -> None:
    wrong = [
        ("functions", functions, functions >= 1, "a whole number >= 1"),
        ("duration_s", duration_s, np.isfinite(duration_s) and duration_s >= 3600, "a number >= 3600"),
        ("timer_ratio", timer_ratio, timer_ratio is None or 0 <= timer_ratio <= 1, "a number from 0 to 1"),
        (
            "keep_alive_s",
            keep_alive_s,
            0 <= keep_alive_s <= duration_s / 4,
            "a number from 0 to a quarter of duration_s",
        ),
        ("requests_per_pod_most", most, most >= 1, "a whole number >= 1"),
    ]
    for name, got, right, expected in wrong:
        if not right:
            raise TraceError(f"functions: {name} (got {got!r}). expected {expected}")


def _pods(rng: np.random.Generator, mix: FunctionMix, duration_s: float, keep_alive_s: float) -> Lives:
    """Return the pods of functions that are no timers: a Poisson number each, apart by the keep-alive at least."""
    others = np.flatnonzero(np.isnan(mix.period_s))
    function = np.repeat(others, rng.poisson(mix.cold_starts_per_s[others] * duration_s))
    lives = _drawn(rng, mix, function)
    lives.requests = 1 + rng.poisson(mix.requests_per_pod[function] - 1).astype(np.intp)
    block_s = lives.total_s + lives.useful_s + keep_alive_s
    needed = np.bincount(function, block_s, len(mix.period_s)) / (_LANE_BUSY_USUAL * duration_s)
    lanes = np.maximum(np.ceil(needed), 1).astype(np.intp)
    first_lane = np.cumsum(lanes) - lanes
    lives.lane = first_lane[function] + _rank_within(function) % lanes[function]
    fixed_s = np.bincount(lives.lane, lives.total_s + keep_alive_s)
    used_s = np.bincount(lives.lane, lives.useful_s)
    room_s = np.maximum(_LANE_BUSY_MOST * duration_s - fixed_s, 0.0)
    lives.useful_s = lives.useful_s * np.minimum(1.0, room_s / np.maximum(used_s, 1e-9))[lives.lane]
    block_s = lives.total_s + lives.useful_s + keep_alive_s
    slack_s = np.maximum(duration_s - np.bincount(lives.lane, block_s), 0.0)
    place = rng.random(len(function))
    order = np.lexsort((place, lives.lane))
    before_s = _sums_before(block_s[order], lives.lane[order])
    lives.arrival_s[order] = place[order] * slack_s[lives.lane[order]] + before_s
    return lives


def _timers(rng: np.random.Generator, mix: FunctionMix, duration_s: float, keep_alive_s: float) -> Lives:
    """Return the pods of timers: one for every call if the period is longer than the keep-alive, else one for all."""
    timers = np.flatnonzero(~np.isnan(mix.period_s))
    period_s = mix.period_s[timers]
    phase_s = rng.random(len(timers)) * period_s
    calls = np.where(phase_s < duration_s, np.floor((duration_s - phase_s) / period_s).astype(np.intp) + 1, 0)
    warm = period_s <= keep_alive_s
    pods = np.where(warm, np.minimum(calls, 1), calls)
    function = np.repeat(timers, pods)
    lives = _drawn(rng, mix, function)
    lives.arrival_s = np.repeat(phase_s, pods) + _rank_within(function) * mix.period_s[function]
    most_s = _MARGIN * np.repeat(np.where(warm, period_s, period_s - keep_alive_s), pods)
    lives.parts *= np.minimum(1.0, most_s / lives.total_s)[:, None]
    lives.useful_s = np.minimum(lives.useful_s, np.maximum(most_s - lives.total_s, 0.0))
    regular = np.repeat(warm, pods)
    lives.regular_s[regular] = mix.period_s[function][regular]
    lives.requests = np.where(regular, np.repeat(calls, pods), 1)
    return lives


def _drawn(rng: np.random.Generator, mix: FunctionMix, function: Indices) -> Lives:
    """Return pods of these functions with their cold starts and useful lives, not placed in time."""
    runtime, trigger = mix.runtime[function], mix.trigger[function]
    parts = draw_r2(rng, runtime, trigger, "measured")
    size = len(function)
    lives = Lives(
        function=function,
        lane=np.zeros(size, dtype=np.intp),
        arrival_s=np.zeros(size),
        parts=parts,
        useful_s=np.zeros(size),
        requests=np.ones(size, dtype=np.intp),
        regular_s=np.full(size, np.nan),
    )
    lives.useful_s = draw_utility(rng, runtime, trigger) * lives.total_s
    return lives


def _concatenated(*several: Lives) -> Lives:
    return Lives(
        *(np.concatenate([getattr(lives, name) for lives in several]) for name in Lives.__dataclass_fields__)
    )


def _rank_within(groups: Indices) -> Indices:
    """Return the position of each row among those of its group; groups stand together."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.asarray(np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups))))


def _sums_before(values: Floats, groups: Indices) -> Floats:
    """Return the sum of the values before each one in its group; groups stand together."""
    if not len(values):
        return values
    before = np.cumsum(values) - values
    return np.asarray(before - before[np.arange(len(values)) - _rank_within(groups)])


def _invocations(
    rng: np.random.Generator, mix: FunctionMix, lives: Lives, pods: pl.Series, keep_alive_s: float
) -> pl.DataFrame:
    """Return the requests of all pods: the first one waits for the cold start, none is idle for the keep-alive."""
    life = np.repeat(np.arange(len(lives.function)), lives.requests)
    rank = _rank_within(life)
    cold, regular_s = rank == 0, lives.regular_s[life]
    ready_s = lives.arrival_s + lives.total_s
    place = np.where(cold, 0.0, rng.random(len(life)))
    order = np.lexsort((place, life))
    begin_s = place[order] * lives.useful_s[life]
    last = np.append(cold[1:], True)[: len(life)]
    end_s = np.where(last, lives.useful_s[life], np.append(begin_s[1:], 0.0)[: len(life)])
    idle_s = np.minimum((end_s - begin_s) * rng.random(len(life)), _MARGIN * keep_alive_s)
    duration_s = np.where(last, end_s - begin_s, end_s - begin_s - idle_s)
    is_regular = ~np.isnan(regular_s)
    steady_s = np.minimum(lives.useful_s[life], np.where(is_regular, 0.5 * regular_s, np.inf))
    arrival_s = np.where(
        is_regular,
        lives.arrival_s[life] + rank * regular_s,
        np.where(cold, lives.arrival_s[life], ready_s[life] + begin_s),
    )
    function = lives.function[life]
    pool = mix.names["pool"].gather(function)
    frame = pl.DataFrame(
        {
            "arrival_s": arrival_s,
            "window_s": np.zeros(len(life)),
            "invocations": np.ones(len(life), dtype=np.int64),
            "function": mix.names["function"].gather(function),
            "user": mix.names["user"].gather(function),
            "pod": pool + "-" + pods.gather(life),
            "trigger": _labels("triggers", mix.trigger[function]),
            "wait_s": np.where(cold, lives.total_s[life], 0.0),
            "duration_s": np.where(is_regular, steady_s, duration_s),
            "cold": cold,
        }
    )
    return conform(frame.lazy().sort("arrival_s", maintain_order=True), "invocations").collect()


def _cold_starts(mix: FunctionMix, lives: Lives, pods: pl.Series) -> pl.DataFrame:
    names = mix.names[lives.function.astype(np.uint32)]
    useful_s = np.where(
        np.isnan(lives.regular_s), lives.useful_s, np.nan
    )  # the pod of a fast timer never ends
    frame = names.with_columns(
        pod=names["pool"] + "-" + pods,
        start_s=pl.Series(lives.arrival_s),
        region=pl.lit("R2"),
        request=pods,
        cpu_limit_mcpu=pl.col("pool").str.split("-").list.get(1).cast(pl.Float64),
        memory_limit_mb=pl.col("pool").str.split("-").list.get(2).cast(pl.Float64),
        runtime=_labels("runtimes", mix.runtime[lives.function]),
        trigger=_labels("triggers", mix.trigger[lives.function]),
        total_s=pl.Series(lives.total_s),
        useful_s=pl.Series(useful_s, nan_to_null=True),
        **{name: pl.Series(column) for name, column in zip(COMPONENTS, lives.parts.T, strict=True)},
    )
    return conform(frame.lazy().sort("start_s", maintain_order=True), "cold_starts").collect()


def _functions(mix: FunctionMix, invocations: pl.DataFrame) -> pl.DataFrame:
    counts = invocations.group_by("function").agg(
        pl.len().alias("invocations"), pl.col("cold").sum().alias("cold_starts")
    )
    frame = mix.names.with_columns(
        runtime=_labels("runtimes", mix.runtime),
        trigger=_labels("triggers", mix.trigger),
        cpu_limit_mcpu=pl.col("pool").str.split("-").list.get(1).cast(pl.Float64),
        memory_limit_mb=pl.col("pool").str.split("-").list.get(2).cast(pl.Float64),
        period_s=pl.Series(mix.period_s, nan_to_null=True),
    )
    whole = frame.join(counts, on="function", how="left", maintain_order="left")
    return conform(
        whole.lazy().with_columns(pl.col("invocations", "cold_starts").fill_null(0)), "functions"
    ).collect()


def _labels(kind: str, positions: Indices) -> pl.Series:
    return pl.Series(np.array(coefficients()["R2"][kind], dtype=object)[positions], dtype=pl.String)
