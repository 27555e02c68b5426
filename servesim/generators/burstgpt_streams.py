"""The requests of each BurstGPT service over time: a Gamma renewal process whose rate follows the hours.

API requests are such a process, and so are the sessions that begin; a session's later requests follow after its gaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.generators.burstgpt_lengths import Conversations, api_tokens
from servesim.generators.burstgpt_volumes import CONVERSATIONS, SERVICES, Profile, day, facts
from servesim.rng import stream

Floats = NDArray[np.float64]

_HOUR_S = 3600.0
WARM_UP_HOURS = 6
"""Sessions begin so long before time 0, so that there are as many at it as later."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A stretch of time with constant rates.

    Attributes
    ----------
    begin_s, length_s
        Where it lies; before time 0 there are sessions only.
    requests, begins
        Expected of each service, as in `servesim.generators.burstgpt_volumes.Day`.
    api_tokens_ratio
        Tokens of an API request, relative to what they usually are.
    """

    begin_s: float
    length_s: float
    requests: Floats
    begins: Floats
    api_tokens_ratio: float


def cells(*, profile: Profile, first_hour: int, factors: Floats, most: int, seed: int) -> Iterator[Cell]:
    """Yield the cells from `WARM_UP_HOURS` before *first_hour* on, for ever.

    Parameters
    ----------
    profile, seed
        What days are like.
    first_hour
        Hour of the profile that is time 0.
    factors
        What the volume of each service is multiplied by.
    most
        Requests that are expected of a cell at most.
    """
    number, today = None, day(0, profile, seed)
    hour = -WARM_UP_HOURS
    while True:
        if number != (first_hour + hour) // 24:
            number = (first_hour + hour) // 24
            today = day(number % (1 << 32), profile, seed)
        scale = factors if hour >= 0 else factors * [name in CONVERSATIONS for name in SERVICES]
        requests, begins = (each[(first_hour + hour) % 24] * scale for each in (today.requests, today.begins))
        count = max(1, int(np.ceil(requests.sum() / most)))
        for part in range(count):
            yield Cell(
                begin_s=(hour + part / count) * _HOUR_S,
                length_s=_HOUR_S / count,
                requests=requests / count,
                begins=begins / count,
                api_tokens_ratio=today.api_tokens_ratio,
            )
        hour += 1


class Renewal:
    """A renewal process with Gamma gaps in equilibrium, run through cells of any rate.

    Its clock is the expected number of events: it runs as fast as the rate, so that gaps have the same coefficient of
    variation at every rate, and a gap that spans several cells is none of their beginnings.

    Parameters
    ----------
    cv
        Coefficient of variation of the gaps.
    rng
        What they are drawn from.
    """

    def __init__(self, cv: float, rng: np.random.Generator) -> None:
        self._cv = cv
        self._shape = cv**-2
        self._rng = rng
        # A gap that spans time 0 is drawn in proportion to its length, and time 0 is anywhere in it.
        self._left = float(rng.random() * rng.standard_gamma(self._shape + 1) / self._shape)

    def events(self, expected: float) -> Floats:
        """Return the events in the next cell, as fractions of it."""
        levels = np.array([self._left])
        while levels[-1] < expected:
            missing = expected - levels[-1]
            count = int(missing + 4 * self._cv * np.sqrt(missing)) + 4
            gaps = self._rng.standard_gamma(self._shape, count) / self._shape
            levels = np.concatenate([levels, levels[-1] + np.cumsum(gaps)])
        count = int(np.searchsorted(levels, expected, side="left"))
        self._left = float(levels[count] - expected)
        return levels[:count] / expected if expected else levels[:0]

    def times_s(self, cells: Sequence[Cell], service: int) -> tuple[Floats, NDArray[np.int64]]:
        """Return the times of events in *cells*, and how many there are in each."""
        parts = [cell.begin_s + cell.length_s * self.events(cell.begins[service]) for cell in cells]
        return np.concatenate(parts), np.array([len(part) for part in parts])


class ServiceStream(Protocol):
    """One service."""

    def requests(self, cells: Sequence[Cell]) -> pl.DataFrame:
        """Return what begins in *cells*, the next ones: sessions with all of their requests, or API requests.

        ``think_s`` is the time from the end of a session's previous request, as it was recorded.
        """


def service_stream(name: str, cv: float | None, seed: int) -> ServiceStream:
    """Return the stream of service *name*; *cv* None: as in the data."""
    renewal = Renewal(facts()[name]["cv"] if cv is None else cv, stream(seed, "burstgpt", name, "arrivals"))
    rng = stream(seed, "burstgpt", name, "lengths")
    return (ConversationStream if name in CONVERSATIONS else ApiStream)(name, renewal, rng)


class ConversationStream:
    """Sessions of conversations."""

    def __init__(self, name: str, renewal: Renewal, rng: np.random.Generator) -> None:
        self._name = name
        self._renewal = renewal
        self._conversations = Conversations(facts(), name, rng)
        self._sessions = 0

    def requests(self, cells: Sequence[Cell]) -> pl.DataFrame:
        """Return the sessions that begin in *cells*, each in one piece."""
        starts_s, _ = self._renewal.times_s(cells, SERVICES.index(self._name))
        turns = self._conversations.take(len(starts_s))
        since_s = np.cumsum(turns.gap_s)
        first = np.arange(len(since_s)) - turns.turn
        number = pl.Series(turns.session + self._sessions).cast(pl.String)
        self._sessions += len(starts_s)
        served_s = np.roll(turns.output_tokens, 1) * facts()[self._name]["s_per_output_token"]
        return pl.DataFrame(
            {
                "arrival_s": starts_s[turns.session] + (since_s - since_s[first]),
                "prompt_tokens": turns.prompt_tokens.astype(np.int32),
                "output_tokens": turns.output_tokens.astype(np.int32),
                "session": f"{self._name.partition('_')[0]}-" + number,
                "start_s": starts_s[turns.session],
                "think_s": np.where(turns.turn > 0, np.maximum(turns.gap_s - served_s, 0.0), np.nan),
            }
        ).with_columns(
            pl.col("think_s").fill_nan(None),
            model=pl.lit(facts()[self._name]["model"]),
            tenant=pl.lit("conversation"),
        )


class ApiStream:
    """API requests."""

    def __init__(self, name: str, renewal: Renewal, rng: np.random.Generator) -> None:
        self._name = name
        self._renewal = renewal
        self._rng = rng

    def requests(self, cells: Sequence[Cell]) -> pl.DataFrame:
        """Return the requests in *cells*."""
        fact = facts()[self._name]
        arrivals_s, counts = self._renewal.times_s(cells, SERVICES.index(self._name))
        ratios = np.repeat([cell.api_tokens_ratio for cell in cells], counts)
        return pl.DataFrame(
            {
                "arrival_s": arrivals_s,
                "prompt_tokens": api_tokens(fact, "prompt", ratios, self._rng).astype(np.int32),
                "output_tokens": api_tokens(fact, "response", ratios, self._rng).astype(np.int32),
            }
        ).with_columns(
            session=pl.lit(None, dtype=pl.String),
            start_s=pl.col("arrival_s"),
            think_s=pl.lit(None, dtype=pl.Float64),
            model=pl.lit(fact["model"]),
            tenant=pl.lit("api"),
        )
