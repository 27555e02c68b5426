"""Fit the client pools in ``servesim/servegen/``, and their datasheets, to ServeGen's release in ``../shared``.

What is kept of a client are fitted numbers: its mean rate, how that changes, the CV of its gaps, quantiles of its
lengths. Run without arguments to rewrite the files; ``docs/model/client-pools.md`` tells the model and its error.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.servegen.lengths import pooled
from servesim.servegen.parametric import LEVELS, unfold
from servesim.servegen.pool import WINDOW_S, WINDOWS_PER_6H, ClientPool
from servesim.servegen.read import read_pool
from servesim.servegen.renewal import Gaps
from servesim.traces.datasheets import datasheet_path, write_datasheet
from servesim.traces.pool_info import datasheet_of_pool, info_of
from servesim.workload.datasheet import Datasheet

ROOT = Path(__file__).resolve().parents[1]
RELEASE = ROOT.parent / "shared" / "traces" / "servegen"
POOLS = {"language": "language.m-large", "reason": "reason.deepseek-r1", "multimodal": "multimodal.mm-image"}
UNUSED = ("audio_tokens", "audio_count", "video_tokens", "video_count")
"""Fields of the release that are 0 everywhere."""

LACKING = (
    "a client's lengths do not change over the days",
    "days differ by chance only",
    "clients do not move together",
    "no sessions and no prefixes: the release has none",
)
"""What the pools do not have of the release's."""

WINDOWS_PER_DAY = 144
HOUR = 6
"""Windows between two rates whose correlation is taken."""

Floats = NDArray[np.float64]


def fit_client(pool: ClientPool, client: int) -> dict[str, Any]:
    """Return the numbers that stand for one client of *pool*."""
    mine = pool.activity.filter(pl.col("client") == client).sort("window")
    windows, requests = mine["window"].to_numpy(), mine["requests"].to_numpy()
    cv = mine["cv"].to_numpy().clip(1e-2)
    scores, cv_scores = normal_scores(requests), normal_scores(cv)
    amplitude, peak_h, residual = daily(windows, scores)
    gaps = Gaps(mine["weibull"].to_numpy(), mine["shape"].to_numpy())
    spans = np.minimum(requests * mine["scale"].to_numpy() * gaps.unscaled_mean / WINDOW_S, 1.0)
    return {
        "id": pool.clients[client],
        "requests_per_s": float(requests.sum()) / (pool.windows * WINDOW_S),
        "active_ratio": len(windows) / pool.windows,
        "active_windows": len(windows) / (1 + int((np.diff(windows) > 1).sum())),
        "window_requests": np.quantile(requests, LEVELS).tolist(),
        "daily_amplitude": amplitude,
        "daily_peak_h": peak_h,
        "rate_correlation": correlation(windows, residual),
        "cv": np.quantile(cv, LEVELS).tolist(),
        "cv_rate_correlation": float(np.corrcoef(scores, cv_scores)[0, 1]) if len(windows) > 12 else 0.0,
        "weibull_ratio": float(mine["weibull"].mean()),  # type: ignore[arg-type]  # a column of truth values
        "span_ratio": float(np.median(spans)),
    }


def normal_scores(values: Floats) -> Floats:
    """Return for each value the normal quantile of its rank."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    scores: Floats = ndtri((rankdata(values) - 0.5) / len(values))
    return scores


def daily(windows: NDArray[np.int64], scores: Floats) -> tuple[float, float, Floats]:
    """Return amplitude and peak hour of a cosine over the day by least squares, and what it leaves."""
    if len(windows) < 36:
        return 0.0, 0.0, scores
    angle = 2 * np.pi * (windows % WINDOWS_PER_DAY) / WINDOWS_PER_DAY
    columns = np.column_stack([np.ones(len(windows)), np.cos(angle), np.sin(angle)])
    found = np.linalg.lstsq(columns, scores, rcond=None)[0]
    amplitude, peak = np.hypot(found[1], found[2]), np.arctan2(found[2], found[1])
    return min(float(amplitude), 1.2), float(peak * 12 / np.pi % 24), scores - columns @ found


def correlation(windows: NDArray[np.int64], residual: Floats) -> float:
    """Return the correlation of neighbouring windows that an hour's correlation implies."""
    later = dict(zip(windows.tolist(), residual.tolist(), strict=True))
    pairs = np.array([(later[w], later[w + HOUR]) for w in later if w + HOUR in later])
    if len(pairs) < 12 or pairs.std(axis=0).min() == 0:
        return 0.0
    return float(max(0.0, np.corrcoef(pairs.T)[0, 1]) ** (1 / HOUR))


def quantiles(pool: ClientPool, client: int, field: str, histograms: NDArray[np.int64]) -> list[int]:
    """Return the quantiles of a client's lengths; each six hours count as many requests as the client sent in them."""
    mine = pool.activity.filter(pl.col("client") == client)
    requests = np.bincount(
        mine["window"].to_numpy() // WINDOWS_PER_6H, mine["requests"].to_numpy(), histograms.shape[1]
    )
    used = (requests > 0) & (histograms[client] >= 0)
    values, weights = pooled(pool.lengths, histograms[client][used], requests[used])
    places = np.searchsorted(np.cumsum(weights), np.array(LEVELS) - 1e-9)
    found: list[int] = values[np.minimum(places, len(values) - 1)].tolist()
    return found


def fit(pool: ClientPool) -> list[dict[str, Any]]:
    """Return the numbers of all clients that ever send."""
    clients = sorted(pool.activity["client"].unique().to_list())
    fields = [field for field in pool.lengths.fields if field not in UNUSED]
    histograms = {field: pool.histograms(field) for field in fields}
    return [
        fit_client(pool, client)
        | {"lengths": {field: quantiles(pool, client, field, histograms[field]) for field in fields}}
        for client in clients
    ]


def as_toml(source: str, pool: ClientPool, clients: list[dict[str, Any]]) -> str:
    """Return the file of a parametric pool."""
    lines = [
        f"# Numbers fitted to the clients of {source} in ServeGen's release (Xiang et al., NSDI 2026;",
        "# github.com/alibaba/ServeGen @f891d118, Apache-2.0). Made by scripts/fit_client_pools.py; the model",
        "# and its error are in docs/model/client-pools.md, the levels of quantiles in parametric.py beside it.",
        "",
        f"windows = {pool.windows}",
    ]
    for client in clients:
        lines += ["", "[[client]]"]
        for key, value in client.items():
            if key == "lengths":
                lines += [f"lengths.{field} = {numbers}" for field, numbers in value.items()]
            elif isinstance(value, list):
                lines.append(f"{key} = [{', '.join(f'{number:.4g}' for number in value)}]")
            else:
                lines.append(f"{key} = " + (f'"{value}"' if isinstance(value, str) else f"{value:.4g}"))
    return "\n".join(lines) + "\n"


def datasheet(path: Path, source: str) -> Datasheet:
    """Return the datasheet of the pool at *path*, which was fitted to *source*."""
    pool = unfold(path.stem, tomllib.loads(path.read_text(encoding="utf-8")))
    sheet = datasheet_of_pool(
        info_of(pool, path=path, form="parametric"),
        motivation="Load that is composed client by client, without the release at hand.",
        collection=f"Fitted by scripts/fit_client_pools.py to the clients of {source} in ServeGen's release (Xiang et "
        "al., NSDI 2026; github.com/alibaba/ServeGen @f891d118), whose requests Alibaba Cloud served.",
        preprocessing="Of a client that ever sends, numbers are kept, to four digits, and no row: its mean rate, how "
        "often and for how long it is active, the daily cycle and correlation of its rate, the CV of its gaps, "
        "quantiles of its lengths. Fields that are 0 everywhere are left out.",
        uses="Generator servegen, to compare policies and sizes under uneven clients. docs/model/client-pools.md tells "
        "how near the release it is; what depends on single days needs the release.",
        licence="Apache-2.0, as the release",
    )
    return sheet.model_copy(update={"known_defects": (*LACKING, *sheet.known_defects)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "servesim" / "servegen")
    out = parser.parse_args().out
    for name, source in POOLS.items():
        pool = read_pool(RELEASE / f"{source}.trace.parquet")
        path = out / f"{name}.toml"
        path.write_text(as_toml(source, pool, fit(pool)), encoding="utf-8")
        write_datasheet(datasheet(path, source), datasheet_path(path))


if __name__ == "__main__":
    main()
