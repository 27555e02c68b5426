"""One replica of a model: continuous batching over a paged KV cache, leaping from one change of the batch to the next.

This is the hot path of the program. A replica wakes up at step boundaries only. `_boundary` books the steps since the
last one, lets finished requests go and hands over to `_plan`, which decides what the next step works on (preemption,
the prompt in progress, admission: vLLM V1's order) and when to wake up next. While the batch keeps its composition the
steps form a *segment*, priced once; `engine.leap: false` wakes up after every step of it and is otherwise the same
code. docs/how-it-works.md tells the idea, `leap` has the closed forms, `views` what routers may see, `closing` what is
left when a run ends.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf, nextafter
from typing import cast

from servesim.cluster.clock import STEP_END, Clock, Wakeup
from servesim.cluster.engine import Engine
from servesim.cluster.hidden import HiddenRequests
from servesim.cluster.leap import boundary_s, most_steps, steps_until
from servesim.cluster.paged_memory import PagedMemory
from servesim.cluster.plugin_errors import bad_price, failed, sort_key
from servesim.cluster.queues import queue_for
from servesim.cluster.records import (
    EVENT,
    EVENT_KINDS,
    FINISH_REASONS,
    OUTCOME,
    SEGMENT,
    STATES,
    ReplicaAccount,
)
from servesim.cluster.request import Request, RichRequest
from servesim.cluster.system import System
from servesim.errors import InvariantError
from servesim.latency.api import BatchShape, LatencyModel
from servesim.policies.api import RequestView, Scheduler
from servesim.policies.schedulers import FirstComeFirstServed

PACK_OUTCOME, PACK_SEGMENT = OUTCOME.pack.pack, SEGMENT.pack.pack
NO_CHUNKS: list[tuple[int, int]] = []
NEVER = float("nan")
IDLE = -inf
COMPLETED, REJECTED, UNFINISHED = map(STATES.index, ("completed", "rejected", "unfinished"))
STOP, LENGTH, PROMPT_TOO_LONG = map(FINISH_REASONS.index, ("stop", "length", "prompt_too_long"))
PREEMPTED, READMITTED, RESUMED, REFUSED = map(
    EVENT_KINDS.index, ("preempted", "readmitted", "resumed", "rejected")
)


class Replica(PagedMemory):
    """A replica of one pool.

    Parameters
    ----------
    engine
        Its settings, resolved.
    latency
        Prices its steps; reset already.
    scheduler
        Orders its queue; reset already.
    system
        The cluster's clock, buffers and population.
    account
        Names the replica and its pool; filled in when the run ends.
    load
        Requests per replica of its group, counted when they are routed; it takes those that leave it off number
        *position*.
    """

    # fmt: off
    __slots__ = (
        "account", "batch", "batch_area_s", "block_tokens", "by_residue", "capacity_tokens", "clock", "completed",
        "context_limit", "context_tokens", "decode_step", "decoding", "done", "encoder_tokens", "engine", "expected",
        "expected_area_s", "expected_s", "first_come_first_served", "growth_s", "hidden", "idle_s", "idle_since_s",
        "index", "late", "latency", "leap", "limit", "load", "on_leave", "output_tokens", "planned", "position",
        "prefill_blocks", "prefilling", "price", "priority", "queue", "queue_area_s", "reserve_tokens", "running",
        "scheduler", "start_s", "step_blocks", "step_s", "step_tokens", "steps", "system", "waiting_tokens", "wake_s",
        "wakeup",
    )
    # fmt: on

    def __init__(
        self,
        engine: Engine,
        *,
        latency: LatencyModel,
        scheduler: Scheduler,
        system: System,
        account: ReplicaAccount,
        load: array[int],
        position: int,
    ) -> None:
        self.engine = engine
        self.latency, self.price = latency, latency.price
        self.leap, self.context_limit = engine.leap, engine.context_limit
        self.scheduler = scheduler
        self.first_come_first_served = type(scheduler) is FirstComeFirstServed
        self.system = system
        self.clock: Clock = system.clock
        self.account, self.index = account, account.replica
        self.load, self.position = load, position
        self.on_leave: Callable[[Request, float], None] | None = None  # hears of who finished or was rejected

        self.wakeup = Wakeup(self._boundary)
        self.wake_s = IDLE  # when the next boundary is due
        self.priority = STEP_END + account.replica

        self.queue = queue_for(scheduler)
        # Arrivals that the step in flight was scheduled without, and so is the next one: asynchronous scheduling.
        self.late: deque[tuple[float, Request]] | None = deque() if engine.async_scheduling else None
        self.expected: Request | None = None  # the last one that was put into the queue ahead of time
        # When it joins the queue (-inf: it has, by a boundary), and queue_area_s without it.
        self.expected_s, self.expected_area_s = -inf, 0.0
        self.waiting_tokens = 0
        self.running: dict[Request, None] = {}  # in order of admission
        self.prefilling: list[Request] = []  # whose prompts the segment works on, in the order of its chunks
        self.decoding: list[tuple[int, int, Request]] = []  # heap by finish_step
        self.hidden = HiddenRequests(system)  # decoding, but nothing that the user sees
        self.decode_step = 0
        self.context_tokens = 0  # in the KV cache, of the decoding requests
        self.block_tokens = engine.kv_block_tokens
        self.step_tokens = engine.step_tokens  # that a step computes for each decoding request
        # Enough for the next step of one of them, on top of its context.
        self.reserve_tokens = self.block_tokens + engine.slot_tokens - 1
        self.by_residue = [0] * engine.kv_block_tokens  # decoding requests, as in leap.blocks_held
        self.prefill_blocks = 0  # held by requests that prefill
        self.step_blocks = engine.step_blocks
        self.capacity_tokens = engine.kv_blocks * engine.kv_block_tokens
        self.kv_blocks_used_max = 0

        self.batch = BatchShape()  # of the segment
        self.encoder_tokens = 0  # of the prompts that were admitted for the next step
        self.start_s = self.step_s = self.growth_s = 0.0
        self.limit = 0  # steps that the segment may have at most
        self.done = 0  # steps of it that are booked
        self.planned = 0  # steps of it after which the replica wakes up

        # Integrals of queue and batch size: the times at which requests left, minus those at which they came.
        self.queue_area_s = self.batch_area_s = 0.0
        self.completed = self.output_tokens = self.steps = 0
        self.idle_s = self.idle_since_s = 0.0

    # -- arrivals ---------------------------------------------------------------------------------------------------

    def enqueue(self, request: Request, now: float) -> None:
        """Take a request into the queue, or reject it when its prompt can never fit."""
        room = self.context_limit - request.prompt_tokens
        if room < request.target_tokens:
            if room < 1:
                self._reject(request, now)
                return
            request.target_tokens = room
        if not self.first_come_first_served:
            request.key = sort_key(self.scheduler, RequestView(request))
        self.queue_area_s -= now
        self.waiting_tokens += request.prompt_tokens
        late, ahead = self.late, self.planned - self.done
        if late is None or not ahead:  # it misses no step
            if self.queue.push(request) and ahead > 1:
                self._cut(now)
        elif (self.first_come_first_served and (self.queue or late)) or ahead == 1 or not self._cut(now):
            late.append((nextafter(now, inf) if self.system.step_ends_over else now, request))
        else:  # the leap goes on for a step that is not scheduled yet
            self.queue.push(request)
        if self.wake_s == IDLE:
            self.idle_s += now - self.idle_since_s
            self.wake_s = now
            self.clock.wake(self.wakeup, now, self.priority)

    def expect(self, request: Request, time_s: float) -> None:
        """Take a request into the queue ahead of time: it is the next to join, at *time_s*, before the next boundary.

        Nothing that the replica does can come between; `views` and `closing` leave it out until then.
        """
        self.expected, self.expected_s, self.expected_area_s = request, time_s, self.queue_area_s
        self.enqueue(request, time_s)

    def expects(self, now: float) -> bool:
        """Return whether a request is in the queue ahead of time; who joins at *now* does so after arrivals."""
        return self.expected_s >= now

    def _cut(self, now: float) -> bool:
        """Wake up when an arrival may be admitted instead of at the end of the leap.

        That is at the end of the step in flight, or of the one after it, which is scheduled already. Return whether the
        leap goes on until then; False where chunks go on or no seat is free.
        """
        if self.batch.chunks or len(self.running) >= self.engine.max_num_seqs:
            return False
        if self.system.step_ends_over:  # a step that ends now is not in flight any more
            now = nextafter(now, inf)
        steps = steps_until(now, self.start_s, self.step_s, self.growth_s)
        if steps <= self.done:
            steps = self.done + 1
        if self.late is not None:
            steps += 1
        if steps < self.planned:
            self.planned = steps
            self.wake_s = wake_s = boundary_s(self.start_s, self.step_s, self.growth_s, steps)
            self.clock.wake(self.wakeup, wake_s, self.priority)
        return steps <= self.planned

    def _settle(self, time_s: float) -> bool:
        """Take arrivals up to *time_s* into the queue, and return whether one of them is now the first."""
        late, is_first = self.late, False
        while late and late[0][0] <= time_s:
            is_first = self.queue.push(late.popleft()[1]) or is_first
        return is_first

    def waiting(self) -> list[Request]:
        """Return the requests that wait, in no order."""
        return [*self.queue, *(request for _, request in self.late or ())]

    # -- the boundary of a step -------------------------------------------------------------------------------------

    def _boundary(self, now: float) -> float | None:
        """Book the steps since the last boundary, let requests go that are finished, and plan on.

        Return the time of the next boundary, or None for a replica that is idle or was woken up for nothing.
        """
        if now != self.wake_s:  # a cut brought the wake-up forward
            return None
        self.expected_s = -inf
        changed = False
        planned = self.planned
        steps = planned - self.done
        if steps:
            self.done = planned
            sequences = self.batch.sequences
            if sequences:
                self.decode_step = decode_step = self.decode_step + steps
                self.context_tokens += sequences * steps
            if self.prefilling:
                self.book_prefills(steps)
            if self.hidden:
                self.hidden.reveal(self.decode_step, now)
            if sequences and self.decoding[0][0] == decode_step:
                self._finish_decodes(now)
                changed = True
            if self.prefilling and self._finish_prefills(now):
                changed = True
            if self.late:  # who came before the last step began, which a leap may have passed over
                self._settle(boundary_s(self.start_s, self.step_s, self.growth_s, planned - 1))
        return self._plan(now, changed)

    def book_prefills(self, steps: int) -> None:
        """Book *steps* more chunks of every prompt in progress."""
        block_tokens = self.block_tokens
        for request, (chunk, _) in zip(self.prefilling, self.batch.chunks):  # noqa: B905 (strict= costs)
            before = request.computed_tokens
            request.computed_tokens = after = before + chunk * steps
            self.prefill_blocks += -(-after // block_tokens) + (-before // block_tokens)

    def _finish_prefills(self, now: float) -> bool:
        """Emit a token for every prompt that is complete and return whether there was one."""
        prefilling = self.prefilling
        self.prefilling = unfinished = []
        for request in prefilling:
            if request.computed_tokens < request.prefill_tokens:
                unfinished.append(request)
                continue
            request.emitted_tokens += 1
            if request.first_token_s is None:
                request.first_token_s = now
            else:
                self._event(RESUMED, request, now)
            if request.reasoning_tokens:
                self.hidden.emitted(cast("RichRequest", request), self.decode_step, now)
            if request.emitted_tokens == request.target_tokens:
                self.note_peak()
                self.prefill_blocks += -request.computed_tokens // self.block_tokens
                self._leave(request, now)
            else:
                self._join_decoding(request)
        return len(unfinished) < len(prefilling)

    def _join_decoding(self, request: Request) -> None:
        context, step, block_tokens = request.computed_tokens, self.decode_step, self.block_tokens
        self.prefill_blocks += -context // block_tokens
        request.context_offset = context - step
        request.finish_step = finish_step = step + request.target_tokens - request.emitted_tokens
        request.residue = residue = (step - context) % block_tokens
        self.by_residue[residue] += 1
        self.context_tokens += context
        heappush(self.decoding, (finish_step, request.request_id, request))

    def _finish_decodes(self, now: float) -> None:
        """Let the decoding requests go that have emitted all their tokens."""
        self.note_peak()
        decoding, step = self.decoding, self.decode_step
        while decoding and decoding[0][0] == step:
            request = heappop(decoding)[2]
            self.by_residue[request.residue] -= 1
            self.context_tokens -= request.context_offset + step
            self._leave(request, now)

    def _leave(self, request: Request, now: float) -> None:
        """Let a finished request go."""
        del self.running[request]
        self.batch_area_s += now
        self.completed += 1
        target_tokens = request.target_tokens
        self.output_tokens += target_tokens
        self.load[self.position] -= 1
        self.system.outcomes += PACK_OUTCOME(
            request.request_id,
            self.index,
            request.scheduled_s,
            request.first_token_s,
            now,
            target_tokens,
            request.preemptions,
            COMPLETED,
            STOP if target_tokens == request.output_tokens else LENGTH,
        )
        if self.on_leave is not None:
            self.on_leave(request, now)

    # -- what to do next --------------------------------------------------------------------------------------------

    def _plan(self, now: float, changed: bool) -> float | None:
        """Choose the work of the next step and how many steps to leap, and return when they end.

        *changed* says that the batch is not what it was.
        """
        decoding = self.decoding
        sequences = len(decoding)
        # What is left of memory when every sequence takes one more block: nothing can run short before that is used.
        room_tokens = self.capacity_tokens - self.context_tokens - sequences * self.reserve_tokens
        chunks, preempted = NO_CHUNKS, False
        if self.queue or self.prefilling or room_tokens < 0:
            running_before = len(self.running)
            sequences, chunks, preempted = self._compose(now)
            changed = changed or preempted or len(self.running) != running_before
            decoding = self.decoding
        done, limit = self.done, self.limit
        if changed or done == limit:
            if done:
                self.write_segment()
                self.done = done = 0
            if not (sequences or chunks):
                return self._go_idle(now)
            batch, price = self.batch, self.price
            batch.sequences = sequences
            batch.context_tokens = self.context_tokens + sequences if sequences else 0
            batch.chunks = chunks
            try:
                step_s, growth_s, limit = price(batch)
            except Exception as error:
                raise failed("latency model", self.latency, f"price({batch})", error) from error
            if chunks:
                step_s, limit = self._with_chunks(step_s, limit)
            if preempted:  # and nothing admitted: the next boundary must try
                limit = 1
            self.start_s, self.step_s, self.growth_s = now, step_s, growth_s
            self.limit = limit
        else:
            step_s, growth_s = self.step_s, self.growth_s
        # How many steps can follow at once: until a request finishes, the price ends or the KV cache is full.
        steps = limit - done
        # The next boundary may admit who came during the last step.
        is_awaited = self.late and self._settle(inf)
        if steps > 1:
            if is_awaited or not self.leap:
                steps = 1
            else:
                if self.hidden:
                    steps = min(steps, self.hidden[0][0] - self.decode_step)
                if sequences:
                    finish = decoding[0][0] - self.decode_step
                    if finish < steps:  # noqa: PLR1730 (a call of min costs more than all else here)
                        steps = finish
                if chunks or sequences * steps * self.step_tokens > room_tokens:
                    steps = most_steps(self.blocks_needed, self.engine.kv_blocks - self.blocks_used(), steps)
        self.planned = steps = done + steps
        # As in leap.boundary_s.
        self.wake_s = wake_s = self.start_s + (steps * step_s + growth_s * (steps * (steps - 1) * 0.5))
        if not now < wake_s < inf or growth_s < 0.0:
            raise bad_price(self.latency, self.batch)
        return wake_s

    def _compose(self, now: float) -> tuple[int, list[tuple[int, int]], bool]:
        """Return the next step's decoding sequences and prompt chunks, and whether anything was preempted for it.

        Decodes come first, then the prompt in progress, then the queue: the order of vLLM V1.
        """
        engine = self.engine
        if engine.prefill_only_steps and self.queue:
            chunks = self._admit(now, engine.max_num_batched_tokens, engine.kv_blocks - self.blocks_used())
            if chunks:
                return 0, chunks, False
        sequences = len(self.decoding)
        preempted = False
        # Memory cannot bind the step if a bound of the blocks taken leaves enough.
        taken = (
            self.context_tokens + sequences * (self.reserve_tokens - 1)
        ) // self.block_tokens + self.prefill_blocks
        free = engine.kv_blocks - taken - sequences
        if free < self.step_blocks:
            free, preempted = self._make_room(now)
            sequences = len(self.decoding)
        budget = engine.max_num_batched_tokens - sequences * self.step_tokens
        chunks = []
        if self.prefilling:
            request = self.prefilling[0]
            computed_tokens = request.computed_tokens
            chunk = min(request.prefill_tokens - computed_tokens, budget)
            chunks.append((chunk, computed_tokens))
            budget -= chunk
        if self.queue and not preempted and not engine.prefill_only_steps:
            chunks += self._admit(now, budget, free)
        return sequences, chunks, preempted

    def _make_room(self, now: float) -> tuple[int, bool]:
        """Preempt until the next step's decodes and the prompt in progress find KV blocks.

        Return the blocks that are then left for admission, and whether anything was preempted.
        """
        block_tokens = self.block_tokens
        preempted = False
        while True:
            blocks = self.decode_blocks_needed(1)
            if self.prefilling:
                request = self.prefilling[0]
                before = request.computed_tokens
                budget = self.engine.max_num_batched_tokens - len(self.decoding) * self.step_tokens
                after = min(request.prefill_tokens, before + budget)
                blocks += -(-after // block_tokens) + (-before // block_tokens)
            free = self.engine.kv_blocks - self.blocks_used()
            if blocks <= free:
                return free - blocks, preempted
            self._preempt(self.queue.victim(self.running), now)
            preempted = True

    def _preempt(self, request: Request, now: float) -> None:
        """Send a running request back to the queue: it will recompute its prompt and what it has emitted."""
        self.note_peak()
        del self.running[request]
        self.batch_area_s += now
        self.queue_area_s -= now
        if request in self.prefilling:
            self.prefilling.remove(request)
            self.prefill_blocks += -request.computed_tokens // self.block_tokens
        else:
            self.decoding = [entry for entry in self.decoding if entry[2] is not request]
            heapify(self.decoding)
            if self.hidden:
                self.hidden.forget(cast("RichRequest", request))
            self.drop_decode(request)
        request.prefill_tokens = request.prompt_tokens + request.emitted_tokens
        request.computed_tokens = 0
        request.preemptions += 1
        self.account.preemptions += 1
        self.waiting_tokens += request.prefill_tokens
        self.queue.requeue(request)
        self._event(PREEMPTED, request, now)

    def drop_decode(self, request: Request) -> None:
        """Take a request that is preempted out of the counts of those that decode."""
        self.by_residue[request.residue] -= 1
        self.context_tokens -= request.context_offset + self.decode_step
        request.emitted_tokens = self.emitted(request)

    def emitted(self, request: Request) -> int:
        """Return the tokens that a decoding request has emitted."""
        return request.target_tokens - (request.finish_step - self.decode_step)

    def _admit(self, now: float, budget: int, free: int) -> list[tuple[int, int]]:
        """Admit waiting requests while tokens of the *budget*, *free* blocks and seats last; return their chunks."""
        queue, running, max_num_seqs = self.queue, self.running, self.engine.max_num_seqs
        chunks: list[tuple[int, int]] = []
        while queue and budget > 0 and len(running) < max_num_seqs:
            request = queue.first()
            chunk = request.prefill_tokens
            if chunk > budget:
                if not self.engine.chunked_prefill:
                    break
                chunk = budget
            blocks = -(-chunk // self.block_tokens)
            if blocks > (free - self.engine.watermark_blocks if running else free):
                break
            queue.pop()
            running[request] = None
            self.prefilling.append(request)
            chunks.append((chunk, 0))
            if request.encoder_tokens:
                self.encoder_tokens += request.encoder_tokens
            budget -= chunk
            free -= blocks
            self.queue_area_s += now
            self.batch_area_s -= now
            self.waiting_tokens -= request.prefill_tokens
            if request.scheduled_s is None:
                request.scheduled_s = now
            else:
                self._event(READMITTED, request, now)
        return chunks

    # -- segments ---------------------------------------------------------------------------------------------------

    def _with_chunks(self, step_s: float, limit: int) -> tuple[float, int]:
        """Return the time of a step with the segment's chunks, and for how many steps, *limit* at most, they stay.

        The encoder adds to the step in which a prompt with images or audio begins. A run of equal chunks of one long
        prompt repeats; anything else is a step of its own.
        """
        if self.encoder_tokens:
            step_s += self.encoder_tokens * self.engine.encoder_s_per_token
            self.encoder_tokens = 0
            return step_s, 1
        chunks = self.batch.chunks
        if len(chunks) > 1:
            return step_s, 1
        request = self.prefilling[0]
        repeats = (request.prefill_tokens - request.computed_tokens) // chunks[0][0]
        return step_s, repeats if repeats < limit else limit

    def write_segment(self) -> None:
        """Write down the segment that has ended."""
        batch, done = self.batch, self.done
        self.steps += done
        chunk_tokens = 0
        chunks = batch.chunks
        if chunks:
            for tokens, _ in chunks:
                chunk_tokens += tokens
        self.system.segments += PACK_SEGMENT(
            self.index,
            self.start_s,
            self.step_s,
            self.growth_s,
            done,
            batch.sequences,
            batch.context_tokens,
            chunk_tokens,
            len(chunks),
        )

    def _go_idle(self, now: float) -> float | None:
        """Rest, unless there are arrivals: no step is in flight that they would have to wait for."""
        if self.late and self._settle(inf):
            return self._plan(now, changed=True)
        if self.queue:
            raise InvariantError(
                f"replica {self.index}: idle at {now} s with {len(self.queue)} requests in its queue"
            )
        self.wake_s = IDLE
        self.idle_since_s = now
        self.limit = self.planned = 0
        self.batch.sequences = self.batch.context_tokens = 0
        self.batch.chunks = NO_CHUNKS
        return None

    # -- rare -------------------------------------------------------------------------------------------------------

    def _event(self, kind: int, request: Request, now: float) -> None:
        self.system.events += EVENT.pack.pack(
            now, kind, request.request_id, self.index, request.emitted_tokens
        )

    def _reject(self, request: Request, now: float) -> None:
        self.account.rejected += 1
        self.load[self.position] -= 1
        request.target_tokens = 0
        self._event(REFUSED, request, now)
        row = (request.request_id, self.index, NEVER, NEVER, NEVER, 0, 0, REJECTED, PROMPT_TOO_LONG)
        self.system.outcomes += PACK_OUTCOME(*row)
        if self.on_leave is not None:
            self.on_leave(request, now)

    def close_decodes(self) -> None:
        """Take note of what the decoding requests have emitted by the end of the run."""
        for _, _, request in self.decoding:
            request.emitted_tokens = self.emitted(request)

    def context_after(self, steps: int) -> int:
        """Return the tokens in the KV cache of the decoding requests when *steps* more steps are booked."""
        return self.context_tokens + self.batch.sequences * steps

    def steps_unbooked(self, now: float) -> int:
        """Return how many steps of the segment have ended at or before *now* and are not booked yet."""
        if self.planned == self.done:
            return 0
        steps = steps_until(now, self.start_s, self.step_s, self.growth_s)
        if boundary_s(self.start_s, self.step_s, self.growth_s, steps) > now:
            steps -= 1
        return max(0, min(steps, self.planned) - self.done)

    def is_idle(self) -> bool:
        """Return whether it has nothing to do."""
        return self.wake_s == IDLE

    def busy_s(self, now: float) -> float:
        """Return for how long the replica has worked by *now*."""
        idle_s = self.idle_s + now - self.idle_since_s if self.is_idle() else self.idle_s
        return now - idle_s
