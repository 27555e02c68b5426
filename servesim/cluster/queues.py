"""Waiting queues of a replica: plain deques and heaps (`simpy.Store` slows down as a backlog grows)."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from heapq import heappop, heappush
from typing import Protocol

from servesim.cluster.request import Request
from servesim.policies.api import Scheduler
from servesim.policies.schedulers import FirstComeFirstServed


class WaitingQueue(Protocol):
    """Requests in the order in which they will be admitted."""

    def push(self, request: Request) -> bool:
        """Add an arriving request and return whether it is now the first."""

    def requeue(self, request: Request) -> None:
        """Put a preempted request back."""

    def first(self) -> Request:
        """Return the next request to admit."""

    def pop(self) -> Request:
        """Remove and return it."""

    def victim(self, running: Collection[Request]) -> Request:
        """Return the running request to preempt; *running* is in order of admission."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Request]: ...


class FifoQueue(deque[Request]):
    """First come, first served: what `KeyQueue` does for keys that are times of arrival, without its heap.

    Requests are then admitted in order of arrival, so the last admitted is the latest arrival.
    """

    def push(self, request: Request) -> bool:
        """Add at the end."""
        self.append(request)
        return len(self) == 1

    def requeue(self, request: Request) -> None:
        """Add at the front."""
        self.appendleft(request)

    def first(self) -> Request:
        """Return the front."""
        return self[0]

    pop = deque.popleft

    def victim(self, running: Collection[Request]) -> Request:
        """Return the last admitted."""
        return next(reversed(running))  # type: ignore[call-overload, no-any-return]


class KeyQueue:
    """Smallest key first, ties in order of arrival; the largest is preempted first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Request]] = []

    def push(self, request: Request) -> bool:
        """Add by its key."""
        heappush(self._heap, (request.key, request.request_id, request))
        return self._heap[0][2] is request

    def requeue(self, request: Request) -> None:
        """Add by its key."""
        self.push(request)

    def first(self) -> Request:
        """Return the request with the smallest key."""
        return self._heap[0][2]

    def pop(self) -> Request:
        """Remove and return it."""
        return heappop(self._heap)[2]

    def victim(self, running: Collection[Request]) -> Request:
        """Return the running request with the largest key, the latest arrival among equals."""
        return max(running, key=lambda request: (request.key, request.request_id))

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[Request]:
        return (request for _, _, request in self._heap)


def queue_for(scheduler: Scheduler) -> WaitingQueue:
    """Return an empty queue in the order of *scheduler*."""
    return FifoQueue() if type(scheduler) is FirstComeFirstServed else KeyQueue()
