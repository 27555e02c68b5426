"""``servesim validate``: everything that can be found wrong with a scenario without running it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from servesim.cli.exits import OK
from servesim.cli.output import write


def validate_scenario(file: Path, overrides: Sequence[str]) -> int:
    """Check the scenario in *file* and that its traces are there; return the exit code.

    Raises
    ------
    ScenarioError
        If anything is wrong.
    """
    from servesim.scenario import load_scenario, scenario_hash

    scenario = load_scenario(file, overrides=overrides, with_files=True)
    replicas = sum(pool.replicas for pool in scenario.cluster.pools)
    gpus = sum(pool.replicas * pool.parallelism.gpus for pool in scenario.cluster.pools)
    write(f"{file}: ok, {replicas} replicas on {gpus} GPUs, scenario {scenario_hash(scenario)}\n")
    return OK
