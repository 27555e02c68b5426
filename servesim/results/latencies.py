"""Statistics of the latencies of requests: of all that are measured, of groups, and against latency targets.

One column is read at a time, so that a run of ten million requests on disk needs the memory of one column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from servesim.results.schema import LATENCY_METRICS, LatencyMetric

if TYPE_CHECKING:
    from servesim.scenario import SloSpec, SloTargets

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_GROUP_STATISTICS = ("p50", "p99")


def measured(requests: pl.LazyFrame, warm_up_s: float) -> pl.LazyFrame:
    """Return the requests that statistics are over: completed, and arrived at or after *warm_up_s*."""
    return requests.filter((pl.col("state") == "completed") & (pl.col("arrival_s") >= warm_up_s))


def latency_statistics(
    requests: pl.LazyFrame, warm_up_s: float, metrics: Sequence[LatencyMetric] = LATENCY_METRICS
) -> dict[str, float | None]:
    """Return mean, p50, p90 and p99 of every latency metric, null where nothing was measured.

    Values are sorted before they are summed, so that the mean is the same to the last bit however the rows
    come in.
    """
    statistics: dict[str, float | None] = {}
    for metric in metrics:
        column = measured(requests, warm_up_s).select(metric.name).collect(engine="streaming").to_series()
        values = column.drop_nulls().sort().rechunk()
        statistics[f"{metric.name}_mean"] = float(np.mean(values.to_numpy())) if len(values) else None
        for name, quantile in _QUANTILES.items():
            statistics[f"{metric.name}_{name}"] = values.quantile(quantile, interpolation="linear")
    return statistics


def group_statistics(requests: pl.LazyFrame, tag: str, warm_up_s: float) -> dict[str, dict[str, Any]]:
    """Return requests, tokens, and median and p99 latencies for every value of the column *tag*, sorted.

    Requests and tokens count all requests of the group; latencies are over the measured ones. Rows without
    the tag are left out.
    """
    tagged = requests.filter(pl.col(tag).is_not_null())
    counts = tagged.group_by(tag).agg(
        requests=pl.len(),
        requests_completed=(pl.col("state") == "completed").sum(),
        output_tokens=pl.col("output_tokens").cast(pl.Int64).sum(),
    )
    rows = counts.collect(engine="streaming").sort(tag).to_dicts()
    groups: dict[str, dict[str, Any]] = {row.pop(tag): row for row in rows}
    for metric in LATENCY_METRICS:
        names = [f"{metric.name}_{statistic}" for statistic in _GROUP_STATISTICS]
        for group in groups.values():
            group.update(dict.fromkeys(names))
        table = (
            measured(tagged, warm_up_s)
            .group_by(tag)
            .agg(
                pl.col(metric.name).quantile(_QUANTILES[statistic], interpolation="linear").alias(name)
                for statistic, name in zip(_GROUP_STATISTICS, names, strict=True)
            )
        )
        for row in table.collect().to_dicts():
            groups[row.pop(tag)].update(row)
    return groups


def slo_statistics(requests: pl.LazyFrame, slo: SloSpec, *, warm_up_s: float, end_s: float) -> dict[str, Any]:
    """Return how many requests met their latency targets.

    A request that was unfinished at the end of the run is left out, unless it has missed a target by then
    whatever becomes of it: it cannot be told whether it would have met them, and to count it as missed would
    make the numbers depend on where a run was cut. A rejected request has missed its targets.

    Parameters
    ----------
    requests
        The ``requests`` frame.
    slo
        Targets of all requests, and those of classes of their own.
    warm_up_s
        Requests that arrived before it are left out.
    end_s
        When the run ended.

    Returns
    -------
    dict
        ``requests`` that have a target and are not left out, how many ``met`` all of theirs, and ``classes``:
        for every class that occurs or has targets of its own, its requests (all of them) and latencies,
        targets, ``slo_met_ratio`` and ``goodput_requests_per_s``.
    """
    slo_class = pl.col("slo_class")
    own = [(slo_class.eq_missing(pl.lit(name)), targets) for name, targets in slo.classes.items()]
    others = pl.all_horizontal(pl.lit(True), *(~in_class for in_class, _ in own))
    groups = [(mine, targets) for mine, targets in [*own, (others, slo)] if _limits(targets)]
    within = pl.any_horizontal(mine & _within(targets) for mine, targets in groups)
    decided = pl.any_horizontal(
        mine & ((pl.col("state") != "unfinished") | _missed_already(targets, end_s))
        for mine, targets in groups
    )
    counts = (
        requests.filter(pl.col("arrival_s") >= warm_up_s, decided)
        .group_by("slo_class")
        .agg(requests=pl.len(), met=(within & (pl.col("state") == "completed")).sum())
        .collect(engine="streaming")
    )
    by_class = {name: (total, met) for name, total, met in counts.iter_rows()}
    tables = group_statistics(requests, "slo_class", warm_up_s)
    classes = {}
    span_s = end_s - warm_up_s
    for name in sorted({*slo.classes, *tables}):
        total, met = by_class.get(name, (0, 0))
        limits = _limits(slo.targets(name))
        classes[name] = {
            **tables.get(name, {}),
            "slo": limits,
            "slo_met_ratio": met / total if total else None,
            "goodput_requests_per_s": met / span_s if total and span_s > 0.0 else None,
        }
    return {
        "requests": sum(total for total, _ in by_class.values()),
        "met": sum(met for _, met in by_class.values()),
        "classes": classes,
    }


def has_targets(slo: SloSpec) -> bool:
    """Return whether *slo* sets any target."""
    return any(_limits(targets) for targets in (slo, *slo.classes.values()))


def _limits(targets: SloTargets) -> dict[str, float]:
    """Return the targets that are set."""
    limits = {name: getattr(targets, name) for name in ("ttft_s", "tpot_s", "e2e_s")}
    return {name: limit_s for name, limit_s in limits.items() if limit_s is not None}


def _within(targets: SloTargets) -> pl.Expr:
    """Return the condition that no latency exceeds its target; what does not exist, exceeds nothing."""
    conditions = [(pl.col(name) <= limit_s).fill_null(True) for name, limit_s in _limits(targets).items()]
    return pl.all_horizontal(conditions)


def _missed_already(targets: SloTargets, end_s: float) -> pl.Expr:
    """Return the condition that an unfinished request can no longer meet its targets.

    The tokens still to come are emitted at *end_s* at the earliest, and are at most those it asks for: that
    bounds each latency from below.
    """
    so_far_s = end_s - pl.col("arrival_s")
    least_s = {
        "ttft_s": pl.coalesce("ttft_s", so_far_s),
        "tpot_s": (end_s - pl.col("first_token_s")) / (pl.col("output_tokens_target") - 1),
        "e2e_s": so_far_s,
    }
    conditions = [(least_s[name] > limit_s).fill_null(False) for name, limit_s in _limits(targets).items()]
    return pl.any_horizontal(conditions)
