"""The recorder of a run: takes packed rows from the cluster and makes the frames of a result of them.

Outcomes come in the order in which requests finish and leave in the order in which they arrived: they are
scattered into one array per workload frame, and a frame goes to the sink when it and all before it are
complete. So memory holds the frames with unfinished requests, whatever the length of the run. Nothing here
costs Python time per row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import polars as pl

from servesim.cluster.records import (
    EVENT,
    FLUSH_BYTES,
    FRONT_END,
    OUTCOME,
    SAMPLE,
    SEGMENT,
    SPECULATION,
    VISIBLE,
    ClusterAccount,
)
from servesim.errors import InvariantError
from servesim.results.audit import audit, raise_findings
from servesim.results.columns import ARRIVAL_COLUMNS, Rows, requests_frame, rows_frame, take_rows, whole
from servesim.results.run_result import ResolvedScenario, RunResult
from servesim.results.schema import SPECULATION_COLUMNS
from servesim.results.sinks import MemorySink, Sink
from servesim.results.summary import SummaryOptions, summarize
from servesim.results.totals import RunTotals
from servesim.workload.schema import RESULT_EXTRAS


class FrameRecorder:
    """Make frames of the rows of one run; `servesim.cluster.records.Recorder` is the cluster's side of it.

    Parameters
    ----------
    sink
        Where finished pieces of the frames go; `MemorySink` when left out.
    default_model
        Model of the requests whose workload names none.
    extras
        Those of `servesim.workload.schema.RESULT_EXTRAS` that the workload has.
    front_end
        Whether a pool has a front end.
    speculation
        Whether a pool decodes speculatively.

    Examples
    --------
    The closing call, after the cluster has run::

        recorder = FrameRecorder(ParquetSink(out))
        account = cluster.run(...)
        result = recorder.result(account, scenario=scenario, provenance={...}, options=SummaryOptions(...))
    """

    def __init__(
        self,
        sink: Sink | None = None,
        *,
        default_model: str | None = None,
        extras: Collection[str] = (),
        front_end: bool = False,
        speculation: bool = False,
    ) -> None:
        self.outcomes = bytearray()
        self.segments = bytearray()
        self.events = bytearray()
        self.samples = bytearray()
        self.visibles = bytearray()
        self.front_ends = bytearray()
        self.speculations = bytearray()
        self.totals = RunTotals()
        self._sink: Sink = MemorySink() if sink is None else sink
        self._default_model = default_model
        self._columns = [*ARRIVAL_COLUMNS, *(name for name in RESULT_EXTRAS if name in extras)]
        self._front_end, self._speculation = front_end, speculation
        self._open: deque[_Arrivals] = deque()
        self._registered = 0

    def arrivals(self, frame: pl.DataFrame) -> None:
        """Take over requests that are about to arrive, or have arrived; ids count on from the last frame's."""
        kept = frame.select(self._columns)
        if self._default_model is not None:
            kept = kept.with_columns(pl.col("model").fill_null(self._default_model))
        self._open.append(
            _Arrivals(self._registered, kept, front_end=self._front_end, speculation=self._speculation)
        )
        self._registered += frame.height
        self._take_outcomes()
        self.tick()

    def tick(self) -> None:
        """Empty the buffers that have grown large."""
        if len(self.outcomes) > FLUSH_BYTES:
            self._take_outcomes()
        self._take_rows(FLUSH_BYTES)

    def result(
        self,
        account: ClusterAccount,
        *,
        scenario: ResolvedScenario,
        provenance: Mapping[str, Any],
        options: SummaryOptions,
        host: Mapping[str, Any] | None = None,
    ) -> RunResult:
        """Close the recording, audit it and return the result. Call it once, when the cluster has ended.

        Parameters
        ----------
        account
            What the cluster counted; requests from number ``account.arrived`` on are left out.
        scenario
            The resolved scenario.
        provenance
            What the result rests on (version, seed, hashes, sources, known errors): must be the same on a re-
            run.
        options
            What the summary needs to know beside the rows.
        host
            Facts about this execution (wall time, memory), which differ on a re-run.

        Raises
        ------
        InvariantError
            If an audit fails; lists every finding.
        ServesimError
            If the disk is full.
        """
        self._take_outcomes()
        self._leave_out(account.arrived)
        self._flush(complete_only=False)
        self._take_rows(0)
        raise_findings(audit(account, self.totals))
        frames = self._sink.close()
        summary = summarize(frames, account, options)
        return RunResult(scenario, dict(provenance), summary, dict(host or {}), frames)

    def _take_outcomes(self) -> None:
        """Scatter the outcomes over the frames of their requests, and let go of those that are complete."""
        if not self.outcomes:
            return
        rows = take_rows(self.outcomes, OUTCOME)
        ids = rows["request_id"]
        if not self._open or ids.min() < self._open[0].first_id or ids.max() >= self._registered:
            raise InvariantError(
                "results: an outcome for a request that is not in the system (got request_ids "
                f"{ids.min()} to {ids.max()}). expected each request once, and none before it arrives"
            )
        seen = take_rows(self.visibles, VISIBLE) if self.visibles else None
        read = take_rows(self.front_ends, FRONT_END) if self.front_ends else None
        drafted = take_rows(self.speculations, SPECULATION) if self.speculations else None
        for arrivals in self._open:
            if drafted is not None:
                arrivals.count_steps(drafted)
            if seen is not None:
                arrivals.see(seen)
            if read is not None:
                arrivals.read(read)
            own = (ids >= arrivals.first_id) & (ids < arrivals.first_id + len(arrivals.outcomes))
            if own.any():
                arrivals.put(whole(rows)[own].view(rows.dtype))
        self._flush(complete_only=True)

    def _flush(self, *, complete_only: bool) -> None:
        while self._open and (self._open[0].missing == 0 or not complete_only):
            piece = self._open.popleft()
            piece.add_to(self.totals)
            self._sink.append(
                "requests",
                requests_frame(
                    piece.first_id,
                    piece.frame,
                    piece.outcomes,
                    visible_s=piece.visible_s,
                    front_end=piece.front_end,
                    speculation=piece.speculation,
                ),
            )

    def _leave_out(self, arrived: int) -> None:
        """Drop the requests at the end of the last frame that had not arrived when the run ended."""
        while self._open and self._open[-1].first_id >= arrived:
            self._registered -= len(self._open.pop().outcomes)
        if self._open:
            self._open[-1].truncate(arrived - self._open[-1].first_id)

    def _take_rows(self, limit_bytes: int) -> None:
        """Empty each buffer of segments, events and samples that holds more than *limit_bytes*."""
        sources = (
            ("segments", self.segments, SEGMENT, self.totals.add_segments),
            ("events", self.events, EVENT, self.totals.add_events),
            ("replicas", self.samples, SAMPLE, None),
        )
        for name, buffer, layout, add in sources:
            if len(buffer) > limit_bytes:
                rows = take_rows(buffer, layout)
                if add is not None:
                    add(rows)
                self._sink.append(name, rows_frame(name, rows))


class _Arrivals:
    """The requests of one workload frame: as they arrived, and what became of them so far."""

    def __init__(self, first_id: int, frame: pl.DataFrame, *, front_end: bool, speculation: bool) -> None:
        self.first_id = first_id
        self.frame = frame
        self.outcomes: Rows = np.zeros(frame.height, dtype=OUTCOME.dtype)
        self.outcomes["state"] = -1
        self.missing = frame.height
        has_reasoning = "reasoning_tokens" in frame.columns
        self.visible_s = np.full(frame.height, np.nan) if has_reasoning else None
        self.front_end: Rows | None = None
        if front_end:
            self.front_end = np.zeros(frame.height, dtype=FRONT_END.dtype)
            self.front_end["enqueued_s"] = self.front_end["stream_s"] = np.nan

        self.speculation: Rows | None = None
        if speculation:
            self.speculation = np.zeros(frame.height, dtype=SPECULATION.dtype)
            for name in SPECULATION_COLUMNS:
                self.speculation[name] = -1

    def see(self, rows: Rows) -> None:
        """Take in when some of the requests first emitted a token that the user sees."""
        assert self.visible_s is not None, "only requests that reason have such rows"
        position = rows["request_id"] - self.first_id
        own = (position >= 0) & (position < len(self.visible_s))
        self.visible_s[position[own]] = rows["visible_s"][own]

    def read(self, rows: Rows) -> None:
        """Take in when some of the requests leave their front ends, or that they never do."""
        assert self.front_end is not None, "only pools with a front end write such rows"
        position = rows["request_id"] - self.first_id
        own = (position >= 0) & (position < len(self.front_end))
        ended = np.isnan(rows["enqueued_s"])
        for some in (own & ~ended, own & ended):  # a request may have a row of both kinds
            self.front_end[position[some]] = rows[some]

    def count_steps(self, rows: Rows) -> None:
        """Take in how many decode steps some of the requests took."""
        assert self.speculation is not None, "only pools that decode speculatively write such rows"
        position = rows["request_id"] - self.first_id
        own = (position >= 0) & (position < len(self.speculation))
        self.speculation[position[own]] = rows[own]

    def put(self, rows: Rows) -> None:
        """Take in the outcomes of some of the requests.

        Raises
        ------
        InvariantError
            If a request has an outcome already.
        """
        whole(self.outcomes)[rows["request_id"] - self.first_id] = whole(rows)
        missing = int(np.count_nonzero(self.outcomes["state"] < 0))
        if self.missing - missing != len(rows):
            raise InvariantError(
                f"results: {len(rows) - (self.missing - missing)} requests from number {self.first_id} on "
                "have a second outcome. expected one outcome per request"
            )
        self.missing = missing

    def truncate(self, length: int) -> None:
        """Forget the requests from number *length* of this frame on."""
        self.frame = self.frame.head(length)
        self.outcomes = self.outcomes[:length]
        self.visible_s = None if self.visible_s is None else self.visible_s[:length]
        self.front_end = None if self.front_end is None else self.front_end[:length]
        self.speculation = None if self.speculation is None else self.speculation[:length]

    def add_to(self, totals: RunTotals) -> None:
        """Add the requests to *totals*."""
        arrival_s, prompt, output = (
            self.frame[name].to_numpy() for name in ("arrival_s", "prompt_tokens", "output_tokens")
        )
        totals.add_requests(self.first_id, arrival_s, (prompt, output), self.outcomes, self.front_end)
        if self.speculation is not None:
            totals.add_decode_steps(self.outcomes["replica"], self.speculation["decode_steps"])
