"""`assert_results_equal`: sharp about decisions, lenient about rounding of times, clear about where."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings

import servesim
from servesim import Scenario
from servesim.results import MemoryFrames
from servesim.results.schema import FRAMES
from servesim.testing import assert_results_equal, step_by_step
from servesim.testing.results import CLOCKS
from servesim.testing.strategies import scenarios


@pytest.fixture(scope="module")
def result():
    """Return a run of some hundred seconds, with preemptions."""
    prompt, output = ({"distribution": "constant", "value": value} for value in (40, 60))
    return servesim.run(
        Scenario.model_validate(
            {
                "workload": {
                    "generator": {
                        "name": "constant",
                        "rate_per_s": 0.2,
                        "requests": 101,
                        "prompt_tokens": prompt,
                        "output_tokens": output,
                    }
                },
                "cluster": {
                    "pools": [
                        {
                            "model": "llama-3.1-8b",
                            "gpu": "h100-sxm",
                            "engine": {"kv_blocks": 12},
                            "latency": {"name": "constant", "step_s": 0.3},
                        }
                    ]
                },
            }
        )
    )


def changed(result, frame, column, value):
    """Return *result* with *value*, an expression, in row 50 of a column, or in the last row."""
    frames = {name: getattr(result, name) for name in FRAMES}
    row = min(50, frames[frame].height - 1)
    here = pl.int_range(pl.len()) == row
    frames[frame] = frames[frame].with_columns(
        pl.when(here).then(value).otherwise(pl.col(column)).alias(column)
    )
    return replace(result, frames=MemoryFrames(frames))


def test_equal_to_itself(result):
    """The run has what the tests below change."""
    assert result.summary["preemptions"] > 0
    assert result.events.height > 0
    assert_results_equal(result, result)


@pytest.mark.parametrize(
    ("frame", "column", "value"),
    [
        ("requests", "replica", pl.lit(1, pl.Int32)),
        ("requests", "output_tokens", pl.col("output_tokens") - 1),
        ("requests", "preemptions", pl.col("preemptions") + 1),
        ("requests", "finish_reason", pl.lit("length", FRAMES["requests"][-1].dtype)),
        ("requests", "session", pl.lit("a")),
        ("segments", "steps", pl.col("steps") + 1),
        ("replicas", "kv_blocks_used", pl.col("kv_blocks_used") + 1),
        ("events", "request_id", pl.col("request_id") + 1),
    ],
)
def test_decisions_must_be_equal(result, frame, column, value):
    """One different replica, count, state or tag is named by frame, column and row."""
    other = changed(result, frame, column, value)
    with pytest.raises(
        AssertionError, match=rf"^{frame}\.{column}: differs in 1 of \d+ rows, first in row \d+ "
    ):
        assert_results_equal(result, other)


@pytest.mark.parametrize("frame", FRAMES)
def test_times_may_differ_by_rounding_only(result, frame):
    """At time t, 0.9e-9 t passes and 2.1e-9 t does not, for a clock column of each frame."""
    column = CLOCKS[frame][0]
    assert_results_equal(result, changed(result, frame, column, pl.col(column) * (1 + 0.9e-9)))
    other = changed(result, frame, column, pl.col(column).clip(lower_bound=2.0) * (1 + 2.1e-9))
    with pytest.raises(AssertionError, match=rf"^{frame}\.{column}: differs in 1 "):
        assert_results_equal(result, other)


def test_latencies_inherit_the_error_of_the_clock(result):
    """A wait of 0 s of a request that finishes at t may be off by 2e-9 t: both its ends are times near t."""
    finished_s = result.requests["finished_s"][50]
    assert finished_s > 100
    assert_results_equal(
        result, changed(result, "requests", "ttft_s", pl.col("ttft_s") + 1.9e-9 * finished_s)
    )
    with pytest.raises(AssertionError, match=r"requests\.ttft_s"):
        assert_results_equal(
            result, changed(result, "requests", "ttft_s", pl.col("ttft_s") + 2.1e-9 * finished_s)
        )


def test_null_equals_null_only(result):
    """A time that has not happened is no time near 0."""
    other = changed(result, "requests", "first_token_s", pl.lit(None))
    with pytest.raises(
        AssertionError, match=r"requests\.first_token_s: differs in 1 of 101 rows, first in row 50"
    ):
        assert_results_equal(result, other)
    assert_results_equal(other, other)


def test_rows_and_keys_must_be_the_same(result):
    """A missing row or key of the summary is named."""
    frames = {name: getattr(result, name) for name in FRAMES}
    fewer = replace(result, frames=MemoryFrames({**frames, "events": frames["events"].head(1)}))
    with pytest.raises(AssertionError, match=r"events: number of rows differs \(got \d+ and 1\)"):
        assert_results_equal(result, fewer)
    summary = dict(result.summary)
    del summary["gpu_hours"]
    with pytest.raises(AssertionError, match="summary: keys differ"):
        assert_results_equal(result, replace(result, summary=summary))


def test_summary_is_compared(result):
    """Counts exactly, times within rounding, nested tables too."""
    near = {**result.summary, "ttft_s_mean": result.summary["ttft_s_mean"] + 1e-7}
    assert_results_equal(result, replace(result, summary=near))
    far = {**result.summary, "ttft_s_mean": result.summary["ttft_s_mean"] + 1e-5}
    with pytest.raises(AssertionError, match=r"summary\.ttft_s_mean"):
        assert_results_equal(result, replace(result, summary=far))
    counted = {**result.summary, "workload": {**result.summary["workload"], "requests": 102}}
    with pytest.raises(AssertionError, match=r"summary\.workload\.requests: differs \(got 101 and 102\)"):
        assert_results_equal(result, replace(result, summary=counted))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenarios())
def test_leap_equals_step_over_random_scenarios(scenario):
    """The whole program, from random scenario to result: leaping and step by step decide alike."""
    reference = step_by_step(scenario)
    assert not any(pool.engine.leap for pool in reference.cluster.pools)
    assert_results_equal(servesim.run(scenario), servesim.run(reference))


@pytest.mark.parametrize(
    "happens",
    ["preemptions", "requests_rejected", "requests_unfinished", "requests_cut"],
)
def test_random_scenarios_cover_the_rare_cases(happens):
    """The strategy finds scenarios with preemptions, rejections, cut outputs and early ends."""
    find(
        scenarios(),
        lambda scenario: servesim.run(scenario).summary[happens] > 0,
        settings=settings(max_examples=400, deadline=None, phases=[Phase.generate]),
    )
