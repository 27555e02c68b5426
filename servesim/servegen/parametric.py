"""The pools that ship with servesim: a few numbers per client, from which its days are drawn.

A client's numbers were fitted to ServeGen's release by ``scripts/fit_client_pools.py``; the model and its error are in
docs/model/client-pools.md. The days that a pool unfolds to are always the same ones.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.rng import stream
from servesim.servegen.lengths import length_table
from servesim.servegen.pool import WINDOW_S, ClientPool, client_pool
from servesim.servegen.renewal import Gaps, weibull_cv

PoolName = Literal["language", "reason", "multimodal"]

LEVELS = (0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1)
"""Levels of the quantiles that describe a distribution."""

_SEED = 0
_STEPS = 16
"""Values between two quantiles."""

_WINDOWS_PER_DAY = 144
_SHAPES = np.geomspace(0.15, 20, 400)
"""Weibull shapes that a CV is looked up in: CVs of 34 to 0.06."""

Floats = NDArray[np.float64]


@cache
def shipped_pool(name: PoolName) -> ClientPool:
    """Return the parametric pool *name*, unfolded once per process: experiments build it for every run."""
    return unfold(name, tomllib.loads(pool_file(name).read_text(encoding="utf-8")))


def pool_file(name: PoolName) -> Path:
    """Return the file of the parametric pool *name*, which has its datasheet beside it."""
    return Path(__file__).with_name(f"{name}.toml")


def shipped_name(path: Path) -> PoolName | None:
    """Return which pool that ships *path* means: its file, or its name where there is no such file; None: none."""
    names: tuple[PoolName, ...] = get_args(PoolName)
    for name in names:
        if path.absolute() == pool_file(name) or (str(path) == name and not path.exists()):
            return name
    return None


def unfold(name: str, document: dict[str, Any]) -> ClientPool:
    """Return the pool that the numbers in *document* describe."""
    windows = int(document["windows"])
    clients = document["client"]
    activity: list[pl.DataFrame] = []
    rows: list[tuple[int, int, str, int]] = []
    values: list[NDArray[np.int64]] = []
    for number, client in enumerate(clients):
        activity.append(_activity(client, windows, name).with_columns(client=pl.lit(number, dtype=pl.Int64)))
        for field, quantiles in client["lengths"].items():
            found = between(np.array(quantiles, dtype=float))
            rows.append((number, 0, field, len(found)))
            values.append(found)
    schema = {"client": pl.Int64, "window6h": pl.Int64, "field": pl.String, "size": pl.Int64}
    weights = np.tile(np.repeat(np.diff(LEVELS) / _STEPS, _STEPS), len(rows))
    table = length_table(
        pl.DataFrame(rows, schema=schema, orient="row"), np.concatenate(values), weights, name
    )
    ids = tuple(str(client["id"]) for client in clients)
    return client_pool(name, ids, pl.concat(activity), table, where=f"pool {name}")


def between(quantiles: Floats) -> NDArray[np.int64]:
    """Return whole numbers that stand for a distribution: `_STEPS` between each two quantiles, even in logarithms."""
    inner = (np.arange(_STEPS) + 0.5) / _STEPS
    low, high = np.log1p(quantiles[:-1, None]), np.log1p(quantiles[1:, None])
    return np.rint(np.expm1(low + (high - low) * inner)).astype(np.int64).ravel()


def _activity(client: dict[str, Any], windows: int, pool: str) -> pl.DataFrame:
    """Return the windows in which a client sends: when, how much, and with what gaps.

    Requests and CV of a window are quantiles at the levels that two correlated normal sequences have; that of the
    requests is a cosine over the day plus an autoregressive one.
    """
    from scipy.special import ndtr

    rng = stream(_SEED, "client pool", pool, str(client["id"]))
    on = _on_off(rng, windows, client["active_ratio"], client["active_windows"])
    hours = np.arange(windows) % _WINDOWS_PER_DAY / (_WINDOWS_PER_DAY / 24)
    amplitude = client["daily_amplitude"]
    score = amplitude * np.cos((hours - client["daily_peak_h"]) * (2 * np.pi / 24))
    score += np.sqrt(1 - amplitude**2 / 2) * _autoregressive(rng, windows, client["rate_correlation"])
    rate = np.zeros(windows)
    rate[on] = _at((np.argsort(np.argsort(score[on])) + 0.5) / on.sum(), client["window_requests"])
    requests = rate * (client["requests_per_s"] * WINDOW_S * windows / rate.sum())
    linked = client["cv_rate_correlation"]
    cv_score = linked * score + np.sqrt(1 - linked**2) * rng.standard_normal(windows)
    cv = _at(ndtr(cv_score), client["cv"])
    weibull = rng.random(windows) < client["weibull_ratio"]
    by_cv = np.interp(cv, weibull_cv(_SHAPES)[::-1], _SHAPES[::-1])
    shape = np.where(weibull, by_cv, np.clip(cv, 0.05, 30.0) ** -2)
    mean_s = client["span_ratio"] * WINDOW_S / np.where(on, requests, 1.0)
    frame = pl.DataFrame(
        {
            "window": np.arange(windows),
            "requests": requests,
            "cv": cv,
            "weibull": weibull,
            "shape": shape,
            "scale": mean_s / Gaps(weibull, shape).unscaled_mean,
        }
    )
    return frame.filter(pl.Series(on))


def _on_off(rng: np.random.Generator, windows: int, ratio: float, run: float) -> NDArray[np.bool_]:
    """Return when a client is active: a share *ratio* of the windows, in runs of mean *run*, the day being a circle."""
    active = min(max(1, round(ratio * windows)), windows)
    idle = windows - active
    if idle == 0:
        return np.ones(windows, dtype=bool)
    runs = min(max(1, round(active / run)), active, idle)
    lengths = np.column_stack((_parts(rng, active, runs), _parts(rng, idle, runs))).ravel()
    states = np.repeat(np.arange(len(lengths)) % 2 == 0, lengths)
    return np.roll(states, rng.integers(windows))


def _parts(rng: np.random.Generator, total: int, parts: int) -> NDArray[np.int64]:
    """Return *total* as a sum of so many positive whole numbers, every such sum being equally likely."""
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=total)


def _at(level: Floats, quantiles: list[float]) -> Floats:
    """Return the values at *level* of a distribution that is given by quantiles, even in the logarithm between them."""
    return np.exp(np.interp(level, LEVELS, np.log(quantiles)))


def _autoregressive(rng: np.random.Generator, steps: int, correlation: float) -> Floats:
    """Return a stationary standard normal sequence in which neighbours have this correlation."""
    noise = rng.standard_normal(steps)
    noise[1:] *= np.sqrt(1 - correlation**2)
    from scipy.signal import lfilter

    path: Floats = lfilter([1.0], [1.0, -correlation], noise)
    return path
