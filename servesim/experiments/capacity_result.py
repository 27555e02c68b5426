"""What a search for capacity found: the answer, the curve that was explored, and what qualifies them."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from servesim.experiments.load_points import Measured
from servesim.experiments.search import Boundary


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Capacity:
    """What a search for capacity found.

    Attributes
    ----------
    scenario
        Its name.
    find
        ``max-rate`` or ``min-replicas``.
    pool
        Whose replicas are counted; None for a rate.
    slos
        The objectives, as expressions.
    value, unit
        The answer: the highest rate explored, or the least number of replicas, at which the mean over seeds of
        every objective's metric is within its limit.
    low, high
        Interval of the answer; None without seeds that differ, and for an end that was not found.
    limited
        Whether there is a limit: False where the objectives are met at the hardest load that was tried, too.
    rate_scale
        ``workload.rate_scale`` that gives the rate; None for replicas.
    output_tokens_per_s
        Latency-bounded throughput: output tokens of the requests that arrive per s at the answer.
    knee_low, knee_high
        Two loads in `unit`, at the easier of which the backlog does not grow, and at the harder it does; None for
        what was not found.
    unloaded
        The objectives' metrics of an unloaded cluster.
    seeds, random
        The seeds that were run, and whether they change anything.
    confidence
        Of intervals.
    curve
        A row per load that was explored, in order: ``rate_per_s`` and ``rate_scale``, or ``replicas``; ``verdict``
        (met, missed, saturated or stopped early) and whether it is ``certain``; the mean of each objective's
        metric with ``_low`` and ``_high``, null where a run was ended early or the backlog grows: such values
        depend on the length of the run; measured throughput and goodput; ``runs``, and how many of them were
        ``runs_stopped`` and ``runs_growing``.
    conclusions, warnings, methods
        What it means, what qualifies it, how it came about; a sentence each.
    """

    scenario: str
    find: str
    pool: str | None
    slos: list[str]
    value: float
    unit: str
    low: float | None
    high: float | None
    limited: bool
    rate_scale: float | None
    output_tokens_per_s: float
    knee_low: float | None
    knee_high: float | None
    unloaded: dict[str, float | None]
    seeds: list[int]
    random: bool
    confidence: float
    curve: pl.DataFrame
    conclusions: list[str]
    warnings: list[str]
    methods: list[str]

    @property
    def level(self) -> str:
        """Name of the curve's column in which `value` is."""
        return "rate_per_s" if self.find == "max-rate" else "replicas"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, for JSON."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {"curve": self.curve.to_dicts()}

    def _repr_html_(self) -> str:
        """Return the conclusions and the curve for notebooks."""
        names = [name for name in self.curve.columns if not name.startswith("slo_classes.")]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_cell(row[name]))}</td>" for name in names) + "</tr>"
            for row in self.curve.iter_rows(named=True)
        )
        lines = [*self.conclusions, *(f"warning: {line}" for line in self.warnings)]
        notes = "".join(f"<div>{html.escape(line)}</div>" for line in lines)
        methods = "".join(f"<div>{html.escape(line)}</div>" for line in self.methods)
        return f"{notes}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{methods}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the search left.

    Attributes
    ----------
    met, surely_met, not_surely_missed
        Where the means stop to meet the objectives, where intervals stop to lie within them, and where they begin
        to lie beyond.
    knee
        Where the backlog begins to grow.
    measured
        Every load by its level.
    seeds, random
        As in `Capacity`.
    """

    met: Boundary
    surely_met: Boundary
    not_surely_missed: Boundary
    knee: Boundary
    measured: Mapping[float, Measured]
    seeds: list[int]
    random: bool

    @property
    def answer(self) -> Measured:
        """The hardest load that meets the objectives."""
        assert self.met.inside is not None, "without an answer there is an error"
        return self.measured[self.met.inside]

    @property
    def has_interval(self) -> bool:
        """Whether there are seeds that differ."""
        return self.random and len(self.seeds) > 1


def number(value: float) -> str:
    """Return a number with three digits or, if it is larger, as a whole one."""
    return f"{value:,.0f}" if abs(value) >= 100.0 or value == int(value) else f"{value:.3g}"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return number(value)
    return "" if value is None else str(value)
