"""One replica with one seat: M/M/1, M/D/1 and M/G/1 in first-come-first-served order."""

from __future__ import annotations

import pytest

from .replications import CONSTANT, STEP_S, TOKENS, assert_agrees, interval, queue, replicate, summary


def pollaczek_khinchine_s(rate_per_s: float, service_s: float, second_moment_s2: float) -> float:
    """Return the mean wait of M/G/1: W = lambda E[S^2] / (2 (1 - rho))."""
    return rate_per_s * second_moment_s2 / (2 * (1 - rate_per_s * service_s))


def geometric_second_moment_s2(mean_tokens: float, step_s: float) -> float:
    """Return E[S^2] of S = step_s * N with N geometric on 1, 2, ...: (2 m^2 - m) step_s^2."""
    return (2 * mean_tokens**2 - mean_tokens) * step_s**2


def test_mm1():
    """M/M/1: wait rho / (mu - lambda), sojourn 1 / (mu - lambda), utilisation rho; mu = 1/s.

    An exponential length rounded up is geometric, which lowers the wait by 1/(2 TOKENS) = 0.025 %: the exact
    value, Pollaczek-Khinchine's with the geometric second moment, is what the interval must hold, and the
    textbook value differs from it by less than that discretisation.
    """
    rate_per_s = 0.5
    runs = replicate(queue(rate_per_s), summary("queue_s_mean", "e2e_s_mean", "utilization_ratio"))
    exact_s = pollaczek_khinchine_s(rate_per_s, 1.0, geometric_second_moment_s2(TOKENS, STEP_S))
    textbook_s = rate_per_s / (1 - rate_per_s)
    assert exact_s == pytest.approx(textbook_s, rel=0.5001 / TOKENS)
    assert_agrees(runs[:, 0], exact_s, within=0.06)
    assert_agrees(runs[:, 1], exact_s + 1.0, within=0.03)
    assert_agrees(runs[:, 2], rate_per_s, within=0.02)


def test_short_outputs_are_geometric_not_exponential():
    """M/Geo/1 with mean 4 tokens: P-K with (2 m^2 - m) step_s^2, which M/M/1 misses by 1/(2 m) = 12.5 %.

    The interval holds the exact value and excludes the textbook one: the test can tell the two apart.
    """
    mean_tokens, rate_per_s = 4, 0.5
    scenario = queue(
        rate_per_s,
        output_tokens={"distribution": "exponential", "mean": mean_tokens},
        latency={"name": "constant", "step_s": 1 / mean_tokens},
    )
    waits = replicate(scenario, summary("queue_s_mean"))[:, 0]
    exact_s = pollaczek_khinchine_s(rate_per_s, 1.0, geometric_second_moment_s2(mean_tokens, 1 / mean_tokens))
    assert exact_s == pytest.approx(0.875)
    assert_agrees(waits, exact_s, within=0.06)
    mean, half_width = interval(waits)
    assert mean + half_width < 1.0, "M/M/1 would wait 1 s"


@pytest.mark.parametrize(
    ("prompt_tokens", "prefill_steps"), [(1, 1), (4096, 4)], ids=["one step", "four chunks"]
)
def test_md1(prompt_tokens, prefill_steps):
    """M/D/1: W = lambda D^2 / (2 (1 - rho)) with D = (prefill steps + output tokens - 1) * step_s, exactly.

    The budget is 1,024 tokens: a prompt of 4,096 takes four steps, the last of which emits the first token.
    """
    service_s = (prefill_steps + TOKENS - 1) * STEP_S
    rate_per_s = 0.6 / service_s
    runs = replicate(
        queue(rate_per_s, output_tokens=CONSTANT, prompt_tokens=prompt_tokens),
        summary("queue_s_mean", "e2e_s_mean", "e2e_s_p50"),
    )
    wait_s = pollaczek_khinchine_s(rate_per_s, service_s, service_s**2)
    assert_agrees(runs[:, 0], wait_s, within=0.05)
    assert_agrees(runs[:, 1], wait_s + service_s, within=0.03)
    assert runs[:, 1] - runs[:, 0] == pytest.approx(service_s, rel=1e-9), "every service takes the same time"


def test_mg1_uniform_lengths():
    """M/G/1 with N uniform on low..high: P-K with E[N^2] = mean^2 + ((high - low + 1)^2 - 1) / 12."""
    low, high, rate_per_s = 1, 2 * TOKENS - 1, 0.6
    runs = replicate(
        queue(rate_per_s, output_tokens={"distribution": "uniform", "low": low, "high": high}),
        summary("queue_s_mean"),
    )
    second_moment = TOKENS**2 + ((high - low + 1) ** 2 - 1) / 12
    assert_agrees(runs[:, 0], pollaczek_khinchine_s(rate_per_s, 1.0, second_moment * STEP_S**2), within=0.05)
