"""What to say when a plugin breaks its contract during a run: which one, where, and what it should have done."""

from __future__ import annotations

from math import isnan
from numbers import Real
from typing import Any

from servesim.errors import PluginError, plugin_failed
from servesim.latency.api import BatchShape, LatencyModel
from servesim.policies.api import RequestView, Scheduler

PROBES = (BatchShape(1, 100), BatchShape(0, 0, [(16, 0)]))
"""A batch that decodes, and one that prefills."""


def failed(kind: str, plugin: Any, call: str, error: Exception) -> PluginError:
    """Return the error for an exception inside a plugin."""
    return plugin_failed(f"{kind} {type(plugin).__name__}", call, error)


def sort_key(scheduler: Scheduler, request: RequestView) -> float:
    """Return the scheduler's key of *request*.

    Raises
    ------
    PluginError
        If it fails, or answers anything but a number; NaN has no place in an order.
    """
    try:
        key = scheduler.key(request)
    except Exception as error:
        raise failed("scheduler", scheduler, f"key of request {request.request_id}", error) from error
    if isinstance(key, Real) and not isnan(key):
        return key if isinstance(key, (int, float)) else float(key)
    raise PluginError(
        f"scheduler {type(scheduler).__name__}: no sort key for request {request.request_id} (got {key!r}). expected a "
        "number"
    )


def bad_price(latency: LatencyModel, batch: BatchShape) -> PluginError:
    """Return the error for a price that would stall or reverse the clock."""
    return PluginError(
        f"latency model {type(latency).__name__}: cannot price {batch} so (got {latency.price(batch)!r}). expected "
        "(first_step_s > 0, growth_s >= 0, valid_steps >= 1), finite and long enough to advance the clock"
    )


def probe(latency: LatencyModel) -> None:
    """Ask a latency model for two prices before the run, so that the hot path need not check their types.

    Raises
    ------
    PluginError
        If it fails, or answers anything but (float, float, int).
    """
    for batch in PROBES:
        try:
            answer = latency.price(batch)
        except Exception as error:
            raise failed("latency model", latency, f"price({batch})", error) from error
        if not (
            isinstance(answer, tuple)
            and len(answer) == 3
            and isinstance(answer[0], (int, float))
            and isinstance(answer[1], (int, float))
            and isinstance(answer[2], int)
        ):
            raise bad_price(latency, batch)
