"""What routers, schedulers and length predictors owe the cluster, tried on synthetic requests and replicas.

Every check takes two fresh copies of a policy and asks both, then the first again after another reset, in the
same situations: all three must answer alike.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from servesim.cluster.build import uses_oracle
from servesim.errors import PluginError
from servesim.policies.api import PolicyContext, RequestView
from servesim.rng import stream
from servesim.testing.synthetic import SyntheticReplicas, make_request, make_views

REPLICAS = (1, 2, 3, 8)
"""Sizes of group that a router is tried on."""

REQUESTS = 60
"""Decisions asked for in a row."""

Copies = tuple[Any, Any]


def check_router(copies: Copies, where: str) -> None:
    """Raise `PluginError` unless the router chooses a replica, alike each time, and changes nothing."""
    for count in REPLICAS:
        _check_repeats(copies, where, partial(_route, where=where, count=count))


def check_scheduler(copies: Copies, where: str) -> None:
    """Raise `PluginError` unless keys are numbers that can be ordered, alike each time."""

    def keys(scheduler: Any) -> Iterator[float]:
        return _numbers(scheduler.key, scheduler, where, lambda key: not math.isnan(key))

    _check_repeats(copies, where, keys)


def check_predictor(copies: Copies, where: str) -> None:
    """Raise `PluginError` unless predictions are positive, finite numbers, alike each time."""

    def predictions(predictor: Any) -> Iterator[float]:
        return _numbers(predictor.predict, predictor, where, lambda tokens: 0 < tokens < math.inf)

    _check_repeats(copies, where, predictions)


def ask(where: str, method: Callable[..., Any], *arguments: Any) -> Any:
    """Return what *method* answers; an exception becomes a `PluginError` that names it."""
    try:
        return method(*arguments)
    except Exception as error:
        raise PluginError(
            f"{where}: {method.__name__} fails (got {type(error).__name__}: {error}). expected an answer"
        ) from error


def _check_repeats(copies: Copies, where: str, answers: Callable[[Any], Iterable[Any]]) -> None:
    runs = []
    for policy in (*copies, copies[0]):
        ask(where, policy.reset, PolicyContext(seed=0, name="check"))
        runs.append(list(answers(policy)))
    for run, what in ((runs[1], "two copies"), (runs[2], "a run and the next one, after reset,")):
        for index, (first, again) in enumerate(zip(runs[0], run, strict=True)):
            if first != again:
                raise PluginError(
                    f"{where}: {what} decide differently (got {first!r}, {again!r} for request {index}). "
                    "expected the same answers to the same calls",
                    hint="start all state in reset, and draw random numbers from context.rng() alone",
                )


def _route(router: Any, where: str, count: int) -> Iterator[int]:
    rng = stream(0, "testing", "views", count)
    views = make_views(running_requests=[0] * count, kv_blocks=[5000] * count)
    for request in _requests():
        before = views.state(), copy(request._request)
        answer = ask(where, router.route, request, views)
        if (views.state(), request._request) != before:
            raise PluginError(
                f"{where}: route changes what it is shown. "
                "expected requests and replicas to be left as they are"
            )
        _check_no_oracle(request, router, where)
        try:
            position = operator.index(answer)
        except TypeError:
            position = -1
        if not 0 <= position < count:
            raise PluginError(
                f"{where}: chooses a replica that does not exist (got {answer!r}). "
                f"expected an integer from 0 to {count - 1} with {count} replicas"
            )
        yield position
        _load(views, rng, position, request.prompt_tokens)


def _load(views: SyntheticReplicas, rng: np.random.Generator, position: int, prompt_tokens: int) -> None:
    """Queue the request where it was sent; some replica admits its whole queue, some other ends its batch."""
    columns = views.columns
    columns["waiting_requests"][position] += 1
    columns["waiting_tokens"][position] += prompt_tokens
    admits, ends = rng.integers(len(views), size=2).tolist()
    for name in ("requests", "tokens"):
        columns[f"running_{name}"][admits] += columns[f"waiting_{name}"][admits]
        columns[f"waiting_{name}"][admits] = 0
        columns[f"running_{name}"][ends] = 0
    columns["kv_blocks_used"][:] = [tokens // 16 for tokens in columns["running_tokens"]]
    views.refresh()


def _numbers(
    method: Callable[[RequestView], Any], policy: Any, where: str, is_valid: Callable[[float], bool]
) -> Iterator[float]:
    for request in _requests():
        before = copy(request._request)
        answer = ask(where, method, request)
        if request._request != before:
            raise PluginError(
                f"{where}: {method.__name__} changes the request. expected it to be left as it is"
            )
        _check_no_oracle(request, policy, where)
        if not isinstance(answer, Real) or not is_valid(float(answer)):
            raise PluginError(
                f"{where}: {method.__name__} answers no usable number (got {answer!r}). "
                "expected a float; not NaN, and for a length finite and above 0"
            )
        yield float(answer)


def _check_no_oracle(request: RequestView, policy: Any, where: str) -> None:
    if request._request.output_tokens_reads and not uses_oracle(policy):
        raise PluginError(
            f"{where}: looks at the true output length, which no server knows. "
            "expected oracle = True on its class"
        )


def _requests() -> Iterator[RequestView]:
    """Yield requests with ties, all kinds of tags, and lengths from 1 to many."""
    rng = stream(0, "testing", "requests")
    now = 0.0
    for request_id in range(REQUESTS):
        now += (0.0, 0.25, float(rng.exponential()))[request_id % 3]
        yield make_request(
            request_id,
            arrival_s=now,
            prompt_tokens=int(rng.integers(1, (2, 100, 20_000)[request_id % 3])),
            output_tokens=int(rng.integers(1, (2, 5_000)[request_id % 2])),
            priority=int(rng.integers(-1, 3)),
            tenant=None if rng.random() < 0.5 else f"tenant-{rng.integers(3)}",
            session=None if rng.random() < 0.3 else f"session-{rng.integers(6)}",
        )
