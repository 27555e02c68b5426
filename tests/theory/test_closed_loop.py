"""Closed queueing networks: a fixed number of clients that think, and sessions that come back.

The replica has one seat and an exponential service of mean 1 s (`replications`), so both are product-form networks of a
queue and a delay: mean value analysis (M. Reiser and S. S. Lavenberg, "Mean-Value Analysis of Closed Multichain Queuing
Networks", JACM 27(2), 1980) and J. R. Jackson's theorem (1957) give exact means.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from servesim import RunResult, Scenario

from .replications import EXPONENTIAL, WARM_UP_S, assert_agrees, queue, replicate, summary

CLIENTS, THINK_S, HORIZON_S = 5, 4.0, 4300.0
ONE = {"distribution": "constant", "value": 1}


def with_generator(generator: dict[str, Any], horizon_s: float | None) -> Scenario:
    """Return the queue with another generator of requests."""
    document = queue(1.0).model_dump(exclude_unset=True)
    document["workload"] = {"generator": {"prompt_tokens": ONE, "output_tokens": EXPONENTIAL} | generator}
    document["run"] = {"warm_up_s": WARM_UP_S, "horizon_s": horizon_s}
    return Scenario.model_validate(document)


def mean_value_analysis(clients: int, service_s: float, think_s: float) -> tuple[float, float]:
    """Return throughput and response time: R(n) = S (1 + Q(n-1)), X(n) = n / (Z + R(n)), Q(n) = X(n) R(n)."""
    waiting = throughput = response_s = 0.0
    for n in range(1, clients + 1):
        response_s = service_s * (1.0 + waiting)
        throughput = n / (think_s + response_s)
        waiting = throughput * response_s
    return throughput, response_s


def measured(result: RunResult) -> list[float]:
    """Return throughput, response time and mean think time between warm-up and horizon.

    On the way, the interactive response time law R = N/X - Z must hold for the run itself, but for the cycle of each
    client that the ends of the window cut: N of some thousand.
    """
    requests = result.requests.select("session", "arrival_s", "finished_s").sort("session", "arrival_s")
    assert requests["session"].n_unique() == CLIENTS
    arrival_s, finished_s = (requests[name].to_numpy() for name in ("arrival_s", "finished_s"))
    same = requests["session"][1:].to_numpy() == requests["session"][:-1].to_numpy()
    think_s = (arrival_s[1:] - finished_s[:-1])[same & (arrival_s[1:] >= WARM_UP_S)]
    inside = arrival_s >= WARM_UP_S
    throughput = np.count_nonzero(inside) / (HORIZON_S - WARM_UP_S)
    response_s = float(np.mean((finished_s - arrival_s)[inside]))
    assert response_s + think_s.mean() == pytest.approx(CLIENTS / throughput, rel=2 * CLIENTS / len(think_s))
    return [throughput, response_s, float(think_s.mean())]


def test_machine_repairman():
    """N clients with exponential think times at one server: throughput and response time of mean value analysis."""
    generator = {
        "name": "closed_loop",
        "clients": CLIENTS,
        "requests": 8000,
        "think_s": {"distribution": "exponential", "mean_s": THINK_S},
    }
    runs = replicate(with_generator(generator, HORIZON_S), measured)
    throughput, response_s = mean_value_analysis(CLIENTS, 1.0, THINK_S)
    assert throughput == pytest.approx(CLIENTS / (THINK_S + response_s))
    assert_agrees(runs[:, 0], throughput, within=0.02)
    assert_agrees(runs[:, 1], response_s, within=0.04)
    assert_agrees(runs[:, 2], THINK_S, within=0.02)


@pytest.mark.parametrize(
    "think", [{"distribution": "constant", "value_s": 3.0}, {"distribution": "constant", "value_s": 0.0}]
)
def test_sessions_that_come_back(think: dict[str, Any]):
    """Sessions of geometric length at an M/M/1 queue: as many visits as an open queue of the same rate, each as long.

    Jackson: with 0.1 sessions/s of 5 turns on average, rho = 0.5 and a visit takes 1 / (1 - rho) = 2 s, whatever the
    think times. That arrivals are no Poisson process does not matter.
    """
    generator = {
        "name": "sessions",
        "rate_per_s": 0.1,
        "turns": {"distribution": "exponential", "mean": 5},
        "think_s": think,
        "max_prompt_tokens": 1,
        "requests": 6000,
    }
    runs = replicate(with_generator(generator, None), summary("e2e_s_mean"))
    assert_agrees(runs[:, 0], 2.0, within=0.1)
