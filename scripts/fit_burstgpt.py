"""Fit the coefficients of the generator `burstgpt` to what is published of BurstGPT, and write them with their errors.

    python scripts/fit_burstgpt.py [FOLDER]

FOLDER holds the digitised figures, the daily volumes and the first rows of files 1 and 3
(../shared/traces/burstgpt where it is left out). The equations are in docs/model/burstgpt.md. What is not in the data
is named `PUBLISHED` below, with its source.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import optimize, special

from servesim.generators.burstgpt_lengths import Conversations, Turns
from servesim.generators.burstgpt_volumes import QUIET_RATIO, mean_length, mixture_means

Floats = NDArray[np.float64]
Facts = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "servesim" / "generators" / "burstgpt.toml"
HOURS = np.arange(24)
KNOTS = np.array([10, 20, 30, 50, 75, 100, 150, 200, 275, 400, 600, 800, 1000, 1250, 1500, 1750, 2025])
CONVERSATIONS = {"chatgpt_conversation": "ChatGPT conv", "gpt4_conversation": "GPT-4 conv"}
APIS = {"chatgpt_api": "ChatGPT api", "gpt4_api": "GPT-4 api"}
NAMES = CONVERSATIONS | APIS

PUBLISHED: Facts = {
    "prompt_mean": {"chatgpt_conversation": 655.0, "gpt4_conversation": 725.0},
    # The digitised requests of conversations end at 2,025 tokens, those of file 1's first rows at 1,994 and 2,126.
    "prompt_limit": {"chatgpt_conversation": 2048, "gpt4_conversation": 2128},
    "api_cv": 2.0,  # Gamma(shape 0.25): first value of the authors' generator, example/profile_server/server.py
    # First 59,999 rows of file 1: half (p50), 0.9, 0.95, 0.99 quantile; 53.8 % of them are API requests.
    "head": {"prompt": (74, 1291, 1697, 3023), "response": (14, 401, 510, 757), "api_share": 0.538},
    "longest": {"prompt": 6142, "response": 7315},  # of these rows
    "means": {"prompt": 621.0, "response": 126.0},  # of the whole file
    # Days of many tokens have up to 2,441 a request: the median is such that the APIs can have them. p99: the longest.
    "long_prompt_log": [float(np.log(2350)), float(np.log(6142 / 2350) / 2.326)],
    "failure_ratio": {"1": 0.018, "2": 0.019, "3": 0.0726},
}


def hourly(frame: pl.DataFrame, service: str, measure: str) -> Floats:
    """Return q25, median and q75 by hour, shape (24, 3); what could not be read is filled in from its neighbours."""
    rows = frame.filter(pl.col("service") == service, pl.col("measure") == measure).sort("hour")
    values = rows.select("q25", "median", "q75").to_numpy().astype(float)
    logs = np.log(values)
    missing = np.isnan(logs[:, 1]) & ~np.isnan(logs[:, [0, 2]]).any(axis=1)
    logs[missing, 1] = logs[missing][:, [0, 2]].mean(axis=1)
    for column in range(3):
        known = ~np.isnan(logs[:, column])
        logs[:, column] = np.interp(HOURS, HOURS[known], logs[known, column], period=24)
    return np.sort(np.exp(logs), axis=1)


def means(quartiles: Floats) -> Floats:
    """Return the mean of each hour's distribution: lines between 0 and the quartiles, an exponential tail."""
    q25, q50, q75 = quartiles.T
    return np.asarray(0.25 * (q25 / 2 + (q25 + q50) / 2 + (q50 + q75) / 2 + q75 + (q75 - q50) / np.log(2)))


def fit_turns(turns: Floats) -> tuple[float, float, float]:
    """Return share and parameters of a mixture of two geometric distributions, by maximum likelihood."""

    def loss(x: Floats) -> float:
        share, one, other = special.expit(x)
        chance = share * one * (1 - one) ** (turns - 1) + (1 - share) * other * (1 - other) ** (turns - 1)
        return -float(np.log(chance).sum())

    found = optimize.minimize(loss, special.logit([0.8, 0.6, 0.1]), method="Nelder-Mead", tol=1e-8)
    share, one, other = special.expit(found.x)
    return float(share), float(one), float(other)


def fit_days(quartiles: Floats, most: Floats) -> Facts:
    """Return mean and standard deviation of the logarithm of a day's volume of conversations.

    The deviation is what counts by hour vary beyond Poisson. The mean is such that the median is 1, though all requests
    of a day are at most *most* times a median day's conversations, and on quiet days they are conversations only.
    """
    spread = np.log(quartiles[:, 2] / quartiles[:, 0]) / 1.349
    sigma = float(np.sqrt(np.median(np.maximum(spread**2 - 1 / quartiles[:, 1], 0))))
    noise = sigma * special.ndtri((np.arange(200) + 0.5) / 200)
    quiet = most < QUIET_RATIO

    def excess(mean: float) -> float:
        volume = np.minimum(mean + noise[:, None], np.log(most))
        return float(np.median(np.where(quiet, np.log(most), volume)))

    return {"day_log_mean": float(optimize.brentq(excess, -1.0, 1.0)), "day_log_sigma": sigma}


def session_kernel(turns: tuple[float, float, float], gap: list[float]) -> Floats:
    """Return how many requests a session that begins in an hour has in it and in the 23 hours after it."""
    rng = np.random.default_rng(1)
    n = 400_000
    share, one, other = turns
    count = np.where(rng.random(n) < share, rng.geometric(one, n), rng.geometric(other, n))
    time, kernel = rng.random(n) * 3600, np.zeros(24)
    for turn in range(int(count.max())):
        alive = count > turn
        time[alive] += np.exp(rng.normal(gap[0], gap[1], alive.sum())) if turn else 0.0
        kernel += np.bincount(np.minimum(time[alive] // 3600, 23).astype(int), minlength=24)
    return kernel / n


def session_starts(requests: Floats, kernel: Floats) -> Floats:
    """Return the sessions that begin in each hour of a day of which every hour has so many requests."""
    spread = np.array([[kernel[(hour - start) % 24] for start in HOURS] for hour in HOURS])
    found, _ = optimize.nnls(spread / requests[:, None], np.ones(24))
    return np.asarray(found)


def bands(frame: pl.DataFrame, service: str) -> tuple[Floats, dict[str, float]]:
    """Return p05, median and p95 of the response at `KNOTS`, and the errors of the lines between them."""
    rows = frame.filter(pl.col("service") == service).sort("request_tokens")
    x = rows["request_tokens"].to_numpy().astype(float)
    hat = np.array([np.interp(x, KNOTS, np.eye(len(KNOTS))[k]) for k in range(len(KNOTS))]).T
    fitted, errors = [], {}
    for name in ("response_p05", "response_median", "response_p95"):
        y = rows[name].to_numpy().astype(float)
        known = ~np.isnan(y)
        knots = optimize.lsq_linear(hat[known], y[known], bounds=(1, np.inf)).x
        fitted.append(knots)
        errors[name] = float(np.sqrt(np.mean((hat[known] @ knots / y[known] - 1) ** 2)))
    mean = rows["response_mean"].to_numpy().astype(float)
    known = ~np.isnan(mean)
    p05, p50, p95 = (hat @ knots for knots in fitted)
    ours = 0.05 * (1 + p05) / 2 + 0.45 * (p05 + p50) / 2 + 0.45 * (p50 + p95) / 2
    ours += 0.05 * (p95 + (p95 - p50) / np.log(10))
    errors["response_mean"] = float(np.sqrt(np.mean((ours[known] / mean[known] - 1) ** 2)))
    return np.array(fitted), errors


def fit_api(
    conversation: Floats, targets: tuple[int, ...], long_log: list[float]
) -> tuple[list[float], float]:
    """Return mu and sigma of short and of long lengths, so that the mixture with conversations has the quantiles.

    *long_log* are mu and sigma of the long ones, of which the quantiles tell little. Where they tell little of the
    short ones, either, these have half of the first quantile as their median, and a sigma of 0.7.
    """
    share, ranks = PUBLISHED["head"]["api_share"], np.array([0.5, 0.9, 0.95, 0.99])
    x = np.array(targets, dtype=float)
    known = np.array([(conversation <= value).mean() for value in x])
    usual = np.array([np.log(targets[0] / 2), np.log(0.7)])

    def mixture(p: Floats) -> Floats:
        weight = special.expit(p[2])
        short, long = (
            special.ndtr((np.log(x) - mu) / sigma) for mu, sigma in ((p[0], np.exp(p[1])), long_log)
        )
        return np.asarray((1 - share) * known + share * ((1 - weight) * short + weight * long))

    def loss(p: Floats) -> float:
        miss = special.logit(np.clip(mixture(p), 1e-6, 1 - 1e-6)) - special.logit(ranks)
        return float((miss**2).sum() + 0.1 * ((p[:2] - usual) ** 2).sum())

    p = optimize.minimize(loss, [*usual, -1.5], method="Nelder-Mead", options={"maxfev": 20_000}).x
    return [float(p[0]), float(np.exp(p[1])), *long_log], float(np.abs(mixture(p) - ranks).max())


def weight_of_long(fact: Facts, which: str, mean: float) -> float:
    """Return the share of long lengths that has the mean."""
    short, long = mixture_means(fact, which)
    return float(np.clip((mean - short) / (long - short), 0.01, 0.99))


def text(value: object) -> str:
    """Return a value as TOML."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(text(each) for each in value) + "]"
    if isinstance(value, str):
        return f'"{value}"'
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def tables(values: Facts) -> str:
    """Return tables as TOML."""
    return "".join(
        f"\n[{name}]\n" + "".join(f"{key} = {text(value)}\n" for key, value in table.items())
        for name, table in values.items()
    )


def drawn(facts: Facts, name: str, sessions: int = 100_000) -> Turns:
    """Return the requests of many sessions of the service, as the generator draws them."""
    return Conversations(facts, name, np.random.default_rng(2)).take(sessions)


def fit_conversation(facts: Facts, name: str, sessions: pl.DataFrame, follows: pl.DataFrame) -> Facts:
    """Return the lengths of a service's messages; `prompt_scale` takes the mean prompt of the slice to the whole's."""
    model = NAMES[name].split()[0]
    own = follows.filter(pl.col("Model") == model)
    grown = own.filter(pl.col("Request tokens") > pl.col("before"))
    new = np.log((grown["Request tokens"] - grown["before"]).to_numpy())
    opened = sessions.filter(
        pl.col("Timestamp") == pl.col("Timestamp").min().over("Session ID"),
        pl.col("Model") == model,
        pl.col("Request tokens") > 0,
    )
    opening = np.log(opened["Request tokens"].to_numpy())
    fact: Facts = {
        "first_log": [float(opening.mean()), float(opening.std())],
        "new_log": [float(new.mean()), float(new.std())],
        "grow_ratio": len(grown) / len(own),
        "prompt_tokens_max": PUBLISHED["prompt_limit"][name],
        "s_per_output_token": _s_per_output_token(sessions.filter(pl.col("Model") == model)),
    }
    mean = float(PUBLISHED["prompt_mean"][name])

    def excess(log_scale: float) -> float:
        scaled = {**facts, name: facts[name] | fact | {"prompt_scale": float(np.exp(log_scale))}}
        return float(drawn(scaled, name).prompt_tokens.mean()) - mean

    return fact | {"prompt_scale": float(np.exp(optimize.brentq(excess, -2.0, 3.0, xtol=1e-3)))}


def _s_per_output_token(requests: pl.DataFrame) -> float:
    done = requests.filter(pl.col("Response tokens") > 0)
    return float(np.median((done["Elapsed time"] / done["Response tokens"]).to_numpy()))


def fit_sessions(sessions: pl.DataFrame, follows: pl.DataFrame) -> Facts:
    """Return turns, gaps and what is left of a context that is cut."""
    logs = np.log(follows["gap"].to_numpy())
    cut = follows.filter(pl.col("Request tokens") <= pl.col("before"))
    kept = (cut["Request tokens"] / cut["before"]).to_numpy()
    ranks = [0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0]
    return {
        "turns": fit_turns(sessions.group_by("Session ID").len()["len"].to_numpy().astype(float)),
        "gap_log": [float(logs.mean()), float(logs.std())],
        "kept_ratio_ranks": ranks,
        "kept_ratio": np.quantile(kept, ranks),
    }


def fit_api_lengths(facts: Facts, figures: pl.DataFrame, errors: Facts) -> None:
    """Add lengths of API requests to *facts*: from quantiles of a mixture with conversations, and from means."""
    turns = [
        drawn(facts, name, sessions) for name, sessions in zip(CONVERSATIONS, (70_000, 30_000), strict=True)
    ]
    found = {}
    for measure, field in (("prompt", "prompt_tokens"), ("response", "output_tokens")):
        known = np.concatenate([getattr(each, field) for each in turns])
        # Long responses are taken to be as those of conversations.
        long_log = PUBLISHED["long_prompt_log"]
        if measure == "response":
            long_log = [float(np.log(known).mean()), float(np.log(known).std())]
        found[measure], errors[f"api_{measure}_rank"] = fit_api(known, PUBLISHED["head"][measure], long_log)
    for name in APIS:
        requests = hourly(figures, NAMES[name], "requests_per_hour")[:, 1].sum()
        for measure, word in (("prompt", "request"), ("response", "response")):
            tokens = hourly(figures, NAMES[name], f"{word}_tokens_per_hour")[:, 1].sum()
            facts[name][f"{measure}_log"] = found[measure]
            facts[name][f"{measure}_tokens_max"] = PUBLISHED["longest"][measure]
            mean = float(tokens / requests)
            facts[name][f"{measure}_long_ratio"] = weight_of_long(facts[name], measure, mean)
    raise_responses(facts)


def raise_responses(facts: Facts) -> None:
    """Raise the odds of long API responses until the 61 days have the mean response of the file.

    Ratios of medians leave out what few requests with many tokens add to the means.
    """
    usual = {name: special.logit(facts[name]["response_long_ratio"]) for name in APIS}

    def excess(log_odds: float) -> float:
        for name in APIS:
            facts[name]["response_long_ratio"] = float(special.expit(usual[name] + log_odds))
        return mean_response(facts) - float(PUBLISHED["means"]["response"])

    excess(float(optimize.brentq(excess, 0.0, 5.0, xtol=1e-4)))


def mean_response(facts: Facts) -> float:
    """Return the mean response over the 61 days, whose API requests have what conversations leave of the tokens."""
    requests, tokens = (np.array(facts["days"][name], dtype=float) for name in ("requests", "tokens"))
    usual = np.array([facts[name]["requests_per_hour"][:, 1].sum() for name in CONVERSATIONS])
    chats = np.where(requests < QUIET_RATIO * usual.sum(), requests, usual.sum())
    of_chat = usual / usual.sum()
    chat_tokens, chat_response = (
        of_chat @ [facts[name][f"{field}_mean"] for name in CONVERSATIONS] for field in ("tokens", "response")
    )
    volumes = [(facts[name]["active_ratio"] * means(facts[name]["requests_per_hour"])).sum() for name in APIS]
    of_api = np.array(volumes) / sum(volumes)
    ratios = np.geomspace(0.01, 100, 401)
    prompt, response = (
        of_api @ [mean_length(facts[name], which, ratios) for name in APIS]
        for which in ("prompt", "response")
    )
    succeeded = 1 - PUBLISHED["failure_ratio"]["1"]
    apis = requests - chats
    left = (tokens / succeeded - chats * chat_tokens)[apis > 0] / apis[apis > 0]
    responses = np.interp(left, prompt + response, response) @ apis[apis > 0] + chats.sum() * chat_response
    return float(responses / requests.sum())


def main(folder: Path) -> str:
    """Return the file."""
    read: Callable[[str], pl.DataFrame] = lambda name: pl.read_csv(folder / f"burstgpt_{name}.csv")  # noqa: E731
    figures, given = read("1_hour_of_day_by_service_digitised"), read("1_response_given_request_digitised")
    daily = pl.read_parquet(folder / "burstgpt_1_daily.parquet")
    overall = pl.read_parquet(folder / "burstgpt_1_hour_of_day.parquet")["rph"].to_numpy()
    sessions = (
        read("3_first400").filter(pl.col("Session ID").is_not_null()).sort("Timestamp", maintain_order=True)
    )
    before = (pl.col("Request tokens") + pl.col("Response tokens")).shift(1).over("Session ID")
    follows = sessions.with_columns(
        gap=pl.col("Timestamp").diff().over("Session ID"), before=before
    ).drop_nulls("gap")

    errors: Facts = {}
    counts = {key: hourly(figures, name, "requests_per_hour") for key, name in NAMES.items()}
    facts: Facts = {
        "failure_ratio": PUBLISHED["failure_ratio"],
        "days": {"requests": daily["req"].to_list(), "tokens": daily["tok"].to_list()},
        "sessions": fit_sessions(sessions, follows),
        "response": {"request_tokens": KNOTS},
    }
    kernel = session_kernel(facts["sessions"]["turns"], facts["sessions"]["gap_log"])
    for key, name in CONVERSATIONS.items():
        knots, error = bands(given, name)
        errors |= {f"{key}_{measure}": value for measure, value in error.items()}
        facts[key] = {
            "model": name.split()[0],
            "cv": 1.0,
            "requests_per_hour": counts[key],
            "sessions_per_hour": session_starts(counts[key][:, 1], kernel),
            **{f"response_{rank}": line for rank, line in zip(("p05", "p50", "p95"), knots, strict=True)},
        }
        facts[key] |= fit_conversation(facts, key, sessions, follows)
        requests = drawn(facts, key)
        facts[key]["tokens_mean"] = float((requests.prompt_tokens + requests.output_tokens).mean())
        facts[key]["response_mean"] = float(requests.output_tokens.mean())
    conversation = np.sum([counts[key][:, 1] for key in CONVERSATIONS], axis=0)
    facts["sessions"] |= fit_days(
        counts["chatgpt_conversation"][8:], daily["req"].to_numpy() / conversation.sum()
    )
    active = np.clip((overall - conversation) / sum(means(counts[key]) for key in APIS), 0.02, 1.0)
    for key, name in APIS.items():
        facts[key] = {
            "model": name.split()[0],
            "cv": PUBLISHED["api_cv"],
            "requests_per_hour": counts[key],
            "active_ratio": active,
        }
    fit_api_lengths(facts, figures, errors)
    head = (
        "# Made by scripts/fit_burstgpt.py; equations, sources and errors: docs/model/burstgpt.md.\n"
        "# Facts of and fits to BurstGPT, https://github.com/HPMLL/BurstGPT (Wang et al., KDD 2025), CC-BY-4.0.\n"
    )
    return head + tables(facts | {"fit_error": errors})


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "traces" / "burstgpt"
    OUT.write_text(main(place), encoding="utf-8")
