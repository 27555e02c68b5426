"""What BurstGPT's users ask and get: sessions of conversations, and single API requests.

The coefficients are in ``burstgpt.toml``, the equations in docs/model/burstgpt.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from servesim.generators.burstgpt_volumes import Facts, long_share

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Turns:
    """The requests of some sessions, each session in one piece.

    Attributes
    ----------
    session, turn
        Which of the sessions, and the how-manieth request of it, from 0.
    gap_s
        Time since the session's previous request; of the first one 0.
    prompt_tokens, output_tokens
        Lengths.
    """

    session: Integers
    turn: Integers
    gap_s: Floats
    prompt_tokens: Floats
    output_tokens: Floats


class Conversations:
    """Draws sessions of one conversation service.

    Parameters
    ----------
    facts
        The coefficients of all services.
    name
        The service.
    rng
        What they are drawn from.
    """

    def __init__(self, facts: Facts, name: str, rng: np.random.Generator) -> None:
        self._fact = facts[name]
        self._sessions = facts["sessions"]
        self._knots = facts["response"]["request_tokens"]
        self._rng = rng

    def take(self, sessions: int) -> Turns:
        """Return the requests of the next *sessions* sessions."""
        rng, shared = self._rng, self._sessions
        share, one, other = shared["turns"]
        chance = np.where(rng.random(sessions) < share, one, other)
        turns = rng.geometric(chance)
        session = np.repeat(np.arange(sessions), turns)
        begin = np.cumsum(turns) - turns
        turn = np.arange(len(session)) - begin[session]
        gap_s = np.exp(shared["gap_log"][0] + shared["gap_log"][1] * rng.standard_normal(len(session)))
        prompts, outputs = self._lengths(turns, begin, len(session))
        return Turns(session, turn, np.where(turn > 0, gap_s, 0.0), prompts, outputs)

    def _lengths(self, turns: Integers, begin: Integers, rows: int) -> tuple[Floats, Floats]:
        """Return prompts and outputs, turn after turn: each prompt holds what was said before it, or a part of it."""
        fact, rng = self._fact, self._rng
        new = np.where(np.isin(np.arange(rows), begin), 0, 1)
        mu, sigma = np.array([fact["first_log"], fact["new_log"]])[new].T
        messages = np.rint(np.exp(mu + sigma * rng.standard_normal(rows)) * fact["prompt_scale"])
        grows = rng.random(rows) < fact["grow_ratio"]
        kept = np.interp(rng.random(rows), self._sessions["kept_ratio_ranks"], self._sessions["kept_ratio"])
        ranks = rng.random(rows)
        most = float(fact["prompt_tokens_max"])
        prompts, outputs = np.empty(rows), np.empty(rows)
        alive = np.arange(len(turns))
        for turn in range(int(turns.max(initial=0))):
            alive = alive[turns[alive] > turn]
            row = begin[alive] + turn
            said = prompts[row - 1] + outputs[row - 1] if turn else np.zeros(len(row))
            whole = said + np.maximum(messages[row], 1.0)
            fits = (grows[row] & (whole <= most)) if turn else np.ones(len(row), dtype=bool)
            cut = np.maximum(np.floor(np.minimum(said, most) * kept[row]), 1.0)
            prompts[row] = np.minimum(np.where(fits, whole, cut), most)
            outputs[row] = response_tokens(fact, self._knots, prompts[row], ranks[row])
        return prompts, outputs


def response_tokens(fact: Facts, knots: Sequence[float], prompts: Floats, ranks: Floats) -> Floats:
    """Return the responses that have the given ranks among those to requests of these lengths.

    The quantile function is straight between 1, p05, p50 and p95, and exponential beyond; the three are lines between
    *knots* over the request's length.
    """
    p05, p50, p95 = (
        np.interp(prompts, knots, fact[name]) for name in ("response_p05", "response_p50", "response_p95")
    )
    low = np.where(ranks < 0.05, 1 + (p05 - 1) * ranks / 0.05, p05 + (p50 - p05) * (ranks - 0.05) / 0.45)
    tail = p95 - (p95 - p50) / np.log(10) * np.log((1 - np.maximum(ranks, 0.95)) / 0.05)
    drawn = np.where(ranks < 0.5, low, np.where(ranks < 0.95, p50 + (p95 - p50) * (ranks - 0.5) / 0.45, tail))
    return np.maximum(np.rint(drawn), 1.0)


def api_tokens(fact: Facts, which: str, ratios: Floats, rng: np.random.Generator) -> Floats:
    """Return lengths of API requests: a mixture of short and long ones, its mean *ratios* times the usual.

    More tokens come from more long requests. None is longer than the longest that was seen.
    """
    logs, most = fact[f"{which}_log"], fact[f"{which}_tokens_max"]
    is_long = rng.random(len(ratios)) < long_share(fact, which, ratios)
    mu, sigma = np.where(is_long, logs[2], logs[0]), np.where(is_long, logs[3], logs[1])
    drawn: Floats = np.exp(mu + sigma * rng.standard_normal(len(ratios)))
    while len(over := np.flatnonzero(drawn > most)):
        drawn[over] = np.exp(mu[over] + sigma[over] * rng.standard_normal(len(over)))
    return np.maximum(np.rint(drawn), 1.0)
