"""A client pool from requests of one's own: rates, gaps and lengths of each client, in the form of the release.

Gaps are fitted window by window: Gamma and Weibull by maximum likelihood, the likelier one is kept. n gaps have a CV of
sqrt(n - 1) at most, so a Weibull law of a larger one, which follows the many tiny gaps of a bursty window, is never
kept: what is generated would be far burstier than the window. Windows of few requests say nothing about gaps and are
taken as Poisson.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.errors import TraceError
from servesim.servegen.lengths import RATIO_BINS, length_table
from servesim.servegen.pool import ACTIVITY, WINDOW_S, WINDOWS_PER_6H, ClientPool, client_pool
from servesim.servegen.renewal import weibull_cv

FEWEST_REQUESTS = 10
"""Gaps are fitted in windows of at least so many requests; the release has no windows of fewer."""

_GAP_MIN_S = 1e-9
"""Smaller gaps are what rounding left of a difference of two times, and may be 0, which no fit can take."""

_SHAPE_RANGE = (0.01, 1e4)
_WEIBULL_RANGE = (0.05, 100.0)

Floats = NDArray[np.float64]


def fit_pool(
    requests: pl.DataFrame, *, by: Literal["tenant", "session"] = "tenant", name: str = "fitted"
) -> ClientPool:
    """Return the pool of the clients that *requests* come from.

    Parameters
    ----------
    requests
        Requests in servesim's columns, in any order; time 0 is the begin of the first window.
    by
        Column that tells the client.
    name
        What messages call the pool.

    Raises
    ------
    TraceError
        If there are no requests, one has no client, or arrives when another one has finished: such times are not known.
    """
    if requests.is_empty():
        raise TraceError(f"fit {name!r}: no requests (got 0 rows). expected some")
    if by not in requests.columns or requests[by].null_count():
        missing = requests[by].null_count() if by in requests.columns else requests.height
        raise TraceError(
            f"fit {name!r}: {by}: requests without a client (got {missing}). expected one for each"
        )
    if "think_s" in requests.columns and requests["think_s"].null_count() < requests.height:
        raise TraceError(
            f"fit {name!r}: think_s: requests without a time of arrival (got follow-ups). expected arrivals only",
            hint="simulate them first; the result's requests have their times",
        )
    clients = tuple(requests[by].cast(pl.String).unique().sort().to_list())
    numbered = requests.with_columns(
        client=pl.col(by).cast(pl.String).cast(pl.Enum(clients)).to_physical().cast(pl.Int64),
        window=(pl.col("arrival_s") // WINDOW_S).cast(pl.Int64),
    )
    activity = fit_gaps(numbered)
    rows, values, weights = _histograms(numbered)
    return client_pool(
        name, clients, activity, length_table(rows, values, weights, name), where=f"fit {name!r}"
    )


def fit_gaps(requests: pl.DataFrame) -> pl.DataFrame:
    """Return a row per client and window with the columns of `ACTIVITY`; *requests* have ``client`` and ``window``."""
    keys = ["client", "window"]
    gaps = _without_ties(requests.select(*keys, "arrival_s").sort(*keys, "arrival_s"))
    gaps = gaps.with_columns(gap=pl.col("arrival_s").diff().over(keys).clip(_GAP_MIN_S))
    counts = gaps.group_by(keys, maintain_order=True).agg(requests=pl.len().cast(pl.Float64))
    fitted = counts.filter(pl.col("requests") >= FEWEST_REQUESTS)
    few = counts.filter(pl.col("requests") < FEWEST_REQUESTS).with_columns(
        cv=pl.lit(1.0), weibull=pl.lit(value=False), shape=pl.lit(1.0), scale=WINDOW_S / pl.col("requests")
    )
    parts = [few.select(pl.col(column).cast(kind) for column, kind in ACTIVITY.items())]
    if fitted.height:
        flat = (
            gaps.join(fitted.select(keys), on=keys, maintain_order="left").drop_nulls("gap")["gap"].to_numpy()
        )
        sizes = fitted["requests"].to_numpy().astype(np.int64) - 1
        parts.append(
            fitted.with_columns(
                pl.Series(name, column) for name, column in _fits(flat, sizes).items()
            ).select(pl.col(column).cast(kind) for column, kind in ACTIVITY.items())
        )
    return pl.concat(parts)


def _without_ties(arrivals: pl.DataFrame) -> pl.DataFrame:
    """Return *arrivals*, in order by client, with equal times spread over the resolution: the smallest gap above 0."""
    gaps = arrivals.select(pl.col("arrival_s").diff().over("client")).to_series()
    resolution = gaps.filter(gaps > 0).min() or 1e-6
    ties = ["client", "arrival_s"]
    share = pl.int_range(pl.len()).over(ties) / pl.len().over(ties)
    return arrivals.with_columns(pl.col("arrival_s") + share * resolution)


def _fits(gaps: Floats, sizes: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
    """Return CV and the likelier fit of each sample; samples lie one behind the other in *gaps*."""
    starts = np.cumsum(sizes) - sizes

    def mean(values: Floats) -> Floats:
        means: Floats = np.add.reduceat(values, starts) / sizes
        return means

    average, log = mean(gaps), np.log(gaps)
    mean_log = mean(log)
    variance = np.maximum(mean((gaps - np.repeat(average, sizes)) ** 2), 0.0)
    shape = gamma_shape(np.log(average) - mean_log)
    weibull_shape, weibull_scale = _weibull(log, sizes, starts, mean_log)
    likelier = _weibull_likelihood(weibull_shape, weibull_scale, mean_log) > _gamma_likelihood(
        shape, average / shape, mean_log
    )
    is_weibull = likelier & (weibull_cv(weibull_shape) <= np.sqrt(sizes - 1))
    return {
        "cv": np.sqrt(variance) / average,
        "weibull": is_weibull,
        "shape": np.where(is_weibull, weibull_shape, shape),
        "scale": np.where(is_weibull, weibull_scale, average / shape),
    }


def gamma_shape(log_excess: Floats) -> Floats:
    """Return the maximum-likelihood shape of Gamma samples from ln(mean) - mean(ln).

    Newton's method on ln k - digamma(k) = *log_excess*, from Minka's start ("Estimating a Gamma distribution", 2002).
    """
    from scipy.special import digamma, polygamma

    excess = np.maximum(log_excess, 1e-5)
    shape = (3 - excess + np.sqrt((excess - 3) ** 2 + 24 * excess)) / (12 * excess)
    for _ in range(8):
        shape = 1 / (
            1 / shape + (np.log(shape) - digamma(shape) - excess) / (shape - shape**2 * polygamma(1, shape))
        )
        shape = np.clip(shape, *_SHAPE_RANGE)
    found: Floats = shape
    return found


def _weibull(
    log: Floats, sizes: NDArray[np.int64], starts: NDArray[np.int64], mean_log: Floats
) -> tuple[Floats, Floats]:
    """Return maximum-likelihood shapes and scales of Weibull samples, given by the logarithms of their values.

    The shape k solves sum(x^k ln x) / sum(x^k) - 1/k = mean(ln x), whose left side rises with k: bisection. Values are
    taken relative to each sample's largest one, so that no power overflows.
    """
    largest = np.maximum.reduceat(log, starts)
    relative = log - np.repeat(largest, sizes)
    low, high = np.full(len(sizes), np.log(_WEIBULL_RANGE[0])), np.full(len(sizes), np.log(_WEIBULL_RANGE[1]))
    for _ in range(40):
        shape = np.exp((low + high) / 2)
        power = np.exp(np.repeat(shape, sizes) * relative)
        weighted = np.add.reduceat(power * relative, starts) / np.add.reduceat(power, starts)
        above = weighted - 1 / shape > mean_log - largest
        low, high = np.where(above, low, np.log(shape)), np.where(above, np.log(shape), high)
    shape = np.exp((low + high) / 2)
    power = np.exp(np.repeat(shape, sizes) * relative)
    return shape, np.exp(largest + np.log(np.add.reduceat(power, starts) / sizes) / shape)


def _gamma_likelihood(shape: Floats, scale: Floats, mean_log: Floats) -> Floats:
    """Return the mean log-likelihood of Gamma samples at their best scale."""
    from scipy.special import gammaln

    likelihood: Floats = (shape - 1) * mean_log - shape - shape * np.log(scale) - gammaln(shape)
    return likelihood


def _weibull_likelihood(shape: Floats, scale: Floats, mean_log: Floats) -> Floats:
    """Return the mean log-likelihood of Weibull samples at their best scale."""
    return np.log(shape) - shape * np.log(scale) + (shape - 1) * mean_log - 1


def _histograms(requests: pl.DataFrame) -> tuple[pl.DataFrame, NDArray[np.int64], Floats]:
    """Return the lengths of each client by six hours, in the fields of the release, as `length_table` takes them."""
    window6h = pl.col("window") // WINDOWS_PER_6H
    parts = [
        requests.filter(condition).select(
            "client",
            window6h.alias("window6h"),
            pl.lit(field).alias("field"),
            value.cast(pl.Int64).alias("value"),
        )
        for field, (value, condition) in _fields(requests).items()
    ]
    keys = ["client", "window6h", "field"]
    counted = pl.concat(parts).group_by(*keys, "value").len().sort(*keys, "value")
    rows = counted.group_by(keys, maintain_order=True).agg(size=pl.len())
    return rows, counted["value"].to_numpy(), counted["len"].cast(pl.Float64).to_numpy()


def _fields(requests: pl.DataFrame) -> dict[str, tuple[pl.Expr, pl.Expr]]:
    """Return the release's fields that *requests* fill: their values, and of which requests."""
    every, output = pl.lit(value=True), pl.col("output_tokens")
    used = {
        kind: kind in requests.columns and bool(requests[kind].sum())
        for kind in ("image_tokens", "audio_tokens", "reasoning_tokens")
    }
    items = [kind for kind in ("image", "audio") if used[f"{kind}_tokens"]]
    if items:
        tokens = {kind: pl.col(f"{kind}_tokens").fill_null(0) for kind in ("image", "audio") if kind in items}
        found = {"text_tokens": (pl.col("prompt_tokens") - pl.sum_horizontal(tokens.values()), every)}
        for kind in ("image", "audio"):
            value = tokens.get(kind, pl.lit(0))
            found[f"{kind}_count"] = ((value > 0).cast(pl.Int64), every)
            found[f"{kind}_tokens"] = (value, value > 0)
        return found | {"output_tokens": (output, every)}
    found = {"input_tokens": (pl.col("prompt_tokens"), every), "output_tokens": (output, every)}
    if used["reasoning_tokens"]:
        share = pl.col("reasoning_tokens").fill_null(0) / output
        found["reason_ratio"] = ((share * RATIO_BINS).round(), every)
    return found
