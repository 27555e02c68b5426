"""A trace taken apart into marginals that can be swapped with another trace's, and put together again.

What is left of a trace when its gaps, prompt lengths and output lengths are replaced by their ranks is its *order*:
which request is long, which gap is short, and when. Putting the marginal of a second trace under the ranks of the first
gives the second's values in the first's order; with all marginals of its own, a trace comes out as it went in.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.errors import ServesimError

MARGINALS = {
    "gaps": "how long the gaps between arrivals are, as a distribution: rate and CV",
    "prompts": "how long prompts are",
    "outputs": "how long outputs are",
    "order": "what stands where: clusters of short gaps, the pairing of lengths, and the number of requests",
}
"""What two traces can swap, and what it is."""


class Marginals:
    """A trace as sorted values and ranks.

    Parameters
    ----------
    requests
        In order of arrival; at least two, none of which waits for another one.
    """

    def __init__(self, requests: pl.DataFrame) -> None:
        arrivals = requests["arrival_s"].to_numpy()
        if len(arrivals) < 2:
            raise ServesimError(
                f"trace: too few requests to explain (got {len(arrivals)}). expected at least 2"
            )
        values = {
            "gaps": np.diff(arrivals),
            "prompts": requests["prompt_tokens"].to_numpy(),
            "outputs": requests["output_tokens"].to_numpy(),
        }
        self.sorted = {name: np.sort(each) for name, each in values.items()}
        self.ranks = {name: _ranks(each) for name, each in values.items()}


def swapped(one: Marginals, other: Marginals, taken: Collection[str]) -> pl.DataFrame:
    """Return the requests of *one* with the marginals named in *taken* replaced by those of *other*.

    With none it is the first trace, with all of `MARGINALS` the second, to the last token and up to rounding of times.
    """
    order = other if "order" in taken else one
    values = {}
    for name in ("gaps", "prompts", "outputs"):
        marginal = (other if name in taken else one).sorted[name]
        ranks = order.ranks[name]
        # The share of a rank is its middle, so that with equal numbers every rank gets the value of that rank.
        position = ((2 * ranks + 1) * len(marginal)) // (2 * len(ranks))
        values[name] = marginal[position]
    arrivals = np.concatenate([[0.0], np.cumsum(values["gaps"])])
    return pl.DataFrame(
        {"arrival_s": arrivals, "prompt_tokens": values["prompts"], "output_tokens": values["outputs"]}
    )


def _ranks(values: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return the rank of each value, ties in their order."""
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks
