"""Conversations: sessions that arrive when they like, and whose turns wait for the answers (partly open).

The prompt of a turn is what the session has said so far, prompts and outputs, and something new. Where that is longer
than the context allowed, the oldest is cut off.
"""

# Annotations are no strings here, for the reason given in servesim.generators.arrivals.

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from servesim.errors import ScenarioError
from servesim.generators.arrivals import Count, Duration, Rate
from servesim.generators.lengths import LengthDistribution
from servesim.generators.times import TimeDistribution
from servesim.rng import stream
from servesim.workload.prefixes import lists
from servesim.workload.schema import TOKENS_MAX
from servesim.workload.spec import Tokens

_SESSIONS = 1024
"""Sessions drawn at a time."""

Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """Sessions of several turns with a growing context: sessions arrive open loop, their turns closed loop.

    Attributes
    ----------
    rate_per_s
        Sessions that begin per second.
    turns
        Distribution of the number of requests of a session.
    think_s
        Distribution of the time from the end of a turn to the next one.
    prompt_tokens
        Distribution of the new tokens of a turn.
    output_tokens
        Distribution of the output of a turn.
    cv
        Coefficient of variation of the gaps between beginnings; they are Gamma distributed, 1 is Poisson.
    system_prompt_tokens
        Tokens at the begin of every prompt, the same in all sessions.
    max_prompt_tokens
        Longest prompt: of a longer one the oldest tokens behind the system prompt are cut off.
    block_tokens
        Tokens per block of ``prefix_blocks``; without it there are none. Whole blocks only: those of the system
        prompt are shared by all sessions, those of its history by the turns of a session until it is cut.
    requests
        Stop after this many requests, the turns of the last session cut off.
    duration_s
        No session begins at this time or later.
    """

    rate_per_s: Rate
    turns: LengthDistribution
    think_s: TimeDistribution
    prompt_tokens: LengthDistribution
    output_tokens: LengthDistribution
    cv: Annotated[float, Field(gt=0, le=1000)] = 1.0
    system_prompt_tokens: Annotated[int, Field(ge=0, le=TOKENS_MAX)] = 0
    max_prompt_tokens: Tokens = TOKENS_MAX
    block_tokens: Tokens | None = None
    requests: Count | None = None
    duration_s: Duration | None = None

    extras = ("think_s",)

    def __post_init__(self) -> None:
        if self.max_prompt_tokens <= self.system_prompt_tokens:
            raise ScenarioError(
                f"generator sessions: no room behind the system prompt (got max_prompt_tokens "
                f"{self.max_prompt_tokens!r}). expected more than {self.system_prompt_tokens!r}"
            )

    def frames(self, seed: int) -> Iterator[pl.DataFrame]:
        """Yield the sessions in the order in which they begin."""
        next_id = self.system_prompt_tokens // (self.block_tokens or 1)
        left = self.requests
        for frame in self._turns(seed):
            kept = frame.height if left is None else min(frame.height, left)
            if self.duration_s is not None:
                kept = min(kept, int(frame["arrival_s"].search_sorted(self.duration_s)))
            turns = frame.head(kept)
            if self.block_tokens is not None:
                turns, next_id = self._with_blocks(turns, next_id)
            yield turns.drop("turn").with_columns(
                pl.col("prompt_tokens").clip(upper_bound=self.max_prompt_tokens)
            )
            left = None if left is None else left - kept
            if kept < frame.height or left == 0:
                return

    def _turns(self, seed: int) -> Iterator[pl.DataFrame]:
        """Yield sessions for ever, `_SESSIONS` at a time, with the number of each turn and prompts of any length."""
        names = ("arrivals", "turns", "think_s", "prompt_tokens", "output_tokens")
        start_rng, turns_rng, think_rng, prompt_rng, output_rng = (stream(seed, name) for name in names)
        shape = self.cv**-2
        first_session, last_s = 0, 0.0
        while True:
            gaps_s = start_rng.standard_gamma(shape, _SESSIONS) / (shape * self.rate_per_s)
            starts_s = last_s + np.cumsum(gaps_s)
            turns = self.turns.sample(turns_rng, _SESSIONS).astype(np.int64)
            session = np.repeat(np.arange(_SESSIONS), turns)
            first_row = (np.cumsum(turns) - turns)[session]
            turn = np.arange(len(session)) - first_row
            new = self.prompt_tokens.sample(prompt_rng, len(session))
            output = self.output_tokens.sample(output_rng, len(session))
            # Of all sessions so far: new tokens up to this turn and outputs up to the one before it.
            said = np.cumsum(new, dtype=np.int64) + np.cumsum(output, dtype=np.int64) - output
            think_s = self.think_s.sample(think_rng, len(session))
            yield pl.DataFrame(
                {
                    "turn": turn,
                    "arrival_s": starts_s[session],
                    "prompt_tokens": self.system_prompt_tokens + said - (said - new)[first_row],
                    "output_tokens": output,
                    "session": pl.Series(first_session + session).cast(pl.String),
                    "think_s": pl.Series(np.where(turn > 0, think_s, np.nan), nan_to_null=True),
                }
            )
            first_session, last_s = first_session + _SESSIONS, float(starts_s[-1])

    def _with_blocks(self, turns: pl.DataFrame, next_id: int) -> tuple[pl.DataFrame, int]:
        """Return *turns* with the block ids of their prompts, and the first id that is still free.

        A session has a range of ids for its history, and one for each of its prompts that are cut, since there all
        behind the system prompt has moved. Ranges follow each other in the order of the rows.
        """
        assert self.block_tokens is not None
        shared = self.system_prompt_tokens // self.block_tokens
        whole, is_first = turns["prompt_tokens"].to_numpy(), turns["turn"].to_numpy() == 0
        cut = whole > self.max_prompt_tokens
        own = np.minimum(whole, self.max_prompt_tokens) // self.block_tokens - shared
        session = np.cumsum(is_first) - 1
        history = np.zeros(int(is_first.sum()), dtype=np.int64)
        np.maximum.at(history, session, np.where(cut, 0, own))
        taken = np.where(cut, own, 0) + np.where(is_first, history[session], 0)
        begins = next_id + np.cumsum(taken) - taken
        begins = np.where(cut, begins, begins[is_first][session])
        ids = _ranges(begins - shared, own + shared)
        places = _ranges(np.zeros(len(own), dtype=np.int64), own + shared)
        blocks = np.where(places < shared, places, ids)
        column = lists("prefix_blocks", blocks, own + shared)
        return (
            turns.with_columns(column, prefix_block_tokens=pl.lit(self.block_tokens)),
            next_id + int(taken.sum()),
        )


def _ranges(begins: Integers, counts: Integers) -> Integers:
    """Return the ranges of so many numbers from each begin on, one behind the other."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(begins - ends + counts, counts)
