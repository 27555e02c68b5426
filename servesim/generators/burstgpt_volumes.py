"""How many requests of each service BurstGPT had in an hour: the 61 days of file 1, or what is typical of them.

The coefficients are in ``burstgpt.toml``, the equations in docs/model/burstgpt.md.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from servesim.rng import stream

Floats = NDArray[np.float64]
Facts = dict[str, Any]

Service = Literal["chatgpt_conversation", "gpt4_conversation", "chatgpt_api", "gpt4_api"]

CONVERSATIONS: tuple[Service, ...] = ("chatgpt_conversation", "gpt4_conversation")
APIS: tuple[Service, ...] = ("chatgpt_api", "gpt4_api")
SERVICES: tuple[Service, ...] = (*CONVERSATIONS, *APIS)
"""Services, in the order of all arrays here: those with sessions first."""

Profile = Literal["days", "typical", "flat"]

DAYS = 61

QUIET_RATIO = 2.0
"""A day with fewer requests than so many times its usual conversations is quiet."""

_RATIOS = np.geomspace(0.01, 100, 401)


@cache
def facts() -> Facts:
    """Return the coefficients."""
    text = files("servesim.generators").joinpath("burstgpt.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@dataclass(frozen=True)
class Day:
    """One day of expected requests.

    Attributes
    ----------
    requests
        By hour and service, shape (24, 4).
    begins
        Sessions that begin, of services with sessions; else requests.
    api_tokens_ratio
        Tokens of an API request, relative to what they usually are.
    """

    requests: Floats
    begins: Floats
    api_tokens_ratio: float = 1.0


def day(number: int, profile: Profile, seed: int | None) -> Day:
    """Return day *number* of *profile*; days go on with the first one after the last.

    *seed* draws how the day differs from what is expected of it (``days`` only); None: it does not.
    """
    if profile == "days":
        return _recorded(number % DAYS, None if seed is None else stream(seed, "burstgpt", "day", number))
    typical = _typical()
    begins = typical * _begins_ratio()
    if profile == "typical":
        return Day(typical, begins)
    flat, flat_begins = (np.tile(each.mean(axis=0), (24, 1)) for each in (typical, begins))
    return Day(flat, flat_begins)


@cache
def _begins_ratio() -> Floats:
    """Return sessions that begin per request, by hour and service; of APIs 1."""
    ratios = np.ones((24, len(SERVICES)))
    for column, name in enumerate(CONVERSATIONS):
        ratios[:, column] = facts()[name]["sessions_per_hour"] / _conversations()[:, column]
    return ratios


@cache
def mean_rates_per_s(profile: Profile) -> Floats:
    """Return the expected requests per second of each service, over all days of *profile*."""
    days = [day(number, profile, None).requests.mean(axis=0) for number in range(DAYS)]
    mean: Floats = np.array(days).mean(axis=0)
    return mean / 3600.0


def _typical() -> Floats:
    """Return the expected requests of an average day."""
    active = np.array(facts()[APIS[0]]["active_ratio"])[:, None]
    return np.hstack([_conversations(), active * _api_means()])


def _conversations() -> Floats:
    """Return median requests by hour and conversation service."""
    quartiles = np.array([facts()[name]["requests_per_hour"] for name in CONVERSATIONS])
    return np.ascontiguousarray(quartiles[:, :, 1].T)


def _api_quartiles() -> Floats:
    return np.array([facts()[name]["requests_per_hour"] for name in APIS]).transpose(1, 0, 2)


@cache
def _api_means() -> Floats:
    """Return mean requests of an active hour, by hour and API service: the integral of `_api_quantile`."""
    q25, q50, q75 = np.moveaxis(_api_quartiles(), -1, 0)
    mean: Floats = 0.25 * (q25 / 2 + (q25 + q50) / 2 + (q50 + q75) / 2 + q75 + (q75 - q50) / np.log(2))
    return mean


def _api_quantile(rank: Floats) -> Floats:
    """Return requests of active hours: straight lines from 0 through the quartiles, then an exponential tail."""
    q25, q50, q75 = np.moveaxis(_api_quartiles(), -1, 0)
    tail = q75 - (q75 - q50) / np.log(2) * np.log(np.maximum(1 - rank, 1e-300) / 0.25)
    low = np.where(rank < 0.25, q25 * rank / 0.25, q25 + (q50 - q25) * (rank - 0.25) / 0.25)
    high = np.where(rank < 0.75, q50 + (q75 - q50) * (rank - 0.5) / 0.25, tail)
    return np.asarray(np.where(rank < 0.5, low, high))


def _recorded(number: int, rng: np.random.Generator | None) -> Day:
    """Return a day of the record: its total is given, its conversations are as usual, the rest comes from the APIs.

    A quiet day has conversations only.
    """
    total = float(facts()["days"]["requests"][number])
    sessions = facts()["sessions"]
    conversations = _conversations()
    quiet = total < QUIET_RATIO * conversations.sum()
    if rng is not None and not quiet:
        conversations *= np.exp(sessions["day_log_mean"] + sessions["day_log_sigma"] * rng.standard_normal())
    if quiet or total < conversations.sum():
        conversations *= total / conversations.sum()
    apis = np.zeros((24, len(APIS))) if quiet else _apis(total - float(conversations.sum()), rng)
    requests = np.hstack([conversations, apis])
    return Day(requests, requests * _begins_ratio(), _api_tokens_ratio(number, conversations, apis))


def _apis(total: float, rng: np.random.Generator | None) -> Floats:
    """Return API requests by hour and service, *total* in all.

    Hours are used one after the other, those more likely first in which the APIs usually are, until they have the
    total. What a flooded day has beyond 24 hours of use is spread as the usual volume is, at random.
    """
    active = np.array(facts()[APIS[0]]["active_ratio"])
    drawn = _api_means() if rng is None else _api_quantile(rng.random((24, 2)))
    luck = np.ones(24) if rng is None else rng.standard_exponential(24)
    order = np.argsort(luck * (1 - active) / active, kind="stable")
    volumes = drawn[order].sum(axis=1)
    filled = np.clip((total - np.cumsum(volumes) + volumes) / volumes, 0.0, 1.0)
    apis = np.empty_like(drawn)
    apis[order] = drawn[order] * filled[:, None]
    flood = active[:, None] * _api_means() * (1.0 if rng is None else rng.standard_exponential((24, 1)))
    apis += (total - apis.sum()) * flood / flood.sum()
    return apis


def _api_tokens_ratio(number: int, conversations: Floats, apis: Floats) -> float:
    """Return by how much the tokens of API requests must differ for the day to have its tokens.

    Those of its requests that failed have none.
    """
    days, succeeded = facts()["days"], 1 - facts()["failure_ratio"]["1"]
    left = days["tokens"][number] / succeeded - conversations.sum(axis=0) @ _conversation_tokens()
    return float(np.interp(left, _api_tokens_by_ratio() @ apis.sum(axis=0), _RATIOS))


@cache
def _api_tokens_by_ratio() -> Floats:
    """Return mean tokens of a request by ratio (of `_RATIOS`) and API service."""
    services = [facts()[name] for name in APIS]
    lengths = ("prompt", "response")
    return np.column_stack([sum(mean_length(fact, which, _RATIOS) for which in lengths) for fact in services])


def _conversation_tokens() -> Floats:
    return np.array([facts()[name]["tokens_mean"] for name in CONVERSATIONS])


def mean_length(fact: Facts, which: str, ratios: Floats) -> Floats:
    """Return the mean prompt or response of an API whose tokens are *ratios* times the usual."""
    short, long = mixture_means(fact, which)
    return short + long_share(fact, which, ratios) * (long - short)


def long_share(fact: Facts, which: str, ratios: Floats) -> Floats:
    """Return the share of long lengths whose mean is *ratios* times the usual one: from 1 to 95 %."""
    short, long = mixture_means(fact, which)
    usual = short + fact[f"{which}_long_ratio"] * (long - short)
    share: Floats = np.clip((usual * ratios - short) / (long - short), 0.01, 0.95)
    return share


def mixture_means(fact: Facts, which: str) -> tuple[float, float]:
    """Return the means of short and long prompts or responses of an API: log-normal up to the longest."""
    logs, most = fact[f"{which}_log"], fact[f"{which}_tokens_max"]
    short, long = (_truncated_mean(mu, sigma, most) for mu, sigma in (logs[:2], logs[2:]))
    return short, long


def _truncated_mean(mu: float, sigma: float, most: float) -> float:
    """Return the mean of a log-normal variable that is at most *most*."""
    limit = (math.log(most) - mu) / sigma
    whole = math.exp(mu + sigma**2 / 2)
    return whole * NormalDist().cdf(limit - sigma) / NormalDist().cdf(limit)
