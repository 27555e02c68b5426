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
    from servesim.errors import ScenarioError
    from servesim.scenario import load_scenario, scenario_hash
    from servesim.scenario.files import input_files

    scenario = load_scenario(file, overrides=overrides)
    missing = [
        f"{file}: {key}: no such file (got {str(path)!r}). expected a file that exists."
        for key, path in input_files(scenario)
        if not path.is_file()
    ]
    if missing:
        raise ScenarioError("\n".join(missing), hint="relative paths start from the scenario's folder")
    replicas = sum(pool.replicas for pool in scenario.cluster.pools)
    gpus = sum(pool.replicas * pool.tensor_parallel for pool in scenario.cluster.pools)
    write(f"{file}: ok, {replicas} replicas on {gpus} GPUs, scenario {scenario_hash(scenario)}\n")
    return OK
