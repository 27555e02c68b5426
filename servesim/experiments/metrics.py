"""Metrics of experiments: numbers of a summary by name, and which way each is better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from servesim.errors import ScenarioError, nearest
from servesim.results.schema import (
    EXTRA_METRICS,
    EXTRA_SUMMARY,
    LATENCY_METRICS,
    POOL_LOAD,
    STATISTICS,
    SUMMARY,
)

Better = Literal["lower", "higher"]

COMPARED = (
    "ttft_s_p50",
    "ttft_s_p99",
    "tpot_s_p50",
    "tpot_s_p99",
    "e2e_s_p50",
    "e2e_s_p99",
    "requests_per_s",
    "output_tokens_per_s",
    "slo_met_ratio",
    "goodput_requests_per_s",
    "usd_per_million_output_tokens",
)
"""What is compared unless the user names metrics; what a run does not have is left out."""

_LOWER = frozenset(
    {f"{metric.name}_{statistic}" for metric in LATENCY_METRICS for statistic in STATISTICS}
    | {f"{metric.name}_{statistic}" for metric in EXTRA_METRICS for statistic in STATISTICS}
    | {"preemptions", "requests_rejected", "requests_unfinished", "requests_cut", "duration_s", "gpu_hours"}
    | {
        "cost_usd",
        "usd_per_million_output_tokens",
        "kv_used_ratio_max",
        "utilization_ratio",
        "engine_steps",
        "load_ratio",
    }
)
_HIGHER = frozenset(
    {"requests_completed", "requests_per_s", "prompt_tokens_per_s", "output_tokens_per_s"}
    | {"slo_met_ratio", "goodput_requests_per_s", "capacity_requests_per_s"}
)


def better(metric: str) -> Better | None:
    """Return which way *metric* is better, None where that is a matter of view."""
    last = metric.rpartition(".")[2]
    return "lower" if last in _LOWER else "higher" if last in _HIGHER else None


def unit_of(metric: str) -> str:
    """Return the unit of *metric*, as the summary declares it."""
    last = metric.rpartition(".")[2]
    return next((key.unit for key in (*SUMMARY, *EXTRA_SUMMARY, *POOL_LOAD) if key.name == last), "-")


def numbers(summary: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of *summary* by name; those of nested tables as ``slo_classes.NAME.KEY``."""
    for key, value in summary.items():
        if isinstance(value, Mapping):
            yield from numbers(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, Mapping):
                    yield from numbers(item, f"{prefix}{key}.{item.get('pool', index)}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", float(value)


def value_of(summary: Mapping[str, Any], metric: str, *, where: str = "metric") -> float:
    """Return the number that *metric* names in *summary*.

    Parameters
    ----------
    summary
        ``RunResult.summary``.
    metric
        A key of the summary, or of a table in it with dots: ``slo_classes.chat.slo_met_ratio``.
    where
        What messages start with.

    Raises
    ------
    ScenarioError
        If there is no such number in a summary, or none in this one.
    """
    found = dict(numbers(summary))
    if metric in found:
        return found[metric]
    if metric in summary and summary[metric] is None:
        raise ScenarioError(
            f"{where}: {metric} has no value in this run. expected a metric that it has", hint=_reason(metric)
        )
    known = sorted({*found, *(key for key, value in summary.items() if value is None)})
    raise ScenarioError(
        f"{where}: unknown metric (got {metric!r}). expected a key of summary.json with a number",
        hint=nearest(metric, known) or "docs/reference/metrics.md lists them",
    )


def _reason(metric: str) -> str | None:
    if metric in ("slo_met_ratio", "goodput_requests_per_s"):
        return "the scenario sets no slo: give it one, say --set slo.ttft_s=1"
    if metric in ("cost_usd", "usd_per_million_output_tokens"):
        return "the price of a GPU is unknown: give it, say --set cost.gpu_usd_per_h=2.5"
    return None
