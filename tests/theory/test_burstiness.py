"""Bursts make the tail of the time to first token: scenarios/reproductions/burstiness.yaml, one seed of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import servesim
from servesim.checks.run import prepare


@pytest.fixture(scope="module")
def ttft_s_p99(root: Path, shared: Callable[[str], Path]) -> dict[str, float]:
    """Return the 99 % quantile of each variant."""
    shared("traces/azure_llm/AzureLLMInferenceTrace_code.csv")
    cases = prepare(root / "scenarios" / "reproductions" / "burstiness.yaml", objects={}).cases
    return {case.name: servesim.simulate(case.scenario).summary["ttft_s_p99"] for case in cases}


def test_the_azure_code_trace_is_worse_than_poisson(ttft_s_p99: dict[str, float]) -> None:
    """At 74 % load, the same lengths and the same rate: more than 1.5 times the tail."""
    assert ttft_s_p99["azure_code"] > 1.5 * ttft_s_p99["azure_poisson"]


def test_a_day_of_burstgpt_is_worse_than_poisson(ttft_s_p99: dict[str, float]) -> None:
    """At 75 % load in the mean of the day: more than 1.5 times the tail."""
    assert ttft_s_p99["burstgpt"] > 1.5 * ttft_s_p99["burstgpt_poisson"]


def test_the_tail_grows_with_the_variation_of_gaps(ttft_s_p99: dict[str, float]) -> None:
    """At one rate, with a cv of 1, 2, 4 and 8."""
    tails = [
        ttft_s_p99[name] for name in ("burstgpt_poisson", "burstgpt_flat", "burstgpt_cv_4", "burstgpt_cv_8")
    ]
    assert tails == sorted(tails)
    assert tails[1] > 1.25 * tails[0]
