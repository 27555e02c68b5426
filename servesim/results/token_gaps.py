"""Inter-token latencies of all requests at once: the gaps between successive tokens, without listing them.

Every step of a segment is one gap for each request that decodes in it, as long as the step. So the gaps of all
requests are the lengths of the decode steps, weighted by how many of the counted requests decode there, and one
gap for each time that a preempted request emits again. Steps are expanded piece by piece: the memory does not
depend on the length of the run. Where prompts are computed in steps of their own, requests wait between their
steps, which shows in the sum of all gaps; then they are listed request by request. Nothing is approximated but the
last bits: a weighted gap is the length of its step, where `servesim.results.token_times` gives two times to subtract.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.errors import InvariantError
from servesim.results.audit import RELATIVE_TOLERANCE
from servesim.results.frames import Frames
from servesim.results.latencies import measured
from servesim.results.speculation import decode_work, decodes_speculatively, resumptions
from servesim.results.steps import Floats, boundaries_s
from servesim.results.weighted import Counts, Histogram, Moments
from servesim.workload.schema import CHUNK_ROWS

PIECE_SEGMENTS = 4096
"""Segments that are expanded at once: some hundred thousand steps."""


@dataclass(frozen=True, slots=True)
class GapStatistics:
    """Statistics of the inter-token latencies of all measured requests: each gap counts once.

    Attributes
    ----------
    count
        Gaps: all output tokens of the requests but the first of each.
    mean_s, std_s
        Mean and population standard deviation; None where there are no gaps.
    quantiles_s
        The asked-for quantiles by their number in 0-1; they interpolate linearly between order statistics.
    """

    count: int
    mean_s: float | None
    std_s: float | None
    quantiles_s: dict[float, float | None]


def itl_statistics(frames: Frames, quantiles: Sequence[float], *, warm_up_s: float = 0.0) -> GapStatistics:
    """Return statistics of the inter-token latencies of the requests that completed, arrived from *warm_up_s* on.

    The frames are read twice: once for the moments and the histogram, once for the values around each quantile.

    Parameters
    ----------
    frames
        Frames of the run.
    quantiles
        Numbers in 0-1.
    warm_up_s
        Requests that arrived before it are left out.

    Raises
    ------
    InvariantError
        If the steps do not account for the requests' tokens.
    """
    pieces = partial(_weighted_gaps, frames, warm_up_s)
    moments, histogram = _gathered(pieces())
    expected, decoding_s = _expected(frames, warm_up_s)
    if moments.count == expected and not _close(moments.sum, decoding_s):
        # Somebody waited between two decode steps: the engine does prompts in steps of their own. Or the run is so long
        # (months) that the rounding of times shows.
        pieces = partial(_listed_gaps, frames, warm_up_s)
        moments, histogram = _gathered(pieces())
    if moments.count != expected or not _close(moments.sum, decoding_s):
        raise InvariantError(
            f"results: steps and preemptions give {moments.count} gaps between tokens that take {moments.sum} s. "
            f"expected {expected} that take {decoding_s} s: all tokens of the measured requests but their first ones"
        )
    if not moments.count:
        return GapStatistics(0, None, None, dict.fromkeys(quantiles))
    ranks = {quantile: quantile * (moments.count - 1) for quantile in quantiles}
    needed = sorted({min(int(rank) + up, moments.count - 1) for rank in ranks.values() for up in (0, 1)})
    values = histogram.order_statistics(needed, pieces())
    found: dict[float, float | None] = {}
    for quantile, rank in ranks.items():
        low = values[int(rank)]
        high = values[min(int(rank) + 1, moments.count - 1)]
        found[quantile] = low + (high - low) * (rank - int(rank))
    return GapStatistics(moments.count, moments.mean, (moments.squares / moments.count) ** 0.5, found)


def _gathered(pieces: Iterator[tuple[Floats, Counts]]) -> tuple[Moments, Histogram]:
    moments, histogram = Moments(), Histogram()
    for gaps_s, weights in pieces:
        moments.add(gaps_s, weights)
        histogram.add(gaps_s, weights)
    return moments, histogram


def _close(got_s: float, expected_s: float) -> bool:
    return math.isclose(got_s, expected_s, rel_tol=RELATIVE_TOLERANCE, abs_tol=RELATIVE_TOLERANCE)


def tokens_per_second(frames: Frames, *, origin_s: float, warm_up_s: float = 0.0) -> Counts:
    """Return how many tokens the measured requests got in each whole second after *origin_s*.

    With speculative decoding, every decode step counts as the mean of all of them.
    """
    counts = np.zeros(1, dtype=np.int64)
    for ends_s, _, weights in _decode_steps(frames, warm_up_s):
        counts = _added(counts, ends_s - origin_s, weights)
    if decodes_speculatively(frames):
        work = decode_work(frames)
        share = int(work["decode_tokens"].sum()) / max(1, int(work["decode_steps"].sum()))
        counts = np.rint(counts * share).astype(np.int64)
    singles = [
        measured(frames.lazy("requests"), warm_up_s).select("first_token_s").collect().to_series(),
        _Decoding(frames, warm_up_s).resumed["time_s"],
    ]
    for times_s in singles:
        counts = _added(counts, times_s.to_numpy() - origin_s, np.ones(len(times_s), dtype=np.int64))
    return counts


def _added(counts: Counts, times_s: Floats, weights: Counts) -> Counts:
    """Return *counts* per second with *weights* added in the seconds of *times_s*, longer if need be."""
    more = np.bincount(times_s.astype(np.int64), weights=weights).astype(np.int64)
    longer = np.zeros(max(len(counts), len(more)), dtype=np.int64)
    longer[: len(counts)] += counts
    longer[: len(more)] += more
    return longer


def _expected(frames: Frames, warm_up_s: float) -> tuple[int, float]:
    """Return how many gaps the measured requests have, and how long these take together: first to last token."""
    gaps = pl.col("output_tokens").cast(pl.Int64) - 1
    decoding_s = (pl.col("finished_s") - pl.col("first_token_s")).sum()
    requests = measured(frames.lazy("requests"), warm_up_s)
    if decodes_speculatively(frames):  # tokens of one step have no gap between them
        requests = requests.join(resumptions(frames), on="request_id", how="left")
        gaps = (pl.col("decode_steps") + pl.col("resumed").fill_null(0)).fill_null(gaps)
    totals = requests.select(gaps=gaps.sum(), decoding_s=decoding_s)
    count, total_s = totals.collect(engine="streaming").row(0)
    return int(count), float(total_s)


def _weighted_gaps(frames: Frames, warm_up_s: float) -> Iterator[tuple[Floats, Counts]]:
    """Yield the gaps of the measured requests in pieces, each with how often it occurs.

    A gap is a step's length: right where every step from a request's first token on decodes it.
    """
    gaps_s = _Decoding(frames, warm_up_s).resumed["gap_s"].to_numpy()
    yield gaps_s, np.ones(len(gaps_s), dtype=np.int64)
    for _, lengths_s, weights in _decode_steps(frames, warm_up_s):
        yield lengths_s, weights


def _listed_gaps(frames: Frames, warm_up_s: float) -> Iterator[tuple[Floats, Counts]]:
    """Yield the gaps of the measured requests, request by request: right for every engine, and slower."""
    gaps = RequestGaps(frames)
    columns = ("request_id", "replica", "first_token_s", "output_tokens")
    requests = measured(frames.lazy("requests"), warm_up_s).select(columns).collect()
    for some in requests.iter_slices(PIECE_SEGMENTS):
        gaps_s = np.concatenate([gaps.of(*request) for request in some.iter_rows()])
        yield gaps_s, np.ones(len(gaps_s), dtype=np.int64)


def _decode_steps(frames: Frames, warm_up_s: float) -> Iterator[tuple[Floats, Floats, Counts]]:
    """Yield end, length and number of measured requests of every step in which any of them decodes, in pieces."""
    decoding = _Decoding(frames, warm_up_s)
    segments = frames.lazy("segments").select(
        "replica", "start_s", "step_s", "growth_s", "steps", "sequences"
    )
    rows = segments.select(pl.len()).collect().item()
    for offset in range(0, rows, CHUNK_ROWS):
        chunk = segments.slice(offset, CHUNK_ROWS).collect()
        for piece in chunk.iter_slices(PIECE_SEGMENTS):
            weights = decoding.measured_sequences(piece)
            own, weights = piece.filter(weights > 0), weights[weights > 0]
            start_s, step_s, growth_s, steps = (
                own[name].to_numpy() for name in ("start_s", "step_s", "growth_s", "steps")
            )
            ends_s = boundaries_s(start_s, step_s, growth_s, steps)
            yield ends_s, step_lengths_s(step_s, growth_s, steps), np.repeat(weights, steps)


def step_lengths_s(step_s: Floats, growth_s: Floats, steps: NDArray[Any]) -> Floats:
    """Return how long every step of every segment takes, segment by segment."""
    ends = np.cumsum(steps, dtype=np.int64)
    before = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - steps, steps)
    result: Floats = np.repeat(step_s, steps) + np.repeat(growth_s, steps) * before
    return result


class _Decoding:
    """Who decodes when: how many of a segment's sequences are measured, and the gaps that preemptions made.

    What is not measured (requests that are unfinished or of the warm-up) is counted and subtracted, because it is
    little or nothing.
    """

    def __init__(self, frames: Frames, warm_up_s: float) -> None:
        is_measured = (pl.col("state") == "completed") & (pl.col("arrival_s") >= warm_up_s)
        requests = frames.lazy("requests").filter(pl.col("first_token_s").is_not_null())
        others = (
            requests.filter(~is_measured)
            .select("request_id", "replica", "first_token_s", "finished_s")
            .collect()
        )
        interruptions = emission_breaks(frames)
        mine = interruptions["request_id"].is_in(others["request_id"].implode())
        self.resumed = interruptions.filter(~mine & interruptions["gap_s"].is_not_null())
        self._spans = _spans(others, interruptions.filter(mine))

    def measured_sequences(self, segments: pl.DataFrame) -> Counts:
        """Return how many of the sequences of each segment are measured requests."""
        counts = segments["sequences"].to_numpy().astype(np.int64)
        replica, start_s = segments["replica"].to_numpy(), segments["start_s"].to_numpy()
        for number, (starts_s, ends_s) in self._spans.items():
            own = replica == number
            begun = np.searchsorted(starts_s, start_s[own], side="right")
            counts[own] -= begun - np.searchsorted(ends_s, start_s[own], side="right")
        # Requests whose prompt is being computed do not decode; sequences is 0 where only they are there.
        return np.where(segments["sequences"].to_numpy() > 0, counts, 0)


def emission_breaks(frames: Frames) -> pl.DataFrame:
    """Return the events at which requests stop emitting tokens (``preempted``) or emit again (``resumed``).

    In order of request and time, the two kinds in turn. A preemption before the first token or during a
    recomputation stops nothing. ``gap_s`` of a ``resumed`` row is the time since the token before.
    """
    kind = pl.col("kind").cast(pl.String)
    emitted = pl.col("output_tokens")
    events = (
        frames.lazy("events")
        .filter(((kind == "preempted") & (emitted > 0)) | ((kind == "resumed") & (emitted > 1)))
        .select("request_id", "replica", "time_s", kind=kind)
        .collect()
        .sort("request_id", maintain_order=True)
    )
    repeated = (pl.col("kind") == "preempted") & (pl.col("kind").shift(1).over("request_id") == "preempted")
    kept = events.filter(~repeated.fill_null(False))
    since_s = pl.col("time_s") - pl.col("time_s").shift(1).over("request_id")
    return kept.with_columns(gap_s=pl.when(pl.col("kind") == "resumed").then(since_s))


def _spans(requests: pl.DataFrame, breaks: pl.DataFrame) -> Mapping[int, tuple[Floats, Floats]]:
    """Return the sorted starts and ends of the spans in which *requests* decode, by replica."""
    resumed = breaks["kind"] == "resumed"
    starts = pl.concat(
        [
            requests.select("replica", time_s="first_token_s"),
            breaks.filter(resumed).select("replica", "time_s"),
        ]
    )
    ends = pl.concat(
        [requests.select("replica", time_s="finished_s"), breaks.filter(~resumed).select("replica", "time_s")]
    ).drop_nulls()
    return {
        number: (_sorted_of(starts, number), _sorted_of(ends, number))
        for number in starts["replica"].unique().sort().to_list()
    }


def _sorted_of(times: pl.DataFrame, replica: int) -> Floats:
    return times.filter(pl.col("replica") == replica)["time_s"].sort().to_numpy()


class RequestGaps:
    """The inter-token latencies of single requests, as `RunResult.itl_s` gives them, for many of them.

    Parameters
    ----------
    frames
        Frames of the run; the steps take 8 bytes each in memory.
    """

    def __init__(self, frames: Frames) -> None:
        segments = (
            frames.lazy("segments")
            .filter(pl.col("sequences") > 0)
            .select("replica", "start_s", "step_s", "growth_s", "steps")
            .collect()
        )
        self._steps = {int(key[0]): _Steps(own) for key, own in segments.group_by("replica")}
        self._decode_steps: dict[int, int | None] = {}
        if decodes_speculatively(frames):
            rows = frames.lazy("requests").select("request_id", "decode_steps").collect().iter_rows()
            self._decode_steps = dict(rows)
        self._breaks: dict[int, list[tuple[float, bool]]] = {}
        breaks = emission_breaks(frames).select("request_id", "time_s", pl.col("kind") == "resumed")
        for request_id, time_s, resumed in breaks.iter_rows():
            self._breaks.setdefault(request_id, []).append((time_s, resumed))

    def of(self, request_id: int, replica: int, first_token_s: float, tokens: int) -> Floats:
        """Return the gaps of a request that emitted so many *tokens*, one fewer than them."""
        if tokens <= 1:
            return np.empty(0)
        own_steps = self._decode_steps.get(request_id)
        if own_steps is not None:  # what counts is when tokens come, not how many
            tokens = 1 + own_steps + sum(resumed for _, resumed in self._breaks.get(request_id, ()))
        steps, since_s = self._steps[replica], first_token_s
        pieces, missing = [np.array([first_token_s])], tokens - 1
        for time_s, resumed in self._breaks.get(request_id, ()):
            if resumed:
                pieces.append(np.array([time_s]))
                since_s = time_s
            else:
                pieces.append(steps.ends_s[steps.number(since_s) : steps.number(time_s)])
            missing -= len(pieces[-1])
        first = steps.number(since_s)
        pieces.append(steps.ends_s[first : first + missing])
        return np.diff(np.concatenate(pieces))


class _Steps:
    """The ends of the decode steps of one replica, in order of time."""

    def __init__(self, segments: pl.DataFrame) -> None:
        self._starts_s, step_s, growth_s, steps = (
            segments.sort("start_s")[name].to_numpy() for name in ("start_s", "step_s", "growth_s", "steps")
        )
        self._first = np.cumsum(steps, dtype=np.int64) - steps
        self.ends_s = boundaries_s(self._starts_s, step_s, growth_s, steps)

    def number(self, time_s: float) -> int:
        """Return the number of the first step of the first segment that starts at *time_s* or later."""
        segment = np.searchsorted(self._starts_s, time_s)
        return int(self._first[segment]) if segment < len(self._first) else len(self.ends_s)
