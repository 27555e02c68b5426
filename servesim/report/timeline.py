"""A run as a timeline that Perfetto and chrome://tracing show: engine steps, requests, and state over time.

A process per replica has a track of engine steps, lanes of requests with their phases, preemptions and rejections,
and counters; the process "cluster" has the offered load. A timeline holds a bounded number of events: what does not
fit is left out whole (requests are drawn at random, never cut to pieces) and `Timeline.left_out` tells it. How rows
become slices is in `timeline_tracks`, how slices become JSON in `trace_events`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

from servesim._version import __version__
from servesim.errors import ServesimError
from servesim.report import timeline_tracks as tracks
from servesim.report.timeline_tracks import Window
from servesim.report.trace_events import (
    counters,
    instants,
    names,
    order_of_processes,
    slices,
    trace_text,
    write_trace,
)
from servesim.results import RunResult
from servesim.rng import stream

Steps = Literal["auto", "all", "segments", "none"]

MOST_EVENTS = 200_000
"""Events of a timeline unless told otherwise: some 40 MB, which a browser loads in seconds."""

LEAST_EVENTS = 1_000

_COUNTER_SHARE, _INSTANT_SHARE = 0.2, 0.05
_EVENTS_PER_REQUEST, _EVENTS_PER_PREEMPTION = (
    5,
    3,
)  # its slice, three phases and, for some, the name of a lane
_LOAD_POINTS = 500  # more intervals than this only show the noise of arrivals
_CLUSTER_PID, _FIRST_PID = 1, 2
_THREADS_PER_PROCESS = 100_000  # thread ids are unique over all processes: some viewers ask for that
_STEPS_TID, _INSTANTS_TID = 0, 1

_STEP_FACTS: tuple[str, ...] = (
    "sequences",
    "context_tokens",
    "prefill_tokens",
    "prefill_sequences",
    "step_s",
)
_SEGMENTS = pl.len().cast(pl.Int64).alias("segments")
_STEPS = pl.col("steps").cast(pl.Int64).sum().alias("steps")
_SEGMENT_FACTS = ("steps", *_STEP_FACTS, "growth_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineOptions:
    """What of a run a timeline shows.

    Attributes
    ----------
    start_s, end_s
        The window of simulated time; None: from the start, to the end.
    replicas
        Numbers of the replicas; None: all.
    requests
        Most requests, drawn at random among those in the window; None: as many as there is room for.
    steps
        Whether engine steps are shown one by one (``all``), by segments of identical steps (``segments``), or
        not (``none``); ``auto`` takes the first of these that there is room for.
    most_events
        Bound of the timeline's size.
    """

    start_s: float | None = None
    end_s: float | None = None
    replicas: Sequence[int] | None = None
    requests: int | None = None
    steps: Steps = "auto"
    most_events: int = MOST_EVENTS


@dataclass(slots=True)
class Timeline:
    """The events of a timeline.

    Attributes
    ----------
    window
        What is shown.
    facts
        What it is of.
    left_out
        Sentences that tell what is not shown, and how to see it.
    """

    window: Window
    facts: dict[str, Any]
    left_out: list[str] = field(default_factory=list)
    _parts: list[pl.DataFrame] = field(default_factory=list)

    @property
    def events(self) -> int:
        """Number of events."""
        return sum(map(len, self._parts))

    def add(self, *parts: pl.DataFrame) -> None:
        """Add events; of those that start together the ones added first are the outer ones."""
        self._parts += [part for part in parts if len(part)]

    def text(self) -> str:
        """Return the timeline as JSON."""
        return "".join(trace_text(self._parts, self.facts))

    def write(self, path: str | Path) -> int:
        """Write the timeline, compressed where the name ends in ``.gz``, and return the size in bytes.

        Raises
        ------
        ServesimError
            If it cannot be written; an older file is kept then.
        """
        return write_trace(trace_text(self._parts, self.facts), Path(path))


def timeline(result: RunResult, options: TimelineOptions | None = None) -> Timeline:
    """Return the timeline of a run: the same for the same result and options.

    Raises
    ------
    ServesimError
        If the window is empty or outside of the run, a replica does not exist, or there is no room for what is
        asked for.
    """
    options = options or TimelineOptions()
    shown = Timeline(_window(result, options), _facts(result))
    _add_names(shown, result)
    _add_counters(shown, result, points=_points(shown, options.most_events))
    left = options.most_events - shown.events
    if left < _INSTANT_SHARE * options.most_events:
        raise ServesimError(
            f"timeline: too few events for {len(shown.window.replicas)} replicas (got {options.most_events}). "
            "expected more, or fewer replicas"
        )
    _add_steps(shown, result, options, room=left // 2)
    room = options.most_events - shown.events
    instants_room = int(room * _INSTANT_SHARE)
    _add_requests(shown, result, options, room=room - instants_room)
    _add_instants(shown, result, room=instants_room)
    return shown


def _window(result: RunResult, options: TimelineOptions) -> Window:
    end_of_run_s = result.summary["duration_s"]
    start_s = 0.0 if options.start_s is None else options.start_s
    end_s = end_of_run_s if options.end_s is None else min(options.end_s, end_of_run_s)
    if not 0.0 <= start_s < end_of_run_s:
        raise ServesimError(
            f"timeline: the window starts outside of the run (got {start_s:g} s). expected a time from 0 to before "
            f"{end_of_run_s:g} s"
        )
    if not end_s - start_s >= 1e-6:
        raise ServesimError(
            f"timeline: the window is empty (got {start_s:g} to {end_s:g} s). expected an end after the start"
        )
    known = [replica["replica"] for replica in result.summary["replicas"]]
    chosen = known if options.replicas is None else sorted(set(options.replicas))
    unknown = sorted(set(chosen) - set(known))
    if unknown or not chosen:
        raise ServesimError(
            f"timeline: no such replicas (got {unknown or 'none'}). expected numbers from 0 to {len(known) - 1}"
        )
    if options.steps not in get_args(Steps):
        raise ServesimError(
            f"timeline: unknown way to show steps (got {options.steps!r}). expected one of "
            f"{', '.join(get_args(Steps))}"
        )
    if options.most_events < LEAST_EVENTS:
        raise ServesimError(
            f"timeline: too few events (got {options.most_events}). expected at least {LEAST_EVENTS}"
        )
    return Window(start_s, end_s, tuple(chosen))


def _facts(result: RunResult) -> dict[str, Any]:
    names_of = ("scenario", "scenario_hash", "seed")
    return {"servesim_version": __version__, **{key: result.provenance.get(key) for key in names_of}}


# --- names


def _add_names(shown: Timeline, result: RunResult) -> None:
    pools = {replica["replica"]: replica["pool"] for replica in result.summary["replicas"]}
    own = shown.window.replicas
    labels = pl.DataFrame(
        {
            "pid": [_CLUSTER_PID, *(_FIRST_PID + replica for replica in own)],
            "label": ["cluster", *(f"replica {replica} ({pools[replica]})" for replica in own)],
        }
    ).with_columns(tid=pl.col("pid") * _THREADS_PER_PROCESS)
    shown.add(
        names(labels, "process_name"),
        order_of_processes(labels.select("pid", sort_index="pid")),
    )


def _with_ids(frame: pl.DataFrame, thread: pl.Expr | int) -> pl.DataFrame:
    """Return *frame* with the ids of the process and the thread of each row; what has no replica is the cluster's."""
    pid = (pl.col("replica").cast(pl.Int64) + _FIRST_PID).fill_null(_CLUSTER_PID)
    number = pl.lit(thread, dtype=pl.Int64) if isinstance(thread, int) else thread
    return frame.with_columns(pid=pid, tid=pid * _THREADS_PER_PROCESS + number)


def _thread_names(frame: pl.DataFrame, label: pl.Expr) -> pl.DataFrame:
    """Return the names of the threads that *frame* has events on."""
    threads = frame.unique(["pid", "tid"], maintain_order=True).sort("tid")
    return names(threads.with_columns(label=label), "thread_name")


# --- counters


def _points(shown: Timeline, most_events: int) -> int:
    """Return how many values each counter may have."""
    tracks_count = 3 * len(shown.window.replicas) + 2
    return max(int(most_events * _COUNTER_SHARE) // tracks_count - 2, 1)


def _add_counters(shown: Timeline, result: RunResult, *, points: int) -> None:
    frames, window = result.frames, shown.window
    load = tracks.offered_load(frames, window, points=min(points, _LOAD_POINTS)).with_columns(
        pid=pl.lit(_CLUSTER_PID)
    )
    shown.add(
        counters(load.with_columns(name=pl.lit("arrivals per s")), args=["requests"]),
        counters(
            load.with_columns(name=pl.lit("arriving tokens per s")), args=["prompt_tokens", "output_tokens"]
        ),
    )
    segments = tracks.segments_in(frames, window)
    for name, series, changes in (
        ("requests", ["running", "waiting"], tracks.request_changes(frames, window)),
        ("batch", ["decoding", "prefilling"], tracks.batch_changes(segments)),
        ("KV blocks", ["used"], tracks.kv_changes(frames, window)),
    ):
        values = tracks.counter_values(changes, series, window, points=points)
        named = _with_ids(values, 0).drop("tid").with_columns(name=pl.lit(name))
        shown.add(counters(named, args=series))


# --- engine steps


def _add_steps(shown: Timeline, result: RunResult, options: TimelineOptions, *, room: int) -> None:
    if options.steps == "none":
        return
    segments = tracks.segments_in(result.frames, shown.window)
    counts = segments.select(_SEGMENTS, _STEPS).collect(engine="streaming").row(0, named=True)
    room -= 1 + len(shown.window.replicas)  # names of the tracks
    if options.steps in ("auto", "all") and counts["steps"] <= room:
        slices_of, facts = tracks.step_slices, _STEP_FACTS
    elif options.steps in ("auto", "segments") and counts["segments"] <= room:
        slices_of, facts = tracks.segment_slices, _SEGMENT_FACTS
    else:
        slices_of, facts = None, ()
    whole = slices_of is tracks.step_slices or (slices_of is not None and options.steps == "segments")
    if not whole:
        _tell_of_steps(shown, segments, counts, options, room=room, by_segment=slices_of is not None)
    if slices_of is not None:
        own = _with_ids(slices_of(segments.collect(engine="streaming"), shown.window), _STEPS_TID)
        shown.add(_thread_names(own, pl.lit("engine steps")), slices(own, args=facts))


def _tell_of_steps(
    shown: Timeline,
    segments: pl.LazyFrame,
    counts: Mapping[str, int],
    options: TimelineOptions,
    *,
    room: int,
    by_segment: bool,
) -> None:
    """Note that engine steps are not shown one by one, and which window shows more; refuse what was asked for.

    Raises
    ------
    ServesimError
        If there is no room for what ``steps`` asks for.
    """
    unit = "steps" if by_segment or options.steps == "all" else "segments"
    # Counters may need all of their share in another window.
    sure = int(options.most_events * (1 - _COUNTER_SHARE) / 2) - 5 * len(shown.window.replicas) - 10
    counted = _STEPS if unit == "steps" else _SEGMENTS
    end_s = tracks.narrower_end_s(segments, counted, shown.window, room=max(sure, 1))
    start_s = shown.window.start_s
    hint = f"--from {start_s:.9g} --to {start_s + _shortened_s(end_s - start_s):.9g}"
    if options.steps != "auto":
        raise ServesimError(
            f"timeline: no room for the {unit} in the window (got {counts[unit]:,}). expected at most {room:,}",
            hint=f"{hint}, fewer replicas, or more events make room",
        )
    many = f"{counts['steps']:,} engine steps"
    if by_segment:
        shown.left_out.append(f"{many} are shown as {counts['segments']:,} segments; {hint} shows each step")
    else:
        shown.left_out.append(
            f"{many} in {counts['segments']:,} segments are left out; {hint} shows the segments"
        )


def _shortened_s(length_s: float) -> float:
    """Return a time rounded down to three digits."""
    power = 10.0 ** (math.floor(math.log10(length_s)) - 2)
    return math.floor(length_s / power) * power


# --- requests


def _add_requests(shown: Timeline, result: RunResult, options: TimelineOptions, *, room: int) -> None:
    window, frames = shown.window, result.frames
    there = tracks.requests_in(frames, window, result.summary["duration_s"])
    found = there.select("request_id", "preemptions").collect(engine="streaming").sort("request_id")
    cost = _EVENTS_PER_REQUEST + _EVENTS_PER_PREEMPTION * found["preemptions"].to_numpy().astype(np.int64)
    chosen = _drawn(cost, room, result, most=options.requests)
    if len(chosen) < len(found):
        shown.left_out.append(
            f"{len(chosen):,} of {len(found):,} requests are shown, drawn at random; counters count all"
            + ("" if options.requests == len(chosen) else "; a narrower window or more events show more")
        )
    ids = found["request_id"][chosen]
    requests = (
        there.filter(pl.col("request_id").is_in(ids.implode())).collect(engine="streaming").sort("request_id")
    )
    if requests.is_empty():
        return
    events = (
        frames.lazy("events").filter(pl.col("request_id").is_in(ids.implode())).collect(engine="streaming")
    )
    outer = _with_ids(tracks.request_slices(requests, window), _INSTANTS_TID + pl.col("lane"))
    phases = _with_ids(tracks.phase_slices(outer, events, window), _INSTANTS_TID + pl.col("lane"))
    digits = len(str(outer["lane"].max()))
    label = pl.format("requests {}", pl.col("lane").cast(pl.String).str.zfill(digits))
    shown.add(
        _thread_names(outer, label),
        slices(outer, args=tracks.REQUEST_FACTS),
        slices(phases, args=["request_id"]),
    )


def _drawn(
    cost: np.ndarray[Any, np.dtype[np.int64]], room: int, result: RunResult, *, most: int | None
) -> Any:
    """Return the positions of what fits into *room*: all, or so many drawn at random.

    A smaller room gives a part of what a larger one gives. The draw depends on the run's seed alone.
    """
    if most is None and cost.sum() <= room:
        return np.arange(len(cost))
    order = stream(int(result.provenance.get("seed") or 0), "timeline").permutation(len(cost))
    fitting = int(np.searchsorted(np.cumsum(cost[order]), room, side="right"))
    return np.sort(order[: fitting if most is None else min(fitting, most)])


# --- preemptions and rejections


def _add_instants(shown: Timeline, result: RunResult, *, room: int) -> None:
    window = shown.window
    kind = pl.col("kind").cast(pl.String)
    mine = window.here() | pl.col("replica").is_null()
    inside = (pl.col("time_s") >= window.start_s) & (pl.col("time_s") <= window.end_s)
    events = (
        result.frames.lazy("events")
        .filter(kind.is_in(["preempted", "rejected"]), mine.fill_null(True), inside)
        .collect(engine="streaming")
    )
    if events.is_empty():
        return
    room -= 1 + len(window.replicas)
    chosen = _drawn(np.ones(len(events), dtype=np.int64), max(room, 0), result, most=None)
    if len(chosen) < len(events):
        shown.left_out.append(f"{len(chosen):,} of {len(events):,} preemptions and rejections are marked")
    own = _with_ids(
        events[chosen].with_columns(ts=window.clip_us(pl.col("time_s")), name=kind), _INSTANTS_TID
    )
    shown.add(
        _thread_names(own, pl.lit("preemptions and rejections")),
        instants(own, args=["request_id", "output_tokens"]),
    )
