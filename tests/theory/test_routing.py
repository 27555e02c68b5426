"""Several replicas of one seat each: what a router makes of one Poisson stream."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.optimize import brentq

from .replications import STEP_S, WARM_UP_S, assert_agrees, interval, queue, replicate, summary
from .test_many_servers import erlang_c

REPLICAS = 4
LOAD = 0.5  # of each replica
RATE_PER_S = REPLICAS * LOAD


@cache
def sojourns(router):
    """Return the mean sojourn of each replication; arrivals and lengths are the same for all routers."""
    return replicate(queue(RATE_PER_S, replicas=REPLICAS, router=router), summary("e2e_s_mean"))[:, 0]


@cache
def random_split():
    """Return per replication the mean sojourn, E[N_i N_j] over pairs, and each replica's mean sojourn."""

    def measure(result):
        requests = result.requests.filter(result.requests["arrival_s"] >= WARM_UP_S)
        replica, sojourn_s = requests["replica"].to_numpy(), requests["e2e_s"].to_numpy()
        series = result.replicas.filter(
            (result.replicas["time_s"] >= WARM_UP_S)
            & (result.replicas["time_s"] <= result.requests["arrival_s"][-1])
        )
        present = (series["waiting_requests"] + series["running_requests"]).to_numpy()
        present = present.reshape(-1, REPLICAS)
        products = (present.T @ present / len(present))[np.triu_indices(REPLICAS, k=1)]
        each = [np.mean(sojourn_s[replica == index]) for index in range(REPLICAS)]
        return [np.mean(sojourn_s), np.mean(products), *each]

    # Samples 1.7 s apart: closer ones would hardly tell anything new.
    scenario = queue(RATE_PER_S, replicas=REPLICAS, router="random", sample_interval_s=1.7)
    return replicate(scenario, measure)


def erlang_m1_sojourn_s(phases: int, rate_per_s: float) -> float:
    """Return the mean sojourn of E_n/M/1 with mu = 1, arrivals of rate *rate_per_s* / n.

    1 / (mu (1 - sigma)), sigma in (0, 1) the root of sigma = A(mu (1 - sigma)), where the Laplace transform
    of the time between arrivals is A(s) = (lambda / (lambda + s))^n.
    """
    sigma = brentq(lambda x: (rate_per_s / (rate_per_s + 1 - x)) ** phases - x, 0.0, 1 - 1e-6)
    return 1 / (1 - sigma)


def test_random_split_gives_independent_queues():
    """A Poisson stream split at random is n independent Poisson streams: n independent M/M/1 queues.

    Mean sojourn 1 / (mu - lambda/n) over all and at each replica; for the numbers in two different systems,
    E[N_i N_j] = E[N_i] E[N_j] = (rho / (1 - rho))^2.
    """
    runs = random_split()
    assert_agrees(runs[:, 0], 1 / (1 - LOAD), within=0.04, bias=STEP_S)
    assert_agrees(runs[:, 1], (LOAD / (1 - LOAD)) ** 2, within=0.08)
    for index in range(REPLICAS):
        assert_agrees(runs[:, 2 + index], 1 / (1 - LOAD), within=0.08, bias=STEP_S)


def test_round_robin_makes_arrivals_regular():
    """Every n-th arrival of a Poisson stream: Erlang-n gaps, so that each replica is an E_n/M/1 queue."""
    theory_s = erlang_m1_sojourn_s(REPLICAS, RATE_PER_S)
    assert_agrees(sojourns("round_robin"), theory_s, within=0.03, bias=STEP_S)


def test_routers_rank_as_theory_orders_them():
    """Central queue (M/M/n, Erlang C) < join the shortest queue < power of two choices < random.

    Round robin lies between the shortest queue and random. Join the shortest queue is optimal among routers
    that see queue lengths (Winston 1977), and no router beats one queue for all. Paired by seed; every step
    of the order is significant at the 99.9 % level.
    """
    shortest, two, turns = map(sojourns, ("least_requests", "power_of_two", "round_robin"))
    chance = random_split()[:, 0]
    central_s = 1.0 + erlang_c(REPLICAS, RATE_PER_S) / (REPLICAS - RATE_PER_S)
    for better, worse in (
        (np.full(len(shortest), central_s), shortest),
        (shortest, two),
        (two, chance),
        (shortest, turns),
        (turns, chance),
    ):
        mean, half_width = interval(worse - better)
        assert mean - half_width > 0
