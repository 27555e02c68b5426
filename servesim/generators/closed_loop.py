"""A fixed number of clients, each of which thinks, asks, waits for the answer, and thinks again."""

# Annotations are no strings here, for the reason given in servesim.generators.arrivals.

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.generators.arrivals import Count
from servesim.generators.lengths import LengthDistribution
from servesim.generators.times import ConstantTime, TimeDistribution
from servesim.rng import stream
from servesim.workload.schema import CHUNK_ROWS

Drawn = NDArray[np.float64] | NDArray[np.int32]


NO_TIME = ConstantTime(value_s=0.0)


@dataclass(frozen=True, kw_only=True)
class ClosedLoop:
    """A closed loop: clients that think, send a request, and think again when it has ended.

    Every client is a session, and its first request arrives after a think time too. The requests are dealt out to
    the clients in turn, so that slow ones are still at it when others are done: run.horizon_s cuts that end off, in
    which throughput falls.

    Attributes
    ----------
    clients
        How many there are: never are more requests in the system.
    requests
        Of all clients together, at most.
    prompt_tokens, output_tokens
        Distributions of the lengths.
    think_s
        Distribution of the time from the end of a client's request to its next one. Without any it is 0.
    """

    clients: Count
    requests: Count
    prompt_tokens: LengthDistribution
    output_tokens: LengthDistribution
    think_s: TimeDistribution = NO_TIME

    extras = ("think_s",)
    duration_s = None

    def frames(self, seed: int) -> Iterator[pl.DataFrame]:
        """Yield the sessions in order of their first requests."""
        rows = self.requests
        think_s = _drawn(self.think_s, seed, "think_s", rows)
        client = np.arange(rows) % self.clients
        first_s = think_s[: self.clients]
        rank = np.empty(len(first_s), dtype=np.int64)
        rank[np.argsort(first_s, kind="stable")] = np.arange(len(first_s))
        order = np.argsort(rank[client], kind="stable")
        is_follow_up = order >= self.clients
        yield pl.DataFrame(
            {
                "arrival_s": first_s[client[order]],
                "prompt_tokens": _drawn(self.prompt_tokens, seed, "prompt_tokens", rows)[order],
                "output_tokens": _drawn(self.output_tokens, seed, "output_tokens", rows)[order],
                "session": pl.Series(client[order]).cast(pl.String),
                "think_s": pl.Series(np.where(is_follow_up, think_s[order], np.nan), nan_to_null=True),
            }
        )


def _drawn(distribution: LengthDistribution | TimeDistribution, seed: int, name: str, n: int) -> Drawn:
    """Return the first *n* numbers of a stream that is drawn in whole chunks, whatever *n*."""
    rng = stream(seed, name)
    return np.concatenate([distribution.sample(rng, CHUNK_ROWS) for _ in range(-(-n // CHUNK_ROWS))])[:n]
