"""Fit the coefficients of the serverless generators, ``servesim/serverless/huawei_2025.json``.

The inputs are curves read off the figures of Joosen et al., "Serverless Cold Starts and Where to Find Them",
EuroSys 2025, in ``../shared/traces/huawei_coldstart``. What is written are knots of cumulative distributions,
shares and means, each section with its figure and, for curves, the largest error of the knots. docs/model/serverless.md
tells what they are for.

python scripts/fit_serverless.py
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.serverless.crossed import proportional
from servesim.serverless.curves import Curve, Law, bent, mapping
from servesim.serverless.parameters import PATH

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "traces" / "huawei_coldstart"
PAPER = "Joosen et al., EuroSys 2025 (arXiv 2410.06145)"
Floats = NDArray[np.float64]

SPAN_S = 31 * 86400.0
KEEP_ALIVE_S = 60.0
TOTAL_LAW = {"mu": 0.2965, "sigma": 1.326}
GAP_LAW = {"k": 0.4176, "lambda_s": 0.4217}
KNOT_ERROR = 0.003
BETWEEN_LAWS = (1.02, 1.03, 0.995)
"""What R2's means of `PARTS` are multiplied by, so that they are met as well by totals that follow the published law,
which shortens the middling totals of R2, as by the measured ones.
"""
PARTS = ("deploy_code_s", "deploy_dependency_s", "scheduling_s")
RUNTIME_COLD_STARTS = {  # notebook of the release, exact; "unknown" has 111 and is left out
    "Python3": 1_190_731,
    "Node.js": 287_253,
    "Custom": 186_452,
    "Java": 165_695,
    "Python2": 165_673,
    "Go1.x": 30_045,
    "PHP7.3": 25_591,
    "http": 18_167,
    "C#": 3_105,
}
RUNTIME_OTHER_FUNCTIONS = {"C#": 4, "Go1.x": 21, "PHP7.3": 38}
"""Functions of the runtimes that figure 8 calls other, from the denominators of their shares in figure 9."""
PERIODS_S = (
    *(10.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 720.0, 900.0, 1200.0, 1800.0, 3600.0),
    *(7200.0, 10800.0, 14400.0, 21600.0, 28800.0, 43200.0, 86400.0, 172800.0, 604800.0),
)
STEP_MEDIANS_S, STEP_SIGMA = (0.00019, 0.0132, 10.2), (0.2, 0.2, 0.01)
RARE_STEP = 0.001
STEP_EDGES_S = (0.003, 1.0)
"""Pod allocation is a pool hit below the first, a wider search below the second, from scratch above it."""


def digitised(figure: str, series: str) -> Curve:
    """Return a curve with all its points, from probability 0 to 1."""
    points = pl.read_parquet(DATA / "cdf_points.parquet").filter(
        pl.col("figure").str.starts_with(figure), pl.col("series") == series
    )
    points = points.sort("x", "cdf").cast({"x": pl.Float64, "cdf": pl.Float64})
    x = np.maximum(points["x"].to_numpy(), 1e-5)
    p = np.maximum.accumulate(points["cdf"].to_numpy())
    apart = 1 + 1e-9 * np.arange(len(x) + 2)  # a jump is a steep rise: the curve can be read both ways
    return Curve(np.concatenate(([0.0], p, [1.0])), np.concatenate((x[:1], x, x[-1:])) * apart)


def with_few_knots(curve: Curve) -> Curve:
    """Return *curve* with the fewest knots, added one by one, that keep it within `KNOT_ERROR`, of
    which the last twentieth allows less.
    """
    log_x, p = np.log(curve.x), curve.p
    kept = [0, len(p) - 1]
    while True:
        error = np.abs(np.interp(log_x, log_x[kept], p[kept]) - p) / np.clip(20 * (1 - p), 0.02, 1)
        if error.max() <= KNOT_ERROR or len(kept) == len(p):
            return Curve(p[kept], curve.x[kept])
        kept = sorted({*kept, int(error.argmax())})


def knots(figure: str, series: str) -> dict[str, list[float]]:
    """Return the knots of a published curve, to be saved."""
    curve = with_few_knots(digitised(figure, series))
    return {"p": [round(float(p), 5) for p in curve.p], "x": [float(f"{x:.4g}") for x in curve.x]}


def as_curve(saved: dict[str, list[float]]) -> Curve:
    """Return what `knots` returned as a curve."""
    return Curve(np.array(saved["p"]), np.array(saved["x"]))


def regional_means() -> dict[str, dict[str, float]]:
    """Return cold starts and count-weighted component means of each region (figure 11)."""
    hourly = pl.read_parquet(DATA / "hourly_region.parquet").cast({pl.Float32: pl.Float64})
    names = ("pod_allocation_s", *PARTS, "total_s")
    weighted = [(pl.col(name) * pl.col("cold_starts")).sum() / pl.col("cold_starts").sum() for name in names]
    rows = hourly.group_by("region").agg(pl.col("cold_starts").sum(), *weighted).sort("region").to_dicts()
    return {str(row.pop("region")): {name: float(value) for name, value in row.items()} for row in rows}


def fitted_factors(
    curves: dict[str, Curve],
    shares: dict[str, float],
    law: Law,
    means: dict[str, float],
    change: Callable[[Floats, float], Floats],
) -> dict[str, float]:
    """Return a factor to *change* each region's curve by such that, mapped to the pooled law, its mean is as wanted.

    Only ratios of means are free: the law has a mean of its own, which the pooled mean is.
    """
    factors = dict.fromkeys(curves, 1.0)
    u = (np.arange(200_000) + 0.5) / 200_000
    pooled = sum(shares[name] * means[name] for name in curves)
    for _ in range(60):
        changed = {name: Curve(curves[name].p, change(curves[name].x, factors[name])) for name in curves}
        to_law = mapping(changed, shares, law)
        got = {name: float(to_law(change(curves[name].quantile(u), factors[name])).mean()) for name in curves}
        level = sum(shares[name] * got[name] for name in curves) / pooled
        wanted = {name: means[name] * level / got[name] for name in curves}
        factors = {name: min(max(factors[name] * wanted[name] ** 0.5, 0.6), 1.3) for name in curves}
    print({name: f"mean {got[name]:.4f} s, wanted {means[name] * level:.4f} s" for name in curves})
    return {name: round(factor, 4) for name, factor in factors.items()}


def region_steps(curve: Curve, mean_s: float, hit_ratio: float) -> list[float]:
    """Return the shares of the three steps of pod allocation that give a region its mean.

    The third step belongs to the longest totals and takes 10.2 s of them, at most nine tenths. The first two are
    as likely as in R2 (*hit_ratio* of those two are the first); where the third would be rarer than `RARE_STEP`,
    they alone give the mean.
    """
    first_s, second_s, third_s = STEP_MEDIANS_S
    u = (np.arange(200_000) + 0.5) / 200_000
    top = np.cumsum(np.minimum(third_s, 0.9 * curve.quantile(u))[::-1]) / len(u)
    share = np.arange(1, len(u) + 1) / len(u)
    base_s = hit_ratio * first_s + (1 - hit_ratio) * second_s
    third = float(share[np.searchsorted(top + (1 - share) * base_s, mean_s)])
    if third < RARE_STEP:
        third, hit_ratio = 0.0, (second_s - mean_s) / (second_s - first_s)
    return [round((1 - third) * hit_ratio, 5), round((1 - third) * (1 - hit_ratio), 5), round(third, 5)]


def region_parts(row: dict[str, float], loaded: float) -> dict[str, float]:
    """Return how what a region's totals leave after pod allocation splits into parts.

    How many cold starts load dependencies is published for none of them: as many as in R2, or half as many again as
    their share of the time.
    """
    rest_s = sum(row[name] for name in PARTS)
    split = {name: round(row[name] / rest_s, 5) for name in PARTS}
    return split | {"with_dependencies_ratio": round(max(loaded, 1.5 * split["deploy_dependency_s"]), 4)}


def function_table() -> tuple[list[str], list[str], Floats]:
    """Return runtimes, triggers and their joint shares of R2's functions (figures 8 and 9)."""
    by_runtime = pl.read_parquet(DATA / "fig9_R2_triggers_by_runtime.parquet").cast({pl.Float32: pl.Float64})
    runtimes, triggers = list(RUNTIME_COLD_STARTS), sorted(by_runtime["trigger"].unique())
    shares = dict(proportions("runtime", "functions"))
    other = shares.pop("other")
    shares |= {
        name: other * n / sum(RUNTIME_OTHER_FUNCTIONS.values()) for name, n in RUNTIME_OTHER_FUNCTIONS.items()
    }
    cells = {(row[0], row[1]): row[2] for row in by_runtime.iter_rows()}
    return runtimes, triggers, np.array([[shares[r] * cells[r, t] for t in triggers] for r in runtimes])


def proportions(group: str, measure: str) -> list[tuple[str, float]]:
    """Return the labels of a group of figure 8 and their shares."""
    frame = pl.read_parquet(DATA / "fig8_R2_proportions.parquet").cast({pl.Float32: pl.Float64})
    rows = frame.filter(pl.col("group") == group, pl.col("measure") == measure)
    return [(str(label), float(share)) for label, share in rows.select("label", "proportion").iter_rows()]


def step_shares(figure: str, series: str) -> Floats:
    """Return the shares of the three steps of pod allocation in a published curve."""
    first, second = digitised(figure, series).cdf(np.array(STEP_EDGES_S))
    return np.array([first, second - first, 1 - second])


def cold_start_table(runtimes: list[str], triggers: list[str], seed: Floats) -> Floats:
    """Return the shares of R2's cold starts by allocation step, runtime and trigger.

    Known are the steps of every runtime (figure 15b) and of every trigger (16b), and how many cold starts each
    has; the seed is the joint distribution of functions.
    """
    counts = np.array([RUNTIME_COLD_STARTS[name] for name in runtimes], dtype=float)
    by_runtime = np.array([step_shares("fig15b", name) for name in runtimes]).T * (counts / counts.sum())
    shares = dict(proportions("trigger", "cold_starts"))
    known = [name for name in triggers if name != "unknown"]
    by_trigger = {name: step_shares("fig16b", name) * shares[name] for name in known}
    rest = np.maximum(by_runtime.sum(axis=1) - sum(by_trigger.values()), 1e-4)
    by_trigger["unknown"] = rest / rest.sum() * shares["unknown"]
    trigger_margin = np.array([by_trigger[name] for name in triggers]).T
    trigger_margin *= (by_runtime.sum(axis=1) / trigger_margin.sum(axis=1))[:, None]
    return proportional(np.stack([seed + 1e-6] * 3), ((0, 2), trigger_margin), ((0, 1), by_runtime))


def runtime_parts(runtimes: list[str], table: Floats, means: dict[str, float]) -> list[dict[str, float]]:
    """Return, for each runtime of R2, how what is left of a total after pod allocation splits into parts.

    The seed are the means of the published curves (15c to 15e); dependencies are what is missing to the total.
    Sums over runtimes are in proportion to the region's means.
    """
    shares = table.sum(axis=(0, 2))
    thirds = table.sum(axis=2)[2] / shares
    seed, loaded, rest = np.zeros((len(runtimes), 3)), np.zeros(len(runtimes)), np.zeros(len(runtimes))
    for row, name in enumerate(runtimes):
        total, allocation, code, scheduling = (
            digitised(figure, name).mean() for figure in ("fig15a", "fig15b", "fig15c", "fig15e")
        )
        dependency = max(total - allocation - code - scheduling, 0.0)
        nonzero = digitised("fig15d", name).mean() if name not in ("C#", "Custom") else np.inf
        loaded[row] = min(max(dependency / nonzero, 0.02), 0.9)
        seed[row] = code, max(dependency, 0.002), scheduling
        top_s = digitised("fig15a", name).quantile(1 - thirds[row] * (np.arange(5000) + 0.5) / 5000)
        rest[row] = total - thirds[row] * np.minimum(STEP_MEDIANS_S[2], 0.9 * top_s).mean()
    wanted = np.array([means[name] for name in PARTS]) * BETWEEN_LAWS
    rest *= shares
    split = proportional(seed * shares[:, None], ((0,), rest / rest.sum()), ((1,), wanted / wanted.sum()))
    split /= split.sum(axis=1, keepdims=True)
    return [
        {name: round(float(x), 5) for name, x in zip(PARTS, split[row], strict=True)}
        | {"with_dependencies_ratio": round(float(loaded[row]), 4)}
        for row in range(len(runtimes))
    ]


def by_runtime_and_trigger(
    figures: tuple[str, str], runtimes: list[str], triggers: list[str]
) -> dict[str, Any]:
    """Return the published curves of a quantity of R2 by runtime and by trigger."""
    first, second = figures
    return {
        "by_runtime": {name: knots(first, name) for name in runtimes},
        "by_trigger": {name: knots(second, name) for name in triggers if name != "unknown"},
    }


def function_counts(trigger: str) -> dict[str, Any]:
    """Return mean cold starts, and mean requests per cold start, in strata of a trigger's functions (figure 14).

    Strata are ranges of the rank, finer at the top: most cold starts are of few functions, so means are kept.
    """
    functions = pl.read_parquet(DATA / "fig14_R2_functions.parquet").cast({pl.Float32: pl.Float64})
    functions = functions.filter(pl.col("trigger") == trigger)
    upto = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.96, 0.98, 1.0])

    def means(values: pl.Series) -> list[float]:
        fine = np.sort(values.to_numpy())[np.arange(5000) * len(values) // 5000]
        bounds = np.round(upto * len(fine)).astype(int)
        return [max(float(f"{part.mean():.4g}"), 1.0) for part in np.split(fine, bounds[:-1])]

    ratios = functions.select(pl.col("total_requests") / pl.col("cold_starts")).to_series()
    return {
        "p": upto.tolist(),
        "cold_starts": means(functions["cold_starts"]),
        "requests_per_cold_start": means(ratios),
    }


def timer_periods() -> list[tuple[float, float]]:
    """Return the periods of timers and their shares (figure 14).

    A timer between two usual periods is shared among them such that its rate stays; one that is seldom cold is as
    fast as the keep-alive at least.
    """
    functions = pl.read_parquet(DATA / "fig14_R2_functions.parquet").filter(pl.col("trigger") == "TIMER-A")
    usual = 1 / np.array(PERIODS_S[::-1])
    requests, colds = (
        functions[name].cast(pl.Float64).to_numpy() for name in ("total_requests", "cold_starts")
    )
    rate = np.clip(requests / SPAN_S, usual[0], usual[-1])
    rate = np.where(colds < 0.5 * requests, np.maximum(rate, 1 / KEEP_ALIVE_S), rate)
    above = np.clip(np.searchsorted(usual, rate), 1, len(usual) - 1)
    weight = (rate - usual[above - 1]) / (usual[above] - usual[above - 1])
    counts = np.bincount(above, weight, len(usual)) + np.bincount(above - 1, 1 - weight, len(usual))
    shares = counts[::-1] / len(rate)
    return [
        (period, round(float(share), 5)) for period, share in zip(PERIODS_S, shares, strict=True) if share
    ]


def main() -> None:
    """Write the coefficients."""
    means = regional_means()
    every = sum(row["cold_starts"] for row in means.values())
    shares = {name: row["cold_starts"] / every for name, row in means.items()}
    totals = {name: knots("fig10a", name) for name in means}
    gaps = {name: knots("fig10c", name) for name in means}
    runtimes, triggers, functions = function_table()
    table = cold_start_table(runtimes, triggers, functions)
    parts = runtime_parts(runtimes, table, means["R2"])
    loaded = float(np.dot(table.sum(axis=(0, 2)), [part["with_dependencies_ratio"] for part in parts]))
    steps = table.sum(axis=(1, 2))
    document = {
        "source": f"{PAPER}; curves read off its vector figures; made by scripts/fit_serverless.py",
        "curve_error": f"knots are within {KNOT_ERROR} of the published cumulative distributions",
        "span_s": SPAN_S,
        "total_law": {"source": "section 4: LogNormal, mean 3.24 s, sd 7.10 s", **TOTAL_LAW},
        "gap_law": {"source": "section 4: Weibull, mean 1.25 s, sd 3.66 s", **GAP_LAW},
        "regions": {
            name: {
                "cold_starts": round(row["cold_starts"]),
                "means_s": {part: round(row[part], 5) for part in ("pod_allocation_s", *PARTS, "total_s")},
                "total_s": totals[name],
                "gap_s": gaps[name],
                "steps": region_steps(
                    as_curve(totals[name]), row["pod_allocation_s"], steps[0] / (steps[0] + steps[1])
                ),
                "parts": region_parts(row, loaded),
            }
            for name, row in means.items()
        },
        "total_factors": fitted_factors(
            {name: as_curve(totals[name]) for name in means},
            shares,
            ("lognormal", TOTAL_LAW["mu"], TOTAL_LAW["sigma"]),
            {name: row["total_s"] for name, row in means.items()},
            bent,
        ),
        "gap_factors": fitted_factors(
            {name: as_curve(gaps[name]) for name in means},
            shares,
            ("weibull", GAP_LAW["k"], GAP_LAW["lambda_s"]),
            {name: SPAN_S / row["cold_starts"] for name, row in means.items()},
            np.multiply,
        ),
        "allocation_steps": {
            "source": "figures 15b, 16b: pool hit, wider search, from scratch; median and sigma of the logarithm",
            "median_s": list(STEP_MEDIANS_S),
            "sigma": list(STEP_SIGMA),
        },
        "R2": {
            "source": "figures 8, 9, 14 to 17 and the release's notebook",
            "runtimes": runtimes,
            "triggers": triggers,
            "functions": np.round(functions / functions.sum(), 6).tolist(),
            "cold_starts": np.round(table, 7).tolist(),
            "pools": dict(proportions("config", "functions")),
            "pools_of_cold_starts": dict(proportions("config", "cold_starts")),
            "total_s": by_runtime_and_trigger(("fig15a", "fig16a"), runtimes, triggers),
            "utility": by_runtime_and_trigger(("fig17a", "fig17b"), runtimes, triggers),
            "parts": dict(zip(runtimes, parts, strict=True)),
            "counts": {name: function_counts(name) for name in triggers if name != "TIMER-A"},
            "timer_periods_s": timer_periods(),
        },
    }
    PATH.write_text(
        json.dumps(document, separators=(",", ":")).replace('},"', '},\n"') + "\n", encoding="utf-8"
    )
    print(f"wrote {PATH.relative_to(ROOT)}, {PATH.stat().st_size} bytes")


if __name__ == "__main__":
    main()
