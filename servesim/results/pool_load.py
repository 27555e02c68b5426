"""How much of what a pool can serve was asked of it, and whether it kept up: so that "the model is wrong" and "the
server is saturated" can be told apart.

The run tells whether the backlog grew; the latency model tells the most that the pool can serve of such requests
(`servesim.cluster.capacity`). docs/model/capacity.md explains both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import polars as pl

from servesim.cluster.capacity import RequestMix
from servesim.cluster.records import ReplicaAccount
from servesim.errors import PluginError
from servesim.results.saturation import backlog_growing, queued_s

LoadState = Literal["stable", "near_knee", "saturated"]

NEAR_KNEE_RATIO = 0.8
"""From this share of its capacity on a pool is near its knee: the capacity may be off by some percent, more where
requests are preempted, and waits grow like 1 / (1 - load)."""

HELD_UP_STEPS = 2.0
"""A request that finds room waits for the step in flight; one that waits longer than so many steps found none."""

Capacity = Callable[[RequestMix], float]
"""Most requests of a mix per second that one replica can serve."""


def pool_load(
    requests: pl.LazyFrame,
    replicas: Sequence[ReplicaAccount],
    capacity: Capacity | None,
    *,
    closed_loop: bool,
) -> dict[str, Any]:
    """Return ``load_state``, ``load_ratio`` and ``capacity_requests_per_s`` of a pool.

    Parameters
    ----------
    requests
        The ``requests`` of the pool.
    replicas
        Its replicas.
    capacity
        Of one of them; None: not known.
    closed_loop
        Whether arrivals wait for answers: such a backlog does not grow, it is where the clients are.
    """
    accepted = requests.filter(pl.col("state") != "rejected")
    mix, rate_per_s = _offered(accepted)
    served_per_s = None if mix is None or capacity is None else _known(capacity, mix, len(replicas))
    load_ratio = None if served_per_s is None or rate_per_s is None else rate_per_s / served_per_s
    held_up = (closed_loop or rate_per_s is None) and _held_up(accepted, replicas)
    state = load_state(load_ratio, held_up=held_up or backlog_growing(requests))
    return {"load_state": state, "load_ratio": load_ratio, "capacity_requests_per_s": served_per_s}


def load_state(load_ratio: float | None, *, held_up: bool) -> LoadState:
    """Return the verdict on a pool.

    Parameters
    ----------
    load_ratio
        Requests that arrived per second over those that it can serve; None: not known.
    held_up
        Whether the run itself shows that it did not keep up.

    Examples
    --------
    >>> load_state(0.5, held_up=False), load_state(0.9, held_up=False), load_state(1.1, held_up=False)
    ('stable', 'near_knee', 'saturated')
    >>> load_state(0.5, held_up=True)
    'saturated'
    """
    if held_up or (load_ratio is not None and load_ratio >= 1.0):
        return "saturated"
    return "near_knee" if load_ratio is not None and load_ratio >= NEAR_KNEE_RATIO else "stable"


def _offered(accepted: pl.LazyFrame) -> tuple[RequestMix | None, float | None]:
    """Return what the requests are like, and how many arrived per second; None where that cannot be told."""
    done = pl.col("state") == "completed"
    prompt = pl.col("prompt_tokens").cast(pl.Float64)
    output = pl.when(done).then("output_tokens").otherwise("output_tokens_target").cast(pl.Float64)
    columns = accepted.collect_schema()
    encoded = [pl.col(name).cast(pl.Int64) for name in ("image_tokens", "audio_tokens") if name in columns]
    sums = accepted.select(
        requests=pl.len(),
        prompt=prompt.sum(),
        prompt_squares=(prompt * prompt).sum(),
        output=output.sum(),
        attended=((output - 1.0) * (prompt + output / 2.0)).sum(),
        encoded=pl.sum_horizontal(encoded).sum() if encoded else pl.lit(0),
        span_s=pl.col("arrival_s").max() - pl.col("arrival_s").min(),
    )
    row = sums.collect(engine="streaming").row(0, named=True)
    count, span_s = row["requests"], row["span_s"]
    if not count:
        return None, None
    decodes = row["output"] - count
    mix = RequestMix(
        prompt_tokens=row["prompt"] / count,
        prompt_of_token_tokens=row["prompt_squares"] / row["prompt"],
        output_tokens=row["output"] / count,
        context_tokens=row["attended"] / decodes if decodes > 0 else 0.0,
        encoder_tokens=row["encoded"] / count,
    )
    return mix, (count - 1) / span_s if span_s > 0.0 else None


def _known(capacity: Capacity, mix: RequestMix, replicas: int) -> float | None:
    """Return the capacity of all replicas, or None where the latency model does not price such a batch.

    That is no reason to lose a run that is over: it may never have had such a batch.
    """
    try:
        return replicas * capacity(mix)
    except PluginError:
        return None


def _held_up(accepted: pl.LazyFrame, replicas: Sequence[ReplicaAccount]) -> bool:
    """Return whether half of the requests or more found no room in the batch: they waited longer than for a step."""
    steps = sum(replica.steps for replica in replicas)
    if not steps:
        return False
    step_s = sum(replica.busy_s for replica in replicas) / steps
    waited = (pl.col("scheduled_s") - queued_s(accepted)).fill_null(float("inf"))
    found = accepted.select((waited > HELD_UP_STEPS * step_s).mean()).collect(engine="streaming").item()
    return found is not None and found >= 0.5
