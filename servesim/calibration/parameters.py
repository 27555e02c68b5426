"""Parameters that can be fitted: where they stand in a pool, where the fit begins, and how far it may go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from servesim.catalog import NO_FRONT_END, engine_version
from servesim.errors import ScenarioError, nearest
from servesim.latency import LATENCY_MODELS
from servesim.scenario import PoolSpec

RANGES = {
    "engine.host.launch_s": (1e-5, 1e-3, 5e-2),
    "engine.host.launch_per_sequence_s": (1e-7, 2e-5, 1e-3),
    "engine.host.schedule_s": (1e-5, 5e-4, 5e-2),
    "engine.host.schedule_per_sequence_s": (1e-7, 4.5e-5, 1e-3),
    "engine.host.eager_kernel_s": (1e-7, 1e-5, 1e-3),
    "engine.host.eager_experts_s": (1e-6, 1e-4, 1e-2),
    "engine.front_end.request_s": (1e-5, 5e-3, 1.0),
    "engine.front_end.prompt_token_s": (1e-8, 1e-6, 1e-3),
    "engine.front_end.stream_s": (1e-5, 1e-3, 1.0),
}
"""Least, usual and most value; the usual one is where the fit begins if the pool's own is 0."""

SECTIONS = ("host", "front_end")
"""Parts of an engine whose values are an engine version's unless the scenario says otherwise."""

FACTOR = 30.0
"""A parameter of a latency model may move this far, up and down."""

BEGINNINGS = {
    "per_sequence_s": 1e-5,
    "per_context_token_s": 1e-8,
    "per_prefill_token_s": 1e-5,
    "per_prefill_pair_s": 1e-9,
    "all_reduce_s": 1e-5,
}
"""Where parameters of latency models begin whose value is 0."""

DEFAULT_KEYS = (
    "engine.host.launch_s",
    "latency.gemm_scale",
    "latency.memory_efficiency",
    "latency.base_s",
    "latency.per_sequence_s",
    "latency.step_s",
)
"""What is fitted unless the user says what; only what the pool's latency model has, and uses."""

_WITHOUT_HOST = ("linear", "constant")
"""Latency models of whole steps: the host is in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A number to be fitted.

    Attributes
    ----------
    key
        Below the pool, such as ``"engine.host.launch_s"``.
    start
        Its value before.
    low, high
        Bounds of the fit, positive.
    """

    key: str
    start: float
    low: float
    high: float

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition(".")[2]

    def override(self, value: float) -> str:
        """Return the override of a scenario that gives it *value*."""
        return f"cluster.pools.0.{self.key}={value!r}"


def find_parameters(pool: PoolSpec, keys: Sequence[str] = ()) -> list[Parameter]:
    """Return the parameters of *pool* that *keys* name, or those that are fitted by default.

    Raises
    ------
    ScenarioError
        If the pool has no such parameter, or it is named twice.
    """
    known = known_values(pool)
    if not keys:
        return [_parameter(pool, key, known[key]) for key in _defaults(pool, known)]
    found = [_full_key(key, known) for key in keys]
    twice = next((key for key in found if found.count(key) > 1), None)
    if twice is not None:
        raise ScenarioError(f"--fit: named twice (got {twice!r}). expected distinct parameters")
    return [_parameter(pool, key, known[key]) for key in found]


def known_values(pool: PoolSpec) -> dict[str, float]:
    """Return every number of *pool* that can be fitted, with its present value."""
    values: dict[str, float] = {}
    version = engine_version(pool.engine.version)
    for section in SECTIONS:
        ours, theirs = getattr(pool.engine, section), getattr(version, section)
        if section == "front_end" and pool.latency.name in _WITHOUT_HOST:
            theirs = NO_FRONT_END
        for name in type(ours).model_fields:
            key, own = f"engine.{section}.{name}", getattr(ours, name)
            if key in RANGES:
                values[key] = float(getattr(theirs, name) if own is None else own)
    for name, value in pool.latency.parameters.items():
        if isinstance(value, float | int) and not isinstance(value, bool):
            values[f"latency.{name}"] = float(value)
    return values


def _defaults(pool: PoolSpec, known: dict[str, float]) -> list[str]:
    whole = pool.latency.name in _WITHOUT_HOST
    keys = [key for key in DEFAULT_KEYS if key in known and not (whole and key.startswith("engine."))]
    return keys or [key for key in known if key.startswith("latency.")]


def _full_key(key: str, known: dict[str, float]) -> str:
    """Return the key that *key* means: itself, or the only one that ends with it."""
    plain = key.strip().removeprefix("cluster.pools.0.").removeprefix("cluster.pools.main.")
    matches = [full for full in known if full == plain or full.endswith(f".{plain}")]
    if len(matches) != 1:
        raise ScenarioError(
            f"--fit: {'no such parameter' if not matches else 'more than one'} (got {key!r}). "
            f"expected one of {', '.join(known)}",
            hint=nearest(plain, [*known, *(full.rpartition(".")[2] for full in known)]),
        )
    return matches[0]


def _parameter(pool: PoolSpec, key: str, value: float) -> Parameter:
    if key in RANGES:
        low, usual, high = RANGES[key]
        start = value if value > 0 else usual
        return Parameter(key=key, start=min(max(start, low), high), low=low, high=high)
    name = key.rpartition(".")[2]
    start, factor = (value, FACTOR) if value > 0 else (BEGINNINGS.get(name, 1e-6), FACTOR * FACTOR)
    low, high = _limits(LATENCY_MODELS.parameters(pool.latency.name), name)
    return Parameter(key=key, start=start, low=max(start / factor, low), high=min(start * factor, high))


def _limits(model: type[BaseModel], name: str) -> tuple[float, float]:
    """Return the limits that the latency model itself sets to a parameter."""
    low, high = 0.0, float("inf")
    for limit in model.model_fields[name].metadata:
        values: Any = {each: getattr(limit, each, None) for each in ("gt", "ge", "lt", "le")}
        low = max([low, *(float(values[each]) for each in ("gt", "ge") if values[each] is not None)])
        high = min([high, *(float(values[each]) for each in ("lt", "le") if values[each] is not None)])
    return low, high
