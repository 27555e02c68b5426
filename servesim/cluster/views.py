"""Live, read-only views of replicas, as `servesim.policies.api` promises them to routers.

A property computes its answer when it is read, from the state at the last step boundary at or before the present;
nothing is copied when a request is routed.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import cast

from servesim.cluster.replica import Replica
from servesim.cluster.request import Request
from servesim.policies.api import LiveColumn


class LiveReplicaView:
    """One replica; implements `servesim.policies.api.ReplicaView`."""

    __slots__ = ("_replica",)

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    @property
    def index(self) -> int:
        """Number of the replica in the cluster."""
        return self._replica.index

    @property
    def pool(self) -> str:
        """Name of its pool."""
        return self._replica.account.pool

    @property
    def waiting_requests(self) -> int:
        """Requests in its queue."""
        replica = self._replica
        return len(replica.queue) + len(replica.late or ()) - replica.expects(replica.clock.now)

    @property
    def running_requests(self) -> int:
        """Requests in its batch."""
        return len(self._replica.running)

    @property
    def waiting_tokens(self) -> int:
        """Tokens that requests in its queue still have to prefill."""
        replica = self._replica
        if replica.expects(replica.clock.now):
            return replica.waiting_tokens - cast("Request", replica.expected).prompt_tokens
        return replica.waiting_tokens

    @property
    def running_tokens(self) -> int:
        """Tokens of the requests in its batch: whole prompts, and what is in the KV cache of emitted ones."""
        replica = self._replica
        prompts = sum([request.prefill_tokens for request in replica.prefilling])
        return prompts + replica.context_after(replica.steps_unbooked(replica.clock.now))

    @property
    def kv_blocks_used(self) -> int:
        """KV-cache blocks taken."""
        replica = self._replica
        return replica.blocks_after(replica.steps_unbooked(replica.clock.now))

    @property
    def kv_blocks(self) -> int:
        """KV-cache blocks there are."""
        return self._replica.engine.kv_blocks

    def __repr__(self) -> str:
        return f"ReplicaView({self.index}, waiting={self.waiting_requests}, running={self.running_requests})"


class ReplicaGroup:
    """The replicas that serve one model; implements `servesim.policies.api.ReplicaViews`.

    Parameters
    ----------
    replicas
        In order of their positions.
    load
        Requests of each: counted where they are routed, and taken off by the replicas that they leave.
    """

    def __init__(self, replicas: Sequence[Replica], load: array[int]) -> None:
        self._views = tuple(LiveReplicaView(replica) for replica in replicas)
        self.requests = LiveColumn(load)

    def __len__(self) -> int:
        return len(self._views)

    def __getitem__(self, index: int) -> LiveReplicaView:
        return self._views[index]

    def __iter__(self) -> Iterator[LiveReplicaView]:
        return iter(self._views)
