"""What policies see and what they answer. Everything here is read-only to a policy.

Views are live: a property read at simulated time t tells the state at the last step boundary at or before t.
No view holds a request's output length; `reveal_output_tokens` is the one door to it, for predictors that
declare themselves oracles.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

import numpy as np

from servesim.rng import stream


class RequestView:
    """A request as a server sees it when it arrives."""

    __slots__ = ("_request",)

    def __init__(self, request: Any) -> None:
        self._request = request

    @property
    def request_id(self) -> int:
        """Position in arrival order, from 0."""
        return self._request.request_id  # type: ignore[no-any-return]

    @property
    def arrival_s(self) -> float:
        """Time of arrival."""
        return self._request.arrival_s  # type: ignore[no-any-return]

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt."""
        return self._request.prompt_tokens  # type: ignore[no-any-return]

    @property
    def priority(self) -> int:
        """Scheduling priority; a lower number is served first, as in vLLM."""
        return self._request.priority  # type: ignore[no-any-return]

    @property
    def model(self) -> str:
        """Name of the model that serves it."""
        return self._request.model  # type: ignore[no-any-return]

    @property
    def tenant(self) -> str | None:
        """Who sent it, where the workload says so."""
        return self._request.tenant  # type: ignore[no-any-return]

    @property
    def session(self) -> str | None:
        """Conversation it belongs to, where the workload says so."""
        return self._request.session  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"RequestView({self.request_id}, prompt_tokens={self.prompt_tokens})"


def reveal_output_tokens(request: RequestView) -> int:
    """Return the true output length of *request*: only for a predictor whose class says ``oracle = True``."""
    return request._request.output_tokens  # type: ignore[no-any-return]


class LiveColumn(Sequence[int]):
    """A read-only view of one number per replica; always current, never copied."""

    __slots__ = ("_column", "_values")

    def __init__(self, values: array[int]) -> None:
        self._values = values
        self._column = np.asarray(values)  # the same memory

    def argmin(self) -> int:
        """Return the position of the smallest number, the first of equal ones."""
        return int(self._column.argmin())

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[int]:
        return iter(self._values)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        return self._values[index].tolist() if isinstance(index, slice) else self._values[index]

    def __repr__(self) -> str:
        return f"LiveColumn({self._values.tolist()})"


class ReplicaView(Protocol):
    """One replica as a router sees it."""

    @property
    def index(self) -> int:
        """Number of the replica in the cluster, as results name it."""

    @property
    def pool(self) -> str:
        """Name of its pool."""

    @property
    def waiting_requests(self) -> int:
        """Requests in its engine's queue; who is still in its front end is not."""

    @property
    def running_requests(self) -> int:
        """Requests in its batch."""

    @property
    def waiting_tokens(self) -> int:
        """Tokens that requests in its queue still have to prefill."""

    @property
    def running_tokens(self) -> int:
        """Tokens of the requests in its batch: whole prompts, and what is in the KV cache of emitted ones."""

    @property
    def kv_blocks_used(self) -> int:
        """KV-cache blocks taken."""

    @property
    def kv_blocks(self) -> int:
        """KV-cache blocks there are."""


class ReplicaViews(Protocol):
    """The replicas that may serve a request: a sequence of `ReplicaView` with one fast column."""

    @property
    def requests(self) -> LiveColumn:
        """Requests in the front end, the queue and the batch of each replica."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> ReplicaView: ...

    def __iter__(self) -> Iterator[ReplicaView]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyContext:
    """What a policy is told before a run.

    Attributes
    ----------
    seed
        The scenario's seed.
    name
        Name of the policy's place, such as ``"router"``; part of its random stream's name.
    """

    seed: int
    name: str

    def rng(self) -> np.random.Generator:
        """Return the policy's own random stream."""
        return stream(self.seed, "policy", self.name)


class Router(Protocol):
    """Choose the replica of each arriving request."""

    def reset(self, context: PolicyContext) -> None:
        """Start a new run."""

    def route(self, request: RequestView, replicas: ReplicaViews) -> int:
        """Return the position in *replicas* of the one that shall serve *request*."""


class Scheduler(Protocol):
    """Order the queue of a replica.

    The waiting request with the smallest key is admitted next, ties in order of arrival. When the KV cache is
    full, the running request with the largest key is preempted, the latest arrival first among equals.
    """

    def reset(self, context: PolicyContext) -> None:
        """Start a new run."""

    def key(self, request: RequestView) -> float:
        """Return the sort key of *request*, asked for once, when it reaches the replica."""


class LengthPredictor(Protocol):
    """Guess how many tokens a request will emit."""

    def reset(self, context: PolicyContext) -> None:
        """Start a new run."""

    def predict(self, request: RequestView) -> float:
        """Return the expected output length in tokens."""
