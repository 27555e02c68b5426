"""Arrivals whose rate switches between states: a Markov-modulated Poisson process, and on-off bursts as its
case.

In state i requests arrive as a Poisson process of rate r_i; the state lasts an exponential time of mean m_i,
then the next one of the list follows, and the first one after the last. The first state is drawn in
proportion to m_i and, exponential times having no memory, the process is stationary from time 0 on. See
Fischer and Meier-Hellstern, "The Markov-modulated Poisson process (MMPP) cookbook", Performance Evaluation
1993.
"""

# Annotations are no strings here, for the reason given in servesim.generators.arrivals.

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from servesim.errors import ScenarioError
from servesim.generators.arrivals import GeneratedRequests
from servesim.workload.schema import CHUNK_ROWS

_VISITS = 8192
"""States drawn at a time."""


class MmppState(BaseModel):
    """One state of the process."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    rate_per_s: float = Field(
        ge=0, allow_inf_nan=False, description="Requests per second in this state; 0: silence."
    )
    mean_s: float = Field(gt=0, allow_inf_nan=False, description="Mean time that the state lasts.")


@dataclass(frozen=True, kw_only=True)
class Mmpp(GeneratedRequests):
    """Poisson arrivals whose rate switches between states, such as bursts and silence.

    The mean rate is the average of the states' rates, weighted by their mean times.

    Attributes
    ----------
    states
        Rate and mean time of each state, in the order in which they follow each other.
    """

    states: Annotated[tuple[MmppState, ...], Field(min_length=1)]

    def __post_init__(self) -> None:
        if not any(state.rate_per_s for state in self.states):
            raise ScenarioError(
                "generator mmpp: every state is silent (got rates of 0). expected one rate above 0"
            )

    def _arrivals(self, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
        """Yield arrival times: those of a unit-rate Poisson process, mapped back through the cumulative
        rate.
        """
        states_rng = rng.spawn(1)[0]
        visits = self._visits(states_rng)
        starts, levels, rates = next(visits)
        drawn_level = 0.0
        while True:
            wanted = rng.standard_exponential(CHUNK_ROWS)
            wanted[0] += drawn_level
            np.cumsum(wanted, out=wanted)
            drawn_level = wanted[-1]
            arrivals = np.empty(CHUNK_ROWS)
            done = 0
            while True:
                reached = int(np.searchsorted(wanted, levels[-1]))
                part = wanted[done:reached]
                visit = np.searchsorted(levels, part, side="right") - 1
                within = starts[visit] + (part - levels[visit]) / rates[visit]
                arrivals[done:reached] = np.minimum(
                    within, starts[visit + 1]
                )  # rounding must not pass the end
                done = reached
                if done == CHUNK_ROWS:
                    break
                starts, levels, rates = next(visits)
            yield arrivals

    def _visits(
        self, rng: np.random.Generator
    ) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]:
        """Yield visits to states, block after block.

        Returns
        -------
        starts, levels
            Time and expected number of arrivals so far at the start of each visit and, one more, at the
            last's end.
        rates
            Rate during each visit.
        """
        state_rates = np.array([state.rate_per_s for state in self.states])
        means = np.array([state.mean_s for state in self.states])
        first = int(np.searchsorted(np.cumsum(means) / means.sum(), rng.random(), side="right"))
        start_s, level = 0.0, 0.0
        while True:
            state = (first + np.arange(_VISITS)) % len(self.states)
            stays = rng.standard_exponential(_VISITS) * means[state]
            rates = state_rates[state]
            starts = np.cumsum(np.concatenate(([start_s], stays)))
            levels = np.cumsum(np.concatenate(([level], stays * rates)))
            yield starts, levels, rates
            start_s, level = float(starts[-1]), float(levels[-1])
            first = (first + _VISITS) % len(self.states)
