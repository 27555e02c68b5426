"""Tiny runs whose every number is known by hand, as the cluster would record them."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pytest

from servesim.cluster.records import (
    EVENT,
    EVENT_KINDS,
    FINISH_REASONS,
    OUTCOME,
    SAMPLE,
    SEGMENT,
    STATES,
    ClusterAccount,
    ReplicaAccount,
)
from servesim.results import FrameRecorder, RunResult, Sink, SummaryOptions
from servesim.workload.schema import SCHEMA

NEVER = float("nan")


class TextScenario:
    """The least that a result needs of a scenario."""

    def to_yaml(self) -> str:
        return "name: tiny\nseed: 0\n"


def workload(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Return a workload frame; what a row leaves out is null, its priority 0."""
    defaults = {**dict.fromkeys(SCHEMA), "priority": 0}
    return pl.DataFrame([{**defaults, **row} for row in rows], schema=SCHEMA)


@dataclass
class TinyRun:
    """Rows by name of field, and accounts: change any, then record."""

    arrivals: list[dict[str, Any]]
    outcomes: list[dict[str, Any]]
    segments: list[dict[str, Any]]
    events: list[dict[str, Any]]
    account: dict[str, Any]
    replica: dict[str, Any]
    samples: list[dict[str, Any]] = field(default_factory=list)

    def cluster_account(self) -> ClusterAccount:
        replica = ReplicaAccount(**{"replica": 0, "pool": "main", "kv_blocks": 8, **self.replica})
        return ClusterAccount(**{"interrupted": False, **self.account}, replicas=[replica])

    def recorder(
        self, sink: Sink | None = None, *, chunk_rows: int = 100, **parameters: Any
    ) -> FrameRecorder:
        """Return a recorder that was given all rows, arrivals *chunk_rows* at a time."""
        recorder = FrameRecorder(sink, **parameters)
        codes = {"state": STATES, "finish_reason": FINISH_REASONS}
        for start in range(0, len(self.arrivals), chunk_rows):
            recorder.arrivals(workload(self.arrivals[start : start + chunk_rows]))
        for row in self.outcomes:
            values = {"replica": 0, "scheduled_s": NEVER, "first_token_s": NEVER, "finished_s": NEVER} | row
            values = {"output_tokens": 0, "preemptions": 0, "finish_reason": None} | values
            for name, words in codes.items():
                values[name] = -1 if values[name] is None else words.index(values[name])
            recorder.outcomes += OUTCOME.pack.pack(*(values[name] for name in OUTCOME.fields))
        for row in self.segments:
            values = dict.fromkeys(SEGMENT.fields, 0) | {"step_s": 1.0, "steps": 1} | row
            recorder.segments += SEGMENT.pack.pack(*(values[name] for name in SEGMENT.fields))
        for row in self.events:
            values = {"replica": 0, "output_tokens": 0, **row, "kind": EVENT_KINDS.index(row["kind"])}
            recorder.events += EVENT.pack.pack(*(values[name] for name in EVENT.fields))
        for row in self.samples:
            values = dict.fromkeys(SAMPLE.fields, 0) | row
            recorder.samples += SAMPLE.pack.pack(*(values[name] for name in SAMPLE.fields))
        return recorder

    def result(
        self,
        sink: Sink | None = None,
        *,
        options: SummaryOptions | None = None,
        chunk_rows: int = 100,
        **host: Any,
    ) -> RunResult:
        recorder = self.recorder(sink, chunk_rows=chunk_rows)
        return recorder.result(
            self.cluster_account(),
            scenario=TextScenario(),
            provenance={"version": "0", "seed": 0},
            options=options or SummaryOptions(),
            host=host,
        )

    def copy(self) -> TinyRun:
        return copy.deepcopy(self)


def _plain() -> TinyRun:
    """Two requests are served in steps of half a second, a third is too long to be served.

    0.0-0.5 prefill of request 0; 0.5-1.0 it decodes beside the prefill of request 1; 1.0-1.5 both finish.
    """
    return TinyRun(
        arrivals=[
            {"arrival_s": 0.0, "prompt_tokens": 10, "output_tokens": 3, "tenant": "ann", "slo_class": "chat"},
            {
                "arrival_s": 0.25,
                "prompt_tokens": 20,
                "output_tokens": 2,
                "tenant": "bob",
                "session": "s",
                "priority": 7,
            },
            {
                "arrival_s": 1.0,
                "prompt_tokens": 1000,
                "output_tokens": 2,
                "tenant": "bob",
                "slo_class": "chat",
            },
        ],
        outcomes=[  # in the order of finishing
            {"request_id": 2, "state": "rejected", "finish_reason": "prompt_too_long"},
            {
                "request_id": 1,
                "scheduled_s": 0.5,
                "first_token_s": 1.0,
                "finished_s": 1.5,
                "output_tokens": 2,
                "state": "completed",
                "finish_reason": "stop",
            },
            {
                "request_id": 0,
                "scheduled_s": 0.0,
                "first_token_s": 0.5,
                "finished_s": 1.5,
                "output_tokens": 3,
                "state": "completed",
                "finish_reason": "stop",
            },
        ],
        segments=[
            {"start_s": 0.0, "step_s": 0.5, "prefill_tokens": 10, "prefill_sequences": 1},
            {
                "start_s": 0.5,
                "step_s": 0.5,
                "sequences": 1,
                "context_tokens": 11,
                "prefill_tokens": 20,
                "prefill_sequences": 1,
            },
            {"start_s": 1.0, "step_s": 0.5, "sequences": 2, "context_tokens": 33},
        ],
        events=[{"time_s": 1.0, "kind": "rejected", "request_id": 2}],
        account={"end_s": 1.5, "arrived": 3, "system_area_s": 2.75},
        replica={
            "queue_area_s": 0.25,
            "batch_area_s": 2.5,
            "enqueued": 2,
            "completed": 2,
            "rejected": 1,
            "output_tokens": 5,
            "steps": 3,
            "busy_s": 1.5,
            "kv_blocks_used_max": 3,
        },
        samples=[
            {"time_s": 0.0, "replica": 0, "waiting_requests": 1},
            {
                "time_s": 1.0,
                "replica": 0,
                "running_requests": 2,
                "running_tokens": 33,
                "kv_blocks_used": 3,
                "busy_s": 1.0,
            },
        ],
    )


def _preempted() -> TinyRun:
    """Two requests start together; the second is preempted at 3 s with 3 tokens until the first is done.

    0-1 both prefill; 1-3 both decode two steps; 3-6.75 request 0 decodes three steps of 1, 1.25 and 1.5 s;
    6.75-7.75 request 1 prefills its 4 prompt and 3 emitted tokens; 7.75-8.75 it decodes.
    """
    return TinyRun(
        arrivals=[
            {"arrival_s": 0.0, "prompt_tokens": 4, "output_tokens": 6},
            {"arrival_s": 0.0, "prompt_tokens": 4, "output_tokens": 5},
        ],
        outcomes=[
            {
                "request_id": 0,
                "scheduled_s": 0.0,
                "first_token_s": 1.0,
                "finished_s": 6.75,
                "output_tokens": 6,
                "state": "completed",
                "finish_reason": "stop",
            },
            {
                "request_id": 1,
                "scheduled_s": 0.0,
                "first_token_s": 1.0,
                "finished_s": 8.75,
                "output_tokens": 5,
                "preemptions": 1,
                "state": "completed",
                "finish_reason": "stop",
            },
        ],
        segments=[
            {"start_s": 0.0, "prefill_tokens": 8, "prefill_sequences": 2},
            {"start_s": 1.0, "steps": 2, "sequences": 2, "context_tokens": 10},
            {"start_s": 3.0, "steps": 3, "growth_s": 0.25, "sequences": 1, "context_tokens": 7},
            {"start_s": 6.75, "prefill_tokens": 7, "prefill_sequences": 1},
            {"start_s": 7.75, "sequences": 1, "context_tokens": 8},
        ],
        events=[
            {"time_s": 3.0, "kind": "preempted", "request_id": 1, "output_tokens": 3},
            {"time_s": 6.75, "kind": "readmitted", "request_id": 1, "output_tokens": 3},
            {"time_s": 7.75, "kind": "resumed", "request_id": 1, "output_tokens": 4},
        ],
        account={"end_s": 8.75, "arrived": 2, "system_area_s": 15.5},
        replica={
            "queue_area_s": 3.75,
            "batch_area_s": 11.75,
            "enqueued": 2,
            "completed": 2,
            "preemptions": 1,
            "output_tokens": 11,
            "steps": 8,
            "busy_s": 8.75,
            "kv_blocks_used_max": 2,
        },
    )


def _unfinished() -> TinyRun:
    """The preempted run, stopped at 5 s: request 0 has 4 tokens and computes, request 1 has 3 and waits.

    A third request arrives at 4 s and is never scheduled.
    """
    run = _preempted()
    run.arrivals.append({"arrival_s": 4.0, "prompt_tokens": 4, "output_tokens": 1})
    for outcome, tokens in zip(run.outcomes, (4, 3), strict=True):
        outcome |= {
            "finished_s": NEVER,
            "output_tokens": tokens,
            "state": "unfinished",
            "finish_reason": None,
        }
    run.outcomes.append({"request_id": 2, "state": "unfinished"})
    run.segments = run.segments[:3]
    run.segments[2]["steps"] = 1
    run.events = run.events[:1]
    run.account = {"end_s": 5.0, "arrived": 3, "system_area_s": 11.0}
    run.replica |= {
        "queue_area_s": 3.0,
        "batch_area_s": 8.0,
        "enqueued": 3,
        "completed": 0,
        "output_tokens": 7,
        "steps": 4,
        "busy_s": 4.0,
        "kv_blocks_used": 1,
        "waiting": 2,
        "running": 1,
    }
    return run


@pytest.fixture
def plain() -> TinyRun:
    """Return a run of three requests, one rejected."""
    return _plain()


@pytest.fixture
def preempted() -> TinyRun:
    """Return a run with a preemption."""
    return _preempted()


@pytest.fixture
def unfinished() -> TinyRun:
    """Return a run that ended before its requests."""
    return _unfinished()
