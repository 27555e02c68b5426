"""Requests as in BurstGPT: ChatGPT and GPT-4, conversations and APIs, with their days, bursts, sessions and failures.

After Wang et al., "BurstGPT: a real-world workload dataset to optimize LLM serving systems", KDD 2025, and the
statistics that the dataset publishes; docs/model/burstgpt.md has equations, sources and errors. Volumes are in
`servesim.generators.burstgpt_volumes`, lengths in `servesim.generators.burstgpt_lengths`, arrivals in
`servesim.generators.burstgpt_streams`.
"""

# Annotations are no strings here, for the reason given in servesim.generators.arrivals.

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import polars as pl
from pydantic import Field

from servesim.generators.arrivals import Count, Duration, Rate
from servesim.generators.burstgpt_streams import Cell, cells, service_stream
from servesim.generators.burstgpt_volumes import DAYS, SERVICES, Profile, Service, mean_rates_per_s
from servesim.rng import stream

_FIRST_ROWS, _MOST_ROWS = 4096, 131_072
"""Requests that are expected of the first block, and of later ones."""


@dataclass(frozen=True, kw_only=True)
class BurstGpt:
    """Requests as in BurstGPT: four services with their hours, bursts, sessions, lengths and failures.

    Model tags are ``ChatGPT`` and ``GPT-4``, tenants ``conversation`` and ``api``; conversations have sessions.

    Attributes
    ----------
    rate_per_s
        Mean request rate of the services taken, over the whole profile; null: as recorded, 0.27 for all of them.
        Gaps between API requests, and between sessions, shrink in proportion and keep their coefficient of variation,
        so that bursts are not flattened; hours and the pauses within sessions stay as they are.
    profile
        ``days``: the 61 days of file 1, with their totals, API floods and tokens, one after the other and then from
        the first one again. ``typical``: an average day, again and again. ``flat``: a constant rate.
    services
        Which services to take.
    start_day, start_hour
        What time 0 stands for.
    cv
        Coefficient of variation of the gaps between API requests, and between sessions that begin; null: 2 and 1.
    closed_loop
        Whether a session's request waits for the one before it to end, and arrives as long after it as it did in the
        trace; time 0 has no open sessions then. False: all arrive at their recorded times.
    failure_ratio
        Share of the requests that fail: 0.018, 0.019 and 0.0726 in files 1, 2 and 3.
    failures
        ``drop`` leaves failures out. ``keep`` lets them reach the engine with 1 output token, and those of
        conversations with 1 prompt token: the trace has 0 there.
    requests
        Stop after this many requests.
    duration_s
        Stop at this time; an arrival at it is out.
    """

    rate_per_s: Rate | None = None
    profile: Profile = "days"
    services: Annotated[tuple[Service, ...], Field(min_length=1)] = SERVICES
    start_day: Annotated[int, Field(ge=0, lt=DAYS)] = 0
    start_hour: Annotated[int, Field(ge=0, lt=24)] = 0
    cv: Annotated[float, Field(gt=0, le=1000)] | None = None
    closed_loop: bool = False
    failure_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.018
    failures: Literal["drop", "keep"] = "drop"
    requests: Count | None = None
    duration_s: Duration | None = None

    @property
    def extras(self) -> tuple[str, ...]:
        """Columns that a run must know of beforehand."""
        return ("think_s",) if self.closed_loop else ()

    def frames(self, seed: int) -> Iterator[pl.DataFrame]:
        """Yield requests in order of arrival."""
        left = self.requests
        rng = stream(seed, "burstgpt", "failures")
        for frame in self._blocks(seed):
            failed = pl.Series(rng.random(frame.height) < self.failure_ratio)
            kept = _without(frame, failed) if self.failures == "drop" else _emptied(frame, failed)
            rows = kept.height if left is None else min(kept.height, left)
            if self.duration_s is not None:
                rows = min(rows, int(kept["arrival_s"].search_sorted(self.duration_s, side="left")))
            yield kept.head(rows)
            left = None if left is None else left - rows
            if rows < kept.height or left == 0 or self._is_over(frame):
                return

    def _is_over(self, frame: pl.DataFrame) -> bool:
        """Return whether what comes after *frame* is too late."""
        return self.duration_s is not None and bool(frame["arrival_s"][-1] >= self.duration_s)

    def _blocks(self, seed: int) -> Iterator[pl.DataFrame]:
        """Yield the requests of some hours, or of a part of one, at a time: which ones depends on no end."""
        streams = [service_stream(name, self.cv, seed) for name in SERVICES if name in self.services]
        block: list[Cell] = []
        rows, wanted = 0.0, _FIRST_ROWS
        waiting: list[pl.DataFrame] = []  # of sessions: what comes after the block
        for cell in self._cells(seed):
            block.append(cell)
            rows += cell.requests.sum()
            if rows < wanted:
                continue
            drawn = [self._timed(each.requests(block)) for each in streams]
            whole = pl.concat([*waiting, *drawn]).sort("arrival_s", maintain_order=True)
            end = whole["arrival_s"].search_sorted(cell.begin_s + cell.length_s, side="left")
            if end and whole["arrival_s"][end - 1] >= 0:
                yield whole.head(end).filter(pl.col("arrival_s") >= 0)
            waiting = [whole.slice(end)]
            block, rows, wanted = [], 0.0, min(2 * wanted, _MOST_ROWS)

    def _timed(self, requests: pl.DataFrame) -> pl.DataFrame:
        """Return *requests* at their recorded times, or as follow-ups of their sessions."""
        if self.closed_loop:
            return requests.with_columns(arrival_s="start_s").drop("start_s")
        return requests.drop("start_s", "think_s")

    def _cells(self, seed: int) -> Iterator[Cell]:
        taken = np.array([name in self.services for name in SERVICES])
        natural_per_s = float(mean_rates_per_s(self.profile)[taken].sum())
        factor = 1.0 if self.rate_per_s is None else self.rate_per_s / natural_per_s
        return cells(
            profile=self.profile,
            first_hour=24 * self.start_day + self.start_hour,
            factors=factor * taken,
            most=_MOST_ROWS,
            seed=seed,
        )


def _without(frame: pl.DataFrame, failed: pl.Series) -> pl.DataFrame:
    """Return *frame* without failed requests; what then is the first one of a session waits for none."""
    kept = frame.filter(~failed)
    if "think_s" not in kept.columns:
        return kept
    return kept.with_columns(think_s=pl.when(~pl.col("session").is_first_distinct()).then("think_s"))


def _emptied(frame: pl.DataFrame, failed: pl.Series) -> pl.DataFrame:
    """Return *frame* with the lengths of failed requests as 1; API requests keep their prompt."""
    no_prompt = failed & (frame["tenant"] == "conversation")
    return frame.with_columns(
        prompt_tokens=pl.when(no_prompt).then(1).otherwise("prompt_tokens").cast(pl.Int32),
        output_tokens=pl.when(failed).then(1).otherwise("output_tokens").cast(pl.Int32),
    )
