"""A measured run played again: a scenario with its load and, unless the user's own is given, its deployment."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servesim.errors import ScenarioError
from servesim.measurements.workload import LOAD, MeasuredRun
from servesim.results import RunResult
from servesim.scenario import Scenario
from servesim.scenario.document import Document, Mark, read_document
from servesim.scenario.load import check_document
from servesim.scenario.overrides import apply_overrides
from servesim.simulation import simulate
from servesim.validation.deployment import pool_of

LOAD_FILE, SCENARIO_FILE = "load.parquet", "scenario.yaml"

SAMPLE_INTERVAL_S = 0.1
"""Between two samples of what runs and waits, where a measured series is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What is simulated instead of a measured deployment.

    Attributes
    ----------
    scenario
        Scenario file whose cluster and policies serve every load; None: the deployment that each run names.
    overrides
        ``"a.b.c=value"`` each, applied last.
    """

    scenario: Path | None = None
    overrides: tuple[str, ...] = ()


def replay(run: MeasuredRun, how: Replay, *, keep: Path | None = None) -> RunResult:
    """Simulate the load of *run*.

    Parameters
    ----------
    run
        The measured run.
    how
        What serves it.
    keep
        Folder to write the load and the scenario to, so that ``servesim run`` can play it; None: nothing is kept.

    Raises
    ------
    ServesimError
        If the scenario cannot be run.
    """
    with tempfile.TemporaryDirectory() if keep is None else nullcontext(keep) as folder:
        scenario = scenario_of(run, how, Path(folder))
        if keep is not None:
            (keep / SCENARIO_FILE).write_text(scenario.to_yaml(), encoding="utf-8")
        return simulate(scenario)


def scenario_of(run: MeasuredRun, how: Replay, folder: Path) -> Scenario:
    """Return the scenario of a replay; its load is written to *folder*.

    Raises
    ------
    ScenarioError
        If something is missing or wrong; the message tells what to set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    load = folder / LOAD_FILE
    run.requests.select(LOAD).write_parquet(load)
    data = _cluster(run, how)
    data["name"] = run.name
    data["workload"] = {"source": {"reader": "table", "path": str(load.absolute())}}
    if run.max_concurrency is not None:
        data["workload"]["max_concurrency"] = run.max_concurrency
    data["run"] = {"sample_interval_s": SAMPLE_INTERVAL_S} if run.series is not None else {}
    label = f"replay of {run.name}"
    document = Document(label, data, values={(): Mark(label)})
    apply_overrides(document, how.overrides)
    _check_complete(document.data, run)
    base = Path() if how.scenario is None else how.scenario.absolute().parent
    return check_document(document, base_dir=base)


def _cluster(run: MeasuredRun, how: Replay) -> dict[str, Any]:
    """Return the parts of the scenario that say who serves."""
    if how.scenario is None:
        return {"cluster": {"pools": [pool_of(run.deployment)]}}
    data = read_document(how.scenario).data
    if not isinstance(data, dict) or "cluster" not in data:
        raise ScenarioError(f"{how.scenario}: no cluster (got {str(data)[:40]!r}). expected a scenario")
    return {key: data[key] for key in ("seed", "cluster", "policies", "slo", "cost") if key in data}


def _check_complete(data: dict[str, Any], run: MeasuredRun) -> None:
    """Refuse a deployment whose model or GPU nobody has named."""
    pools: Sequence[Any] = data["cluster"].get("pools") or [{}]
    missing = [key for key in ("model", "gpu") if isinstance(pools[0], dict) and not pools[0].get(key)]
    if missing:
        raise ScenarioError(
            f"{run.source}: the {' and the '.join(missing)} that served {run.name} is not in the file (got none). "
            "expected a scenario, or --set",
            hint=" ".join(f"--set cluster.pools.main.{key}=NAME" for key in missing),
        )
