"""Names of the trace readers and workload generators that a scenario can use."""

from __future__ import annotations

from servesim.registry import Registry

READERS = Registry(
    kind="trace reader",
    group="servesim.trace_readers",
    builtin={
        "azure": "servesim.readers.azure:AzureReader",
        "burstgpt": "servesim.readers.burstgpt:BurstGptReader",
        "claude_code": "servesim.readers.claude_code:ClaudeCodeReader",
        "lmcache": "servesim.readers.lmcache:LmCacheReader",
        "mooncake": "servesim.readers.mooncake:MooncakeReader",
        "qwen_bailian": "servesim.readers.qwen_bailian:QwenBailianReader",
        "ragpulse": "servesim.readers.ragpulse:RagPulseReader",
        "table": "servesim.readers.table:TableReader",
        "servesim": "servesim.readers.parquet:ParquetReader",
    },
)
"""Classes that follow `servesim.workload.api.Reader`."""

GENERATORS = Registry(
    kind="workload generator",
    group="servesim.workload_generators",
    builtin={
        "poisson": "servesim.generators.arrivals:Poisson",
        "gamma": "servesim.generators.arrivals:Gamma",
        "weibull": "servesim.generators.arrivals:Weibull",
        "constant": "servesim.generators.arrivals:Constant",
        "mmpp": "servesim.generators.mmpp:Mmpp",
        "burstgpt": "servesim.generators.burstgpt:BurstGpt",
        "closed_loop": "servesim.generators.closed_loop:ClosedLoop",
        "sessions": "servesim.generators.sessions:Sessions",
        "servegen": "servesim.servegen.generator:ServeGen",
    },
)
"""Classes that follow `servesim.workload.api.Generator`."""
