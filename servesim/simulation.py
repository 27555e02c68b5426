"""The program's table of contents: from a scenario to the result of a run."""

from __future__ import annotations

import hashlib
import inspect
import platform
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from datetime import UTC, datetime
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from servesim._version import __version__
from servesim.cluster.build import Plugins, Pool, build_plugins, build_pool, uses_oracle
from servesim.cluster.capacity import capacity_requests_per_s
from servesim.cluster.closed_loop import OPEN, Loop
from servesim.cluster.cluster import Cluster
from servesim.cluster.late import TooLate
from servesim.errors import ScenarioError
from servesim.latency.api import LatencyModel
from servesim.latency.coefficients import MEASURED
from servesim.policies.api import Router, Scheduler
from servesim.registry import ComponentSpec, constructor
from servesim.results import (
    FrameRecorder,
    MemorySink,
    ParquetSink,
    PoolHardware,
    RunResult,
    SummaryOptions,
    check_destination,
)
from servesim.results.calibration import calibrated_error, outside_fitted
from servesim.results.error_bands import NOT_VALIDATED, expected_error, model_class
from servesim.results.provenance import code_facts, input_facts, scenario_facts
from servesim.results.schema import result_extras
from servesim.scenario import Scenario, load_scenario, scenario_hash
from servesim.scenario.files import calibration_files
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
        ``"a.b.c=value"`` each, applied to the file before it is checked; a `Scenario` takes none.
    router, scheduler, latency
        Objects that replace what the scenario names, the latency model that of every pool. Each run works on
        a copy. The scenario and its hash do not tell of them, `RunResult.provenance` does.
    out
        Directory to save the result in; an older result there is replaced once the new one is complete.

    Returns
    -------
    RunResult
        Summary, frames and provenance; audited.

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
    >>> result.summary["ttft_s_p99"] < 1.0
    True

    A router of your own is an object with `reset` and `route`:

    >>> class First:
    ...     def reset(self, context): ...
    ...     def route(self, request, replicas): return 0
    >>> result = servesim.run(result.scenario, router=First())
    >>> result.requests["replica"].unique().to_list()
    [0]
    """
    if not isinstance(scenario, Scenario):
        scenario = load_scenario(scenario, overrides=overrides, with_files=True)
    elif overrides:
        raise ScenarioError(
            f"overrides: only a file takes them (got {overrides[0]!r} with a Scenario). expected none",
            hint="servesim.load_scenario(path, overrides=[...]) returns a Scenario that has them",
        )
    return simulate(scenario, router=router, scheduler=scheduler, latency=latency, out=out)


def simulate(
    scenario: Scenario,
    *,
    router: Router | None = None,
    scheduler: Scheduler | None = None,
    latency: LatencyModel | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    stop_when: Sequence[TooLate] = (),
    keep_interrupted: bool = True,
) -> RunResult:
    """Simulate *scenario* and return its result, audited, and saved to *out* if that is given.

    With *out*, rows go to disk while the run goes on, so that memory stays bounded. Ctrl-C ends the run
    early: the result then holds what had happened, marked ``interrupted``. After the end of the run the first
    one changes nothing: the result is completed and saved. A second one gives up. Without *keep_interrupted* it
    is a KeyboardInterrupt as ever: what experiments want, for which half a run is of no use.

    *stop_when* ends a hopeless run before its end, without a result: `servesim.cluster.late.StoppedEarly`.
    """
    started_at, started_s = datetime.now(UTC), time.perf_counter()
    if out is not None:
        # What cannot be saved is refused now: after the run its numbers would be lost.
        check_destination(Path(out))
        scenario.to_yaml()
    pools = [build_pool(spec, latency) for spec in scenario.cluster.pools]
    plugins = build_plugins(scenario, router=router, scheduler=scheduler)
    workload = build_workload(scenario.workload, seed=scenario.seed)
    given = {"router": router, "scheduler": scheduler, "latency": latency}
    recorder = _recorder(pools, workload.extras, out)
    # Digested before the run: a trace that vanishes meanwhile must not cost its result.
    provenance = _provenance(scenario, pools, plugins, given=given)
    cluster = Cluster(pools, plugins, recorder, seed=scenario.seed)

    loop = Loop(follow_ups="think_s" in workload.extras, max_concurrency=scenario.workload.max_concurrency)

    def on_tick(arrived: int, now: float) -> None:
        if progress is not None:
            progress(arrived, workload.requests, now)

    with _interrupting(cluster) if keep_interrupted else nullcontext():
        account = cluster.run(
            workload.frames(), scenario.run, loop=loop, on_tick=on_tick, stop_when=stop_when
        )
        _add_extrapolated(provenance, pools)
        if account.follow_ups_not_sent is not None:
            workload.notes["follow_ups_not_sent"] = account.follow_ups_not_sent
        result = recorder.result(
            account,
            scenario=scenario,
            provenance=provenance,
            options=SummaryOptions(
                warm_up_s=scenario.run.warm_up_s,
                slo=scenario.slo,
                pools={pool.spec.name: _hardware(pool, scenario) for pool in pools},
                closed_loop=loop != OPEN,
                workload_notes=workload.notes,
            ),
            host=_host(started_at, started_s),
        )
        _tell_outside(result, scenario)
        if out is not None:
            result.save(out)
    return result


def _recorder(
    pools: Sequence[Pool], workload_extras: Collection[str], out: str | Path | None
) -> FrameRecorder:
    """Return the recorder of a run: in memory, or on disk beside *out*."""
    served = {pool.spec.model for pool in pools}
    front_end = any(pool.front_end.takes_time for pool in pools)
    speculation = any(pool.engine.speculative is not None for pool in pools)
    extras = result_extras(workload_extras, front_end=front_end, speculation=speculation)
    return FrameRecorder(
        MemorySink(extras) if out is None else ParquetSink(Path(out), extras),
        default_model=served.pop() if len(served) == 1 else None,
        extras=workload_extras,
        front_end=front_end,
        speculation=speculation,
    )


def _tell_outside(result: RunResult, scenario: Scenario) -> None:
    """Write into the provenance in what a run left the loads that its calibrations were fitted to."""
    outside = outside_fitted(result, scenario)
    for pool in result.provenance["pools"]:
        if pool["pool"] in outside:
            pool["outside_calibration"] = outside[pool["pool"]]


@contextmanager
def _interrupting(cluster: Cluster) -> Iterator[None]:
    """Turn the first Ctrl-C into an early end of the run; a second one is Python's usual KeyboardInterrupt.

    The block includes what is done with a run that has ended: summarising and saving take seconds for
    millions of requests, and a Ctrl-C that comes too late to shorten the run must not cost its result.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # a worker: its parent hears Ctrl-C
    ):
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
        gpus_per_replica=pool.spec.parallelism.gpus,
        gpu_usd_per_h=pool.gpu.usd_per_h if price is None else price,
        capacity=partial(capacity_requests_per_s, pool.engine, pool.latency, front_end=pool.front_end),
    )


def _provenance(
    scenario: Scenario, pools: Sequence[Pool], plugins: Plugins, *, given: Mapping[str, object]
) -> dict[str, Any]:
    """Return what the numbers rest on: the same for the same scenario, seed, version and given objects."""
    policies = scenario.policies
    return {
        "servesim_version": __version__,
        "scenario": scenario.name,
        "scenario_hash": scenario_hash(scenario),
        "seed": scenario.seed,
        "inputs": _inputs(scenario, given),
        "catalog_version": _catalog_version(),
        "calibration_version": _calibration_version(scenario),
        "oracle_policies": [
            place
            for place, policy in (("router", plugins.router), ("scheduler", plugins.scheduler))
            if uses_oracle(policy)
        ],
        "policies": {
            "router": _component(policies.router, given["router"]),
            "scheduler": _component(policies.scheduler, given["scheduler"]),
        },
        "pools": [
            {
                "pool": pool.spec.name,
                "model": pool.spec.model,
                "model_source": pool.architecture.source,
                "gpu": pool.spec.gpu,
                "gpu_source": pool.gpu.source,
                "gpu_price_source": (
                    pool.gpu.price_source if scenario.cost.gpu_usd_per_h is None else "scenario"
                ),
                "kv_blocks": pool.engine.kv_blocks,
                "context_limit_tokens": pool.engine.context_limit,
                "latency_model": _component(pool.spec.latency, given["latency"]),
                "latency_sources": getattr(pool.latency, "sources", {}),
                "latency_error": _expected_error(pool, given["latency"]),
            }
            for pool in pools
        ],
    }


def _expected_error(pool: Pool, given: object) -> dict[str, Any] | str:
    """Return how far the pool's latencies are expected to be off; what the caller gave was never validated."""
    if given is not None:
        return NOT_VALIDATED
    if pool.spec.calibration is not None:
        return calibrated_error(pool.spec)
    return expected_error(
        pool.spec.latency.model_dump(),
        gpu=pool.spec.gpu,
        generation=pool.gpu.generation,
        kind=model_class(moe=pool.architecture.moe is not None),
    )


def _add_extrapolated(provenance: dict[str, Any], pools: Sequence[Pool]) -> None:
    """Add which prices of the run lay beyond what was measured; prices that the summary asks for do not count."""
    for facts, pool in zip(provenance["pools"], pools, strict=True):
        facts["latency_extrapolated"] = deepcopy(getattr(pool.latency, "extrapolated", {}))


def _inputs(scenario: Scenario, given: Mapping[str, object]) -> list[dict[str, Any]]:
    """Return the facts about the scenario's files, its plugins, and the objects that replace some of these."""
    objects = {place: type(plugin) for place, plugin in given.items() if plugin is not None}
    named = [fact for fact in scenario_facts(scenario) if not set(objects) & set(fact["key"].split("."))]
    return [*named, *code_facts(((place,), cls) for place, cls in objects.items())]


def _catalog_version() -> str:
    """Return a digest of the catalog's data, which can change without a new version of the program."""
    folder, fitted = files("servesim.catalog"), files("servesim.latency") / "fitted"
    paths = [folder / name for name in ("engines.toml", "gpus.toml", "models.toml")]
    paths += [fitted / f"{name}.toml" for name in MEASURED]
    content = b"".join(path.read_bytes() for path in paths)
    return hashlib.sha256(content).hexdigest()[:16]


def _calibration_version(scenario: Scenario) -> str | None:
    """Return a digest of the calibrations that pools took, or None if none did."""
    facts = input_facts(calibration_files(scenario))
    digests = "".join(str(fact["sha256"]) for fact in facts)
    return hashlib.sha256(digests.encode()).hexdigest()[:16] if facts else None


def _component(spec: ComponentSpec, given: object) -> dict[str, Any]:
    """Return what a place is filled with: as the scenario says, or the object that the caller gave."""
    return spec.model_dump() if given is None else _described(given)


def _described(plugin: object) -> dict[str, Any]:
    """Return an object's class and the constructor parameters that it keeps."""
    cls = type(plugin)
    init = constructor(cls)
    names = [] if init is None else list(inspect.signature(init).parameters)[1:]
    values = {name: getattr(plugin, name) for name in names if hasattr(plugin, name)}
    return {
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "parameters": {name: _shown(value) for name, value in values.items()},
    }


def _shown(value: object) -> str | dict[str, Any]:
    """Return a parameter's ``repr``, without the addresses in it, which would differ on a re-run."""
    inherited: object = object.__repr__
    return (
        _described(value) if type(value).__repr__ is inherited else re.sub(" at 0x[0-9a-f]+", "", repr(value))
    )


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
