"""Which clients of a pool send, over which part of its time, and how much: the plan that requests are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from servesim.errors import ScenarioError, nearest
from servesim.rng import stream
from servesim.servegen.bursts import active_s
from servesim.servegen.pool import WINDOW_S, ClientPool
from servesim.servegen.renewal import Gaps

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]
RateCurve = Annotated[list[Rate] | list[tuple[Time, Rate]], Field(min_length=1)]


class ClientChoice(BaseModel):
    """Some clients of a pool: exactly one of the keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    top: int | None = Field(default=None, ge=1, description="So many of those that send the most requests.")
    sample: int | None = Field(
        default=None, ge=1, description="So many, drawn by the seed; each at most once."
    )
    ids: list[str | int] | None = Field(default=None, min_length=1, description="These.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = [name for name in ("top", "sample", "ids") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"expected exactly one of top, sample, ids (got {' and '.join(given) or 'none'})"
            )
        return self


class Span(BaseModel):
    """A part of a pool's time, in whole windows of 600 s."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    start_s: int = Field(default=0, ge=0, multiple_of=WINDOW_S, description="Its begin, a multiple of 600.")
    end_s: int = Field(gt=0, multiple_of=WINDOW_S, description="Its end, a multiple of 600.")

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if self.end_s <= self.start_s:
            raise ValueError(
                f"an empty span (got end_s {self.end_s}). expected more than start_s {self.start_s}"
            )
        return self


@dataclass(frozen=True, eq=False)
class Slot:
    """The clients that are active in one window of a plan.

    Attributes
    ----------
    window
        Which window of the pool it is.
    clients
        Their numbers in the pool.
    expected
        Requests expected of each.
    gaps
        How each spaces them.
    active_s
        For how long of the window each is active: a burst may fill a part of it only.
    """

    window: int
    clients: NDArray[np.int64]
    expected: NDArray[np.float64]
    gaps: Gaps
    active_s: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plan:
    """What is sent when: slots that are played in a cycle, scaled to a rate.

    Attributes
    ----------
    pool
        Where lengths and names are from.
    slots
        One per window of 600 s.
    rates_per_s
        Target of each window of the run; the last one holds on. Empty: the pool's own rates.
    scale
        Factor of the pool's own rates, where there is no target.
    """

    pool: ClientPool
    slots: tuple[Slot, ...]
    rates_per_s: tuple[float, ...] = ()
    scale: float = 1.0

    def factor(self, window: int) -> float:
        """Return by what the requests of the run's *window* are multiplied."""
        if not self.rates_per_s:
            return self.scale
        target = self.rates_per_s[min(window, len(self.rates_per_s) - 1)]
        expected = float(self.slots[window % len(self.slots)].expected.sum())
        if expected == 0.0:
            number = self.slots[window % len(self.slots)].window
            raise ScenarioError(
                f"generator servegen: no client is active from {number * WINDOW_S} s to {(number + 1) * WINDOW_S} s of "
                f"the pool (got a target of {target!r} requests/s). expected an active client in every window",
                hint="choose more clients, another span, or scale instead of rate_per_s",
            )
        return target * WINDOW_S / expected


def slots_of(pool: ClientPool, clients: Sequence[int], span: Span | None) -> tuple[Slot, ...]:
    """Return the slots of *clients* over *span*, all of the pool's time if None.

    Raises
    ------
    ScenarioError
        If the span goes beyond the pool's time, or no client is active in it.
    """
    first, end = (0, pool.windows) if span is None else (span.start_s // WINDOW_S, span.end_s // WINDOW_S)
    if end > pool.windows:
        raise ScenarioError(
            f"generator servegen: span: beyond the pool {pool.name!r} (got end_s {end * WINDOW_S}). "
            f"expected at most {pool.windows * WINDOW_S}"
        )
    rows = pool.activity.filter(
        pl.col("window").is_between(first, end, closed="left"), pl.col("client").is_in(list(clients))
    )
    if rows.is_empty():
        raise ScenarioError(
            f"generator servegen: none of the {len(clients)} chosen clients is active in the span "
            f"(got {first * WINDOW_S} s to {end * WINDOW_S} s of the pool {pool.name!r}). expected one"
        )
    edges = np.searchsorted(rows["window"].to_numpy(), np.arange(first, end + 1))
    client, requests = rows["client"].to_numpy(), rows["requests"].to_numpy()
    weibull, shape = rows["weibull"].to_numpy(), rows["shape"].to_numpy()
    gaps = Gaps(weibull, shape)
    lasting_s = active_s(requests, rows["scale"].to_numpy() * gaps.unscaled_mean, gaps)
    parts = [slice(*edge) for edge in pairwise(edges)]
    return tuple(
        Slot(first + number, client[part], requests[part], Gaps(weibull[part], shape[part]), lasting_s[part])
        for number, part in enumerate(parts)
    )


def chosen(pool: ClientPool, choice: ClientChoice | None, seed: int) -> list[int]:
    """Return the numbers of the clients that *choice* means; all if None.

    Raises
    ------
    ScenarioError
        If it names a client that the pool has not, or more clients than it has.
    """
    if choice is None:
        return list(range(len(pool.clients)))
    if choice.ids is not None:
        return [_number(pool, str(name)) for name in choice.ids]
    wanted = choice.top or choice.sample or 0
    if wanted > len(pool.clients):
        raise ScenarioError(
            f"generator servegen: clients: more than the pool {pool.name!r} has (got {wanted}). "
            f"expected at most {len(pool.clients)}"
        )
    if choice.sample is not None:
        drawn = stream(seed, "servegen", "clients").choice(len(pool.clients), wanted, replace=False)
        return sorted(drawn.tolist())
    load = pool.activity.group_by("client").agg(pl.col("requests").sum())
    return load.sort("requests", "client", descending=[True, False])["client"].head(wanted).to_list()


def window_rates(curve: float | Sequence[float] | Sequence[tuple[float, float]] | None) -> tuple[float, ...]:
    """Return the target of each window: from one rate, a rate per window, or steps ``(time_s, rate_per_s)``.

    A step holds until the next one; the first must begin at 0. A window has the mean over it.

    Raises
    ------
    ScenarioError
        If the times of steps do not rise from 0.
    """
    if curve is None:
        return ()
    if isinstance(curve, int | float):
        return (float(curve),)
    if not isinstance(curve[0], Sequence):
        return tuple(float(rate) for rate in curve)  # type: ignore[arg-type]
    times, rates = (np.array(column, dtype=float) for column in zip(*curve, strict=True))
    if times[0] != 0 or (np.diff(times) <= 0).any():
        raise ScenarioError(
            f"generator servegen: rate_per_s: times are not in order (got {times.tolist()}). "
            "expected them to rise from 0"
        )
    windows = int(times[-1] // WINDOW_S) + 2
    edges = np.arange(windows + 1) * float(WINDOW_S)
    ends = np.append(times[1:], max(edges[-1], times[-1] + 1.0))
    area = np.concatenate(([0.0], np.cumsum(rates * (ends - times))))
    means = np.diff(np.interp(edges, np.append(times, ends[-1]), area)) / WINDOW_S
    return tuple(means.tolist())


def _number(pool: ClientPool, name: str) -> int:
    if name not in pool.clients:
        raise ScenarioError(
            f"generator servegen: clients: unknown (got {name!r}). "
            f"expected clients of the pool {pool.name!r}, {pool.clients[0]!r} to {pool.clients[-1]!r}",
            hint=nearest(name, pool.clients),
        )
    return pool.clients.index(name)
