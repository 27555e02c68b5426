"""The program's table of contents: from a scenario to the result of a run."""

from __future__ import annotations

import platform
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from servesim._version import __version__
from servesim.cluster.build import Plugins, Pool, build_plugins, build_pool, uses_oracle
from servesim.cluster.cluster import Cluster
from servesim.latency.api import LatencyModel
from servesim.policies.api import Router, Scheduler
from servesim.results import (
    FrameRecorder,
    MemorySink,
    ParquetSink,
    PoolHardware,
    RunResult,
    SummaryOptions,
    check_destination,
)
from servesim.scenario import Scenario, load_scenario, scenario_hash
from servesim.workload.build import build_workload

Progress = Callable[[int, int | None, float], None]
"""Called now and then with requests arrived, requests expected (None: unknown) and the simulated time."""


def run(
    scenario: Scenario | str | Path,
    *,
    overrides: Sequence[str] = (),
    router: Router | None = None,
    scheduler: Scheduler | None = None,
    latency: LatencyModel | None = None,
    out: str | Path | None = None,
) -> RunResult:
    """Simulate *scenario*: a YAML file, or a `Scenario` made in Python.

    Parameters
    ----------
    scenario
        Path of a scenario file, or the scenario itself.
    overrides
        ``"a.b.c=value"`` each, applied to the file before it is checked.
    router, scheduler, latency
        Objects that replace what the scenario names; each run works on a copy.
    out
        Directory to save the result in.

    Raises
    ------
    ServesimError
        If the scenario, its trace or a plugin cannot be used as it is; the subclass says which.

    Examples
    --------
    >>> import servesim
    >>> result = servesim.run("scenarios/quickstart.yaml", overrides=["workload.max_requests=100"])
    >>> result.summary["requests_completed"]
    100
    """
    if not isinstance(scenario, Scenario):
        scenario = load_scenario(scenario, overrides=overrides)
    return simulate(scenario, router=router, scheduler=scheduler, latency=latency, out=out)


def simulate(
    scenario: Scenario,
    *,
    router: Router | None = None,
    scheduler: Scheduler | None = None,
    latency: LatencyModel | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Simulate *scenario* and return its result, audited, and saved to *out* if that is given.

    With *out*, rows go to disk while the run goes on, so that memory stays bounded. Ctrl-C ends the run early: the
    result then holds what had happened, marked ``interrupted``.
    """
    started_at, started_s = datetime.now(UTC), time.perf_counter()
    if out is not None:
        check_destination(Path(out))
    pools = [build_pool(spec, latency) for spec in scenario.cluster.pools]
    plugins = build_plugins(scenario, router=router, scheduler=scheduler)
    workload = build_workload(scenario.workload, seed=scenario.seed)
    served = {pool.spec.model for pool in pools}
    recorder = FrameRecorder(
        MemorySink() if out is None else ParquetSink(Path(out)),
        default_model=served.pop() if len(served) == 1 else None,
    )
    cluster = Cluster(pools, plugins, recorder, seed=scenario.seed)

    def on_tick(arrived: int, now: float) -> None:
        if progress is not None:
            progress(arrived, workload.requests, now)

    with _interrupting(cluster):
        account = cluster.run(workload.frames(), scenario.run, on_tick=on_tick)
    result = recorder.result(
        account,
        scenario=scenario,
        provenance=_provenance(scenario, pools, plugins),
        options=SummaryOptions(
            warm_up_s=scenario.run.warm_up_s,
            slo=scenario.slo,
            pools={pool.spec.name: _hardware(pool, scenario) for pool in pools},
            workload_notes=workload.notes,
        ),
        host=_host(started_at, started_s),
    )
    if out is not None:
        result.save(out)
    return result


@contextmanager
def _interrupting(cluster: Cluster) -> Iterator[None]:
    """Turn Ctrl-C into an early end of the run; a second one is Python's usual KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        signal.signal(signal.SIGINT, before)
        cluster.interrupt()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _hardware(pool: Pool, scenario: Scenario) -> PoolHardware:
    price = scenario.cost.gpu_usd_per_h
    return PoolHardware(
        gpus_per_replica=pool.spec.tensor_parallel,
        gpu_usd_per_h=pool.gpu.usd_per_h if price is None else price,
    )


def _provenance(scenario: Scenario, pools: Sequence[Pool], plugins: Plugins) -> dict[str, Any]:
    """Return what the numbers rest on: the same for the same scenario, seed and version."""
    return {
        "servesim_version": __version__,
        "scenario": scenario.name,
        "scenario_hash": scenario_hash(scenario),
        "seed": scenario.seed,
        "oracle_policies": [
            place
            for place, policy in (("router", plugins.router), ("scheduler", plugins.scheduler))
            if uses_oracle(policy)
        ],
        "policies": {"router": repr_of(plugins.router), "scheduler": repr_of(plugins.scheduler)},
        "pools": [
            {
                "pool": pool.spec.name,
                "model": pool.spec.model,
                "model_source": pool.architecture.source,
                "gpu": pool.spec.gpu,
                "gpu_source": pool.gpu.source,
                "gpu_price_source": pool.gpu.price_source if scenario.cost.gpu_usd_per_h is None else "scenario",
                "kv_blocks": pool.engine.kv_blocks,
                "context_limit_tokens": pool.engine.context_limit,
                "latency_model": repr_of(pool.latency),
                "latency_error": "not validated",
            }
            for pool in pools
        ],
    }


def repr_of(policy: Any) -> str:
    """Return the class name of *policy*."""
    return type(policy).__name__


def _host(started_at: datetime, started_s: float) -> dict[str, Any]:
    """Return facts about this execution, which differ on a re-run."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "wall_s": time.perf_counter() - started_s,
        "peak_memory_bytes": peak if sys.platform == "darwin" else peak * 1024,
        "started_at": started_at.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
