"""A cluster without files: hand-written requests in, structured arrays of packed rows out."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from servesim.catalog import FrontEndCosts
from servesim.cluster.arrivals import Group
from servesim.cluster.closed_loop import OPEN, Loop
from servesim.cluster.closing import close
from servesim.cluster.engine import Engine
from servesim.cluster.front_end import FrontEnd
from servesim.cluster.records import (
    EVENT,
    EVENT_KINDS,
    FINISH_REASONS,
    FRONT_END,
    OUTCOME,
    SEGMENT,
    SPECULATION,
    STATES,
    ReplicaAccount,
)
from servesim.cluster.replica import Replica
from servesim.cluster.replicas import new_replica
from servesim.cluster.system import System
from servesim.latency.api import UNLIMITED_STEPS, BatchShape
from servesim.policies.api import PolicyContext, Router, Scheduler
from servesim.policies.routers import RoundRobin
from servesim.policies.schedulers import FirstComeFirstServed
from servesim.workload.schema import SCHEMA


@dataclass(frozen=True)
class Linear:
    """Step time = base + per_context * context + per_token * chunk + per_pair * pairs attended before."""

    base_s: float = 1.0
    per_context_s: float = 0.0
    per_token_s: float = 0.0
    per_pair_s: float = 0.0
    valid_steps: int = UNLIMITED_STEPS

    def reset(self, context: Any) -> None:
        """Keep no state."""

    def price(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return the price; see the class."""
        first = self.base_s + self.per_context_s * batch.context_tokens
        growth = self.per_context_s * batch.sequences
        for tokens, start in batch.chunks:
            first += self.per_token_s * tokens + self.per_pair_s * tokens * start
            growth += self.per_pair_s * tokens * tokens
        return first, growth, self.valid_steps


@dataclass
class Buffers:
    """A recorder that keeps the rows."""

    frames: list[pl.DataFrame] = field(default_factory=list)
    outcomes: bytearray = field(default_factory=bytearray)
    segments: bytearray = field(default_factory=bytearray)
    events: bytearray = field(default_factory=bytearray)
    samples: bytearray = field(default_factory=bytearray)
    visibles: bytearray = field(default_factory=bytearray)
    front_ends: bytearray = field(default_factory=bytearray)
    speculations: bytearray = field(default_factory=bytearray)

    def arrivals(self, frame: pl.DataFrame) -> None:
        """Keep the frame."""
        self.frames.append(frame)

    def tick(self) -> None:
        """Keep everything."""


@dataclass(frozen=True)
class Run:
    """What came out: rows as structured arrays (outcomes by request), accounts, the replicas themselves.

    ``arrived`` has the requests as they arrived, in this order.
    """

    arrived: pl.DataFrame

    outcomes: np.ndarray
    segments: np.ndarray
    events: np.ndarray
    accounts: list[ReplicaAccount]
    replicas: list[Replica]
    end_s: float
    front_ends: np.ndarray
    speculations: np.ndarray

    def times(self, name: str) -> list[float | None]:
        """Return a column of times by request, None where it has not happened."""
        return [None if np.isnan(value) else float(value) for value in self.outcomes[name]]

    def states(self) -> list[str]:
        """Return the states by request."""
        return [STATES[state] for state in self.outcomes["state"]]

    def reasons(self) -> list[str | None]:
        """Return the finish reasons by request."""
        return [None if reason < 0 else FINISH_REASONS[reason] for reason in self.outcomes["finish_reason"]]

    def happenings(self) -> list[tuple[float, str, int]]:
        """Return the events as (time, kind, request)."""
        return [
            (float(row["time_s"]), EVENT_KINDS[row["kind"]], int(row["request_id"])) for row in self.events
        ]


def engine(**settings: Any) -> Engine:
    """Return an engine, by default large enough to be out of the way."""
    defaults = {
        "max_num_seqs": 256,
        "max_num_batched_tokens": 2048,
        "kv_block_tokens": 16,
        "kv_blocks": 100_000,
        "context_limit": None,
    }
    merged = {**defaults, **settings}
    if merged["context_limit"] is None:
        merged["context_limit"] = merged["kv_blocks"] * merged["kv_block_tokens"] + 1
    return Engine(**merged)


def frame(requests: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    """Return a workload frame of (arrival_s, prompt_tokens, output_tokens[, priority[, session, think_s]])."""
    rows = [(*row, *(0, None, None)[len(row) - 3 :]) for row in requests]
    columns: dict[str, Any] = {
        "arrival_s": [float(row[0]) for row in rows],
        "prompt_tokens": [row[1] for row in rows],
        "output_tokens": [row[2] for row in rows],
        "priority": [row[3] for row in rows],
        "session": [row[4] for row in rows],
        "think_s": [row[5] for row in rows],
    }
    return pl.DataFrame(
        {name: columns.get(name, [None] * len(rows)) for name in SCHEMA}, schema=dict(SCHEMA), strict=False
    )


def run(
    requests: Sequence[tuple[Any, ...]],
    *,
    settings: Engine | None = None,
    latency: Any = None,
    replicas: int = 1,
    router: Router | None = None,
    scheduler: Scheduler | None = None,
    stop_s: float | None = None,
    loop: Loop = OPEN,
    horizon_s: float | None = None,
    front_end: FrontEndCosts | None = None,
    ahead: bool = True,
) -> Run:
    """Simulate *requests* and return the rows; *ahead* False has front ends hand over by events only."""
    buffers = Buffers()
    system = System(buffers)
    settings = settings or engine()
    latency = latency or Linear()
    scheduler = scheduler or FirstComeFirstServed()
    scheduler.reset(PolicyContext(seed=0, name="scheduler"))
    router = router or RoundRobin()
    router.reset(PolicyContext(seed=0, name="router"))
    load = array("q", [0] * replicas)
    accounts = [ReplicaAccount(i, "main", kv_blocks=settings.kv_blocks) for i in range(replicas)]
    members = [
        new_replica(
            settings,
            seed=0,
            latency=latency,
            scheduler=scheduler,
            system=system,
            account=account,
            load=load,
            position=account.replica,
        )
        for account in accounts
    ]
    front_ends = [] if front_end is None else [FrontEnd(front_end, member, system) for member in members]
    for entrance in front_ends:
        entrance._ahead = entrance._ahead and ahead
    group = Group("model", members, load, router, entrances=front_ends or None)
    arrivals = loop.arrivals(
        iter([frame(requests)]), [group], system=system, recorder=buffers, horizon_s=horizon_s
    )
    if stop_s is not None:
        system.clock.stop_at(stop_s)
    arrivals.start()
    stopped = system.clock.run_until_stopped()
    ends_s = [
        *(member.idle_since_s for member in members),
        *(entrance.idle_since_s() for entrance in front_ends),
    ]
    end_s = system.clock.now if stopped else max([arrivals.last_s, *ends_s])
    arrivals.hand_over()
    for entrance in front_ends:
        entrance.close(end_s)
    for member in members:
        close(member, end_s)
    outcomes = np.frombuffer(bytes(buffers.outcomes), OUTCOME.dtype)
    return Run(
        arrived=pl.concat([frame([]), *buffers.frames]),
        outcomes=outcomes[np.argsort(outcomes["request_id"], kind="stable")],
        segments=np.frombuffer(bytes(buffers.segments), SEGMENT.dtype),
        events=np.frombuffer(bytes(buffers.events), EVENT.dtype),
        accounts=accounts,
        replicas=members,
        end_s=end_s,
        front_ends=np.frombuffer(bytes(buffers.front_ends), FRONT_END.dtype),
        speculations=np.frombuffer(bytes(buffers.speculations), SPECULATION.dtype),
    )
