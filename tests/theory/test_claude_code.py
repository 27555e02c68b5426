"""Coding agents in closed loop: a sixteenth of scenarios/reproductions/claude_code.yaml, by its simulated requests.

What is expected is computed from the trace's file by hand; the reader has no part in it but where it is named. The 44
sessions have 3,247 requests, 118,243 prompt tokens in the mean and 97.0 % of their blocks from the request before; all
710 have 49,334, 122,379 and 97.3 %, which the check asserts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import servesim
from servesim import RunResult
from servesim.readers.claude_code import ClaudeCodeReader

SESSIONS = 44
REPLICAS = 1
SAMPLE_INTERVAL_S = 10.0
"""Time between two samples: a request takes some 30 s, and the run over a day."""

RECEIVED_S = pl.col("finished_s") + pl.col("stream_s")
"""When a client has its last token."""


@pytest.fixture(scope="module")
def trace(shared: Callable[[str], Path]) -> pl.DataFrame:
    """Return the requests of 44 of the 710 sessions, drawn at random, with the agent that each belongs to."""
    whole = pl.read_parquet(shared("traces/claude_code/requests.parquet"))
    numbers = whole["conv"].unique().sort().to_numpy()
    drawn = np.random.default_rng(20261126).choice(numbers, SESSIONS, replace=False)
    few = whole.filter(pl.col("conv").is_in(drawn.tolist()))
    return few.with_columns(session=pl.format("{}/{}", "conv", "agent"))


@pytest.fixture(scope="module")
def path(trace: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of those sessions."""
    found = tmp_path_factory.mktemp("claude_code") / "few.parquet"
    trace.drop("session").write_parquet(found)
    return found


@pytest.fixture(scope="module")
def replay(root: Path, path: Path) -> Callable[[bool], RunResult]:
    """Return a function that replays the sessions on a GPU, in closed or in open loop."""
    sixteenth = [
        f"workload.source.path={path}",
        "workload.source.duplicates=true",
        f"workload.source.sessions_per_s={0.02 * SESSIONS / 710!r}",
        f"cluster.pools.main.replicas={REPLICAS}",
        f"run.sample_interval_s={SAMPLE_INTERVAL_S}",
    ]

    def run(closed: bool) -> RunResult:
        loop = f"workload.closed_loop={str(closed).lower()}"
        return servesim.run(root / "scenarios" / "claude_code.yaml", overrides=[*sixteenth, loop])

    return run


@pytest.fixture(scope="module")
def closed(replay: Callable[[bool], RunResult]) -> RunResult:
    """Return the replay in closed loop."""
    return replay(True)


@pytest.fixture(scope="module")
def opened(replay: Callable[[bool], RunResult]) -> RunResult:
    """Return the replay at the recorded times."""
    return replay(False)


def in_turn(result: RunResult) -> pl.DataFrame:
    """Return the simulated requests session by session, in the order in which they were sent."""
    return result.requests.sort("session", "request_id")


def test_every_request_is_replayed_in_its_order(trace: pl.DataFrame, closed: RunResult) -> None:
    """Lengths agree one by one, and so does their mean: 118,243 tokens here, 122,379 in the whole trace."""
    expected = trace.sort("session", "idx")
    served = in_turn(closed).filter(pl.col("state") == "completed")
    assert served["session"].to_list() == expected["session"].to_list()
    assert served["prompt_tokens"].to_list() == expected["in_tokens"].to_list()
    assert served["output_tokens"].to_list() == expected["out_tokens"].clip(lower_bound=1).to_list()
    assert closed.summary["sessions"]["prompt_tokens_mean"] == expected["in_tokens"].mean()
    assert expected["in_tokens"].mean() == pytest.approx(118_243, abs=0.5)


def test_blocks_are_reused_from_the_request_that_was_served_before(
    trace: pl.DataFrame, path: Path, closed: RunResult
) -> None:
    """By the ids of the prompts, in the order of the simulation; the note says so, too: 97.0 %."""
    reader = ClaudeCodeReader(path=path, duplicates=True, prefix_blocks=True)
    blocks: dict[str, list[pl.Series]] = {}
    for session, ids in reader.read().collect().select("session", "prefix_blocks").iter_rows():
        blocks.setdefault(session, []).append(pl.Series(ids, dtype=pl.Int64))
    total = reused = 0
    latest: dict[str, pl.Series] = {}
    for session in closed.requests["session"]:
        ids = blocks[session].pop(0)
        if session in latest:
            both = min(len(ids), len(latest[session]))
            differ = ids.head(both) != latest[session].head(both)
            reused += both if not differ.any() else int(differ.arg_max() or 0)
            total += len(ids)
        latest[session] = ids
    follow_ups = trace.filter(pl.col("idx") > 0)
    assert (reused, total) == (follow_ups["lcp_prev"].sum(), follow_ups["n_blocks"].sum())
    assert closed.summary["workload"]["blocks_reused_ratio"] == reused / total
    assert reused / total == pytest.approx(0.970, abs=0.0005)


def test_a_follow_up_comes_its_think_time_after_the_last_token(
    trace: pl.DataFrame, closed: RunResult
) -> None:
    """The pause in the trace, from the recorded end of a request to the next one, passes in the simulation."""
    end_s = pl.col("t") + pl.col("api_time_s").fill_null(0.0)
    pauses = (
        trace.sort("session", "idx")
        .with_columns(pause_s=(pl.col("t") - end_s.shift(1)).over("session"))["pause_s"]
        .clip(lower_bound=0.0)
    )
    gaps = in_turn(closed).select((pl.col("arrival_s") - RECEIVED_S.shift(1)).over("session").alias("gap_s"))[
        "gap_s"
    ]
    assert gaps.null_count() == pauses.null_count() == trace["session"].n_unique()
    np.testing.assert_allclose(gaps.drop_nulls(), pauses.drop_nulls(), atol=1e-5)


def test_sessions_begin_when_they_begin_in_open_loop(closed: RunResult, opened: RunResult) -> None:
    """Begins are drawn, and the same; only what follows waits."""
    first = pl.col("arrival_s").min()
    begins = [run.requests.group_by("session").agg(first).sort("session") for run in (closed, opened)]
    assert begins[0].equals(begins[1])


def test_littles_law_of_requests_and_of_sessions(closed: RunResult) -> None:
    """Requests: sampled queues and batches against times in the system. Sessions: served plus thinking time.

    The interactive response-time law: sessions under way = throughput * (latency + think time).
    """
    requests, end_s = closed.requests, closed.summary["duration_s"]
    sampled = closed.replicas.group_by("time_s").agg(
        (pl.col("waiting_requests") + pl.col("running_requests")).sum().alias("number")
    )
    assert sampled["number"].mean() == pytest.approx(requests["e2e_s"].sum() / end_s, rel=0.02)
    thought_s = (pl.col("arrival_s") - RECEIVED_S.shift(1)).over("session").sum()
    cycle_s = requests["e2e_s"].sum() + requests.select(thought_s).item()
    assert closed.summary["sessions"]["active_mean"] == pytest.approx(cycle_s / end_s, rel=1e-9)


def test_open_loop_asks_on_before_it_is_answered(
    trace: pl.DataFrame, closed: RunResult, opened: RunResult
) -> None:
    """At the recorded times, however slow the cluster is: its backlog and p99 TTFT are many times as long."""

    def early(result: RunResult) -> int:
        before = pl.col("finished_s").shift(1).over("session")
        return result.requests.select((pl.col("arrival_s") < before).sum()).item()

    since_begin = in_turn(opened).select(
        (pl.col("arrival_s") - pl.col("arrival_s").min()).over("session").alias("t")
    )["t"]
    times = trace.sort("session", "t", maintain_order=True).select(
        (pl.col("t") - pl.col("t").min()).over("session")
    )["t"]
    np.testing.assert_allclose(since_begin, times, atol=1e-6)
    assert early(closed) == 0
    assert early(opened) > 0.2 * trace.height
    assert opened.summary["ttft_s_p99"] > 3 * closed.summary["ttft_s_p99"]
    assert opened.summary["queue_s_mean"] > 10 * closed.summary["queue_s_mean"]
