"""Replicas that decode speculatively: a step emits one token or several for each sequence.

How many steps a request takes is drawn once, when its prefill is complete; its tokens are then spread evenly over them.
So the context of a sequence is a line in the replica's decode step, and the sum of all contexts is one too: both are
kept in whole multiples of 1/2^20 token, which makes them exact, and a leap as cheap as without speculation.
docs/model/speculative-decoding.md has the model and what it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import numpy as np

from servesim.catalog.speculative import Speculation
from servesim.cluster.engine import Engine
from servesim.cluster.hidden import HiddenRequests
from servesim.cluster.records import SPECULATION
from servesim.cluster.replica import Replica
from servesim.cluster.request import Request
from servesim.cluster.system import System
from servesim.latency.api import BatchShape
from servesim.latency.parallel import Price
from servesim.rng import numbered, stream

FRACTION_BITS = 20
"""Contexts are counted in 1/2^20 of a token: exact for any request of fewer than a million decode steps."""


def spread(missing: int, decoded: int, drawn: int) -> tuple[int, int]:
    """Return in how many steps *missing* tokens come, and how many in each, in 1/2^20 of a token.

    Parameters
    ----------
    missing
        Tokens to spread.
    decoded, drawn
        All tokens that come in decode steps, and the steps that were drawn for them.

    Examples
    --------
    >>> steps, pace = spread(7, 7, 3)
    >>> steps, [(pace * step) >> FRACTION_BITS for step in range(4)]
    (3, [0, 2, 4, 7])
    """
    steps = -(-missing * drawn // decoded)
    return steps, -(-(missing << FRACTION_BITS) // steps)


class Drafts:
    """Draws how many decode steps requests take.

    Parameters
    ----------
    speculation
        How the engine drafts.
    seed
        The scenario's; with the number of a request it decides what is drawn.
    """

    def __init__(self, speculation: Speculation, *, seed: int) -> None:
        most, ratio = speculation.draft_tokens, speculation.acceptance_ratio
        self._at_least = np.array([ratio**drafted for drafted in range(most, 0, -1)])  # ascending
        self._drawn: dict[int, tuple[int, int]] = {}
        self._key = int(stream(seed, "speculative decoding").integers(1 << 63))

    def steps(self, request_id: int, tokens: int) -> int:
        """Return how many steps emit *tokens* tokens: each one and the accepted of its drafts, the last may be cut."""
        drawn = self._drawn.get(request_id)
        if drawn is None or drawn[0] != tokens:
            self._drawn[request_id] = drawn = tokens, self._draw(request_id, tokens)
        return drawn[1]

    def _draw(self, request_id: int, tokens: int) -> int:
        generator = numbered(self._key, request_id)
        steps, missing = 0, tokens
        while missing > 0:  # once, but for long outputs: half as many steps as tokens mostly suffice
            drawn = generator.random(-(-missing // 2))
            # A number below a^j accepts j drafted tokens or more.
            emitted = len(self._at_least) - np.searchsorted(self._at_least, drawn, side="right") + 1
            sums = np.cumsum(emitted)
            if sums[-1] >= missing:
                return steps + int(np.searchsorted(sums, missing)) + 1
            steps += len(drawn)
            missing -= int(sums[-1])
        return steps

    def forget(self, request_id: int) -> None:
        """Keep no longer what was drawn for a request."""
        self._drawn.pop(request_id, None)

    def pace(self, request: Request) -> tuple[int, int]:
        """Return in how many steps a request emits what it has not yet, and how much in each, in 1/2^20 of a token.

        What is left after a preemption takes its share of all the steps that were drawn.
        """
        decoded, missing = request.target_tokens - 1, request.target_tokens - request.emitted_tokens
        return spread(missing, decoded, self.steps(request.request_id, decoded))


class SpeculativeReplica(Replica):
    """A replica that drafts; parameters as for `Replica`, and the scenario's *seed*.

    ``context_offset`` of its requests, and its own sum of them, are in 1/2^20 of a token.
    """

    __slots__ = ("drafts", "offsets", "pace", "paces", "verified")

    def __init__(self, engine: Engine, *, seed: int, **parts: Any) -> None:
        super().__init__(engine, **parts)
        assert engine.speculative is not None, "others are plain replicas"
        self.drafts = Drafts(engine.speculative, seed=seed)
        self.hidden = _HiddenBehindDrafts(self.system, self.drafts.pace)
        self.offsets = self.pace = 0  # sums of those of the decoding requests
        self.paces: dict[Request, int] = {}
        self.verified: dict[
            Request, int
        ] = {}  # decode steps of a request: those to come included while it decodes
        self.price = _paced(self, self.price)  # type: ignore[assignment]

    def _boundary(self, now: float) -> float | None:
        if now == self.wake_s and self.batch.sequences:
            steps = self.planned - self.done
            # The engine without drafts, which goes on from here, counts one token per sequence and step.
            self.context_tokens = self.context_after(steps) - self.batch.sequences * steps
        return super()._boundary(now)

    def context_after(self, steps: int) -> int:
        """Return the tokens in the KV cache of the decoding requests when *steps* more steps are booked."""
        return (self.offsets + self.pace * (self.decode_step + steps)) >> FRACTION_BITS

    def emitted(self, request: Request) -> int:
        """Return the tokens that a decoding request has emitted."""
        return self._context(request, self.decode_step) - request.prompt_tokens + 1

    def _context(self, request: Request, step: int) -> int:
        return (request.context_offset + self.paces[request] * step) >> FRACTION_BITS

    def _join_decoding(self, request: Request) -> None:
        context, step = request.computed_tokens, self.decode_step
        self.prefill_blocks += -context // self.block_tokens
        steps, pace = self.drafts.pace(request)
        request.finish_step = step + steps
        request.context_offset = (context << FRACTION_BITS) - pace * step
        self.paces[request] = pace
        self.verified[request] = self.verified.get(request, 0) + steps
        self.offsets += request.context_offset
        self.pace += pace
        self.context_tokens = self.context_after(0)
        heappush(self.decoding, (request.finish_step, request.request_id, request))

    def _finish_decodes(self, now: float) -> None:
        self.note_peak()
        while self.decoding and self.decoding[0][0] == self.decode_step:
            request = heappop(self.decoding)[2]
            self._forget(request)
            self._leave(request, now)

    def _forget(self, request: Request) -> None:
        self.offsets -= request.context_offset
        self.pace -= self.paces.pop(request)
        self.context_tokens = self.context_after(0)

    def drop_decode(self, request: Request) -> None:
        """Take a request that is preempted out of the sums."""
        request.emitted_tokens = self.emitted(request)
        self.verified[request] -= request.finish_step - self.decode_step
        self._forget(request)

    def _leave(self, request: Request, now: float) -> None:
        self._write_steps(request, self.verified.pop(request, 0))
        super()._leave(request, now)

    def close_decodes(self) -> None:
        """Take note of what the decoding requests have emitted by the end of the run."""
        super().close_decodes()
        for _, _, request in self.decoding:
            self.verified[request] -= request.finish_step - self.decode_step
        for request, steps in self.verified.items():
            self._write_steps(request, steps)

    def _write_steps(self, request: Request, steps: int) -> None:
        tokens = request.target_tokens - 1
        drawn = self.drafts.steps(request.request_id, tokens) if tokens else 0
        self.drafts.forget(request.request_id)
        self.system.speculations += SPECULATION.pack.pack(request.request_id, steps, drawn, tokens)

    # -- memory: blocks are counted sequence by sequence, where a bound of them does not suffice --------------------

    def blocks_used(self) -> int:
        """Return the blocks of the tokens in the KV cache; those for drafts are given back with each step."""
        return self.prefill_blocks + self._blocks(0, 0)

    def blocks_after(self, steps: int) -> int:
        """Return `blocks_used` when *steps* more steps of the segment are booked."""
        chunks = zip(self.prefilling, self.batch.chunks, strict=True) if steps else ()
        prefills = sum(
            -(-(request.computed_tokens + chunk * steps) // self.block_tokens)
            + (-request.computed_tokens // self.block_tokens)
            for request, (chunk, _) in chunks
        )
        return self.prefill_blocks + prefills + self._blocks(steps if self.batch.sequences else 0, 0)

    def decode_blocks_needed(self, steps: int) -> int:
        """Return the blocks that *steps* more decode steps take: the last of them needs slots for its drafts."""
        return self._blocks(steps - 1, self.engine.slot_tokens) - self._blocks(0, 0)

    def _blocks(self, steps: int, more: int) -> int:
        step, block_tokens = self.decode_step + steps, self.block_tokens
        return sum(
            -(-(self._context(request, step) + more) // block_tokens) for _, _, request in self.decoding
        )


class _HiddenBehindDrafts(HiddenRequests):
    """As its parent; the first visible token comes with the step that emits it."""

    __slots__ = ("_pace",)

    def __init__(self, system: System, pace: Callable[[Request], tuple[int, int]]) -> None:
        super().__init__(system)
        self._pace = pace

    def steps_until(self, request: Request, tokens: int) -> int:
        """Return after how many decode steps a request has emitted *tokens* more tokens."""
        return -(-(tokens << FRACTION_BITS) // self._pace(request)[1])


def _paced(replica: SpeculativeReplica, price: Price) -> Price:
    """Return the price of a segment whose sequences gain more than a token per step.

    Latency models price a context that grows by one token per sequence and step. Where it grows r times as fast, so
    does the step, and a price holds for an r-th of the steps. A step with prompt chunks is priced for itself.
    """

    def priced(batch: BatchShape) -> tuple[float, float, int]:
        first_s, growth_s, steps = price(batch)
        if batch.chunks:
            return first_s, 0.0, 1
        ratio = replica.pace / (batch.sequences << FRACTION_BITS)
        return first_s, growth_s * ratio, int((steps - 1) / ratio) + 1

    return priced
