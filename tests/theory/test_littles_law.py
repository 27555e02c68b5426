"""Little's law, L = lambda W, between frames of a run that are recorded independently of each other."""

from __future__ import annotations

import numpy as np

from .replications import STEP_S, TOKENS, WARM_UP_S, assert_agrees, queue, replicate


def test_littles_law_between_sampled_numbers_and_recorded_times():
    """L = lambda W for the queue, the batch and the system of a replica with four seats.

    L is sampled: the mean over the ``replicas`` frame of the numbers waiting and running. lambda W comes from the
    ``requests`` frame: time spent inside, summed over requests, by the length of the window. Sampling at regular
    times leaves noise but no bias; the ratio of the two is 1.
    """

    def measure(result):
        requests = result.requests
        end_s = requests["arrival_s"][-1]
        series = result.replicas.filter(
            (result.replicas["time_s"] >= WARM_UP_S) & (result.replicas["time_s"] <= end_s)
        )
        arrival, scheduled, finished = (
            np.clip(requests[name].to_numpy(), WARM_UP_S, end_s)
            for name in ("arrival_s", "scheduled_s", "finished_s")
        )
        waiting = np.sum(scheduled - arrival) / (end_s - WARM_UP_S)
        running = np.sum(finished - scheduled) / (end_s - WARM_UP_S)
        sampled_waiting, sampled_running = (
            series[name].mean() for name in ("waiting_requests", "running_requests")
        )
        return [
            sampled_waiting / waiting,
            sampled_running / running,
            (sampled_waiting + sampled_running) / (waiting + running),
        ]

    runs = replicate(queue(3.0, seats=4), measure)
    for column, within in enumerate((0.05, 0.02, 0.02)):
        assert_agrees(runs[:, column], 1.0, within=within)


def test_mean_batch_is_offered_load():
    """Little's law for the servers: the mean batch is lambda E[S], and busy steps carry lambda E[N] tokens per second.

    From the ``segments`` frame alone: sequences at work, integrated over time, against the offered load of 3; the
    tokens emitted per second of arrivals against 3 * TOKENS.
    """

    def measure(result):
        segments = result.segments
        end_s = result.requests["arrival_s"][-1]
        sequences = segments["sequences"] + segments["prefill_sequences"]
        work = (sequences * segments["steps"]).sum()
        return [work * STEP_S / end_s, result.summary["output_tokens_per_s"] * result.summary["duration_s"] / end_s]

    runs = replicate(queue(3.0, seats=4), measure)
    assert_agrees(runs[:, 0], 3.0, within=0.02)
    assert_agrees(runs[:, 1], 3.0 * TOKENS, within=0.02)
