"""The front end of a replica: what a request passes before its engine's queue, and its tokens after the engine.

A request waits for one of the workers (first come, first served), which speak HTTP and tokenize, and joins the queue
of the engine when its worker is done. How long that takes is known when it arrives. Where the replica is at work,
reaches no boundary until then, and nobody else is on the way to it, as is the rule, the request is handed over ahead
of time; otherwise it costs an event. On the way back every token takes the same time to the client, side by side:
that moves what clients see, not the engine, and costs an event only where somebody waits for answers
(`servesim.cluster.closed_loop`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush, heapreplace
from math import inf

from servesim.catalog import FrontEndCosts
from servesim.cluster.clock import ARRIVAL, Wakeup
from servesim.cluster.closing import send_back
from servesim.cluster.records import FRONT_END, OUTCOME, STATES
from servesim.cluster.replica import NEVER, Replica
from servesim.cluster.request import Request
from servesim.cluster.system import System

PACK_FRONT_END = FRONT_END.pack.pack
UNFINISHED = STATES.index("unfinished")


class FrontEnd:
    """The entrance of one replica.

    Parameters
    ----------
    costs
        What it takes.
    replica
        Where its requests go; idle.
    system
        The cluster's clock and buffers.
    """

    __slots__ = (
        *(
            "_ahead",
            "_answers",
            "_area_s",
            "_being_read",
            "_clock",
            "_deliver_wakeup",
            "_free_s",
            "_hand_over_wakeup",
            "_on_leave",
        ),
        *("_priority", "costs", "replica", "system"),
    )

    def __init__(self, costs: FrontEndCosts, replica: Replica, system: System) -> None:
        self.costs = costs
        self.replica = replica
        self.system = system
        self._clock = system.clock
        self._area_s = 0.0  # what requests spend in it, all that has arrived
        self._free_s = [0.0] * costs.workers  # heap: when each worker has done all that has arrived
        self._being_read: list[tuple[float, int, Request]] = []  # heap by the time at which it is done
        self._answers: deque[tuple[float, Request]] = (
            deque()
        )  # on their way, by the time at which they get there
        self._on_leave: Callable[[Request, float], None] | None = None
        # Whether requests may be handed over ahead of time: they are read and wait in their order, and nobody is told
        # of answers (`on_leave`, set before the first request).
        self._ahead = costs.workers == 1 and replica.first_come_first_served
        # Among simultaneous events: after arrivals, before ends of steps, each at a place of its own.
        self._priority = ARRIVAL + 1 + 2 * replica.index
        self._hand_over_wakeup, self._deliver_wakeup = Wakeup(self._hand_over), Wakeup(self._deliver)

    def enqueue(self, request: Request, now: float) -> None:
        """Take a request; hand it over when a worker has read it."""
        costs, free_s = self.costs, self._free_s
        begin_s = free_s[0]
        if begin_s < now:  # noqa: PLR1730 (a call of max costs more than all else here)
            begin_s = now
        ready_s = begin_s + (costs.request_s + costs.prompt_token_s * request.prompt_tokens)
        heapreplace(free_s, ready_s)
        self._area_s += ready_s - now
        self.system.front_ends += PACK_FRONT_END(request.request_id, ready_s, costs.stream_s)
        replica = self.replica
        if (
            self._ahead
            and now < ready_s < replica.wake_s
            and replica.expected_s < now  # one at a time
            and not self._being_read
            and request.prompt_tokens < replica.context_limit  # it is not refused
        ):
            replica.expect(request, ready_s)
            return
        heappush(self._being_read, (ready_s, request.request_id, request))
        if ready_s <= now and replica.expected_s < now:
            self._hand_over(now)
        else:
            self._clock.wake(self._hand_over_wakeup, ready_s, self._priority)

    def _hand_over(self, now: float) -> None:
        """Hand over the next request that has been read; a wake-up comes for each."""
        self.replica.expected_s = -inf  # who is expected was read before
        self.replica.enqueue(heappop(self._being_read)[2], now)

    # -- answers ----------------------------------------------------------------------------------------------------

    @property
    def on_leave(self) -> Callable[[Request, float], None] | None:
        """Called with every request whose client has its last token or its refusal, and the time."""
        return self._on_leave

    @on_leave.setter
    def on_leave(self, listener: Callable[[Request, float], None]) -> None:
        self._on_leave = listener
        self._ahead = False
        self.replica.on_leave = self._send if self.costs.stream_s > 0.0 else listener

    def _send(self, request: Request, now: float) -> None:
        """Send the last token to the client."""
        received_s = now + self.costs.stream_s
        self._answers.append((received_s, request))
        self._clock.wake(self._deliver_wakeup, received_s, self._priority + 1)

    def _deliver(self, now: float) -> None:
        """Tell of the clients that have their last token by now."""
        assert self._on_leave is not None, "somebody listens, or nothing is sent"
        while self._answers and self._answers[0][0] <= now:
            self._on_leave(self._answers.popleft()[1], now)

    # -- the end ----------------------------------------------------------------------------------------------------

    def is_idle(self) -> bool:
        """Return whether nobody waits for an event here; the replica of who is handed over ahead of time is busy."""
        return not self._being_read

    def idle_since_s(self) -> float:
        """Return when it last did anything, the way of the last token included; asked for when all is done."""
        last_s = self.replica.idle_since_s + self.costs.stream_s if self.replica.completed else 0.0
        return max(*self._free_s, last_s)

    def close(self, now: float) -> None:
        """End the run: write down who is still in it, and fill in the replica's account."""
        request = send_back(self.replica, now)
        if request is not None:
            self._being_read.append((self.replica.expected_s, request.request_id, request))
        inside = sorted(self._being_read)  # summed in one order, whoever was expected
        for request_id in sorted(request_id for _, request_id, _ in inside):
            row = (request_id, self.replica.index, NEVER, NEVER, NEVER, 0, 0, UNFINISHED, -1)
            self.system.front_ends += PACK_FRONT_END(request_id, NEVER, self.costs.stream_s)
            self.system.outcomes += OUTCOME.pack.pack(*row)
        account = self.replica.account
        account.front_end_area_s = self._area_s + sum(now - ready_s for ready_s, _, _ in inside)
        account.front_end_requests = len(inside)
