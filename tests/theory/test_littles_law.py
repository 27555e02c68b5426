"""Little's law, L = lambda W, between frames of a run that are recorded independently of each other."""

from __future__ import annotations

import numpy as np

from .replications import STEP_S, TOKENS, WARM_UP_S, assert_agrees, queue, replicate

RATE_PER_S = 3.0


def numbers_present(result):
    """Return the mean numbers waiting and running: sampled, and as time spent inside per time."""
    end_s = result.requests["arrival_s"][-1]
    series = result.replicas.filter(
        (result.replicas["time_s"] >= WARM_UP_S) & (result.replicas["time_s"] <= end_s)
    )
    arrival, scheduled, finished = (
        np.clip(result.requests[name].to_numpy(), WARM_UP_S, end_s)
        for name in ("arrival_s", "scheduled_s", "finished_s")
    )
    spent = [np.sum(scheduled - arrival), np.sum(finished - scheduled)]
    sampled = [series[name].mean() for name in ("waiting_requests", "running_requests")]
    return sampled, [area / (end_s - WARM_UP_S) for area in spent]


def measure(result):
    """Return L / lambda W for queue, batch and system; the mean batch; tokens per time of arrivals."""
    (waiting, running), (waiting_area, running_area) = numbers_present(result)
    segments, end_s = result.segments, result.requests["arrival_s"][-1]
    worked = ((segments["sequences"] + segments["prefill_sequences"]) * segments["steps"]).sum() * STEP_S
    tokens = result.summary["output_tokens_per_s"] * result.summary["duration_s"]
    return [
        waiting / waiting_area,
        running / running_area,
        (waiting + running) / (waiting_area + running_area),
        worked / end_s,
        tokens / end_s,
    ]


def test_littles_law():
    """L = lambda W for the queue, the batch and the system of a replica with four seats.

    L is sampled: the mean over the ``replicas`` frame of the numbers waiting and running. lambda W comes from
    the ``requests`` frame: time spent inside, summed over requests, by the length of the window. Sampling at
    regular times leaves noise but no bias, so that the ratio of the two is 1.

    For the servers alone it says that the mean batch is the offered load lambda E[S]: from the ``segments``
    frame, sequences at work integrated over time. With it, lambda E[N] tokens are emitted per second.
    """
    runs = replicate(queue(RATE_PER_S, seats=4, sample_interval_s=0.7), measure)
    for column, within in enumerate((0.05, 0.02, 0.02)):
        assert_agrees(runs[:, column], 1.0, within=within)
    assert_agrees(runs[:, 3], RATE_PER_S, within=0.02)
    assert_agrees(runs[:, 4], RATE_PER_S * TOKENS, within=0.02)
