"""Front ends as textbook queues: M/D/c, and the tandem of two deterministic servers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from servesim import Scenario

from .replications import STEP_S, assert_agrees, queue, replicate, summary


def with_front_end(scenario: Scenario, **costs: float) -> Scenario:
    """Return *scenario* with a front end in its pool."""
    data = scenario.model_dump(mode="json")
    data["cluster"]["pools"][0]["engine"]["front_end"] = costs
    return Scenario.model_validate(data)


def mdc_wait_s(rate_per_s: float, service_s: float, servers: int, states: int = 400) -> float:
    """Return the mean wait of M/D/c after Crommelin (1932).

    All that are in service now have left one service time later, so N(t + D) = max(N(t) - c, 0) + Poisson(lambda D);
    the stationary mean of this chain is E[N], and Little's law gives the wait.
    """
    arrivals = stats.poisson.pmf(np.arange(states), rate_per_s * service_s)
    step = np.zeros((states, states))
    for state in range(states):
        left = max(state - servers, 0)
        step[state, left:] = arrivals[: states - left]
    step /= step.sum(axis=1, keepdims=True)
    probabilities = np.linalg.matrix_power(step, 1 << 14)[0]
    return float(probabilities @ np.arange(states)) / rate_per_s - service_s


def test_crommelin_for_one_server_is_pollaczek_khinchine():
    """M/D/1: lambda D^2 / (2 (1 - rho)) = 2.25 s for rho = 0.9 and D = 0.5 s."""
    assert mdc_wait_s(1.8, 0.5, 1) == pytest.approx(1.8 * 0.25 / (2 * 0.1), rel=1e-6)


@pytest.mark.parametrize(("workers", "load"), [(1, 0.6), (2, 1.4), (4, 3.2)])
def test_mdc(workers, load):
    """The front end of c workers that take 1 s each is M/D/c, whatever the engine behind it does."""
    short = {"distribution": "constant", "value": 1}
    scenario = with_front_end(
        queue(load, seats=256, output_tokens=short), workers=workers, request_s=0.75, prompt_token_s=0.25
    )
    runs = replicate(scenario, summary("front_end_s_mean", "ttft_s_mean"))
    exact_s = mdc_wait_s(load, 1.0, workers) + 1.0
    assert_agrees(runs[:, 0], exact_s, within=0.05)
    assert_agrees(runs[:, 1], exact_s, within=0.05, bias=2 * STEP_S)


@pytest.mark.parametrize("front_s", [0.5, 1.5])
def test_tandem_of_two_deterministic_servers(front_s):
    """The waits of both stages together are those of the slower one alone, in either order (Friedman 1965).

    The engine has one seat and takes 1 s for a request. Behind a slower front end nobody waits for it.
    """
    rate_per_s, slower_s = 0.4, max(front_s, 1.0)
    constant = {"distribution": "constant", "value": 2000}
    scenario = with_front_end(queue(rate_per_s, output_tokens=constant), request_s=front_s)
    runs = replicate(scenario, summary("front_end_s_mean", "queue_s_mean"))
    wait_s = rate_per_s * slower_s**2 / (2 * (1 - rate_per_s * slower_s))
    front_wait_s = rate_per_s * front_s**2 / (2 * (1 - rate_per_s * front_s))
    assert_agrees(runs[:, 0], front_s + front_wait_s, within=0.08)
    assert_agrees(runs[:, 1], front_s + wait_s, within=0.08, bias=2 * STEP_S)
