"""One replica with c seats and steps of constant length: M/M/c, because a batch's size costs it nothing."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest

from .replications import STEP_S, TOKENS, WARM_UP_S, assert_agrees, queue, replicate


def erlang_c(servers: int, load: float) -> float:
    """Return the probability that an arrival waits in M/M/c, with *load* = lambda / mu.

    C = (a^c / c!) / ((1 - a/c) sum_{k<c} a^k / k! + a^c / c!).
    """
    last = load**servers / factorial(servers)
    return last / ((1 - load / servers) * sum(load**k / factorial(k) for k in range(servers)) + last)


def test_erlang_c_is_the_published_function():
    """C(1, a) = a; C(2, a) = a^2 / (2 + a), two cases that are easy by hand."""
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("servers", "load"), [(2, 1.2), (4, 2.4)])
def test_mmc(servers, load):
    """M/M/c: an arrival waits with probability C (Erlang C), on average W = C / (c mu - lambda).

    With a seat free in a batch at work, admission waits for the boundary of the step in flight: at most one
    step more, and nothing accumulates, since all starts of a busy period lie on one grid. A rounded-up length
    adds less than another step's worth. A wait of at most one step is therefore counted as none.
    """

    def measure(result):
        waits = result.requests.filter(result.requests["arrival_s"] >= WARM_UP_S)["queue_s"].to_numpy()
        return [np.mean(waits), np.mean(waits > STEP_S * (1 + 1e-6)), result.summary["e2e_s_mean"]]

    runs = replicate(queue(load, seats=servers), measure)
    waiting = erlang_c(servers, load)
    wait_s = waiting / (servers - load)
    assert_agrees(runs[:, 0], wait_s, within=0.08, bias=2 * STEP_S)
    assert_agrees(runs[:, 1], waiting, within=0.04, bias=2 / TOKENS)
    assert_agrees(runs[:, 2], wait_s + 1.0, within=0.03, bias=2 * STEP_S)
