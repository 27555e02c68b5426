"""How long an engine step takes: the contract is in `servesim.latency.api`, the models are registered here.

A latency model prices batches and knows nothing of clocks, queues or requests. How its parameters are fitted to
measurements is in `servesim.calibration`.
"""

from __future__ import annotations

from servesim.registry import Registry

LATENCY_MODELS = Registry(
    kind="latency model",
    group="servesim.latency_models",
    builtin={
        "roofline": "servesim.latency.roofline:Roofline",
        "table": "servesim.latency.table:Table",
        "constant": "servesim.latency.constant:Constant",
        "linear": "servesim.latency.linear:Linear",
    },
)
"""Every latency model by name."""

__all__ = ["LATENCY_MODELS"]
