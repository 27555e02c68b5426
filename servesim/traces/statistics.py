"""Numbers that describe a trace: rate and burstiness of its arrivals, lengths, sessions, shared prefixes.

Definitions, with gaps g between neighbouring arrivals and counts c of arrivals in neighbouring bins of 1 s, from the
first arrival on: CV = std(g) / mean(g), 1 for a Poisson process; D@1s = var(c) / mean(c), 1 again. Standard deviations
divide by the number of values, and quantiles interpolate linearly. Requests that follow another one after a think time
arrive when the simulation says so, and are left out of both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.workload.prefixes import prefix_hit_ratio
from servesim.workload.schema import RESULT_EXTRAS

Floats = NDArray[np.float64]

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


def statistics(requests: pl.DataFrame) -> dict[str, Any]:
    """Return the statistics of *requests*, which are in order of arrival.

    Returns
    -------
    dict
        ``requests``; ``arrivals``, those of them that wait for no other, and of these ``span_s``, ``rate_per_s``,
        ``gap_s``, ``gap_cv``, ``zero_gap_ratio``, ``dispersion_1s``, ``peak_1s``; of all ``prompt_tokens``,
        ``output_tokens``, ``image_tokens``, ``audio_tokens``, ``reasoning_tokens`` (where a request has some),
        ``correlation`` (of prompt and output), ``sessions``, ``prefix``, ``models``, ``tenants``; None or left out
        where there is nothing to tell.
    """
    arrivals = open_arrivals(requests)
    gaps = np.diff(arrivals)
    span_s = float(arrivals[-1] - arrivals[0]) if len(arrivals) else 0.0
    counts = dispersion(arrivals)
    prompts, outputs = requests["prompt_tokens"], requests["output_tokens"]
    return {
        "requests": requests.height,
        "arrivals": len(arrivals),
        "span_s": span_s,
        "rate_per_s": len(arrivals) / span_s if span_s else None,
        "gap_s": spread(gaps),
        "gap_cv": cv(gaps),
        "zero_gap_ratio": float((gaps == 0).mean()) if len(gaps) else None,
        **counts,
        "prompt_tokens": spread(prompts.to_numpy()),
        "output_tokens": spread(outputs.to_numpy()),
        **{name: spread(values) for name, values in parts(requests).items()},
        "correlation": correlation(prompts.to_numpy(), outputs.to_numpy()),
        "sessions": sessions(requests),
        "prefix": prefixes(requests),
        "models": shares(requests, "model"),
        "tenants": shares(requests, "tenant"),
    }


def open_arrivals(requests: pl.DataFrame) -> Floats:
    """Return the arrival times that do not depend on the simulation, in order."""
    if "think_s" in requests.columns:
        requests = requests.filter(pl.col("think_s").is_null())
    return requests["arrival_s"].to_numpy()


def parts(requests: pl.DataFrame) -> dict[str, NDArray[Any]]:
    """Return the image, audio and reasoning tokens of *requests*, 0 where one has none; nothing that none has."""
    found = {name: requests[name].fill_null(0) for name in RESULT_EXTRAS if name in requests.columns}
    return {name: values.to_numpy() for name, values in found.items() if values.sum()}


def spread(values: NDArray[Any]) -> dict[str, float] | None:
    """Return mean, minimum, quantiles and maximum; None of nothing."""
    if not len(values):
        return None
    points = np.quantile(values, list(QUANTILES.values()))
    quantiles = dict(zip(QUANTILES, points.tolist(), strict=True))
    return {
        "mean": float(values.mean()),
        "min": float(values.min()),
        **quantiles,
        "max": float(values.max()),
    }


def cv(values: NDArray[Any]) -> float | None:
    """Return the coefficient of variation, std / mean; None where the mean is 0."""
    mean = float(values.mean()) if len(values) else 0.0
    return float(values.std()) / mean if mean else None


def dispersion(arrivals: Floats, bin_s: float = 1.0) -> dict[str, float | int | None]:
    """Return variance / mean of the counts in bins of *bin_s*, and the largest count.

    Bins without arrivals count too, up to the last one that has any; they are not held in memory.
    """
    if not len(arrivals):
        return {"dispersion_1s": None, "peak_1s": None}
    cells = np.floor((arrivals - arrivals[0]) / bin_s)
    _, counts = np.unique(cells, return_counts=True)
    bins = float(cells[-1]) + 1
    mean = len(arrivals) / bins
    variance = float((counts.astype(np.float64) ** 2).sum()) / bins - mean**2
    return {"dispersion_1s": variance / mean, "peak_1s": int(counts.max())}


def correlation(one: NDArray[Any], other: NDArray[Any]) -> float | None:
    """Return Pearson's correlation; None where one of them is constant."""
    if len(one) < 2 or not one.std() or not other.std():
        return None
    return float(np.corrcoef(one, other)[0, 1])


def sessions(requests: pl.DataFrame) -> dict[str, Any] | None:
    """Return how many sessions there are, their turns, and the time between turns; None without any.

    ``turn_gap_s`` is the time from one arrival to the next of the same session; ``think_s``, where requests have it,
    the time from the end of one to the arrival of the next.
    """
    if "session" not in requests.columns or requests["session"].null_count() == requests.height:
        return None
    within = requests.filter(pl.col("session").is_not_null())
    turns = within.group_by("session").len()["len"].to_numpy()
    follows = "think_s" in within.columns and within["think_s"].null_count() < within.height
    gaps = pl.Series(dtype=pl.Float64) if follows else _turn_gaps(within)
    return {
        "sessions": len(turns),
        "requests_in_sessions": within.height,
        "multi_turn_ratio": float((turns > 1).mean()),
        "turns": spread(turns),
        "turn_gap_s": spread(gaps.to_numpy()),
        "think_s": spread(within["think_s"].drop_nulls().to_numpy()) if follows else None,
    }


def _turn_gaps(within: pl.DataFrame) -> pl.Series:
    gap = pl.col("arrival_s").diff().over("session", order_by="arrival_s")
    return within.select(gap.alias("gap")).to_series().drop_nulls()


def prefixes(requests: pl.DataFrame) -> dict[str, Any] | None:
    """Return blocks of the prompts, distinct ones, and the prefix-hit ceiling; None without block ids."""
    ceiling = prefix_hit_ratio(requests)
    if ceiling is None:
        return None
    blocks = _blocks(requests)
    sizes = (
        requests["prefix_block_tokens"].drop_nulls()
        if "prefix_block_tokens" in requests.columns
        else pl.Series(dtype=pl.Int32)
    )
    return {
        "blocks": len(blocks),
        "distinct_blocks": blocks.n_unique(),
        "hit_ceiling_ratio": ceiling,
        "block_tokens": int(sizes[0]) if len(sizes) else None,
    }


def _blocks(requests: pl.DataFrame) -> pl.Series:
    if "prefix_blocks" not in requests.columns:
        return pl.Series(dtype=pl.Int64)
    return requests["prefix_blocks"].drop_nulls().explode(empty_as_null=False)


def shares(requests: pl.DataFrame, column: str) -> dict[str, float] | None:
    """Return the share of requests of each value of a tag, largest first; None where no request has one."""
    if column not in requests.columns or requests[column].null_count() == requests.height:
        return None
    counts = requests[column].value_counts().sort("count", column, descending=[True, False])
    return {
        "none" if name is None else name: count / requests.height for name, count in counts.head(20).rows()
    }


def tail_index(largest: Floats) -> float | None:
    """Return Hill's estimate of the tail index from the *largest* values of a sample, increasing.

    P(X > x) falls as x to the power of minus this index; below 2 the variance is infinite. With the k largest values
    x_1 >= ... >= x_k above x_(k+1) it is 1 / mean(ln(x_i / x_(k+1))) (B. M. Hill, Annals of Statistics 3, 1975). None
    where fewer than 10 values are above the first one, or all of them are equal.
    """
    if len(largest) < 11 or largest[0] <= 0:
        return None
    mean = float(np.log(largest[1:] / largest[0]).mean())
    return 1.0 / mean if mean > 0 else None


def kpss(values: Floats) -> float:
    """Return the KPSS statistic of level stationarity; above 0.463 it is rejected at 5 %, above 0.739 at 1 %.

    Sum of squared partial sums of the residuals, over n^2 times the long-run variance, which is estimated with
    Bartlett weights over floor(4 (n/100)^(1/4)) lags (D. Kwiatkowski, P. C. B. Phillips, P. Schmidt and Y. Shin,
    Journal of Econometrics 54, 1992). 0 of constant values.
    """
    n = len(values)
    residuals = values - values.mean()
    lags = int(4 * (n / 100) ** 0.25)
    variance = float(residuals @ residuals) / n
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(residuals[lag:] @ residuals[:-lag]) / n
    if variance <= 0:
        return 0.0
    return float((np.cumsum(residuals) ** 2).sum()) / (n**2 * variance)
