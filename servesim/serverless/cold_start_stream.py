"""Generator of cold starts of whole regions: their gaps, totals and parts; no functions, no invocations.

For functions whose invocations cause the cold starts, see `servesim.serverless.fleet`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import polars as pl

from servesim.errors import TraceError, nearest
from servesim.rng import stream
from servesim.serverless.cold_start_model import (
    TotalLaw,
    draw_r2,
    draw_region,
    draw_runtimes_and_triggers,
    draw_utility,
)
from servesim.serverless.contract import conform
from servesim.serverless.curves import Floats, mapping
from servesim.serverless.log import ServerlessLog
from servesim.serverless.parameters import coefficients, curve, gap_law
from servesim.serverless.schema import COMPONENTS

REGIONS = ("R1", "R2", "R3", "R4", "R5")


def generate_cold_starts(
    *,
    seed: int,
    duration_s: float = 86400.0,
    regions: Sequence[str] = REGIONS,
    law: TotalLaw = "published",
) -> ServerlessLog:
    """Return cold starts as Huawei's five regions have them.

    Gaps of a region are independent of each other: it has no time of day.

    Parameters
    ----------
    seed
        What they are drawn from.
    duration_s
        Time after which none starts.
    regions
        Some of `REGIONS`. Runtime, trigger and useful time are published for R2 only and null elsewhere.
    law
        ``published``: totals of all five regions together are the published LogNormal, gaps the published
        Weibull, with the regions' places and mean totals kept; the Weibull's mean gap is 11 % longer than the
        measured one, in every region. ``measured``: each region follows its published curves.

    Raises
    ------
    TraceError
        If a region or the law is unknown, there is no region, the seed is negative or the duration is not positive.
    """
    if seed < 0:
        raise TraceError(f"cold starts: seed (got {seed!r}). expected a whole number >= 0")
    if not regions:
        raise TraceError(f"cold starts: no region (got {regions!r}). expected some of {', '.join(REGIONS)}")
    if law not in get_args(TotalLaw):
        raise TraceError(
            f"cold starts: unknown law (got {law!r}). expected {' or '.join(get_args(TotalLaw))}",
            hint=nearest(law, get_args(TotalLaw)),
        )
    for name in regions:
        if name not in REGIONS:
            raise TraceError(
                f"cold starts: unknown region (got {name!r}). expected some of {', '.join(REGIONS)}",
                hint=nearest(name, REGIONS),
            )
    if not (np.isfinite(duration_s) and duration_s > 0):
        raise TraceError(f"cold starts: duration_s (got {duration_s!r}). expected a number > 0")
    frames = [_region(seed, name, duration_s, law) for name in dict.fromkeys(regions)]
    whole = pl.concat(frames).sort("start_s", maintain_order=True)
    return ServerlessLog(
        format="huawei_2025", cold_starts=whole.lazy(), notes={"cold_starts": whole.height, "seed": seed}
    )


def _region(seed: int, name: str, duration_s: float, law: TotalLaw) -> pl.DataFrame:
    """Return the cold starts of one region, the same whatever other regions there are."""
    start_s = _arrivals(stream(seed, "cold_starts", name, "gaps"), name, duration_s, law)
    rng = stream(seed, "cold_starts", name, "parts")
    known: dict[str, pl.Series | pl.Expr] = {}
    if name == "R2":
        saved = coefficients()["R2"]
        runtime, trigger = draw_runtimes_and_triggers(rng, len(start_s))
        parts = draw_r2(rng, runtime, trigger, law)
        known["runtime"] = pl.Series(np.array(saved["runtimes"], dtype=object)[runtime], dtype=pl.String)
        known["trigger"] = pl.Series(np.array(saved["triggers"], dtype=object)[trigger], dtype=pl.String)
        known["useful_s"] = pl.Series(draw_utility(rng, runtime, trigger) * parts.sum(axis=1))
    else:
        parts = draw_region(rng, name, len(start_s), law)
    frame = pl.DataFrame({"start_s": start_s, **dict(zip(COMPONENTS, parts.T, strict=True))}).with_columns(
        region=pl.lit(name), total_s=pl.sum_horizontal(*COMPONENTS), **known
    )
    return conform(frame.lazy(), "cold_starts").collect()


def _arrivals(rng: np.random.Generator, name: str, duration_s: float, law: TotalLaw) -> Floats:
    """Return the times of a region's cold starts."""
    saved = coefficients()
    gaps, factors = curve(saved["regions"][name]["gap_s"]), saved["gap_factors"]
    if law == "published":
        curves = {each: curve(row["gap_s"]).scaled(factors[each]) for each, row in saved["regions"].items()}
        shares = {each: float(row["cold_starts"]) for each, row in saved["regions"].items()}
        to_law = mapping(curves, shares, gap_law())
    expected = int(1.05 * duration_s * saved["regions"][name]["cold_starts"] / saved["span_s"]) + 1000
    times = np.zeros(0)
    last_s = 0.0
    while last_s < duration_s:
        drawn = gaps.quantile(rng.random(expected))
        drawn = to_law(drawn * factors[name]) if law == "published" else drawn
        times = np.concatenate((times, last_s + np.cumsum(drawn)))
        last_s = float(times[-1])
    return np.asarray(times[times < duration_s])
