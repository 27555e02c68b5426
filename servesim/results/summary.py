"""The summary of a run: frames and accounts in, one flat dictionary out; keys declared in `schema.SUMMARY`.

Everything is a pure function of the rows. Latency statistics are in `latencies`, the saturation hint in
`saturation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from servesim.cluster.records import ClusterAccount, ReplicaAccount
from servesim.results.frames import Frames
from servesim.results.latencies import (
    group_statistics,
    has_targets,
    latency_statistics,
    measured,
    slo_statistics,
)
from servesim.results.pool_load import Capacity, pool_load
from servesim.results.saturation import backlog_growing
from servesim.results.schema import EXTRA_METRICS, SUMMARY
from servesim.results.sessions import session_statistics
from servesim.results.speculation import speculation_statistics

if TYPE_CHECKING:
    from servesim.scenario import SloSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolHardware:
    """What a replica of a pool occupies.

    Attributes
    ----------
    gpus_per_replica
        GPUs of one replica.
    gpu_usd_per_h
        Price of one of them; None when it is not known.
    capacity
        Most requests per second that a replica can serve, by what they are like; None when it is not known.
    """

    gpus_per_replica: int = 1
    gpu_usd_per_h: float | None = None
    capacity: Capacity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryOptions:
    """What a summary needs to know beside the rows.

    Attributes
    ----------
    warm_up_s
        Requests that arrive before it are left out of latency statistics and of targets.
    slo
        Latency targets, as the scenario sets them.
    pools
        Hardware by name of the pool; a pool that is missing has one GPU of unknown price per replica.
    closed_loop
        Whether arrivals depend on what happens in the run.
    workload_notes
        What the workload counted while it was read or generated.
    """

    warm_up_s: float = 0.0
    slo: SloSpec | None = None
    pools: Mapping[str, PoolHardware] = field(default_factory=dict)
    closed_loop: bool = False
    workload_notes: Mapping[str, int | float | str] = field(default_factory=dict)


def summarize(frames: Frames, account: ClusterAccount, options: SummaryOptions) -> dict[str, Any]:
    """Return the summary of a run, every key of `servesim.results.schema.SUMMARY` in its order.

    Parameters
    ----------
    frames
        The frames of the run.
    account
        What the cluster counted, audited.
    options
        Targets, prices and notes.
    """
    requests = frames.lazy("requests")
    values: dict[str, Any] = {
        **request_counts(requests, options.warm_up_s),
        "preemptions": sum(replica.preemptions for replica in account.replicas),
        "duration_s": account.end_s,
        **latency_statistics(requests, options.warm_up_s),
        **_slo(requests, account.end_s, options),
        "backlog_growing": backlog_growing(requests),
        "interrupted": account.interrupted,
        "models": _tag_table(requests, "model", options.warm_up_s, least=2),
        "tenants": _tag_table(requests, "tenant", options.warm_up_s, least=1),
        "pools": _pool_tables(requests, account, options),
        "replicas": [
            _replica_table([r], account.end_s, replica=r.replica, pool=r.pool) for r in account.replicas
        ],
        "workload": dict(options.workload_notes),
    }
    everything = _replica_table(account.replicas, account.end_s)
    values |= {key: everything[key] for key in ("engine_steps", "kv_used_ratio_max", "utilization_ratio")}
    values |= _rates(requests, everything["output_tokens"], values)
    values |= _cost(account, everything["output_tokens"], options)
    summary = {key.name: values[key.name] for key in SUMMARY}
    columns = requests.collect_schema()
    extra = [metric for metric in EXTRA_METRICS if metric.name in columns]
    summary |= latency_statistics(requests, options.warm_up_s, extra)
    sessions = session_statistics(requests, account.end_s)
    summary |= {} if sessions is None else {"sessions": sessions}
    return summary | speculation_statistics(frames)


def request_counts(requests: pl.LazyFrame, warm_up_s: float) -> dict[str, Any]:
    """Return how many requests there were of each state, and why."""
    counts = requests.group_by("state", "finish_reason").agg(pl.len()).collect(engine="streaming")
    rows = sorted((str(state), str(reason), count) for state, reason, count in counts.iter_rows())
    result: dict[str, Any] = {
        f"requests_{state}": sum(count for name, _, count in rows if name == state)
        for state in ("completed", "rejected", "unfinished")
    }
    return {
        "requests_arrived": sum(count for _, _, count in rows),
        **result,
        "requests_measured": measured(requests, warm_up_s)
        .select(pl.len())
        .collect(engine="streaming")
        .item(),
        "requests_cut": sum(
            count for state, reason, count in rows if (state, reason) == ("completed", "length")
        ),
        "requests_rejected_by_reason": {
            reason: count for state, reason, count in rows if state == "rejected"
        },
    }


def _rates(requests: pl.LazyFrame, output_tokens: int, values: Mapping[str, Any]) -> dict[str, float | None]:
    prompts = requests.filter(pl.col("first_token_s").is_not_null())
    prompt_tokens = (
        prompts.select(pl.col("prompt_tokens").cast(pl.Int64).sum()).collect(engine="streaming").item()
    )
    return {
        "requests_per_s": _ratio(values["requests_completed"], values["duration_s"]),
        "prompt_tokens_per_s": _ratio(prompt_tokens, values["duration_s"]),
        "output_tokens_per_s": _ratio(output_tokens, values["duration_s"]),
    }


def _slo(requests: pl.LazyFrame, end_s: float, options: SummaryOptions) -> dict[str, Any]:
    if options.slo is None or not has_targets(options.slo):
        return dict.fromkeys(("slo_met_ratio", "goodput_requests_per_s", "slo_classes"))
    counts = slo_statistics(requests, options.slo, warm_up_s=options.warm_up_s, end_s=end_s)
    return {
        "slo_met_ratio": _ratio(counts["met"], counts["requests"]),
        "goodput_requests_per_s": _ratio(counts["met"], max(end_s - options.warm_up_s, 0.0)),
        "slo_classes": counts["classes"] or None,
    }


def _tag_table(requests: pl.LazyFrame, tag: str, warm_up_s: float, *, least: int) -> dict[str, Any] | None:
    """Return the table of groups by *tag*, or None when there are fewer than *least* of them."""
    values = requests.select(pl.col(tag).drop_nulls().n_unique()).collect(engine="streaming").item()
    return group_statistics(requests, tag, warm_up_s) if values >= least else None


def _replica_table(replicas: Sequence[ReplicaAccount], end_s: float, **names: Any) -> dict[str, Any]:
    """Return what *replicas* did together: sums, the mean utilization, and the fullest KV cache."""
    busy_s = sum(min(replica.busy_s, end_s) for replica in replicas)
    kv_ratios = [replica.kv_blocks_used_max / replica.kv_blocks for replica in replicas if replica.kv_blocks]
    return {
        **names,
        **({} if "replica" in names else {"replicas": len(replicas)}),
        "requests_completed": sum(replica.completed for replica in replicas),
        "requests_rejected": sum(replica.rejected for replica in replicas),
        "requests_unfinished": sum(
            replica.front_end_requests + replica.waiting + replica.running for replica in replicas
        ),
        "preemptions": sum(replica.preemptions for replica in replicas),
        "output_tokens": sum(replica.output_tokens for replica in replicas),
        "engine_steps": sum(replica.steps for replica in replicas),
        "utilization_ratio": _ratio(busy_s, len(replicas) * end_s),
        "kv_used_ratio_max": max(kv_ratios, default=None),
    }


def _pool_tables(
    requests: pl.LazyFrame, account: ClusterAccount, options: SummaryOptions
) -> list[dict[str, Any]]:
    """Return what each pool did, and how close that was to what it can do."""
    pools: dict[str, list[ReplicaAccount]] = {}
    for replica in account.replicas:
        pools.setdefault(replica.pool, []).append(replica)
    tables = []
    for pool, replicas in pools.items():
        numbers = [replica.replica for replica in replicas]
        load = pool_load(
            requests.filter(pl.col("replica").is_in(numbers)) if len(pools) > 1 else requests,
            replicas,
            options.pools.get(pool, PoolHardware()).capacity,
            closed_loop=options.closed_loop,
        )
        tables.append(_replica_table(replicas, account.end_s, pool=pool) | load)
    return tables


def _cost(account: ClusterAccount, output_tokens: int, options: SummaryOptions) -> dict[str, float | None]:
    hours = account.end_s / 3600.0
    gpus, usd_per_h = 0, 0.0
    priced = True
    for replica in account.replicas:
        hardware = options.pools.get(replica.pool, PoolHardware())
        gpus += hardware.gpus_per_replica
        usd_per_h += hardware.gpus_per_replica * (hardware.gpu_usd_per_h or 0.0)
        priced = priced and hardware.gpu_usd_per_h is not None
    cost_usd = usd_per_h * hours if priced else None
    per_million = None if cost_usd is None else _ratio(cost_usd, output_tokens / 1e6)
    return {"gpu_hours": gpus * hours, "cost_usd": cost_usd, "usd_per_million_output_tokens": per_million}


def _ratio(part: float, whole: float) -> float | None:
    """Return part / whole, or None where there is no whole to speak of."""
    return part / whole if whole > 0 else None
