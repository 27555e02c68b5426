"""The workload generator that composes requests client by client, after Xiang et al., "ServeGen", NSDI 2026.

Beyond the released generator: input and output lengths are independent unless `copula` says otherwise (there, one
random number sets both), windows leave no trace in the arrivals, and clients without lengths borrow some.
"""

# Annotations are no strings here, for the reason given in servesim.generators.arrivals.

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

import polars as pl
from pydantic import Field

from servesim.errors import ScenarioError
from servesim.generators.arrivals import Count, Duration
from servesim.servegen.compose import (
    ClientChoice,
    Plan,
    Rate,
    RateCurve,
    Span,
    chosen,
    slots_of,
    window_rates,
)
from servesim.servegen.draws import extras_of, requests_of
from servesim.servegen.naive import naive_plan
from servesim.servegen.parametric import PoolName, shipped_pool
from servesim.servegen.pool import WINDOW_S, ClientPool
from servesim.servegen.read import read_pool
from servesim.workload.paths import FOLDER_TOO, TracePath

Mode = Literal["clients", "naive", "naive_constant"]


@dataclass(frozen=True, kw_only=True)
class ServeGen:
    """Requests of many clients, each with a rate, gaps and lengths of its own that change over days.

    Exactly one of *pool* and *path* says whose clients. Each client's id is the tenant of its requests.

    Attributes
    ----------
    pool
        A parametric pool that ships with servesim: ``language``, ``reason`` or ``multimodal``.
    path
        A pool of your own or of the release: ``NAME.trace.parquet`` with ``NAME.dataset.parquet`` beside it, or a
        folder of ``chunk-*-trace.csv`` and ``chunk-*-dataset.json``.
    clients
        Which of its clients: ``{top: 20}``, ``{sample: 20}`` or ``{ids: [3, 17]}``; all by default.
    span
        Which part of the pool's time is played, in whole windows of 600 s; all by default. At its end it starts over.
    rate_per_s
        Requests per second of all clients together, who keep their proportions in each window of 600 s: a number, a
        list with one number per window, or a list of steps ``[time_s, rate_per_s]``; the last one holds on.
    scale
        Instead of *rate_per_s*: factor of the pool's own rates, whose ups and downs stay.
    copula
        Spearman's rank correlation of a request's prompt and output lengths within a client's six hours.
    mode
        ``clients``; or, for comparison, ``naive``: the same rate in each window, but one stream of Gamma gaps with the
        CV of all arrivals, and lengths shuffled over all clients and the span; or ``naive_constant``: its mean rate.
    requests
        Stop after this many requests.
    duration_s
        Stop at this time; an arrival at it is out. Without both, the end of the span ends the stream.
    """

    pool: PoolName | None = None
    path: Annotated[TracePath | None, FOLDER_TOO] = None
    clients: ClientChoice | None = None
    span: Span | None = None
    rate_per_s: Rate | RateCurve | None = None
    scale: Rate | None = None
    copula: Annotated[float, Field(ge=-1, le=1)] = 0.0
    mode: Mode = "clients"
    requests: Count | None = None
    duration_s: Duration | None = None

    def __post_init__(self) -> None:
        if (self.pool is None) == (self.path is None):
            raise ScenarioError(
                f"generator servegen: pool and path (got {'neither' if self.pool is None else 'both'}). "
                "expected exactly one"
            )
        if self.rate_per_s is not None and self.scale is not None:
            raise ScenarioError(
                f"generator servegen: rate_per_s and scale (got both, scale {self.scale!r}). expected one or none"
            )
        window_rates(self.rate_per_s)  # refuses what is not in order
        if self.requests is None and self.duration_s is None:
            span = self.span or Span(end_s=self._pool.windows * WINDOW_S)
            object.__setattr__(self, "duration_s", float(span.end_s - span.start_s))

    @cached_property
    def notes(self) -> dict[str, int | float | str]:
        """Which clients have the lengths of others, of those that may be chosen."""
        clients = chosen(self._pool, self.clients, 0)
        if self.clients is not None and self.clients.sample is not None:
            clients = list(range(len(self._pool.clients)))
        names = self._pool.clients
        lent = {client: lender for client, lender in self._pool.lenders.items() if client in clients}
        if not lent:
            return {}
        pairs = ", ".join(f"{names[client]} from {names[lender]}" for client, lender in lent.items())
        return {"clients_with_borrowed_lengths": len(lent), "borrowed_lengths": pairs}

    @cached_property
    def extras(self) -> frozenset[str]:
        """Columns that its requests have beside lengths: reasoning, images and audio."""
        return extras_of(self._pool)

    def frames(self, seed: int) -> Iterator[pl.DataFrame]:
        """Yield frames in order of arrival.

        Raises
        ------
        ScenarioError
            If a window that has a target rate has no active client.
        """
        end_s = math.inf if self.duration_s is None else self.duration_s
        left = self.requests
        for frame in requests_of(self._plan(seed), seed, copula=self.copula, end_s=end_s):
            yield frame if left is None else frame.head(left)
            if left is not None:
                left -= frame.height
                if left <= 0:
                    return

    @cached_property
    def _pool(self) -> ClientPool:
        """The pool, read when it is needed first."""
        if self.pool is not None:
            return shipped_pool(self.pool)
        assert self.path is not None, "the constructor lets exactly one of them pass"
        return read_pool(self.path)

    def _plan(self, seed: int) -> Plan:
        """Return what is sent when."""
        slots = slots_of(self._pool, chosen(self._pool, self.clients, seed), self.span)
        plan = Plan(self._pool, slots, window_rates(self.rate_per_s), self.scale or 1.0)
        return (
            plan if self.mode == "clients" else naive_plan(plan, seed, constant=self.mode == "naive_constant")
        )
