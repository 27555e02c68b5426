"""What happened when: the frames of a run summed up in bins of time, for charts.

Levels (requests waiting, sequences in a batch) are exact means over each bin, made of every arrival, start, end and
preemption: nothing is sampled but the KV cache, which is known at the sampling times only. Rows are read some
millions at a time, so that a run of any length on disk needs little memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.cluster.records import EVENT_KINDS
from servesim.results.frames import Frames
from servesim.results.saturation import queued_s
from servesim.results.speculation import tokens_per_step
from servesim.results.steps import Floats, durations_s

_PIECE_ROWS = 1 << 21
_WIDTHS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)


@dataclass(frozen=True)
class TimeGrid:
    """Bins of equal width from 0 to the end of a run.

    The last bin ends with the run: it is between half and one and a half times as wide as the others, so that no rate
    is over a sliver of time.

    Attributes
    ----------
    width_s
        Width of a bin.
    end_s
        End of the run. 0: there are no bins.
    """

    width_s: float
    end_s: float

    @cached_property
    def bins(self) -> int:
        """How many bins there are."""
        return max(math.floor(self.end_s / self.width_s + 0.5), 1) if self.end_s > 0 else 0

    @cached_property
    def ends_s(self) -> Floats:
        """Where each bin ends."""
        ends: Floats = self.width_s * np.arange(1.0, self.bins + 1.0)
        ends[-1:] = self.end_s
        return ends

    @cached_property
    def widths_s(self) -> Floats:
        """How wide each bin is."""
        return np.diff(self.ends_s, prepend=0.0)

    @property
    def middles_s(self) -> Floats:
        """The middle of each bin, were the last one as wide as the others: equal for runs of different length."""
        middles: Floats = self.width_s * np.arange(0.5, self.bins)
        return middles

    def bin_of(self, times_s: Floats) -> NDArray[np.int64]:
        """Return the bin of each time; what lies beyond the ends counts to the nearest bin."""
        return np.clip((times_s / self.width_s).astype(np.int64), 0, self.bins - 1)

    def counts(self, times_s: Floats) -> Floats:
        """Return how many of *times_s* lie in each bin."""
        return np.bincount(self.bin_of(times_s), minlength=self.bins).astype(np.float64)


def bin_width_s(duration_s: float, bins_max: int) -> float:
    """Return the least round width that cuts *duration_s* into at most *bins_max* bins.

    Examples
    --------
    >>> bin_width_s(371.0, 120), bin_width_s(3600.0, 120), bin_width_s(0.01, 120)
    (5.0, 30.0, 0.0001)
    """
    least_s = duration_s / bins_max
    if least_s > _WIDTHS_S[-1]:
        return math.ceil(least_s / _WIDTHS_S[-1]) * float(_WIDTHS_S[-1])
    for width_s in _WIDTHS_S if least_s > 0.5 else ():
        if width_s >= least_s:
            return float(width_s)
    exponent = math.floor(math.log10(least_s)) if least_s > 0 else 0
    widths_s = (float(f"{digit}e{exponent + up}") for up in (0, 1) for digit in (1, 2, 5))
    return next((width_s for width_s in widths_s if width_s >= least_s), 1.0)


class Levels:
    """Quantities that jump now and then, as means over the bins of a grid, per replica.

    Parameters
    ----------
    grid
        The bins.
    replicas
        How many replicas there are.
    names
        Names of the quantities.
    """

    def __init__(self, grid: TimeGrid, replicas: int, names: Sequence[str]) -> None:
        self.grid = grid
        self._shape = (replicas, grid.bins)
        self._jumps = {name: np.zeros(replicas * grid.bins) for name in names}
        self._areas = {name: np.zeros(replicas * grid.bins) for name in names}

    def jump(self, replica: NDArray[Any], times_s: Floats, **by: NDArray[Any] | float) -> None:
        """Let the quantities of each *replica* jump at *times_s*, by the amounts that go with their names."""
        bins = self.grid.bin_of(times_s)
        cells = replica.astype(np.int64) * self.grid.bins + bins
        left_s = self.grid.ends_s[bins] - times_s
        size = self._shape[0] * self._shape[1]
        for name, amounts in by.items():
            self._jumps[name] += np.bincount(cells, np.broadcast_to(amounts, cells.shape), minlength=size)
            self._areas[name] += np.bincount(cells, amounts * left_s, minlength=size)

    def integral(self, name: str) -> Floats:
        """Return the integral of a quantity over each bin, a row per replica."""
        jumps = self._jumps[name].reshape(self._shape)
        before = np.cumsum(jumps, axis=1) - jumps
        integral: Floats = before * self.grid.widths_s + self._areas[name].reshape(self._shape)
        return integral


def pieces(frame: pl.LazyFrame, *columns: str) -> Iterator[pl.DataFrame]:
    """Yield the rows of some columns, a few million at a time."""
    rows = frame.select(pl.len()).collect().item()
    for start in range(0, rows, _PIECE_ROWS):
        yield frame.select(columns).slice(start, _PIECE_ROWS).collect()


def queue_over_time(frames: Frames, grid: TimeGrid, replicas: int) -> pl.DataFrame:
    """Return how many requests wait and run on each replica, on average over each bin.

    Returns
    -------
    polars.DataFrame
        ``replica, bin, waiting_requests, running_requests``, a row per replica and bin. Preempted requests wait.
    """
    levels = Levels(grid, replicas, ("waiting", "running"))
    columns = ("replica", "state", "queued_s", "scheduled_s", "finished_s")
    requests = frames.lazy("requests")
    requests = requests.with_columns(queued_s=queued_s(requests))
    for piece in pieces(requests, *columns) if grid.bins else ():
        accepted = piece.filter((pl.col("state") != "rejected") & pl.col("replica").is_not_null())
        for column, changes in (
            ("queued_s", {"waiting": 1.0}),
            ("scheduled_s", {"waiting": -1.0, "running": 1.0}),
            ("finished_s", {"running": -1.0}),
        ):
            happened = accepted.select("replica", column).drop_nulls()
            levels.jump(happened["replica"].to_numpy(), happened[column].to_numpy(), **changes)
    for piece in pieces(frames.lazy("events"), "replica", "kind", "time_s") if grid.bins else ():
        for kind, change in (("preempted", 1.0), ("readmitted", -1.0)):
            happened = piece.filter(pl.col("kind") == kind)
            replica, times_s = happened["replica"].to_numpy(), happened["time_s"].to_numpy()
            levels.jump(replica, times_s, waiting=change, running=-change)
    means = {f"{name}_requests": levels.integral(name) / grid.widths_s for name in ("waiting", "running")}
    return _long(grid, replicas, means)


def work_over_time(frames: Frames, grid: TimeGrid, replicas: int) -> pl.DataFrame:
    """Return what the replicas compute in each bin.

    Returns
    -------
    polars.DataFrame
        ``replica, bin, busy_s, decode_s, prefill_s, decoded_tokens, prefill_tokens``, a row per replica and bin.
        ``decode_s`` and ``prefill_s`` are the sums over steps of their time multiplied by the sequences that decode,
        or whose prompt is worked on: divided by ``busy_s`` they are mean batch sizes. The work of a segment counts
        as spread evenly over its time.
    """
    names = ("busy_s", "decode_s", "prefill_s", "decoded_tokens", "prefill_tokens")
    levels = Levels(grid, replicas, names)
    per_step = tokens_per_step(frames, replicas)
    columns = ("replica", "start_s", "step_s", "growth_s", "steps", "sequences", "prefill_tokens")
    for piece in pieces(frames.lazy("segments"), *columns, "prefill_sequences") if grid.bins else ():
        value = {name: piece[name].to_numpy() for name in piece.columns}
        steps = value["steps"].astype(np.float64)
        duration_s = durations_s(value["step_s"], value["growth_s"], value["steps"])
        per_s: dict[str, Floats] = {
            "busy_s": np.ones(len(steps)),
            "decode_s": value["sequences"].astype(np.float64),
            "prefill_s": value["prefill_sequences"].astype(np.float64),
            "decoded_tokens": per_step[value["replica"]] * value["sequences"] * steps / duration_s,
            "prefill_tokens": value["prefill_tokens"] * steps / duration_s,
        }
        levels.jump(value["replica"], value["start_s"], **per_s)
        ends = {name: -rate for name, rate in per_s.items()}
        levels.jump(value["replica"], value["start_s"] + duration_s, **ends)
    return _long(grid, replicas, {name: levels.integral(name) for name in names})


def _long(grid: TimeGrid, replicas: int, values: dict[str, Floats]) -> pl.DataFrame:
    """Return matrices of replicas x bins as one frame. What differs from 0 by rounding only, is 0."""
    return pl.DataFrame(
        {
            "replica": np.repeat(np.arange(replicas, dtype=np.int32), grid.bins),
            "bin": np.tile(np.arange(grid.bins, dtype=np.int32), replicas),
            **{name: _without_noise(matrix).ravel() for name, matrix in values.items()},
        }
    )


def _without_noise(matrix: Floats) -> Floats:
    cleaned: Floats = np.where(matrix > 1e-9 * matrix.max(initial=0.0), matrix, 0.0)
    return cleaned


def load_over_time(frames: Frames, grid: TimeGrid, work: pl.DataFrame) -> pl.DataFrame:
    """Return arrivals, completions and tokens of the whole cluster per second.

    Parameters
    ----------
    frames, grid
        Of the run.
    work
        What `work_over_time` returned.

    Returns
    -------
    polars.DataFrame
        ``bin, arrivals_per_s, completions_per_s, output_tokens_per_s, prefill_tokens_per_s``. Output tokens are all
        that were emitted; prefill tokens are all that were computed, again after a preemption too.
    """
    tokens = sums(work, "decoded_tokens", "prefill_tokens")
    counts = {
        name: _count(frames, column, grid)
        for name, column in (
            ("arrivals", "arrival_s"),
            ("completions", "finished_s"),
            ("first", "first_token_s"),
        )
    }
    resumed = frames.lazy("events").filter((pl.col("kind") == "resumed") & (pl.col("output_tokens") > 1))
    again = grid.counts(resumed.select("time_s").collect()["time_s"].to_numpy()) if grid.bins else 0.0
    return pl.DataFrame(
        {
            "bin": tokens["bin"],
            "arrivals_per_s": counts["arrivals"] / grid.widths_s,
            "completions_per_s": counts["completions"] / grid.widths_s,
            "output_tokens_per_s": (tokens["decoded_tokens"].to_numpy() + counts["first"] + again)
            / grid.widths_s,
            "prefill_tokens_per_s": tokens["prefill_tokens"].to_numpy() / grid.widths_s,
        }
    )


def _count(frames: Frames, column: str, grid: TimeGrid) -> Floats:
    counts = np.zeros(grid.bins)
    for piece in pieces(frames.lazy("requests"), column) if grid.bins else ():
        counts += grid.counts(piece[column].drop_nulls().to_numpy())
    return counts


def batch_over_time(work: pl.DataFrame) -> pl.DataFrame:
    """Return the mean batch of a step in each bin, over all replicas, each step weighted by its time.

    Returns
    -------
    polars.DataFrame
        ``bin, decode_sequences, prefill_sequences``; null where no replica worked.
    """
    total = sums(work, "busy_s", "decode_s", "prefill_s")
    busy_s = pl.when(pl.col("busy_s") > 0).then(pl.col("busy_s"))
    return total.select(
        "bin",
        decode_sequences=pl.col("decode_s") / busy_s,
        prefill_sequences=pl.col("prefill_s") / busy_s,
    )


def sums(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """Return columns of a row per replica and bin, added up over the replicas."""
    return frame.group_by("bin").agg(pl.col(columns).sum()).sort("bin")


def kv_over_time(frames: Frames, grid: TimeGrid, kv_blocks: Sequence[int]) -> pl.DataFrame:
    """Return the share of KV blocks taken at the sampling times in each bin.

    Parameters
    ----------
    frames, grid
        Of the run.
    kv_blocks
        KV blocks of each replica.

    Returns
    -------
    polars.DataFrame
        ``bin, mean_ratio`` (of all replicas and samples) and ``max_ratio`` (the fullest replica at any of them); bins
        without a sample are left out.
    """
    if not grid.bins:
        return pl.DataFrame(schema={"bin": pl.Int32, "mean_ratio": pl.Float64, "max_ratio": pl.Float64})
    blocks = pl.LazyFrame(
        {"replica": range(len(kv_blocks)), "blocks": kv_blocks},
        schema={"replica": pl.Int32, "blocks": pl.Int64},
    )
    ratio = pl.col("kv_blocks_used") / pl.col("blocks")
    return (
        frames.lazy("replicas")
        .join(blocks.filter(pl.col("blocks") > 0), on="replica")
        .group_by(bin=_bin("time_s", grid))
        .agg(mean_ratio=ratio.mean(), max_ratio=ratio.max())
        .sort("bin")
        .collect()
    )


def latency_over_time(frames: Frames, grid: TimeGrid, metric: str) -> pl.DataFrame:
    """Return median and 99 % quantile of a latency over the completed requests that arrived in each bin.

    Returns
    -------
    polars.DataFrame
        ``bin, p50, p99`` in s; bins in which nothing arrived that completed are left out. Requests of the warm-up are
        in.
    """
    if not grid.bins:
        return pl.DataFrame(schema={"bin": pl.Int32, "p50": pl.Float64, "p99": pl.Float64})
    return (
        frames.lazy("requests")
        .filter(pl.col("state") == "completed")
        .select("arrival_s", metric)
        .drop_nulls()
        .group_by(bin=_bin("arrival_s", grid))
        .agg(
            p50=pl.col(metric).quantile(0.5, interpolation="linear"),
            p99=pl.col(metric).quantile(0.99, interpolation="linear"),
        )
        .sort("bin")
        .collect()
    )


def _bin(column: str, grid: TimeGrid) -> pl.Expr:
    return (pl.col(column) / grid.width_s).cast(pl.Int32).clip(0, grid.bins - 1)


def events_over_time(frames: Frames, grid: TimeGrid) -> pl.DataFrame:
    """Return how many events of each kind there are in each bin: ``bin`` and a column per kind."""
    counts: dict[str, Floats] = {kind: np.zeros(grid.bins) for kind in EVENT_KINDS}
    for piece in pieces(frames.lazy("events"), "kind", "time_s") if grid.bins else ():
        for kind in EVENT_KINDS:
            counts[kind] += grid.counts(piece.filter(pl.col("kind") == kind)["time_s"].to_numpy())
    return pl.DataFrame({"bin": np.arange(grid.bins, dtype=np.int32), **counts})
