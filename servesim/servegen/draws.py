"""Requests from a plan, stretch by stretch: times from `renewal`, lengths from the pool's histograms."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.errors import TraceError
from servesim.rng import stream
from servesim.servegen.bursts import Bursts
from servesim.servegen.compose import Plan, Slot
from servesim.servegen.lengths import RATIO_BINS, correlated
from servesim.servegen.pool import WINDOW_S, WINDOWS_PER_6H, ClientPool
from servesim.servegen.renewal import Gaps, Renewals
from servesim.workload.schema import TOKENS_MAX

STRETCH_REQUESTS = 262_144
"""So many requests are expected of a stretch at most: what bounds memory."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FORMS = {
    "language": ("input_tokens", "output_tokens"),
    "reason": ("input_tokens", "output_tokens", "reason_ratio"),
    "multimodal": ("text_tokens", "output_tokens", "image_tokens", "image_count"),
}
_EXTRAS = {"reason": ("reasoning_tokens",), "multimodal": ("image_tokens", "audio_tokens")}
_VISUAL, _AUDIO = ("image", "video"), ("audio",)


def extras_of(pool: ClientPool) -> frozenset[str]:
    """Return which columns the requests of *pool* have beside lengths.

    Raises
    ------
    TraceError
        If the pool's lengths have fields of no known form.
    """
    return frozenset(_EXTRAS.get(_form_of(pool), ()))


def _form_of(pool: ClientPool) -> str:
    fields = pool.lengths.fields
    for form in ("multimodal", "reason", "language"):
        if set(_FORMS[form]) <= set(fields):
            return form
    raise TraceError(
        f"client pool {pool.name!r}: lengths of no known form (got fields {', '.join(fields)}). "
        f"expected {' or '.join(', '.join(names) for names in _FORMS.values())}"
    )


def requests_of(
    plan: Plan, seed: int, *, copula: float = 0.0, end_s: float = math.inf
) -> Iterator[pl.DataFrame]:
    """Yield the requests of *plan* before *end_s*, in order of arrival.

    *copula* is the rank correlation of prompt and output lengths within a client's six hours.

    Raises
    ------
    ScenarioError
        If a window that has a target has no active client.
    TraceError
        If the pool's lengths have fields of no known form.
    """
    lengths = Lengths(plan.pool, stream(seed, "servegen", "lengths"), copula=copula)
    names = pl.Series("tenant", plan.pool.clients)
    for window, slot, clients, times in arrivals_of(plan, seed):
        if window * WINDOW_S >= end_s:
            return
        order = np.argsort(times, kind="stable")
        tokens = lengths.draw(clients, slot.window // WINDOWS_PER_6H)
        frame = pl.DataFrame(
            {"arrival_s": window * float(WINDOW_S) + times[order]}
            | {name: column[order] for name, column in tokens.items()}
            | {"tenant": names.gather(clients[order])}
        )
        yield frame.filter(pl.col("arrival_s") < end_s) if (window + 1) * WINDOW_S > end_s else frame


def arrivals_of(plan: Plan, seed: int) -> Iterator[tuple[int, Slot, Ints, Floats]]:
    """Yield, stretch by stretch, the window, its slot, and the client and time in the window of each request.

    A stretch is a window, or one of the equal parts of a window of many requests.
    """
    rng = stream(seed, "servegen", "arrivals")
    renewals = Renewals(len(plan.pool.clients), rng)
    window = 0
    while True:
        slot, factor = plan.slots[window % len(plan.slots)], plan.factor(window)
        bursts = Bursts(rng.random(len(slot.clients)) * WINDOW_S, slot.active_s)
        parts = max(1, math.ceil(slot.expected.sum() * factor / STRETCH_REQUESTS))
        for part in range(parts):
            start_s, end_s = WINDOW_S * part / parts, WINDOW_S * (part + 1) / parts
            from_s = bursts.passed_s(start_s)
            for_s = bursts.passed_s(end_s) - from_s
            on = np.flatnonzero(for_s > 0)
            expected = slot.expected[on] * factor * for_s[on] / slot.active_s[on]
            gaps = Gaps(slot.gaps.weibull[on], slot.gaps.shape[on])
            found, shares = renewals.advance(slot.clients[on], expected, gaps)
            rows = on[found]
            times = bursts.times_s(rows, from_s[rows] + shares * for_s[rows])
            yield window, slot, slot.clients[rows], np.clip(times, start_s, end_s)
        window += 1


class Lengths:
    """Draws the lengths of requests by their clients.

    Parameters
    ----------
    pool
        Whose histograms are used.
    rng
        What is drawn from.
    copula
        Rank correlation of the prompt's (text) and the output's length within a client's six hours.
    """

    def __init__(self, pool: ClientPool, rng: np.random.Generator, *, copula: float = 0.0) -> None:
        self._form, self._pool, self._rng, self._copula = _form_of(pool), pool, rng, copula
        self._histograms = {name: pool.histograms(name) for name in pool.lengths.fields}

    def draw(self, clients: Ints, window6h: int) -> dict[str, Ints]:
        """Return the columns of lengths for requests of *clients* in these six hours."""
        first, second = correlated(self._rng, len(clients), self._copula)
        prompt = self._of(_FORMS[self._form][0], clients, window6h, first)
        output = np.maximum(self._of("output_tokens", clients, window6h, second), 1)
        columns = {"prompt_tokens": prompt, "output_tokens": output}
        if self._form == "reason":
            share = self._of("reason_ratio", clients, window6h) / RATIO_BINS
            columns["reasoning_tokens"] = np.minimum(np.rint(share * output).astype(np.int64), output)
        if self._form == "multimodal":
            columns["image_tokens"] = self._items(_VISUAL, clients, window6h)
            columns["audio_tokens"] = self._items(_AUDIO, clients, window6h)
            prompt = prompt + columns["image_tokens"] + columns["audio_tokens"]
        columns["prompt_tokens"] = np.clip(prompt, 1, TOKENS_MAX)
        return columns

    def _items(self, kinds: tuple[str, ...], clients: Ints, window6h: int) -> Ints:
        """Return the tokens of all images (or clips) of each request: a number of them, each of a length of its own."""
        total = np.zeros(len(clients), dtype=np.int64)
        for kind in kinds:
            if f"{kind}_count" not in self._histograms or f"{kind}_tokens" not in self._histograms:
                continue
            counts = self._of(f"{kind}_count", clients, window6h)
            owner = np.repeat(np.arange(len(clients)), counts)
            tokens = self._of(f"{kind}_tokens", clients[owner], window6h)
            total += np.bincount(owner, weights=tokens, minlength=len(clients)).astype(np.int64)
        return total

    def _of(self, field: str, clients: Ints, window6h: int, uniform: Floats | None = None) -> Ints:
        """Return a value of *field* per request; 0 for a client whose lengths lack the field."""
        histogram = self._histograms[field][clients, window6h]
        uniform = self._rng.random(len(clients)) if uniform is None else uniform
        known = histogram >= 0
        if known.all():
            return self._pool.lengths.draw(histogram, uniform)
        drawn = np.zeros(len(clients), dtype=np.int64)
        drawn[known] = self._pool.lengths.draw(histogram[known], uniform[known])
        return drawn
