"""Replicas as their engines' settings ask for them: plain ones, and those with a part that most do without."""

from __future__ import annotations

from typing import Any

from servesim.cluster.engine import Engine
from servesim.cluster.noise import Multiplier, step_noise
from servesim.cluster.replica import Replica
from servesim.cluster.speculative import SpeculativeReplica
from servesim.latency.api import BatchShape
from servesim.latency.parallel import Price


def new_replica(engine: Engine, *, seed: int, **parts: Any) -> Replica:
    """Return a replica with the settings *engine*; *parts* are what else `Replica` takes."""
    replica = (
        Replica(engine, **parts)
        if engine.speculative is None
        else SpeculativeReplica(engine, seed=seed, **parts)
    )
    if engine.step_noise_cv:
        noise = step_noise(engine.step_noise_cv, seed=seed, replica=replica.index)
        replica.price = _noisy(replica, noise)  # type: ignore[assignment]
    return replica


def _noisy(replica: Replica, noise: Multiplier) -> Price:
    """Return the replica's price times the noise of the segment: all steps before it are written down by then."""
    price = replica.price

    def priced(batch: BatchShape) -> tuple[float, float, int]:
        first_s, growth_s, steps = price(batch)
        factor = noise(replica.steps)
        return first_s * factor, growth_s * factor, steps

    return priced
