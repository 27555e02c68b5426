"""Names of the trace readers and workload generators that a scenario can use."""

from __future__ import annotations

from servesim.registry import Registry

READERS = Registry(
    kind="trace reader",
    group="servesim.trace_readers",
    builtin={
        "azure": "servesim.workload.azure:AzureReader",
        "burstgpt": "servesim.workload.burstgpt:BurstGptReader",
        "mooncake": "servesim.workload.mooncake:MooncakeReader",
        "table": "servesim.workload.table:TableReader",
    },
)
"""Classes that follow `servesim.workload.api.Reader`."""

GENERATORS = Registry(
    kind="workload generator",
    group="servesim.workload_generators",
    builtin={
        "poisson": "servesim.workload.arrivals:Poisson",
        "gamma": "servesim.workload.arrivals:Gamma",
        "weibull": "servesim.workload.arrivals:Weibull",
        "constant": "servesim.workload.arrivals:Constant",
        "mmpp": "servesim.workload.mmpp:Mmpp",
    },
)
"""Classes that follow `servesim.workload.api.Generator`."""
