"""How closely requests follow a client pool, client by client: those generated from it, or those it was fitted to.

Times of both start together: of the pool, the windows up to the end of the requests count. Their tenants are its
clients.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from servesim.errors import TraceError
from servesim.servegen.pool import WINDOW_S, ClientPool
from servesim.servegen.renewal import Gaps
from servesim.traces.pool_statistics import lengths_by_field, requests_by_client
from servesim.traces.statistics import Floats

FEWEST_REQUESTS, FEWEST_WINDOWS = 50, 20
"""A CV is compared for clients with so many windows that have so many requests, both in the pool and in the trace."""

NEAR = 0.1
"""A CV within this of the pool's counts as met."""

_LEVELS = ("p50", "p99")
_PROMPTS = ("text_tokens", "input_tokens")
"""Names of the prompt's length in pools."""


def pool_distances(pool: ClientPool, requests: pl.DataFrame) -> dict[str, Any]:
    """Return how far *requests* are from what *pool* says of its clients.

    Returns
    -------
    dict
        ``rate_per_s``, ``clients_for_90_percent``, and of ``prompt_tokens`` (text alone) and ``output_tokens`` ``p50``
        and ``p99``: each ``pool``, ``requests`` and their ``ratio``; lengths are those of clients that have some of
        their own. ``client_cv``: for how many ``clients`` the CV of the gaps was compared (medians over windows,
        against what the pool's shapes imply), ``within_10_percent`` of them, the share ``within_10_percent_ratio``, and
        ``ratio_p50``, ``ratio_min``, ``ratio_max``.

    Raises
    ------
    TraceError
        If no tenant of the requests is a client of the pool.
    """
    requests = _of_clients(pool, requests)
    windows = min(int(requests["window"].max()) + 1, pool.windows)  # type: ignore[arg-type]  # a number
    requests = requests.filter(pl.col("window") < windows)
    activity = pool.activity.filter(pl.col("window") < windows)
    covered = replace(pool, activity=activity)
    load = requests_by_client(covered)
    mine = np.bincount(requests["client"].to_numpy(), minlength=len(pool.clients)).astype(np.float64)
    span_s = windows * float(WINDOW_S)
    return {
        "rate_per_s": _pair(load.sum() / span_s, mine.sum() / span_s),
        "clients_for_90_percent": _pair(_for_90_percent(load), _for_90_percent(mine)),
        **_lengths(covered, requests),
        "client_cv": _client_cv(activity, requests),
    }


def _of_clients(pool: ClientPool, requests: pl.DataFrame) -> pl.DataFrame:
    """Return *requests* with their ``client`` in the pool and their ``window``; others are left out."""
    known = pl.DataFrame({"tenant": pool.clients, "client": np.arange(len(pool.clients))})
    if "tenant" in requests.columns:
        requests = requests.join(known, on="tenant", how="inner", maintain_order="left")
    if "tenant" not in requests.columns or requests.is_empty():
        raise TraceError(
            f"client pool {pool.name!r}: no tenant of the requests is one of its clients. expected "
            f"{pool.clients[0]!r}, ... as tenants",
        )
    return requests.with_columns(window=(pl.col("arrival_s") // WINDOW_S).cast(pl.Int64))


def _pair(pool: float, requests: float) -> dict[str, float]:
    return {"pool": float(pool), "requests": float(requests), "ratio": float(requests / pool)}


def _for_90_percent(load: Floats) -> float:
    shares = np.cumsum(np.sort(load)[::-1]) / load.sum()
    return float(np.searchsorted(shares, 0.9 * (1 - 1e-12)) + 1)


def _lengths(pool: ClientPool, requests: pl.DataFrame) -> dict[str, Any]:
    fields = lengths_by_field(pool)
    own = requests.filter(~pl.col("client").is_in(list(pool.lenders)))
    prompt = pl.col("prompt_tokens")
    for name in {"image_tokens", "audio_tokens"} & set(own.columns):
        prompt = prompt - pl.col(name).fill_null(0)
    found = {}
    for name, field, values in (
        ("prompt_tokens", next((each for each in _PROMPTS if each in fields), None), prompt),
        ("output_tokens", "output_tokens", pl.col("output_tokens")),
    ):
        if field in fields and own.height:
            tokens = own.select(values).to_series().to_numpy()
            points = np.quantile(tokens, [0.5, 0.99]).tolist()
            found[name] = {
                level: _pair(fields[field][level], point)
                for level, point in zip(_LEVELS, points, strict=True)
            }
    return found


def _client_cv(activity: pl.DataFrame, requests: pl.DataFrame) -> dict[str, Any]:
    gaps = Gaps(activity["weibull"].to_numpy(), activity["shape"].to_numpy())
    implied = activity.with_columns(implied=pl.Series(gaps.cv)).filter(pl.col("requests") >= FEWEST_REQUESTS)
    gap = pl.col("arrival_s").diff().drop_nulls()
    found = (
        requests.group_by("client", "window")
        .agg(pl.len().alias("count"), (gap.std(ddof=0) / gap.mean()).alias("found"))
        .filter(pl.col("count") >= FEWEST_REQUESTS)
    )
    both = (
        implied.join(found, on=["client", "window"])
        .group_by("client")
        .agg(pl.len().alias("windows"), pl.col("implied", "found").median())
        .filter(pl.col("windows") >= FEWEST_WINDOWS)
        .sort("client")
    )
    ratio = (both["found"] / both["implied"]).to_numpy()
    if not len(ratio):
        return {"clients": 0}
    near = int((np.abs(ratio - 1) <= NEAR).sum())
    return {
        "clients": len(ratio),
        "within_10_percent": near,
        "within_10_percent_ratio": near / len(ratio),
        "ratio_p50": float(np.median(ratio)),
        "ratio_min": float(ratio.min()),
        "ratio_max": float(ratio.max()),
    }
