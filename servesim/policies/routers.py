"""Built-in routers. Each is a few lines: copy one to write your own (docs/how-to/write-a-router.md)."""

from __future__ import annotations

from zlib import crc32

from servesim.policies.api import PolicyContext, ReplicaViews, RequestView


class RoundRobin:
    """Send requests to the replicas in turn."""

    def reset(self, context: PolicyContext) -> None:
        """Start with the first replica."""
        self._next = 0

    def route(self, request: RequestView, replicas: ReplicaViews) -> int:
        """Return the replica after the last one."""
        choice = self._next % len(replicas)
        self._next = choice + 1
        return choice


class Random:
    """Send each request to a replica drawn uniformly."""

    def reset(self, context: PolicyContext) -> None:
        """Seed the draws."""
        self._rng = context.rng()

    def route(self, request: RequestView, replicas: ReplicaViews) -> int:
        """Return a replica drawn uniformly."""
        return int(self._rng.integers(len(replicas)))


class LeastRequests:
    """Send each request to the replica with the fewest requests, waiting and running (join the shortest queue).

    Ties go to the first in order.
    """

    def reset(self, context: PolicyContext) -> None:
        """Keep no state."""

    def route(self, request: RequestView, replicas: ReplicaViews) -> int:
        """Return the first replica with the fewest requests."""
        return replicas.requests.argmin()


class LeastTokens:
    """Send each request to the replica with the fewest tokens: queued prompts plus what its batch holds.

    Output lengths are unknown to a router, so only tokens that exist count. Ties go to the first in order.
    """

    def reset(self, context: PolicyContext) -> None:
        """Keep no state."""

    def route(self, request: RequestView, replicas: ReplicaViews) -> int:
        """Return the first replica with the fewest tokens."""
        tokens = [replica.waiting_tokens + replica.running_tokens for replica in replicas]
        return tokens.index(min(tokens))


class PowerOfTwo:
    """Draw two replicas and take the one with fewer requests, the first drawn when they are equal.

    References
    ----------
    .. [1] M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001.
    """

    def reset(self, context: PolicyContext) -> None:
        """Seed the draws."""
        self._rng = context.rng()

    def route(self, request: RequestView, replicas: ReplicaViews) -> int:
        """Return the less loaded of two different replicas."""
        count = len(replicas)
        if count == 1:
            return 0
        first = int(self._rng.integers(count))
        second = int(self._rng.integers(count - 1))
        second += second >= first
        requests = replicas.requests
        return second if requests[second] < requests[first] else first


class SessionAffinity:
    """Send all requests of a session to one replica, chosen by a hash of the session's name.

    A request without a session goes to the replica with the fewest requests.
    """

    def reset(self, context: PolicyContext) -> None:
        """Keep no state."""

    def route(self, request: RequestView, replicas: ReplicaViews) -> int:
        """Return the session's replica."""
        session = request.session
        if session is None:
            return replicas.requests.argmin()
        return crc32(session.encode()) % len(replicas)
