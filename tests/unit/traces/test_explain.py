"""What makes two traces differ: Shapley values, swapped marginals, and simulations of the mixtures."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesim.errors import ServesimError
from servesim.experiments.backends import InProcess
from servesim.experiments.points import Point, summary_of
from servesim.rng import stream
from servesim.scenario import Scenario
from servesim.traces.explain import check_open, explain
from servesim.traces.marginals import MARGINALS, Marginals, swapped
from servesim.traces.shapley import coalitions, shapley_values

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(NUMBERS, min_size=16, max_size=16))
def test_shares_add_up_exactly(numbers: list[float]):
    """Whatever the values: not approximately, but as rational numbers."""
    players = ["a", "b", "c", "d"]
    values = dict(zip(coalitions(players), numbers, strict=True))
    shares = shapley_values(players, values)
    assert sum(shares.values()) == Fraction(values[frozenset(players)]) - Fraction(values[frozenset()])


@given(st.lists(st.integers(-50, 50), min_size=4, max_size=4))
def test_what_only_adds_has_its_own_amount_as_its_share(amounts: list[int]):
    """Without interaction a Shapley value is what the player brings; a player that brings nothing gets nothing."""
    players = ["a", "b", "c", "d"]
    brings = dict(zip(players, amounts, strict=True))
    values = {each: float(sum(brings[name] for name in each)) for each in coalitions(players)}
    assert shapley_values(players, values) == brings


def test_shares_by_hand():
    """Gloves: a has a left one, b and c a right one each, a pair is worth 1: 4/6, 1/6, 1/6."""
    values = {each: float("a" in each and len(each) > 1) for each in coalitions("abc")}
    assert shapley_values("abc", values) == {"a": Fraction(2, 3), "b": Fraction(1, 6), "c": Fraction(1, 6)}


def trace(seed: int, n: int, *, gap_s: float = 1.0, prompt: int = 500) -> pl.DataFrame:
    """Return requests with exponential gaps and lengths."""
    rng = stream(seed, "explained")
    return pl.DataFrame(
        {
            "arrival_s": np.cumsum(rng.exponential(gap_s, n)),
            "prompt_tokens": rng.geometric(1 / prompt, n).astype(np.int32),
            "output_tokens": rng.geometric(1 / 50, n).astype(np.int32),
        }
    )


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 5))
def test_the_ends_are_the_traces_themselves(n: int, m: int, seed: int):
    """With nothing swapped the first trace, with everything the second, from time 0."""
    one, other = trace(seed, n), trace(seed + 1, m)
    a, b = Marginals(one), Marginals(other)
    for taken, expected in ((set(), one), (set(MARGINALS), other)):
        found = swapped(a, b, taken)
        assert found["prompt_tokens"].equals(expected["prompt_tokens"])
        assert found["output_tokens"].equals(expected["output_tokens"])
        since_first = expected["arrival_s"] - expected["arrival_s"][0]
        np.testing.assert_allclose(found["arrival_s"], since_first, atol=1e-9)


def test_one_marginal_by_hand():
    """The second's prompts in the first's order: its smallest where the first has its smallest."""
    one = pl.DataFrame(
        {"arrival_s": [0.0, 1.0, 3.0], "prompt_tokens": [30, 10, 20], "output_tokens": [1, 2, 3]}
    )
    other = pl.DataFrame(
        {"arrival_s": [0.0, 5.0, 6.0], "prompt_tokens": [7, 8, 9], "output_tokens": [4, 4, 4]}
    )
    found = swapped(Marginals(one), Marginals(other), {"prompts"})
    assert found["prompt_tokens"].to_list() == [9, 7, 8]
    assert found["arrival_s"].to_list() == [0.0, 1.0, 3.0]
    assert found["output_tokens"].to_list() == [1, 2, 3]
    gaps = swapped(Marginals(one), Marginals(other), {"gaps"})
    assert gaps["arrival_s"].to_list() == [0.0, 1.0, 6.0]
    order = swapped(Marginals(one), Marginals(other), {"order"})
    assert order["prompt_tokens"].to_list() == [10, 20, 30]
    assert order["arrival_s"].to_list() == [0.0, 2.0, 3.0]


def test_of_a_larger_trace_every_fourth_value_is_taken():
    """Shares of ranks: two requests get the values at 1/4 and 3/4 of eight."""
    one = pl.DataFrame({"arrival_s": [0.0, 1.0], "prompt_tokens": [1, 2], "output_tokens": [1, 1]})
    other = pl.DataFrame(
        {"arrival_s": np.arange(8.0), "prompt_tokens": range(10, 18), "output_tokens": [1] * 8}
    )
    assert swapped(Marginals(one), Marginals(other), {"prompts"})["prompt_tokens"].to_list() == [12, 16]


def test_a_single_request_cannot_be_explained():
    """It has no gap."""
    with pytest.raises(ServesimError, match=r"too few requests to explain \(got 1\)"):
        Marginals(trace(0, 1))


SCENARIO = {
    "workload": {
        "generator": {
            "name": "constant",
            "rate_per_s": 1,
            "requests": 1,
            "prompt_tokens": {"distribution": "constant", "value": 1},
            "output_tokens": {"distribution": "constant", "value": 1},
        }
    },
    "cluster": {
        "pools": [
            {
                "name": "main",
                "model": "llama-3.1-8b",
                "gpu": "h100-sxm",
                "latency": {
                    "name": "linear",
                    "base_s": 0.005,
                    "per_prefill_token_s": 0.0002,
                },
            }
        ]
    },
}


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    """Return a scenario whose prefill dominates."""
    return Scenario.model_validate(SCENARIO)


def test_explained_values_are_those_of_the_simulations(scenario: Scenario):
    """Both ends equal simulations of the traces, shares add up exactly, and longer prompts make the difference."""
    one, other = trace(1, 150), trace(1, 150, prompt=2000)
    found = explain(one, other, scenario, InProcess(), metric="ttft_s_p99")
    assert sum(found.shares.values()) == found.b - found.a
    assert len(found.values) == 16
    assert max(found.shares, key=lambda name: found.shares[name]) == "prompts"
    assert found.shares["outputs"] == 0  # the same values; and the same ranks of gaps
    assert found.shares["gaps"] == 0
    assert found.to_dict()["difference"] == pytest.approx(float(found.b - found.a))


def test_the_first_end_is_a_run_of_the_first_trace(scenario: Scenario, tmp_path):
    """The same number as a scenario that names the trace."""
    one, other = trace(3, 60), trace(4, 80)
    found = explain(one, other, scenario, InProcess(), metric="e2e_s_p99", seeds=[0, 1])
    one.with_columns(pl.col("arrival_s") - one["arrival_s"][0]).write_csv(tmp_path / "one.csv")
    data = SCENARIO | {"workload": {"source": {"reader": "table", "path": str(tmp_path / "one.csv")}}}
    run = summary_of(Point(name="one", scenario=Scenario.model_validate(data)))
    assert float(found.a) == pytest.approx(run["e2e_s_p99"], rel=1e-9)


def test_traces_that_wait_for_the_simulation_are_refused():
    """Their gaps are a result, no cause."""
    frame = trace(0, 2).with_columns(think_s=pl.Series([None, 1.0]))
    with pytest.raises(ServesimError, match="follow others after a think time"):
        check_open(frame, "x.csv")
    check_open(trace(0, 2), "x.csv")


def test_what_is_no_marginal_is_told(scenario: Scenario):
    """Tags of the traces play no part."""
    one = trace(1, 20).with_columns(tenant=pl.lit("a"))
    found = explain(one, trace(2, 20), scenario, InProcess())
    assert found.warnings == ["only times and lengths are compared; left out: tenant"]


def test_a_scenario_in_closed_loop_is_taken_without_it(root):
    """Mixtures have no sessions and no blocks: what needs them is left out by name, and the numbers are finite."""
    workload = SCENARIO["workload"]["generator"]
    source = {"reader": "burstgpt", "path": str(root / "traces" / "burstgpt_3_sample.csv")}
    for origin, name in (
        ({"source": source, "closed_loop": True}, "workload.closed_loop"),
        ({"generator": workload, "prefixes": {"hit_ratio": 0.9, "history": True}}, "workload.prefixes"),
    ):
        scenario = Scenario.model_validate(SCENARIO | {"workload": origin})
        found = explain(trace(1, 20), trace(2, 20), scenario, InProcess())
        assert found.warnings == [f"left out of the scenario, for it needs sessions or blocks: {name}"]
        assert found.a > 0
