"""Tests of inter-token latencies of whole runs: exact, whatever is preempted, unfinished or of the warm-up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import servesim
from servesim.errors import InvariantError
from servesim.results import ParquetSink
from servesim.results.token_gaps import RequestGaps, itl_statistics, tokens_per_second

ROOT = Path(__file__).resolve().parents[3]
QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)


def test_plain(plain):
    """Three gaps of half a second: two of request 0, one of request 1."""
    statistics = plain.result().itl_statistics((0.5,))
    assert (statistics.count, statistics.mean_s, statistics.std_s) == (3, 0.5, 0.0)
    assert statistics.quantiles_s == {0.5: 0.5}


def test_preempted(preempted, tmp_path):
    """Request 0 has gaps 1, 1, 1, 1.25, 1.5; request 1 has 1, 1, 4.75 (it was preempted) and 1."""
    gaps = [1.0] * 6 + [1.25, 1.5, 4.75]
    for sink in (None, ParquetSink(tmp_path / "out")):
        statistics = itl_statistics(preempted.result(sink).frames, (0.0, 0.5, 0.75, 1.0))
        assert statistics.count == 9
        assert statistics.mean_s == pytest.approx(13.5 / 9, rel=1e-12)
        assert statistics.std_s == pytest.approx(np.std(gaps), rel=1e-12)
        # Rank 0.75 * 8 = 6 of the sorted gaps is 1.25.
        assert statistics.quantiles_s == {0.0: 1.0, 0.5: 1.0, 0.75: 1.25, 1.0: 4.75}


def test_quantiles_interpolate(preempted):
    """Rank 0.9 * 8 = 7.2 lies a fifth of the way from 1.5 to 4.75."""
    found = itl_statistics(preempted.result().frames, (0.9,)).quantiles_s[0.9]
    assert found == pytest.approx(1.5 + 0.2 * 3.25, rel=1e-12)


def test_unfinished_requests_do_not_count(unfinished):
    """None of the three requests completed: there are no gaps, and no statistics of them."""
    statistics = itl_statistics(unfinished.result().frames, (0.5,))
    assert (statistics.count, statistics.mean_s, statistics.std_s) == (0, None, None)
    assert statistics.quantiles_s == {0.5: None}


def test_what_is_beside_a_measured_request_is_taken_off(preempted):
    """Request 0 alone is measured where request 1 arrived in the warm-up: steps of both are one gap each."""
    result = preempted.result()
    frames = result.frames._frames
    frames["requests"] = frames["requests"].with_columns(arrival_s=np.array([0.5, 0.0]))
    statistics = itl_statistics(result.frames, (1.0,), warm_up_s=0.25)
    assert statistics.count == 5
    assert statistics.mean_s == pytest.approx((1 + 1 + 1 + 1.25 + 1.5) / 5, rel=1e-12)
    assert statistics.quantiles_s == {1.0: 1.5}


def test_tokens_per_second(preempted):
    """Tokens at 1, 2, 3, 4, 5.25, 6.75 and at 1, 2, 3, 7.75, 8.75 s, counted in whole seconds."""
    counts = tokens_per_second(preempted.result().frames, origin_s=0.0)
    assert counts.tolist() == [0, 2, 2, 2, 1, 1, 1, 1, 1]


def test_gaps_of_single_requests(preempted):
    """They are the differences of the token times, the pause by preemption included."""
    gaps = RequestGaps(preempted.result().frames)
    assert gaps.of(0, 0, 1.0, 6).tolist() == [1.0, 1.0, 1.0, 1.25, 1.5]
    assert gaps.of(1, 0, 1.0, 5).tolist() == [1.0, 1.0, 4.75, 1.0]
    assert gaps.of(1, 0, 1.0, 1).tolist() == []


def test_segments_that_do_not_account_for_the_tokens(plain):
    """A missing segment is a bug that is reported, not a smaller number."""
    result = plain.result()
    frames = result.frames._frames
    frames["segments"] = frames["segments"].head(2)
    with pytest.raises(InvariantError, match=r"give 1 gaps between tokens that take 0.5 s. expected 3"):
        itl_statistics(result.frames, (0.5,))


PROMPTS_ALONE = "cluster.pools.main.engine.prefill_only_steps=true"
"""Requests that decode wait while prompts are computed: a gap is more than its step."""

CASES = [
    ("tests/golden/preemptions.yaml", ["workload.max_requests=150"], 0.0),
    ("tests/golden/preemptions.yaml", ["run.horizon_s=12", "run.drain=false"], 3.0),
    ("tests/golden/priority.yaml", ["run.horizon_s=20"], 1.0),
    ("tests/golden/whole_prompts.yaml", ["workload.max_requests=60"], 0.0),
    ("tests/golden/whole_prompts.yaml", ["workload.max_requests=80", PROMPTS_ALONE], 2.0),
    (
        "tests/golden/whole_prompts.yaml",
        ["workload.max_requests=150", PROMPTS_ALONE, "cluster.pools.main.engine.kv_blocks=260"],
        1.0,
    ),
]


@pytest.mark.parametrize(("scenario", "overrides", "warm_up_s"), CASES)
def test_equals_the_token_times_of_every_request(scenario, overrides, warm_up_s):
    """The statistics are those of the gaps listed request by request, to a billionth; so are the counts."""
    result = servesim.run(ROOT / scenario, overrides=overrides)
    requests = result.requests
    own = requests.filter((requests["state"] == "completed") & (requests["arrival_s"] >= warm_up_s))
    listed = {request_id: result.itl_s(request_id) for request_id in own["request_id"]}
    gaps = np.concatenate(list(listed.values()))
    statistics = itl_statistics(result.frames, QUANTILES, warm_up_s=warm_up_s)
    assert statistics.count == len(gaps) > 100
    assert statistics.mean_s == pytest.approx(gaps.mean(), rel=1e-9)
    assert statistics.std_s == pytest.approx(gaps.std(), rel=1e-9)
    found = [statistics.quantiles_s[quantile] for quantile in QUANTILES]
    assert found == pytest.approx(np.quantile(gaps, QUANTILES).tolist(), rel=1e-9)
    single = RequestGaps(result.frames)
    columns = ("request_id", "replica", "first_token_s", "output_tokens")
    for request in own.select(columns).iter_rows():
        assert single.of(*request).tolist() == listed[request[0]].tolist()
    times = np.concatenate([result.token_times(request_id) for request_id in own["request_id"]])
    counts = tokens_per_second(result.frames, origin_s=0.0, warm_up_s=warm_up_s)
    assert counts.tolist() == np.bincount(times.astype(np.int64)).tolist()


def test_the_cases_are_about_something():
    """They have preemptions, unfinished requests beside measured ones, and a warm-up."""
    result = servesim.run(ROOT / CASES[1][0], overrides=CASES[1][1])
    assert result.summary["preemptions"] > 10
    assert result.summary["requests_unfinished"] > 0
    assert (result.requests["arrival_s"] < CASES[1][2]).sum() > 0
    alone = servesim.run(ROOT / CASES[-1][0], overrides=CASES[-1][1])
    assert alone.summary["preemptions"] > 10
    steps = alone.segments.filter(alone.segments["sequences"] > 0)
    calm = alone.requests.filter((alone.requests["preemptions"] == 0) & (alone.requests["output_tokens"] > 1))
    longest_s = max(alone.itl_s(request_id).max() for request_id in calm["request_id"])
    assert longest_s > 1.5 * steps["step_s"].max()
