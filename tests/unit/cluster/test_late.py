"""Ending a run early: late requests are counted exactly, and who does not ask does not notice."""

from __future__ import annotations

import pytest

import servesim
from servesim.cluster.late import StoppedEarly, TooLate
from servesim.scenario import Scenario


def scenario(rate_per_s: float, **engine: object) -> Scenario:
    """Return a scenario of 200 requests that take 1 s each, one after another."""
    return Scenario.model_validate(
        {
            "workload": {
                "generator": {
                    "name": "constant",
                    "rate_per_s": rate_per_s,
                    "requests": 200,
                    "prompt_tokens": {"distribution": "constant", "value": 10},
                    "output_tokens": {"distribution": "constant", "value": 4},
                }
            },
            "cluster": {
                "pools": [
                    {
                        "model": "llama-3.1-8b",
                        "gpu": "h100-sxm",
                        "latency": {"name": "constant", "step_s": 0.25},
                        "engine": {"max_num_seqs": 1, **engine},
                    }
                ]
            },
        }
    )


def test_late_requests_are_counted_at_the_first_look() -> None:
    """At 2/s request n arrives at n/2 and is scheduled at n: the first to wait more than 10 s is n = 21, whose
    time is up at 20.5 s. A look is taken at every full second, so at 21 s, when 42 have arrived before.
    """
    with pytest.raises(StoppedEarly) as stopped:
        servesim.simulate(scenario(2.0), stop_when=[TooLate(wait_s=10.0, requests=1, event="scheduled")])
    assert (stopped.value.rule, stopped.value.time_s, stopped.value.arrived) == (0, 21.0, 42)


def test_first_tokens_come_a_step_later() -> None:
    """The first token is emitted a quarter of a second after the start: n = 20 waits 10.25 s for it."""
    with pytest.raises(StoppedEarly) as stopped:
        servesim.simulate(scenario(2.0), stop_when=[TooLate(wait_s=10.2, requests=1)])
    assert stopped.value.time_s == 21.0  # 10 + 10.2, rounded up to a look


def test_the_exact_number_decides() -> None:
    """Of 200 requests, number n waits n/2 s: 99 of them more than 50 s, and a hundredth never comes."""
    late = TooLate(wait_s=50.0, requests=99, event="scheduled")
    with pytest.raises(StoppedEarly):
        servesim.simulate(scenario(2.0), stop_when=[late])
    result = servesim.simulate(
        scenario(2.0), stop_when=[TooLate(wait_s=50.0, requests=100, event="scheduled")]
    )
    assert (result.requests["queue_s"] > 50.0).sum() == 99


def test_requests_of_the_warm_up_do_not_count() -> None:
    """From 50 s on 100 requests arrive; all of them wait 50 s or more, and one of them exactly so long."""
    rule = TooLate(wait_s=50.0, requests=99, event="scheduled", from_s=50.5)
    servesim.simulate(scenario(2.0), stop_when=[TooLate(wait_s=50.0, requests=100, event="scheduled")])
    with pytest.raises(StoppedEarly):
        servesim.simulate(scenario(2.0), stop_when=[rule])
    late_s = TooLate(wait_s=0.0, requests=3, event="scheduled", from_s=99.0)
    assert scenario(2.0).workload.generator is not None
    servesim.simulate(scenario(2.0), stop_when=[late_s])  # 99 and 99.5 only


def test_rejected_requests_do_not_wait() -> None:
    """None of them ever gets a token, and none is late."""
    rule = TooLate(wait_s=1.0, requests=1)
    result = servesim.simulate(scenario(2.0, max_model_len=5), stop_when=[rule])
    assert result.summary["requests_rejected"] == 200


def test_a_rule_that_does_not_hold_changes_nothing() -> None:
    """The same bytes as without it."""
    rule = TooLate(wait_s=1e6, requests=1)
    assert (
        servesim.simulate(scenario(2.0), stop_when=[rule]).fingerprint()
        == servesim.simulate(scenario(2.0)).fingerprint()
    )
