"""servesim: a discrete-event simulator of LLM serving clusters.

>>> import servesim
>>> result = servesim.run("scenarios/quickstart.yaml")
>>> result.summary["requests_completed"] == result.summary["requests_arrived"]
True

Names are imported when they are first used, so that ``servesim --version`` starts at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from servesim._version import __version__

if TYPE_CHECKING:
    from servesim.calibration.calibrate import calibrate
    from servesim.checks.run import check
    from servesim.errors import InvariantError, PluginError, ScenarioError, ServesimError, TraceError
    from servesim.experiments.capacity import capacity
    from servesim.experiments.compare import compare
    from servesim.experiments.sweep import sweep
    from servesim.results import RunResult
    from servesim.scenario import Scenario, load_scenario
    from servesim.simulation import run, simulate

_HOMES = {
    "InvariantError": "servesim.errors",
    "PluginError": "servesim.errors",
    "RunResult": "servesim.results",
    "Scenario": "servesim.scenario",
    "ScenarioError": "servesim.errors",
    "ServesimError": "servesim.errors",
    "TraceError": "servesim.errors",
    "calibrate": "servesim.calibration.calibrate",
    "capacity": "servesim.experiments.capacity",
    "check": "servesim.checks.run",
    "compare": "servesim.experiments.compare",
    "load_scenario": "servesim.scenario",
    "run": "servesim.simulation",
    "simulate": "servesim.simulation",
    "sweep": "servesim.experiments.sweep",
}

__all__ = [
    "InvariantError",
    "PluginError",
    "RunResult",
    "Scenario",
    "ScenarioError",
    "ServesimError",
    "TraceError",
    "__version__",
    "calibrate",
    "capacity",
    "check",
    "compare",
    "load_scenario",
    "run",
    "simulate",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
