"""A second, naive engine: one replica, one loop turn per step, blocks counted per sequence, no closed form.

It is written from the description of the engine's semantics alone and shares no code with the kernel, so that
the two can be held against each other. With step times that are sums of powers of two its clock is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from servesim.cluster.engine import Engine
from servesim.latency.api import BatchShape


@dataclass(eq=False)
class Sequence_:
    """A request and where it stands."""

    request_id: int
    arrival_s: float
    prompt: int
    target: int
    rank: tuple[float, int]
    in_cache: int = 0
    to_prefill: int = 0
    emitted: int = 0
    preemptions: int = 0
    scheduled_s: float | None = None
    first_token_s: float | None = None
    finished_s: float | None = None
    token_times_s: list[float] = field(default_factory=list)
    decode_steps: int = 0
    joined_with: int = 0
    joined_steps: int = 0


def blocks(tokens: int, settings: Engine) -> int:
    """Return the blocks that *tokens* tokens take."""
    return (tokens + settings.kv_block_tokens - 1) // settings.kv_block_tokens


def decodes(s: Sequence_) -> bool:
    """Return whether a running sequence decodes (its prefill is complete)."""
    return s.in_cache >= s.to_prefill


def simulate(
    requests: list[tuple[float, int, int, int]],
    settings: Engine,
    price: Callable[[BatchShape], tuple[float, float, int]],
    *,
    by_priority: bool,
    steps_of: Callable[[int, int], int] | None = None,
) -> list[Sequence_]:
    """Serve (arrival_s, prompt, output, priority) requests and return their sequences, rejected ones too.

    *steps_of* tells in how many decode steps a request emits a number of tokens; None: one in each.
    """
    everyone = [
        Sequence_(
            i,
            arrival,
            prompt,
            min(output, settings.context_limit - prompt),
            (float(priority) if by_priority else arrival, i),
            to_prefill=prompt,
        )
        for i, (arrival, prompt, output, priority) in enumerate(requests)
    ]
    future = [s for s in everyone if s.target >= 1]
    waiting: list[Sequence_] = []
    running: list[Sequence_] = []
    now = began = 0.0
    while future or waiting or running:
        seen = began if settings.async_scheduling else now
        if not waiting and not running and future[0].arrival_s > seen:
            seen = now = max(now, future[0].arrival_s)
        while future and future[0].arrival_s <= seen:
            waiting.append(future.pop(0))
        waiting.sort(key=lambda s: s.rank)
        began = now
        now += one_step(now, waiting, running, settings, price, steps_of)
        for s in running:
            while s.emitted > len(s.token_times_s):
                s.token_times_s.append(now)
            if s.finished_s is None and s.emitted == s.target:
                s.finished_s = now
            if s.first_token_s is None and s.emitted:
                s.first_token_s = now
        running[:] = [s for s in running if s.finished_s is None]
    return everyone


def decode(s: Sequence_, steps_of: Callable[[int, int], int] | None) -> int:
    """Count a decode step and return how many tokens it emits: those that are left, spread evenly over its steps."""
    s.decode_steps += 1
    s.joined_steps += 1
    if steps_of is None:
        return 1
    left, all_ = s.target - s.joined_with, s.target - 1
    steps = math.ceil(Fraction(left * steps_of(s.request_id, all_), all_))
    return math.floor(Fraction(left * s.joined_steps, steps)) - (s.emitted - s.joined_with)


def one_step(
    now: float,
    waiting: list[Sequence_],
    running: list[Sequence_],
    settings: Engine,
    price: Callable[[BatchShape], tuple[float, float, int]],
    steps_of: Callable[[int, int], int] | None,
) -> float:
    """Compose one engine step, apply its effect, and return how long it takes."""
    budget = settings.max_num_batched_tokens
    work: list[tuple[Sequence_, int]] = []
    preempted = False

    def needed(s: Sequence_, n: int) -> int:
        slots = settings.slot_tokens if decodes(s) else n
        return blocks(s.in_cache + slots, settings) - blocks(s.in_cache, settings)

    def free() -> int:
        taken = sum(blocks(s.in_cache, settings) for s in running)
        promised = sum(needed(s, n) for s, n in work)
        return settings.kv_blocks - taken - promised

    def admit() -> None:
        nonlocal budget
        while waiting and budget > 0 and len(running) < settings.max_num_seqs:
            s = waiting[0]
            n = min(s.to_prefill, budget)
            if n < s.to_prefill and not settings.chunked_prefill:
                return
            if blocks(n, settings) > free() - (settings.watermark_blocks if running else 0):
                return
            waiting.pop(0)
            running.append(s)
            work.append((s, n))
            budget -= n
            if s.scheduled_s is None:
                s.scheduled_s = now

    if settings.prefill_only_steps:
        admit()
    if not work:
        for s in [r for r in running if decodes(r)] + [r for r in running if not decodes(r)]:
            while s in running:
                left = budget - sum(m for _, m in work)
                n = settings.step_tokens if decodes(s) else min(s.to_prefill - s.in_cache, left)
                if needed(s, n) <= free():
                    work.append((s, n))
                    break
                victim = max(running, key=lambda r: r.rank)
                running.remove(victim)
                work[:] = [(r, m) for r, m in work if r is not victim]
                victim.in_cache, victim.to_prefill = 0, victim.prompt + victim.emitted
                victim.preemptions += 1
                waiting.append(victim)
                waiting.sort(key=lambda r: r.rank)
                preempted = True
        budget -= sum(n for _, n in work)
        if not preempted and not settings.prefill_only_steps:
            admit()
    contexts = [s.in_cache + 1 for s, _ in work if decodes(s)]
    chunks = [(n, s.in_cache) for s, n in work if not decodes(s)]
    step_s = price(BatchShape(len(contexts), sum(contexts), chunks))[0]
    for s, n in work:
        if decodes(s):
            gained = decode(s, steps_of)
            s.in_cache += gained
            s.emitted += gained
            s.to_prefill = s.in_cache
        else:
            s.in_cache += n
            if s.in_cache == s.to_prefill:
                s.emitted += 1
                s.joined_with, s.joined_steps = s.emitted, 0
    return step_s
