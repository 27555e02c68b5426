"""One replica with many seats whose steps take as long as its batch is large: processor sharing, M/G/1-PS."""

from __future__ import annotations

import numpy as np
import pytest

from .replications import (
    CONSTANT,
    EXPONENTIAL,
    SHARED_STEPS,
    STEP_S,
    WARM_UP_S,
    assert_agrees,
    queue,
    replicate,
)

LOAD = 0.5
BIAS_S = (
    5 * STEP_S
)  # an arrival waits for the boundary of a step that the batch at work makes a few times longer

LENGTHS = {
    "exponential": EXPONENTIAL,
    "constant": CONSTANT,
    "hyperexponential": {
        "distribution": "mixture",
        "components": [
            {"weight": 0.7, "tokens": {"distribution": "exponential", "mean": 800}},
            {"weight": 0.3, "tokens": {"distribution": "exponential", "mean": 4800}},
        ],
    },
}
"""All of mean TOKENS; the squared coefficients of variation are 1, 0 and 2.68."""


@pytest.mark.parametrize("lengths", LENGTHS)
def test_sojourn_is_insensitive_to_the_distribution(lengths):
    """M/G/1-PS: mean sojourn 1 / (mu - lambda) whatever the distribution (FCFS: 2, 1.5, 2.84 s).

    A job of length x stays x / (1 - rho) on average, so that short and long ones are slowed down alike:
    tested for those below and above the mean length on their own.
    """

    def measure(result):
        requests = result.requests.filter(result.requests["arrival_s"] >= WARM_UP_S)
        sojourn_s = requests["e2e_s"].to_numpy()
        service_s = requests["output_tokens"].to_numpy() * STEP_S
        short = service_s <= 1.0
        return [
            np.mean(sojourn_s),
            np.sum(sojourn_s[short]) / np.sum(service_s[short]),
            np.sum(sojourn_s[~short]) / np.sum(service_s[~short]) if not short.all() else np.nan,
            np.mean(service_s),
        ]

    runs = replicate(queue(LOAD, seats=1000, latency=SHARED_STEPS, output_tokens=LENGTHS[lengths]), measure)
    assert_agrees(runs[:, 3], 1.0, within=0.02)
    assert_agrees(runs[:, 0], 1 / (1 - LOAD), within=0.05, bias=BIAS_S)
    assert_agrees(runs[:, 1], 1 / (1 - LOAD), within=0.05, bias=5 * BIAS_S)
    if lengths != "constant":
        assert_agrees(runs[:, 2], 1 / (1 - LOAD), within=0.05, bias=BIAS_S)
