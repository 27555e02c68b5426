"""Numbers that describe a client pool: who sends how much, how steadily, and how long the requests are.

Shares and quantiles are over requests: a window counts as often as it has requests, a histogram of lengths as often as
its client has requests in its six hours. Clients that borrow lengths are left out of the lengths, which are not theirs.
A quantile is the smallest value that so many requests do not exceed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.servegen.lengths import RATIO_BINS, pooled
from servesim.servegen.pool import WINDOW_S, WINDOWS_PER_6H, ClientPool
from servesim.servegen.renewal import Gaps
from servesim.traces.statistics import QUANTILES, Floats, spread

CV_QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99}
BUSIEST = 5
"""So many clients are told one by one."""


def pool_statistics(pool: ClientPool) -> dict[str, Any]:
    """Return the statistics of *pool*, over its windows up to the last in which anything is sent.

    Returns
    -------
    dict
        ``clients``, ``clients_active`` (ever), ``requests``, ``windows``, ``span_s``, ``rate_per_s`` and
        ``active_clients`` (over windows), ``top_ratio`` (share of the requests of the 1, 5, 10 busiest),
        ``clients_for_90_percent``, ``window_cv``, ``cv_above_1_ratio``, ``pattern_ratio``, ``lengths`` by field,
        ``clients_without_lengths``, ``without_lengths_ratio`` (of requests), ``busiest``.
    """
    activity = pool.activity
    load = requests_by_client(pool)
    per_window = requests_by_window(pool)
    active = np.bincount(activity["window"].to_numpy(), minlength=len(per_window))
    weights, cv = activity["requests"].to_numpy(), activity["cv"].to_numpy()
    requests = float(load.sum())
    weibull = float(weights[activity["weibull"].to_numpy()].sum()) / requests
    return {
        "clients": len(pool.clients),
        "clients_active": int((load > 0).sum()),
        "requests": int(requests) if requests.is_integer() else requests,
        "windows": len(per_window),
        "span_s": len(per_window) * WINDOW_S,
        "rate_per_s": spread(per_window / WINDOW_S),
        "active_clients": spread(active),
        **_concentration(load),
        "window_cv": weighted_quantiles(cv, weights, CV_QUANTILES),
        "cv_above_1_ratio": float(weights[cv > 1].sum()) / requests,
        "pattern_ratio": {"gamma": 1 - weibull, "weibull": weibull},
        "lengths": lengths_by_field(pool),
        "clients_without_lengths": len(pool.lenders),
        "without_lengths_ratio": float(load[list(pool.lenders)].sum()) / requests,
        "busiest": _busiest(pool, load, len(per_window)),
    }


def requests_by_client(pool: ClientPool) -> Floats:
    """Return the requests of each client."""
    clients, requests = (pool.activity[name].to_numpy() for name in ("client", "requests"))
    return np.bincount(clients, weights=requests, minlength=len(pool.clients)).astype(np.float64)


def requests_by_window(pool: ClientPool) -> Floats:
    """Return the requests of each window, up to the last that has any."""
    windows, requests = (pool.activity[name].to_numpy() for name in ("window", "requests"))
    return np.bincount(windows, weights=requests).astype(np.float64)


def weighted_quantiles(values: NDArray[Any], weights: Floats, levels: dict[str, float]) -> dict[str, float]:
    """Return for each of *levels* the smallest value up to which that share of the weight lies."""
    order = np.argsort(values, kind="stable")
    shares = np.cumsum(weights[order])
    places = np.searchsorted(shares, np.array(list(levels.values())) * shares[-1])
    found = values[order[np.minimum(places, len(values) - 1)]]
    return dict(zip(levels, found.astype(float).tolist(), strict=True))


def lengths_by_field(pool: ClientPool) -> dict[str, dict[str, float]]:
    """Return mean, minimum, quantiles and maximum of each length that is ever above 0."""
    shape = (len(pool.clients), pool.windows // WINDOWS_PER_6H)
    requests = np.zeros(shape)
    place = (pool.activity["client"].to_numpy(), pool.activity["window"].to_numpy() // WINDOWS_PER_6H)
    np.add.at(requests, place, pool.activity["requests"].to_numpy())
    found = {}
    for field in pool.lengths.fields:
        numbers = pool.lengths.numbers(field, *shape)
        used = (numbers >= 0) & (requests > 0)
        weights = np.bincount(numbers[used], weights=requests[used]).astype(np.float64)
        own = np.flatnonzero(weights)
        if len(own):
            values, shares = pooled(pool.lengths, own, weights[own])
            if values[-1] > 0:
                found[field] = _spread(values / (RATIO_BINS if field == "reason_ratio" else 1), shares)
    return found


def cv_against_shapes(pool: ClientPool) -> dict[str, float]:
    """Return by pattern the median over windows of the CV that the shape implies over the CV that is stated."""
    windows = pool.activity.filter(pl.col("cv") > 0)
    weibull = windows["weibull"].to_numpy()
    ratio = Gaps(weibull, windows["shape"].to_numpy()).cv / windows["cv"].to_numpy()
    parts = {"gamma": ratio[~weibull], "weibull": ratio[weibull]}
    return {pattern: float(np.median(part)) for pattern, part in parts.items() if len(part)}


def filled_shares(pool: ClientPool) -> Floats:
    """Return for each row of the activity the share of its window that its requests and mean gap fill, up to 1."""
    activity = pool.activity
    gaps = Gaps(activity["weibull"].to_numpy(), activity["shape"].to_numpy())
    filled: Floats = activity["scale"].to_numpy() * gaps.unscaled_mean * activity["requests"].to_numpy()
    return np.minimum(filled / WINDOW_S, 1.0)


def _concentration(load: Floats) -> dict[str, Any]:
    shares = np.cumsum(np.sort(load)[::-1]) / load.sum()
    return {
        "top_ratio": {str(n): float(shares[min(n, len(shares)) - 1]) for n in (1, 5, 10)},
        "clients_for_90_percent": int(np.searchsorted(shares, 0.9)) + 1,
    }


def _spread(values: NDArray[Any], shares: Floats) -> dict[str, float]:
    return {
        "mean": float(values @ shares),
        "min": float(values[0]),
        **weighted_quantiles(values, shares, QUANTILES),
        "max": float(values[-1]),
    }


def _busiest(pool: ClientPool, load: Floats, windows: int) -> list[dict[str, Any]]:
    """Return what the busiest clients send, and how steadily: `BUSIEST` of them."""
    told = []
    for client in np.argsort(-load, kind="stable")[:BUSIEST].tolist():
        mine = pool.activity.filter(pl.col("client") == client)
        weights = mine["requests"].to_numpy()
        told.append(
            {
                "client": pool.clients[client],
                "requests_ratio": float(load[client] / load.sum()),
                "active_ratio": mine.height / windows,
                "rate_per_s_max": float(weights.max()) / WINDOW_S,
                "window_cv_p50": weighted_quantiles(mine["cv"].to_numpy(), weights, {"p50": 0.5})["p50"],
            }
        )
    return told
