"""Scenarios: one YAML file that says everything a run depends on, checked before anything runs.

The JSON Schema for editors is in `servesim.scenario.json_schema`, listings of plugins in
`servesim.scenario.plugins`; neither is imported here, because a run needs neither.
"""

from servesim.scenario.load import load_scenario
from servesim.scenario.saved import saved_warm_up_s, scenario_data, scenario_hash
from servesim.scenario.schema import (
    ClusterSpec,
    CostSpec,
    EngineSpec,
    PoliciesSpec,
    PoolSpec,
    RunSpec,
    Scenario,
    SloSpec,
    SloTargets,
)

__all__ = [
    "ClusterSpec",
    "CostSpec",
    "EngineSpec",
    "PoliciesSpec",
    "PoolSpec",
    "RunSpec",
    "Scenario",
    "SloSpec",
    "SloTargets",
    "load_scenario",
    "saved_warm_up_s",
    "scenario_data",
    "scenario_hash",
]
