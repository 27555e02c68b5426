"""Statistics of serverless logs: rates, quantiles, shares, component correlations, pod utility."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import polars as pl

from servesim.serverless.contract import totals_off
from servesim.serverless.log import ServerlessLog
from servesim.serverless.schema import COMPONENTS

Figure = int | float | None

LARGE_POD_MCPU, LARGE_POD_MB = 400.0, 256.0
"""A pod with more than either is large."""

_GROUPS = ("region", "runtime", "trigger", "pool", "load")
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """Statistics of a log.

    Attributes
    ----------
    figures
        Names with units to numbers; None where the log does not tell.
    tables
        ``by_region``, ``by_runtime``, ``by_trigger``, ``by_pool``, ``by_load``: cold starts, their share, quantiles of
        totals, means of parts, pod utility; ``component_correlation``: Spearman's; ``invocations_by_trigger``;
        ``functions_by_runtime``, ``functions_by_trigger``: functions and their share; ``series``: each metric and
        statistic over functions and windows.
    """

    figures: dict[str, Figure]
    tables: dict[str, pl.DataFrame] = field(default_factory=dict)


def summary(log: ServerlessLog) -> Summary:
    """Return the statistics of all frames that a log has."""
    figures: dict[str, Figure] = {}
    tables: dict[str, pl.DataFrame] = {}
    if log.cold_starts is not None:
        cold_starts = log.cold_starts.collect()
        figures |= cold_start_figures(cold_starts)
        for name in _GROUPS:
            if cold_starts[name].null_count() < cold_starts.height:
                tables[f"by_{name}"] = by(cold_starts, name)
        if cold_starts[COMPONENTS[0]].null_count() < cold_starts.height:
            tables["component_correlation"] = component_correlation(cold_starts)
    if log.invocations is not None:
        invocations = log.invocations.collect()
        figures |= invocation_figures(invocations)
        if invocations["trigger"].null_count() < invocations.height:
            tables["invocations_by_trigger"] = _invocations_by_trigger(invocations)
    if log.functions is not None:
        functions = log.functions.collect()
        figures |= function_figures(functions)
        for name in ("runtime", "trigger"):
            if functions[name].null_count() < functions.height:
                tables[f"functions_by_{name}"] = _functions_by(functions, name)
    if log.series is not None:
        tables["series"] = series_statistics(log.series.collect())
    return Summary(figures, tables)


def cold_start_figures(cold_starts: pl.DataFrame) -> dict[str, Figure]:
    """Return statistics of cold starts as a whole."""
    span_s = _span_s(cold_starts["start_s"])
    gaps = gaps_s(cold_starts)
    utility = cold_starts.select(utility_ratio()).to_series().drop_nulls()
    return {
        "cold_starts": cold_starts.height,
        "span_s": span_s,
        "cold_starts_per_s": cold_starts.height / span_s if span_s else None,
        "cold_starts_per_h_peak_to_trough": peak_to_trough(cold_starts["start_s"]),
        **_statistics(cold_starts["total_s"], "total_s"),
        **_statistics(gaps, "gap_s"),
        "gap_cv": _cv(gaps),
        **{f"{name}_mean": _mean(cold_starts[name]) for name in COMPONENTS},
        "totals_off": totals_off(cold_starts),
        "large_to_small_total_s_p50": _large_to_small(cold_starts),
        "pod_utility_ratio_p50": _quantile(utility, 0.5),
        "pod_utility_ratio_p90": _quantile(utility, 0.9),
        "pod_utility_below_1_ratio": _mean(utility < 1) if len(utility) else None,
    }


def invocation_figures(invocations: pl.DataFrame) -> dict[str, Figure]:
    """Return statistics of invocations as a whole; those of gaps are over single invocations only."""
    span_s = _span_s(invocations["arrival_s"], invocations["window_s"])
    count = int(invocations["invocations"].sum())
    popular = (
        invocations.group_by("function").agg(pl.col("invocations").sum()).sort("invocations", descending=True)
    )
    top = max(round(0.1 * popular.height), 1)
    exact = invocations.filter(pl.col("window_s") == 0)["arrival_s"].sort().diff().drop_nulls()
    cold = invocations["cold"].drop_nulls()
    return {
        "invocations": count,
        "functions_invoked": popular.height,
        "invocations_span_s": span_s,
        "invocations_per_s": count / span_s if span_s else None,
        "invocation_gap_cv": _cv(exact),
        "top_tenth_of_functions_ratio": float(popular["invocations"][:top].sum() / count) if count else None,
        **_statistics(invocations["duration_s"].drop_nulls(), "duration_s"),
        "cold_ratio": _mean(cold) if len(cold) else None,
    }


def function_figures(functions: pl.DataFrame) -> dict[str, Figure]:
    """Return how many functions there are, of how many owners, and how much of the requests the busiest has."""
    requests = functions["invocations"].drop_nulls()
    total = int(requests.sum()) if len(requests) else None
    most = int(requests.max()) if len(requests) else None  # type: ignore[arg-type]  # a number
    return {
        "functions": functions.height,
        "users": functions["user"].drop_nulls().n_unique(),
        "function_invocations": total,
        "function_invocations_max": most,
        "busiest_function_ratio": most / total if most and total else None,
    }


def series_statistics(series: pl.DataFrame) -> pl.DataFrame:
    """Return for each metric and statistic how many functions and windows it has, and its values over both."""
    value = pl.col("value")
    return (
        series.group_by("metric", "statistic", maintain_order=True)
        .agg(
            pl.col("function").n_unique().alias("functions"),
            pl.col("start_s").n_unique().alias("windows"),
            pl.len().alias("values"),
            value.mean().alias("value_mean"),
            *(value.quantile(q, "linear").alias(f"value_{name}") for name, q in _QUANTILES.items()),
            value.max().alias("value_max"),
        )
        .sort("metric", "statistic", nulls_last=True)
    )


def by(cold_starts: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return statistics of cold starts for each value of *column*, the most frequent one first."""
    total = pl.col("total_s")
    return (
        cold_starts.group_by(column)
        .agg(
            pl.len().alias("cold_starts"),
            (pl.len() / cold_starts.height).alias("share_ratio"),
            total.mean().alias("total_s_mean"),
            *(total.quantile(q, "linear").alias(f"total_s_{name}") for name, q in _QUANTILES.items()),
            *(pl.col(name).mean().alias(f"{name}_mean") for name in COMPONENTS),
            utility_ratio().median().alias("pod_utility_ratio_p50"),
            (utility_ratio() < 1).mean().alias("pod_utility_below_1_ratio"),
        )
        .sort("cold_starts", column, descending=[True, False], nulls_last=True)
    )


def pod_time_shares(cold_starts: pl.DataFrame, column: str, keep_alive_s: float) -> dict[str, float]:
    """Return which share of the time that pods exist is those of each value of *column*.

    A pod exists while it starts, is useful and is kept. Pods that have not ended are left out.
    """
    lifetime_s = pl.col("total_s") + pl.col("useful_s") + keep_alive_s
    ended = cold_starts.filter(pl.col("useful_s").is_not_null(), pl.col(column).is_not_null())
    rows = ended.group_by(column).agg(lifetime_s.sum().alias("pod_s")).sort(column)
    return dict(zip(rows[column], rows["pod_s"] / rows["pod_s"].sum(), strict=True))


def component_correlation(cold_starts: pl.DataFrame) -> pl.DataFrame:
    """Return Spearman's rank correlation of each pair of parts, and of each part with the total.

    Null where a part does not vary.
    """
    pairs = [*combinations(COMPONENTS, 2), *((name, "total_s") for name in COMPONENTS)]
    known = cold_starts.select(*COMPONENTS, "total_s").drop_nulls().select(pl.all().rank())
    values = [known.select(pl.corr(first, second)).item() for first, second in pairs]
    return pl.DataFrame(
        {
            "first": [first for first, _ in pairs],
            "second": [second for _, second in pairs],
            "spearman": pl.Series(values, dtype=pl.Float64).fill_nan(None),
        }
    )


def gaps_s(cold_starts: pl.DataFrame) -> pl.Series:
    """Return the times between cold starts that follow each other in a region."""
    rows = cold_starts.select("region", "start_s").sort("start_s", maintain_order=True)
    return rows.select(pl.col("start_s").diff().over("region")).to_series().drop_nulls()


def peak_to_trough(times_s: pl.Series) -> float | None:
    """Return the highest over the lowest count of an hour, both ends left out; None with fewer than two full hours or
    where an hour has none.
    """
    if not len(times_s):
        return None
    hours = np.floor(times_s.to_numpy() / _HOUR_S).astype(np.int64)
    counts = np.bincount(hours - hours.min())[1:-1]
    return float(counts.max() / counts.min()) if len(counts) >= 2 and counts.min() > 0 else None


def utility_ratio() -> pl.Expr:
    """Return the pod utility ratio: useful life over cold-start time."""
    return pl.when(pl.col("total_s") > 0).then(pl.col("useful_s") / pl.col("total_s"))


def _invocations_by_trigger(invocations: pl.DataFrame) -> pl.DataFrame:
    count = pl.col("invocations").sum()
    return (
        invocations.group_by("trigger")
        .agg(
            count, pl.col("function").n_unique().alias("functions"), pl.col("cold").mean().alias("cold_ratio")
        )
        .sort("invocations", "trigger", descending=[True, False])
    )


def _functions_by(functions: pl.DataFrame, column: str) -> pl.DataFrame:
    return (
        functions.group_by(column)
        .agg(pl.len().alias("functions"), (pl.len() / functions.height).alias("share_ratio"))
        .sort("functions", column, descending=[True, False], nulls_last=True)
    )


def _large_to_small(cold_starts: pl.DataFrame) -> float | None:
    large = (pl.col("cpu_limit_mcpu") > LARGE_POD_MCPU) | (pl.col("memory_limit_mb") > LARGE_POD_MB)
    known = cold_starts.filter(pl.col("cpu_limit_mcpu").is_not_null())
    medians = [_quantile(known.filter(each)["total_s"], 0.5) for each in (large, ~large)]
    return medians[0] / medians[1] if medians[0] is not None and medians[1] else None


def _statistics(values: pl.Series, name: str) -> dict[str, Figure]:
    quantiles: dict[str, Figure] = {
        f"{name}_{label}": _quantile(values, q) for label, q in _QUANTILES.items()
    }
    return {f"{name}_mean": _mean(values)} | quantiles


def _span_s(times_s: pl.Series, window_s: pl.Series | None = None) -> float:
    if not len(times_s):
        return 0.0
    ends_s = times_s if window_s is None else times_s + window_s
    return float(ends_s.max()) - float(times_s.min())  # type: ignore[arg-type]  # numbers


def _quantile(values: pl.Series, q: float) -> float | None:
    return values.quantile(q, "linear")


def _mean(values: pl.Series) -> float | None:
    mean = values.mean()
    return None if mean is None else float(mean)  # type: ignore[arg-type]  # a mean of numbers


def _cv(values: pl.Series) -> float | None:
    mean, deviation = values.mean(), values.std()
    return float(deviation / mean) if mean and deviation is not None else None  # type: ignore[operator,arg-type]
