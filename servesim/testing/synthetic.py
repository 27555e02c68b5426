"""Requests and replicas without a cluster, for unit tests of policies.

They have what the protocols of `servesim.policies.api` promise and no more.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from servesim.policies.api import LiveColumn, RequestView

COLUMNS = (
    "waiting_requests",
    "running_requests",
    "waiting_tokens",
    "running_tokens",
    "kv_blocks_used",
    "kv_blocks",
)


@dataclass(slots=True, kw_only=True)
class SyntheticRequest:
    """What stands behind a `RequestView`; counts how often its output length was looked at."""

    request_id: int
    arrival_s: float
    prompt_tokens: int
    hidden_output_tokens: int
    priority: int
    tenant: str | None
    session: str | None
    model: str
    output_tokens_reads: int = field(default=0, compare=False)

    @property
    def output_tokens(self) -> int:
        """The true output length."""
        self.output_tokens_reads += 1
        return self.hidden_output_tokens


def make_request(
    request_id: int = 0,
    *,
    arrival_s: float = 0.0,
    prompt_tokens: int = 128,
    output_tokens: int = 64,
    priority: int = 0,
    tenant: str | None = None,
    session: str | None = None,
    model: str = "llama-3.1-8b",
) -> RequestView:
    """Return the view of a request with these properties; only an oracle can see *output_tokens*.

    Examples
    --------
    >>> make_request(3, prompt_tokens=10).prompt_tokens
    10
    """
    return RequestView(
        SyntheticRequest(
            request_id=request_id,
            arrival_s=arrival_s,
            prompt_tokens=prompt_tokens,
            hidden_output_tokens=output_tokens,
            priority=priority,
            tenant=tenant,
            session=session,
            model=model,
        )
    )


class SyntheticReplica:
    """One replica: a row of `SyntheticReplicas`; implements `servesim.policies.api.ReplicaView`."""

    __slots__ = ("_columns", "_index", "_pool")

    def __init__(self, columns: dict[str, list[int]], index: int, pool: str) -> None:
        self._columns = columns
        self._index = index
        self._pool = pool

    @property
    def index(self) -> int:
        """Number of the replica."""
        return self._index

    @property
    def pool(self) -> str:
        """Name of its pool."""
        return self._pool

    @property
    def waiting_requests(self) -> int:
        """Requests in its queue."""
        return self._columns["waiting_requests"][self._index]

    @property
    def running_requests(self) -> int:
        """Requests in its batch."""
        return self._columns["running_requests"][self._index]

    @property
    def waiting_tokens(self) -> int:
        """Tokens that requests in its queue still have to prefill."""
        return self._columns["waiting_tokens"][self._index]

    @property
    def running_tokens(self) -> int:
        """Prompt and emitted tokens of the requests in its batch."""
        return self._columns["running_tokens"][self._index]

    @property
    def kv_blocks_used(self) -> int:
        """KV-cache blocks taken."""
        return self._columns["kv_blocks_used"][self._index]

    @property
    def kv_blocks(self) -> int:
        """KV-cache blocks there are."""
        return self._columns["kv_blocks"][self._index]


class SyntheticReplicas:
    """Replicas whose numbers a test sets; implements `servesim.policies.api.ReplicaViews`."""

    __slots__ = ("_load", "_rows", "columns", "requests")

    def __init__(self, columns: dict[str, list[int]], pool: str) -> None:
        self.columns = columns
        self._load = array("q", bytes(8 * len(columns["kv_blocks"])))
        self._rows = [SyntheticReplica(columns, index, pool) for index in range(len(columns["kv_blocks"]))]
        self.requests = LiveColumn(self._load)
        self.refresh()

    def refresh(self) -> None:
        """Bring `requests` up to date after a change of the columns."""
        waiting, running = self.columns["waiting_requests"], self.columns["running_requests"]
        self._load[:] = array("q", map(sum, zip(waiting, running, strict=True)))

    def state(self) -> list[list[int]]:
        """Return a copy of every number that a policy might change."""
        return [list(column) for column in (*self.columns.values(), self._load)]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int, /) -> SyntheticReplica:
        return self._rows[index]

    def __iter__(self) -> Iterator[SyntheticReplica]:
        return iter(self._rows)


def make_views(
    *,
    waiting_requests: Sequence[int] | None = None,
    running_requests: Sequence[int] | None = None,
    waiting_tokens: Sequence[int] | None = None,
    running_tokens: Sequence[int] | None = None,
    kv_blocks_used: Sequence[int] | None = None,
    kv_blocks: Sequence[int] | None = None,
    pool: str = "main",
) -> SyntheticReplicas:
    """Return the views of replicas with these numbers, one per replica; what is left out is 0 for all.

    ``requests``, the fast column, is the sum of waiting and running requests.

    Raises
    ------
    ValueError
        If nothing is given, or the lengths differ.

    Examples
    --------
    >>> views = make_views(running_requests=[4, 2], waiting_requests=[0, 3])
    >>> list(views.requests), views[1].waiting_requests
    ([4, 5], 3)
    """
    given = (
        waiting_requests,
        running_requests,
        waiting_tokens,
        running_tokens,
        kv_blocks_used,
        kv_blocks,
    )
    lengths = {len(column) for column in given if column is not None}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(
            f"make_views: columns of {sorted(lengths)} replicas. expected one length, at least 1"
        )
    count = lengths.pop()
    columns = {
        name: [0] * count if column is None else list(column)
        for name, column in zip(COLUMNS, given, strict=True)
    }
    return SyntheticReplicas(columns, pool)
