"""``servesim trace compare``: two traces side by side, and what makes their simulations differ."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from servesim.cli.exits import OK
from servesim.cli.output import write, write_json
from servesim.errors import ServesimError
from servesim.results.units import count_text, latency_unit, number_text

if TYPE_CHECKING:
    import polars as pl

    from servesim.traces.explain import Explanation

_NAMES = {
    "gap_s": "gap (s)",
    "prompt_tokens": "prompt tokens",
    "output_tokens": "output tokens",
    "requests_per_1s": "requests in 1 s",
    "image_tokens": "image tokens",
    "audio_tokens": "audio tokens",
    "reasoning_tokens": "reasoning tokens",
}
_NUMBERS = {
    "requests": "requests",
    "span_s": "span (s)",
    "rate_per_s": "rate (1/s)",
    "gap_cv": "CV of gaps",
    "dispersion_1s": "D@1s",
    "peak_1s": "most in 1 s",
    "correlation": "correlation of lengths",
}


@dataclass(frozen=True)
class Question:
    """On what to simulate both traces, and what to explain."""

    scenario: Path
    overrides: list[str]
    metric: str
    seeds: int
    workers: int | None


def compare_traces(one: Path, other: Path, question: Question | None, *, as_json: bool, quiet: bool) -> int:
    """Print how far two traces are apart, and with *question* what makes a metric differ; return the exit code."""
    from servesim.traces.compare import compare_files, is_pool
    from servesim.traces.distances import distances
    from servesim.traces.source import read_requests

    if pools := [path for path in (one, other) if is_pool(path)]:
        if question is not None:
            raise ServesimError(
                f"--scenario: {pools[0]}: a client pool. expected two traces of requests",
                hint="servesim trace generate makes requests of a pool",
            )
        apart = compare_files(one, other)
        requests = other if pools[0] == one else one
        if as_json:
            write_json(apart)
        else:
            write(_pool_page(pools[0], requests, apart))
        return OK
    frames = (read_requests(one).frame, read_requests(other).frame)
    apart = distances(*frames)
    explanation = None if question is None else _explain(frames, (one, other), question, quiet=quiet)
    if as_json:
        write_json(apart | ({"explanation": explanation.to_dict()} if explanation else {}))
    else:
        write(_page(one, other, apart, explanation))
    return OK


def _explain(
    frames: tuple[pl.DataFrame, pl.DataFrame], paths: tuple[Path, Path], question: Question, *, quiet: bool
) -> Explanation:
    from servesim.cli.progress import PointsProgress
    from servesim.experiments.backends import local_backend
    from servesim.experiments.points import seeds_from
    from servesim.scenario import load_scenario
    from servesim.traces.explain import check_open, explain
    from servesim.traces.marginals import MARGINALS

    for frame, path in zip(frames, paths, strict=True):
        check_open(frame, str(path))
    scenario = load_scenario(question.scenario, overrides=question.overrides)
    seeds = seeds_from(scenario, question.seeds)
    backend = local_backend(question.workers, 2 ** len(MARGINALS) * len(seeds))
    with PointsProgress(enabled=not quiet and sys.stderr.isatty()) as progress:
        return explain(*frames, scenario, backend, metric=question.metric, seeds=seeds, on_done=progress)


def _page(one: Path, other: Path, apart: Mapping[str, Any], explanation: Explanation | None) -> str:
    from rich.markup import escape

    from servesim.cli.summary import numbers_table, rendered

    parts: list[Any] = [
        f"A  {escape(str(one))}",
        f"B  {escape(str(other))}",
        "",
        numbers_table(["", "A", "B"], _number_rows(apart["numbers"])),
        "",
        numbers_table(
            ["distribution", "A p50", "B p50", "A p99", "B p99", "KS", "quantile distance", "of A's mean"],
            _distribution_rows(apart["distributions"]),
        ),
    ]
    if explanation is not None:
        parts += ["", *_explanation_parts(explanation)]
    return rendered(parts)


def _pool_page(pool: Path, requests: Path, apart: Mapping[str, Any]) -> str:
    from rich.markup import escape

    from servesim.cli.summary import numbers_table, rendered

    pairs = {"rate (1/s)": apart["rate_per_s"], "clients for 90%": apart["clients_for_90_percent"]}
    for name in ("prompt_tokens", "output_tokens"):
        pairs |= {f"{_NAMES[name]} {level}": pair for level, pair in apart.get(name, {}).items()}
    rows = [
        [name, number_text(pair["pool"]), number_text(pair["requests"]), f"{pair['ratio']:.3g}"]
        for name, pair in pairs.items()
    ]
    cv = apart["client_cv"]
    told = "of no client: too few windows with 50 requests"
    if cv["clients"]:
        told = (
            f"of {cv['within_10_percent']} of {cv['clients']} clients within 10%; p50 {cv['ratio_p50']:.2f}, from "
            f"{cv['ratio_min']:.2f} to {cv['ratio_max']:.2f} times what their shapes imply"
        )
    head = [f"pool      {escape(str(pool))}", f"requests  {escape(str(requests))}", ""]
    table = numbers_table(["", "pool", "requests", "ratio"], rows)
    return rendered([*head, table, "", f"CV of gaps {told}"])


def _number_rows(numbers: Mapping[str, Any]) -> list[list[str]]:
    def text(value: float | int | None) -> str:
        return count_text(value) if isinstance(value, int) else number_text(value)

    return [[_NUMBERS[name], text(pair["a"]), text(pair["b"])] for name, pair in numbers.items()]


def _distribution_rows(found: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name, each in found.items():
        a, b = each["a"] or {}, each["b"] or {}
        quantiles = [number_text(side.get(key)) for key in ("p50", "p99") for side in (a, b)]
        relative = "-" if each["relative"] is None else f"{each['relative']:.0%}"
        ks = "-" if each["ks"] is None else f"{each['ks']:.3f}"
        rows.append([_NAMES[name], *quantiles, ks, number_text(each["quantile_distance"]), relative])
    return rows


def _explanation_parts(explanation: Explanation) -> list[Any]:
    from servesim.cli.summary import numbers_table
    from servesim.traces.marginals import MARGINALS

    difference = explanation.b - explanation.a
    unit, scale = explanation.unit, 1.0
    if unit == "s":
        unit, scale = latency_unit([float(explanation.a), float(explanation.b)])

    def text(value: Any, sign: bool = True) -> str:
        plain = number_text(float(value) * scale)
        return f"+{plain}" if sign and value > 0 else plain

    rows = [
        [name, text(share), f"{round(share / difference * 100):+d}%" if difference else "-"]
        for name, share in sorted(explanation.shares.items(), key=lambda item: -abs(item[1]))
    ]
    a, b = text(explanation.a, sign=False), text(explanation.b, sign=False)
    return [
        f"{explanation.metric} is {a} {unit} with A and {b} {unit} with B, a difference of {text(difference)} {unit}",
        "",
        numbers_table(
            ["made by", f"{unit}", "share"], [*rows, ["sum", text(difference), "100%" if difference else "-"]]
        ),
        "",
        *(f"{name}: {meaning}" for name, meaning in MARGINALS.items()),
        f"Shapley values over {len(explanation.values)} mixtures of both traces, seeds "
        f"{', '.join(map(str, explanation.seeds))}; they add up exactly",
        *(f"note: {warning}" for warning in explanation.warnings),
    ]
