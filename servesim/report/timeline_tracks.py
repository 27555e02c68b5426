"""What a timeline shows of a run: engine steps, requests with their phases, and state over time, as frames.

Everything is cut at the edges of a window. Frames are filtered before they are read, and what is counted over
millions of rows is counted by query, so that memory grows with what is shown.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from servesim.results.frames import Frames
from servesim.results.steps import boundaries_s
from servesim.results.token_gaps import step_lengths_s

REQUEST_FACTS = (
    *("request_id", "model", "tenant", "session", "slo_class", "priority", "state", "finish_reason"),
    *("prompt_tokens", "output_tokens", "output_tokens_target", "preemptions"),
    *("arrival_s", "scheduled_s", "first_token_s", "finished_s", "queue_s", "ttft_s", "tpot_s", "e2e_s"),
)
"""Columns of ``requests`` that a request's slice carries as arguments."""

_INTERVALS = 1000


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a run that is shown.

    Attributes
    ----------
    start_s, end_s
        From and to, in simulated time.
    replicas
        Numbers of the replicas.
    """

    start_s: float
    end_s: float
    replicas: tuple[int, ...]

    @property
    def start_us(self) -> int:
        """The start in whole microseconds."""
        return round(self.start_s * 1e6)

    @property
    def end_us(self) -> int:
        """The end in whole microseconds."""
        return round(self.end_s * 1e6)

    def clip_us(self, time_s: pl.Expr) -> pl.Expr:
        """Return times in whole microseconds, those outside moved to the edge."""
        return microseconds(time_s).clip(self.start_us, self.end_us)

    def here(self) -> pl.Expr:
        """Return the condition that a row is of one of the replicas."""
        return pl.col("replica").is_in(self.replicas)


def microseconds(time_s: pl.Expr) -> pl.Expr:
    """Return times in whole microseconds."""
    return (time_s * 1e6).round().cast(pl.Int64)


# --- engine steps


def segments_in(frames: Frames, window: Window) -> pl.LazyFrame:
    """Return the segments that the window touches, with their ends."""
    k = pl.col("steps").cast(pl.Float64)
    length_s = k * pl.col("step_s") + pl.col("growth_s") * (k * (k - 1.0) * 0.5)
    return (
        frames.lazy("segments")
        .filter(window.here() & (pl.col("start_s") < window.end_s))
        .with_columns(end_s=pl.col("start_s") + length_s)
        .filter(pl.col("end_s") > window.start_s)
    )


def narrower_end_s(segments: pl.LazyFrame, count: pl.Expr, window: Window, *, room: int) -> float:
    """Return where a window with the same start may end so that it holds at most *room* of what *count* counts.

    The answer is one of a thousand times in the window; within the first of these intervals the rate is taken to be
    even.
    """
    width_s = (window.end_s - window.start_s) / _INTERVALS
    number = ((pl.col("start_s") - window.start_s).clip(lower_bound=0.0) / width_s).floor().cast(pl.Int64)
    counts = (
        segments.group_by(number=number).agg(count.alias("count")).collect(engine="streaming").sort("number")
    )
    full = counts.filter(pl.col("count").cum_sum() > room)["number"]
    intervals = int(full[0]) if len(full) else _INTERVALS
    return window.start_s + width_s * (intervals or 0.9 * room / counts["count"][0])


def segment_slices(segments: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Return a slice per segment."""
    return _slices(segments.with_columns(name=_kind_of_step()), window)


def step_slices(segments: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Return a slice per step of *segments*, without those outside of the window."""
    steps = segments["steps"].to_numpy()
    start_s, step_s, growth_s = (segments[name].to_numpy() for name in ("start_s", "step_s", "growth_s"))
    row = np.repeat(np.arange(len(steps)), steps)
    ends_s = boundaries_s(start_s, step_s, growth_s, steps)
    first = np.cumsum(steps, dtype=np.int64) - steps
    starts_s = np.empty_like(ends_s)
    starts_s[1:] = ends_s[:-1]
    starts_s[first] = start_s
    number = np.arange(len(row)) - np.repeat(first, steps)
    expanded = (
        segments.select("replica", "sequences", "context_tokens", "prefill_tokens", "prefill_sequences")[row]
        .with_columns(
            start_s=pl.Series(starts_s),
            end_s=pl.Series(ends_s),
            step_s=pl.Series(step_lengths_s(step_s, growth_s, steps)),
            context_tokens=pl.col("context_tokens") + pl.Series(number) * pl.col("sequences"),
            name=_kind_of_step(),
        )
        .filter((pl.col("end_s") > window.start_s) & (pl.col("start_s") < window.end_s))
    )
    return _slices(expanded, window)


def _kind_of_step() -> pl.Expr:
    prefills, decodes = pl.col("prefill_sequences") > 0, pl.col("sequences") > 0
    return (
        pl.when(prefills & decodes).then(pl.lit("prefill + decode"))
        .when(prefills).then(pl.lit("prefill"))
        .otherwise(pl.lit("decode"))
    )  # fmt: skip


def _slices(frame: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Return *frame* with ``ts`` and ``dur`` from ``start_s`` and ``end_s``, cut at the window's edges."""
    times = frame.with_columns(ts=window.clip_us(pl.col("start_s")), end=window.clip_us(pl.col("end_s")))
    return times.with_columns(dur=pl.col("end") - pl.col("ts"))


# --- requests


def requests_in(frames: Frames, window: Window, run_end_s: float) -> pl.LazyFrame:
    """Return the requests that are in a replica at some time of the window; rejected ones never are."""
    return (
        frames.lazy("requests")
        .filter(window.here() & (pl.col("state") != "rejected") & (pl.col("arrival_s") < window.end_s))
        .with_columns(start_s=pl.col("arrival_s"), end_s=pl.col("finished_s").fill_null(run_end_s))
        .filter(pl.col("end_s") > window.start_s)
    )


def request_slices(requests: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Return a slice per request, from its arrival to its end, with its ``lane``."""
    named = _slices(requests, window).with_columns(name=pl.format("request {}", "request_id"))
    return named.with_columns(lane=_lanes(named))


def _lanes(requests: pl.DataFrame) -> pl.Series:
    """Return for each request the lowest lane of its replica (from 1) that is free when it begins.

    Requests in one lane do not overlap; there are as many lanes as requests at once.
    """
    lanes = [0] * len(requests)
    busy: dict[int, list[tuple[int, int]]] = {}
    free: dict[int, list[int]] = {}
    used: dict[int, int] = {}
    order = requests.with_row_index("row").sort("ts", "request_id")
    for row, replica, start, end in order.select("row", "replica", "ts", "end").iter_rows():
        running, idle = busy.setdefault(replica, []), free.setdefault(replica, [])
        while running and running[0][0] <= start:
            heapq.heappush(idle, heapq.heappop(running)[1])
        if idle:
            lane = heapq.heappop(idle)
        else:
            lane = used[replica] = used.get(replica, 0) + 1
        lanes[row] = lane
        heapq.heappush(running, (end, lane))
    return pl.Series(lanes, dtype=pl.Int64)


def phase_slices(requests: pl.DataFrame, events: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Return the phases of *requests*: queue, prefill and decode, and after a preemption preempted and recompute.

    Parameters
    ----------
    requests
        Requests with ``lane`` and ``end_s``.
    events
        The rows of the frame ``events`` that are theirs.
    window
        What is shown; phases of no whole microsecond in it are left out.
    """
    begins = [
        requests.select("request_id", time_s=pl.col(column), phase=pl.lit(phase), order=pl.lit(order))
        for order, (column, phase) in enumerate(
            (("arrival_s", "queue"), ("scheduled_s", "prefill"), ("first_token_s", "decode"))
        )
    ]
    after = {"preempted": "preempted", "readmitted": "recompute", "resumed": "decode"}
    kinds = events.with_columns(pl.col("kind").cast(pl.String)).filter(pl.col("kind").is_in(list(after)))
    begins.append(
        kinds.select(
            "request_id",
            "time_s",
            phase=pl.col("kind").replace_strict(after, return_dtype=pl.String),
            order=3,
        )
    )
    ends = requests.select("request_id", time_s="end_s", phase=pl.lit("end"), order=pl.lit(4))
    changes = (
        pl.concat([*begins, ends], how="vertical_relaxed")
        .drop_nulls("time_s")
        .sort(
            "request_id", "time_s", "order", maintain_order=True
        )  # events are in the order they happened in
        .rename({"time_s": "start_s", "phase": "name"})
        .with_columns(end_s=pl.col("start_s").shift(-1).over("request_id"))
        .filter(pl.col("name") != "end")
    )
    placed = changes.join(requests.select("request_id", "replica", "lane"), on="request_id", how="left")
    return _slices(placed, window).filter(pl.col("dur") > 0)


# --- state over time


def request_changes(frames: Frames, window: Window) -> pl.LazyFrame:
    """Return by how much the requests in the queue and in the batch of each replica change, and when."""
    here = frames.lazy("requests").filter(window.here() & (pl.col("state") != "rejected"))
    kind = pl.col("kind").cast(pl.String)
    events = frames.lazy("events").filter(window.here())
    parts = [
        _changes(here, "arrival_s", waiting=1, running=0),
        _changes(here, "scheduled_s", waiting=-1, running=1),
        _changes(here, "finished_s", waiting=0, running=-1),
        _changes(events.filter(kind == "preempted"), "time_s", waiting=1, running=-1),
        _changes(events.filter(kind == "readmitted"), "time_s", waiting=-1, running=1),
    ]
    return pl.concat(parts)


def _changes(rows: pl.LazyFrame, column: str, **series: int) -> pl.LazyFrame:
    changes = [pl.lit(change, dtype=pl.Int64).alias(name) for name, change in series.items()]
    return rows.filter(pl.col(column).is_not_null()).select("replica", *changes, time_s=pl.col(column))


def batch_changes(segments: pl.LazyFrame) -> pl.LazyFrame:
    """Return by how much the sequences that decode and prefill change, and when, from segments with ends."""
    decoding, prefilling = (
        pl.col(name).cast(pl.Int64).alias(series)
        for name, series in (("sequences", "decoding"), ("prefill_sequences", "prefilling"))
    )
    begun = segments.select("replica", decoding, prefilling, time_s="start_s")
    ended = segments.select("replica", -decoding, -prefilling, time_s="end_s")
    return pl.concat([begun, ended])


def kv_changes(frames: Frames, window: Window) -> pl.LazyFrame:
    """Return by how much the taken KV blocks differ from one sampling time to the next."""
    used = pl.col("kv_blocks_used").cast(pl.Int64)
    samples = frames.lazy("replicas").filter(window.here())
    return samples.select("replica", "time_s", used=used - used.shift(1).over("replica").fill_null(0))


def counter_values(
    changes: pl.LazyFrame, series: Sequence[str], window: Window, *, points: int
) -> pl.DataFrame:
    """Return the values of counters over time, from their changes.

    Parameters
    ----------
    changes
        ``replica``, ``time_s`` and by how much each of the *series* changes.
    series
        Names of the values.
    window
        What is shown; its first value is the sum of everything before.
    points
        Most values per replica, about: where there are more changes, the state is read at even intervals.
    """
    until = changes.filter(pl.col("time_s") <= window.end_s)
    inside = until.filter(pl.col("time_s") > window.start_s).group_by("replica").agg(pl.len())
    most = inside.select(pl.col("len").max()).collect(engine="streaming").item() or 0
    interval_us = 1 if most <= points else -(-(window.end_us - window.start_us) // points)
    since_us = (microseconds(pl.col("time_s")) - window.start_us).clip(lower_bound=0)
    ticks = (since_us + interval_us - 1) // interval_us  # rounded up: a change shows at the next reading
    values = (
        until.group_by("replica", ts=(window.start_us + ticks * interval_us).clip(upper_bound=window.end_us))
        .agg(pl.col(name).sum() for name in series)
        .collect(engine="streaming")
        .sort("replica", "ts")
    )
    levels = values.with_columns(pl.col(name).cum_sum().over("replica") for name in series)
    before = pl.struct(series).shift(1).over("replica")
    return levels.filter(pl.struct(series).ne_missing(before))


def offered_load(frames: Frames, window: Window, *, points: int) -> pl.DataFrame:
    """Return requests and tokens that arrive per second, of the whole cluster, in intervals of a round length."""
    interval_us = _round_up((window.end_us - window.start_us) / points)
    arrivals = frames.lazy("requests").filter(
        (pl.col("arrival_s") >= window.start_s) & (pl.col("arrival_s") < window.end_s)
    )
    number = (microseconds(pl.col("arrival_s")) - window.start_us) // interval_us
    counted = (
        arrivals.group_by(number=number)
        .agg(
            requests=pl.len().cast(pl.Int64),
            prompt_tokens=pl.col("prompt_tokens").cast(pl.Int64).sum(),
            output_tokens=pl.col("output_tokens_target").cast(pl.Int64).sum(),
        )
        .collect(engine="streaming")
    )
    last = -(-(window.end_us - window.start_us) // interval_us)
    every = pl.DataFrame({"number": pl.Series(range(last), dtype=pl.Int64)})
    series = ("requests", "prompt_tokens", "output_tokens")
    rates = every.join(counted, on="number", how="left", maintain_order="left").select(
        pl.col(series).fill_null(0) * (1e6 / interval_us), ts=window.start_us + pl.col("number") * interval_us
    )
    return rates.filter(pl.struct(series).ne_missing(pl.struct(series).shift(1)))


def _round_up(interval_us: float) -> int:
    """Return 1, 2 or 5 times a power of ten that is at least *interval_us*."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if factor * power >= interval_us:
                return factor * power
        power *= 10
