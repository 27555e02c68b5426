"""The series of one run that its charts draw, each worked out when it is first asked for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from servesim.results.distributions import sorted_latencies
from servesim.results.replica_map import ReplicaMap, replica_map
from servesim.results.steps import Floats
from servesim.results.time_series import (
    TimeGrid,
    batch_over_time,
    bin_width_s,
    events_over_time,
    kv_over_time,
    latency_over_time,
    load_over_time,
    queue_over_time,
    sums,
    work_over_time,
)

if TYPE_CHECKING:
    from servesim.results.run_result import RunResult


BINS_MAX = 120
"""Bins of a time axis at most: about one per four pixels of a chart."""

COARSE_BINS_MAX = 60
"""Bins for quantiles, which take many requests each."""


class RunSeries:
    """What the charts of a run show; frames are described where they are made, in `servesim.results.time_series`.

    Parameters
    ----------
    result
        The run.
    span_s
        Time that the bins suit; None: the run's own. Runs that are shown together need the same bins.
    """

    def __init__(self, result: RunResult, span_s: float | None = None) -> None:
        self.result = result
        end_s = result.summary["duration_s"]
        span_s = end_s if span_s is None else span_s
        self.grid = TimeGrid(bin_width_s(span_s, BINS_MAX), end_s)
        self.coarse_grid = TimeGrid(bin_width_s(span_s, COARSE_BINS_MAX), end_s)
        self._replicas = len(result.summary["replicas"])
        self._latency: dict[str, pl.DataFrame] = {}

    @cached_property
    def _queues(self) -> pl.DataFrame:
        return queue_over_time(self.result.frames, self.grid, self._replicas)

    @cached_property
    def _work(self) -> pl.DataFrame:
        return work_over_time(self.result.frames, self.grid, self._replicas)

    @cached_property
    def queue(self) -> pl.DataFrame:
        """``bin, waiting_requests, running_requests`` of the cluster."""
        return sums(self._queues, "waiting_requests", "running_requests")

    @cached_property
    def load(self) -> pl.DataFrame:
        """``bin`` and arrivals, completions, output and prefill tokens per s."""
        return load_over_time(self.result.frames, self.grid, self._work)

    @cached_property
    def batch(self) -> pl.DataFrame:
        """``bin, decode_sequences, prefill_sequences``: the mean batch of a step."""
        return batch_over_time(self._work)

    @cached_property
    def kv(self) -> pl.DataFrame:
        """``bin, mean_ratio, max_ratio`` of KV blocks; no rows where their number is not known."""
        pools = {pool["pool"]: pool["kv_blocks"] or 0 for pool in self.result.provenance.get("pools", [])}
        blocks = [pools.get(replica["pool"], 0) for replica in self.result.summary["replicas"]]
        return kv_over_time(self.result.frames, self.grid, blocks)

    @cached_property
    def events(self) -> pl.DataFrame:
        """``bin`` and a column of counts for every kind of event."""
        return events_over_time(self.result.frames, self.grid)

    def latency(self, metric: str) -> pl.DataFrame:
        """Return ``bin, p50, p99`` in s of a latency by time of arrival, in bins of `coarse_grid`."""
        if metric not in self._latency:
            self._latency[metric] = latency_over_time(self.result.frames, self.coarse_grid, metric)
        return self._latency[metric]

    def latencies_s(self, metric: str) -> Floats:
        """Return a latency of all measured requests, ascending."""
        return sorted_latencies(self.result.frames.lazy("requests"), metric, self.result.warm_up_s)

    def utilization_map(self) -> ReplicaMap:
        """Return the share of time that each replica computes."""
        widths_s = pl.Series(np.tile(self.grid.widths_s, self._replicas))
        busy = self._work.with_columns(ratio=pl.col("busy_s") / widths_s)
        return replica_map(busy, "ratio", self.grid)

    def requests_map(self) -> ReplicaMap:
        """Return the mean number of requests, waiting or running, on each replica."""
        present = pl.col("waiting_requests") + pl.col("running_requests")
        return replica_map(self._queues.with_columns(present=present), "present", self.grid)
