"""Is variant B better than A, by how much, and is that noise? Paired differences over seeds."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from servesim.errors import ScenarioError, nearest
from servesim.experiments.axes import Axis, Variant, check_values, grid, overrides_of
from servesim.experiments.backends import Backend, local_backend
from servesim.experiments.metrics import COMPARED, better, unit_of, value_of
from servesim.experiments.points import seeds_from
from servesim.experiments.replications import Case, OnDone, Replications, fixed_workload, replicate
from servesim.experiments.statistics import (
    Method,
    holm,
    mean_interval,
    paired_interval,
    paired_p_value,
    seeds_to_decide,
)
from servesim.experiments.warm_up import Rule, WarmUp, find_warm_up, with_warm_up
from servesim.scenario import Scenario, load_scenario

if TYPE_CHECKING:
    import pandas as pd

DRAIN_SHARE = 0.05
"""A drain that takes a larger share of the run than this dilutes its rates, and is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a comparison measures.

    Attributes
    ----------
    metrics
        Keys of the summary; None: `servesim.experiments.metrics.COMPARED`, where the runs have them.
    interval
        ``t`` or ``bootstrap``.
    confidence
        Of every interval, and of the marks.
    warm_up
        ``scenario``, ``auto`` (MSER-5) or a time in s.
    """

    metrics: Sequence[str] | None = None
    interval: Method = "t"
    confidence: float = 0.95
    warm_up: Rule = "scenario"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """What a comparison found.

    Attributes
    ----------
    baseline
        Name of the variant that the others are compared with.
    seeds
        The seeds that were run; a single one where nothing is random.
    random
        Whether seeds change anything. If not there are no intervals: the numbers are exact.
    table
        A row per metric and variant: ``metric, variant, mean, low, high`` (of the mean), ``difference,
        difference_low, difference_high`` (paired, to the baseline), ``relative`` (difference / the baseline's
        mean), ``p_value`` (paired t test, adjusted by Holm over the variants of a metric), ``significant``,
        ``verdict`` (better, worse or none shown; null where neither way is better) and ``seeds_to_decide``.
        Null where it does not apply.
    values
        A row per variant and seed with every metric.
    same_requests
        Whether all variants have the same workload, and so are given the same requests at a seed.
    warm_up, interval, confidence
        The methods.
    warnings
        What qualifies the numbers.
    """

    baseline: str
    seeds: list[int]
    random: bool
    table: pl.DataFrame
    values: pl.DataFrame
    same_requests: bool
    warm_up: WarmUp
    interval: str
    confidence: float
    warnings: list[str]

    @property
    def variants(self) -> list[str]:
        """Names of the variants, in their order."""
        names: list[str] = self.values["variant"].unique(maintain_order=True).to_list()
        return names

    @property
    def methods(self) -> list[str]:
        """How the numbers came about, a sentence each."""
        lines = []
        if self.random and len(self.seeds) == 1:
            lines.append("one seed: no intervals and nothing significant; more seeds give both")
        elif self.random:
            kind = "Student's t" if self.interval == "t" else "BCa bootstrap"
            given = (
                "all variants of a seed are given the same requests"
                if self.same_requests
                else "variants have other workloads, drawn from the same seeds"
            )
            lines += [
                f"{self.confidence:.0%} intervals: {kind} on paired differences over {len(self.seeds)} seeds; {given}",
                f"marked *: p < {1 - self.confidence:.2g}, paired t test, adjusted by Holm over the variants "
                "of a metric",
            ]
        lines.append(f"warm-up: {self.warm_up.text}; quantiles interpolate linearly within each run")
        return lines

    @property
    def conclusions(self) -> list[str]:
        """What the intervals support, a sentence per variant; nothing where nothing is random."""
        return [self._conclusion(name) for name in self.variants if name != self.baseline and self.random]

    def _conclusion(self, variant: str) -> str:
        rows = self.table.filter(pl.col("variant") == variant)
        found = {
            verdict: rows.filter(pl.col("verdict") == verdict)["metric"].to_list()
            for verdict in ("better", "worse", "none shown")
        }
        parts = [f"{verdict} in {', '.join(metrics)}" for verdict, metrics in found.items() if metrics] or [
            "nothing shown"
        ]
        text = "; ".join(parts).replace("none shown in", f"no difference to {self.baseline} shown in")
        open_rows = rows.filter(
            pl.col("verdict") == "none shown", pl.col("seeds_to_decide") > len(self.seeds)
        )
        if open_rows.height:
            row = open_rows.sort("seeds_to_decide").row(0, named=True)
            text += f" (if its mean holds, {row['metric']} takes some {row['seeds_to_decide']} seeds)"
        return f"{variant}: {text}"

    def to_pandas(self) -> pd.DataFrame:
        """Return `table` as a pandas frame."""
        return self.table.to_pandas()

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, for JSON."""
        return {
            "baseline": self.baseline,
            "variants": self.variants,
            "seeds": self.seeds,
            "random": self.random,
            "confidence": self.confidence,
            "interval": self.interval,
            "warm_up_s": self.warm_up.warm_up_s,
            "methods": self.methods,
            "warnings": self.warnings,
            "conclusions": self.conclusions,
            "table": self.table.to_dicts(),
            "values": self.values.to_dicts(),
        }

    def _repr_html_(self) -> str:
        """Return the table for notebooks: differences to the baseline with their intervals."""
        names = ("metric", "variant", "mean", "difference", "interval", "relative", "verdict")
        head = "".join(f"<th>{name}</th>" for name in names)
        body = "".join(_html_row(row) for row in self.table.iter_rows(named=True))
        notes = "".join(
            f"<div>{html.escape(line)}</div>" for line in [*self.conclusions, *self.warnings, *self.methods]
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"


def compare(
    scenario: Scenario | str | Path | Sequence[str | Path],
    *,
    vary: Mapping[str, Sequence[Any]] | None = None,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    overrides: Sequence[str] = (),
    seeds: int | Sequence[int] = 10,
    baseline: str | None = None,
    options: Options | None = None,
    workers: int | None = None,
) -> Comparison:
    """Run variants of a scenario with the same seeds and compare them with a baseline.

    Parameters
    ----------
    scenario
        A scenario file, several of them, or a `Scenario` made in Python (with *variants* only).
    vary
        Keys of the scenario to the values they take: ``{"policies.router.name": ["random", "least_tokens"]}``.
        Every combination is a variant.
    variants
        Instead of *vary*: name to policy objects, ``{"mine": {"router": MyRouter()}, "before": {}}``.
    overrides
        ``"a.b.c=value"`` each, applied to every variant.
    seeds
        So many, from the scenario's own seed on, or the seeds themselves. They vary what is random: a
        generator, ``workload.resample``, the policies. A trace as it is stays the same for all of them.
    baseline
        Name of a variant; the first one if None.
    options
        Metrics, intervals, warm-up.
    workers
        Processes that compute; None: one per CPU core.

    Raises
    ------
    ServesimError
        If a scenario cannot be used, or a run fails; names the variant and the seed.

    Examples
    --------
    >>> import servesim
    >>> comparison = servesim.compare(
    ...     "scenarios/quickstart.yaml",
    ...     vary={"policies.router.name": ["round_robin", "random"]},
    ...     overrides=["workload.max_requests=50"], seeds=3, workers=1)
    >>> comparison.baseline, comparison.variants
    ('round_robin', ['round_robin', 'random'])
    """
    for key, listed in (vary or {}).items():
        check_values(listed, f"vary: {key}")
    axes = [Axis(key, tuple(listed)) for key, listed in (vary or {}).items()]
    cases = cases_of(scenario, axes, variants=variants, overrides=overrides)
    numbers = seeds_from(cases[0].scenario, seeds)
    backend = local_backend(workers, len(cases) * len(numbers))
    return compare_cases(cases, numbers, backend, baseline=baseline, options=options or Options())


def cases_of(
    scenario: Scenario | str | Path | Sequence[str | Path],
    axes: Sequence[Axis],
    *,
    variants: Mapping[str, Mapping[str, Any]] | None = None,
    overrides: Sequence[str] = (),
) -> list[Case]:
    """Return the cases to compare, loaded and checked; parameters as for `compare`.

    Raises
    ------
    ScenarioError
        If a scenario is wrong, or two cases have the same name.
    """
    chosen = (
        [Variant(name, objects=objects) for name, objects in variants.items()] if variants else grid(axes)
    )
    if isinstance(scenario, Scenario):
        if axes or overrides:
            raise ScenarioError(
                "vary and overrides: only a file takes them (got a Scenario). expected variants, or a path"
            )
        loaded = [(variant.name, scenario, variant.objects) for variant in chosen]
    else:
        files = [scenario] if isinstance(scenario, str | Path) else list(scenario)
        loaded = []
        for file in files:
            for variant in chosen:
                spec = load_scenario(
                    file, overrides=overrides, varied=overrides_of(variant.coordinates), with_files=True
                )
                alone = spec.name if variant.name == "base" else f"{spec.name}, {variant.name}"
                loaded.append((alone if len(files) > 1 else variant.name, spec, variant.objects))
    names = [name for name, _, _ in loaded]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ScenarioError(f"two variants are called {twice!r}. expected scenarios with distinct names")
    return [Case(name=name, scenario=spec, objects=objects) for name, spec, objects in loaded]


def compare_cases(
    cases: Sequence[Case],
    seeds: Sequence[int],
    backend: Backend,
    *,
    baseline: str | None,
    options: Options,
    on_done: OnDone | None = None,
) -> Comparison:
    """Run *cases* with *seeds* and compare them; parameters otherwise as for `compare`."""
    names = [case.name for case in cases]
    baseline = names[0] if baseline is None else baseline
    if baseline not in names:
        raise ScenarioError(
            f"baseline: unknown variant (got {baseline!r}). expected one of {', '.join(names)}",
            hint=nearest(baseline, names),
        )
    warm_up = find_warm_up(cases, options.warm_up, seeds[0], backend)
    if warm_up.warm_up_s is not None:
        cases = [replace(case, scenario=with_warm_up(case.scenario, warm_up.warm_up_s)) for case in cases]
    runs = replicate(cases, seeds, backend, on_done=on_done)
    metrics = _metrics(runs, options.metrics)
    values = _values(runs, metrics)
    return Comparison(
        baseline=baseline,
        seeds=runs.seeds,
        random=runs.random,
        table=_table(values, names, metrics, baseline, options),
        values=values,
        same_requests=all(case.scenario.workload == cases[0].scenario.workload for case in cases),
        warm_up=warm_up,
        interval=options.interval,
        confidence=options.confidence,
        warnings=_warnings(runs, cases, len(seeds), warm_up),
    )


def _metrics(runs: Replications, asked: Sequence[str] | None) -> list[str]:
    """Return the metrics to compare: those asked for, or those that every run has."""
    summaries = [run.summary for replications in runs.by_variant.values() for run in replications]
    if asked is None:
        return [name for name in COMPARED if all(summary[name] is not None for summary in summaries)]
    for metric in asked:
        for summary in summaries:
            value_of(summary, metric, where="--metric")
    return list(dict.fromkeys(asked))


def _values(runs: Replications, metrics: Sequence[str]) -> pl.DataFrame:
    rows = [
        {"variant": name, "seed": seed} | {metric: value_of(run.summary, metric) for metric in metrics}
        for name, replications in runs.by_variant.items()
        for seed, run in zip(runs.seeds, replications, strict=True)
    ]
    return pl.DataFrame(rows, schema_overrides=dict.fromkeys(metrics, pl.Float64()))


_TABLE = {
    "metric": pl.String(),
    "unit": pl.String(),
    "variant": pl.String(),
    **dict.fromkeys(
        ("mean", "low", "high", "difference", "difference_low", "difference_high", "relative", "p_value"),
        pl.Float64(),
    ),
    "significant": pl.Boolean(),
    "verdict": pl.String(),
    "seeds_to_decide": pl.Int64(),
}


def _table(
    values: pl.DataFrame, names: Sequence[str], metrics: Sequence[str], baseline: str, options: Options
) -> pl.DataFrame:
    rows = [
        row
        for metric in metrics
        for row in _metric_rows(
            metric,
            {name: values.filter(pl.col("variant") == name)[metric].to_list() for name in names},
            baseline,
            options,
        )
    ]
    return pl.DataFrame(rows, schema=_TABLE)


def _metric_rows(
    metric: str, values: Mapping[str, list[float]], baseline: str, options: Options
) -> list[dict[str, Any]]:
    """Return the rows of one metric, a dictionary per variant."""
    base = values[baseline]
    mean_base = sum(base) / len(base)
    others = [name for name in values if name != baseline]
    raw = [paired_p_value(values[name], base) for name in others]
    adjusted = holm([p for p in raw if p is not None])
    p_values = dict(zip(others, adjusted, strict=True)) if len(adjusted) == len(others) else {}
    rows = []
    for name, mine in values.items():
        mean = mean_interval(mine, confidence=options.confidence, method=options.interval)
        row: dict[str, Any] = {"metric": metric, "unit": unit_of(metric), "variant": name}
        row |= {"mean": mean.estimate, "low": mean.low, "high": mean.high}
        if name != baseline:
            row |= _difference(metric, mine, base, p_values.get(name), options)
            row["relative"] = row["difference"] / mean_base if mean_base else None
        rows.append(row)
    return rows


def _difference(
    metric: str, mine: Sequence[float], base: Sequence[float], p_value: float | None, options: Options
) -> dict[str, Any]:
    interval = paired_interval(mine, base, confidence=options.confidence, method=options.interval)
    row: dict[str, Any] = {
        "difference": interval.estimate,
        "difference_low": interval.low,
        "difference_high": interval.high,
        "p_value": p_value,
    }
    if p_value is None:
        return row
    significant = p_value < 1.0 - options.confidence
    way = better(metric)
    if not significant:
        differences = [a - b for a, b in zip(mine, base, strict=True)]
        verdict = "none shown"
        row["seeds_to_decide"] = seeds_to_decide(differences, confidence=options.confidence)
    elif way is None:
        verdict = None
    else:
        verdict = "better" if (interval.estimate < 0) == (way == "lower") else "worse"
    return row | {"significant": significant, "verdict": verdict}


def _warnings(runs: Replications, cases: Sequence[Case], asked_seeds: int, warm_up: WarmUp) -> list[str]:
    warnings = []
    if not runs.random and asked_seeds > 1:
        warnings.append(
            "nothing is random here: two seeds gave the same numbers for every variant, so there is one run "
            "each and no interval. Differences are exact for this trace, and say nothing about another day; "
            "workload.resample.block_s=60 draws other days from it"
        )
    elif runs.random and all(fixed_workload(case.scenario) for case in cases):
        warnings.append(
            "the trace is the same for every seed: intervals are over the random choices of policies only; "
            "workload.resample.block_s=60 varies the trace, too"
        )
    if not warm_up.found:
        warnings.append(warm_up.text)
    for case in cases:
        found = runs.by_variant[case.name]
        growing = sum(run.summary["backlog_growing"] for run in found)
        if growing:
            warnings.append(
                f"{case.name} is saturated (its backlog grows until the end in {growing} of {len(found)} "
                "runs): its latencies depend on the length of the run and are lower bounds"
            )
        for state in ("rejected", "unfinished"):
            count = sum(run.summary[f"requests_{state}"] for run in found)
            if count:
                warnings.append(f"{case.name}: {count:,} requests {state}; latencies are without them")
        drains = [1.0 - run.last_arrival_s / run.summary["duration_s"] for run in found]
        if case.scenario.run.drain and max(drains) > DRAIN_SHARE and not growing:
            warnings.append(
                f"{case.name}: the drain after the last arrival takes up to {max(drains):.0%} of a run; it "
                "lowers rates per second (run.drain=false ends at the last arrival)"
            )
    return warnings


def _html_row(row: Mapping[str, Any]) -> str:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.4g}"

    interval = (
        ""
        if row["difference_low"] is None
        else f"[{number(row['difference_low'])}, {number(row['difference_high'])}]"
    )
    relative = "" if row["relative"] is None else f"{row['relative']:+.1%}"
    mark = " *" if row["significant"] else ""
    verdict = "baseline" if row["difference"] is None else f"{row['verdict'] or ''}{mark}"
    cells = [row["metric"], row["variant"], number(row["mean"]), number(row["difference"]), interval]
    return "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in [*cells, relative, verdict]) + "</tr>"
