"""What a running cluster hands out: packed rows, written by the hot path and read by `servesim.results`.

Rows are packed into byte buffers because a buffer costs one append per row, holds no Python objects, and turns into
columns without a copy. The names, types and order of a row's fields are declared once, here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import polars as pl

FLUSH_BYTES = 4 << 20
"""A buffer of rows is emptied when it holds more than this."""

STATES = ("completed", "rejected", "unfinished")
FINISH_REASONS = ("stop", "length", "prompt_too_long")
EVENT_KINDS = ("preempted", "readmitted", "resumed", "rejected")


@dataclass(frozen=True)
class RowFormat:
    """Fields of a packed row: name to `struct` code, in order."""

    fields: dict[str, str]
    dtype: np.dtype[np.void] = field(init=False)
    pack: struct.Struct = field(init=False)

    def __post_init__(self) -> None:
        codes = {"d": "<f8", "q": "<i8", "i": "<i4", "b": "<i1"}
        object.__setattr__(
            self, "dtype", np.dtype([(name, codes[code]) for name, code in self.fields.items()])
        )
        object.__setattr__(self, "pack", struct.Struct("<" + "".join(self.fields.values())))


OUTCOME = RowFormat(
    {
        "request_id": "q",
        "replica": "i",  # -1: reached none
        "scheduled_s": "d",  # NaN: has not happened, also below
        "first_token_s": "d",
        "finished_s": "d",
        "output_tokens": "i",  # emitted so far
        "preemptions": "i",
        "state": "b",  # index into STATES
        "finish_reason": "b",  # index into FINISH_REASONS, -1: none
    }
)
"""One row per request, when it leaves the system or the run ends."""

SEGMENT = RowFormat(
    {
        "replica": "i",
        "start_s": "d",  # t0: boundary k of the segment is at start_s + (k * step_s + growth_s * (k * (k - 1) * 0.5))
        "step_s": "d",
        "growth_s": "d",
        "steps": "i",
        "sequences": "i",  # that decode one token in each step
        "context_tokens": "q",  # attended by them in the first step; each step attends `sequences` more
        "prefill_tokens": "i",  # computed in each step
        "prefill_sequences": "i",
    }
)
"""One row per run of identical steps of a replica, when it ends."""

EVENT = RowFormat({"time_s": "d", "kind": "b", "request_id": "q", "replica": "i", "output_tokens": "i"})
"""Rare happenings. ``kind`` indexes EVENT_KINDS; ``output_tokens`` is what the request had emitted by then
(for ``resumed``: including the token that the step ending at ``time_s`` emitted)."""

VISIBLE = RowFormat({"request_id": "q", "visible_s": "d"})
"""When a request that reasons first emits a token that the user sees; written before its outcome."""

FRONT_END = RowFormat({"request_id": "q", "enqueued_s": "d", "stream_s": "d"})
"""When a request leaves its front end for the engine's queue, and how long its tokens take to the client; written when
it arrives, for replicas that have a front end. A later row, with NaN, says that the run ended before."""

SPECULATION = RowFormat(
    {"request_id": "q", "decode_steps": "i", "decode_steps_drawn": "i", "decode_tokens_drawn": "i"}
)
"""In how many decode steps a request's tokens came, in how many they were to come, and how many tokens; written before
its outcome, for replicas that decode speculatively."""

SAMPLE = RowFormat(
    {
        "time_s": "d",
        "replica": "i",
        "waiting_requests": "i",
        "running_requests": "i",
        "running_tokens": "q",
        "kv_blocks_used": "i",
        "busy_s": "d",  # time worked since the start of the run
    }
)
"""State of a replica at a sampling time."""


@dataclass(slots=True)
class ReplicaAccount:
    """What a replica counted by itself, for the audits: independent of the rows above.

    Attributes
    ----------
    queue_area_s, batch_area_s
        Integral over the run of the number of requests in the queue and in the batch.
    enqueued, completed, rejected, preemptions
        Requests that reached it, left it finished, were refused by it; times that it preempted.
    output_tokens
        Tokens that it emitted.
    steps, busy_s
        Engine steps and the time they took.
    kv_blocks, kv_blocks_used, kv_blocks_used_max
        Blocks there are; taken at the end of the run; most taken at once.
    waiting, running
        Requests in the queue and in the batch at the end of the run.
    front_end_area_s, front_end_requests
        Integral of the number of requests in its front end, and that number at the end of the run.
    """

    replica: int
    pool: str
    queue_area_s: float = 0.0
    batch_area_s: float = 0.0
    enqueued: int = 0
    completed: int = 0
    rejected: int = 0
    preemptions: int = 0
    output_tokens: int = 0
    steps: int = 0
    busy_s: float = 0.0
    kv_blocks: int = 0
    kv_blocks_used: int = 0
    kv_blocks_used_max: int = 0
    waiting: int = 0
    running: int = 0
    front_end_area_s: float = 0.0
    front_end_requests: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterAccount:
    """What the cluster counted: the other half of every audit.

    Attributes
    ----------
    end_s
        Simulated time at which the run ended.
    arrived
        Requests that entered.
    system_area_s
        Integral over the run of the number of requests in the system.
    interrupted
        Whether the user stopped the run before its end.
    follow_ups_not_sent
        Follow-ups of the sessions read that had not arrived by the end; None for a workload that has none.
    replicas
        One account per replica, in order.
    """

    end_s: float
    arrived: int
    system_area_s: float
    interrupted: bool
    replicas: list[ReplicaAccount]
    follow_ups_not_sent: int | None = None


class Recorder(Protocol):
    """Where the rows go. The cluster appends packed rows to the seven buffers and never reads them.

    The recorder empties the buffers in `arrivals`, which the cluster calls once per frame of requests, and in `tick`,
    which it calls at sampling times; it must empty them in place (``del buffer[:]``). It reads outcomes in a tick only
    when they are more than `FLUSH_BYTES`: every request that has one has then been handed over.
    """

    outcomes: bytearray
    segments: bytearray
    events: bytearray
    samples: bytearray
    visibles: bytearray
    front_ends: bytearray
    speculations: bytearray

    def arrivals(self, frame: pl.DataFrame) -> None:
        """Take over requests that are about to arrive, or have arrived; ids count on from the last frame's."""

    def tick(self) -> None:
        """Empty the buffers if they have grown large."""
