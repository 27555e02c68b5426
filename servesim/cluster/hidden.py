"""Requests that still reason: from which decode step on the user sees what they emit."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from servesim.cluster.records import VISIBLE
from servesim.cluster.request import Request, RichRequest
from servesim.cluster.system import System


class HiddenRequests(list[tuple[int, int, RichRequest]]):
    """The decoding requests of a replica that have emitted nothing visible yet: a heap by their first visible step.

    A replica leaps no further than to the first of these steps, so that its time is that of a boundary.
    """

    __slots__ = ("system",)

    def __init__(self, system: System) -> None:
        super().__init__()
        self.system = system

    def emitted(self, request: RichRequest, step: int, now: float) -> None:
        """Take note that *request* has emitted a token at the end of its prefill, at decode step *step*."""
        tokens = request.reasoning_tokens + 1 - request.emitted_tokens
        if tokens <= 0:
            if request.visible_s is None:
                self._show(request, now)
        elif request.reasoning_tokens < request.target_tokens:
            heappush(self, (step + self.steps_until(request, tokens), request.request_id, request))

    def steps_until(self, request: Request, tokens: int) -> int:
        """Return after how many decode steps a request has emitted *tokens* more tokens."""
        return tokens

    def reveal(self, step: int, now: float) -> None:
        """Write down which requests have emitted their first visible token by decode step *step*."""
        while self and self[0][0] <= step:
            self._show(heappop(self)[2], now)

    def forget(self, request: RichRequest) -> None:
        """Drop a request that was preempted: `emitted` is told when it goes on."""
        self[:] = [entry for entry in self if entry[2] is not request]
        heapify(self)

    def _show(self, request: RichRequest, now: float) -> None:
        request.visible_s = now
        self.system.visibles += VISIBLE.pack.pack(request.request_id, now)
