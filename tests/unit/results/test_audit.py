"""Tests of the audits: a sound run passes, and each seeded fault is found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from servesim.errors import InvariantError
from servesim.results import audit

Change = Callable[..., object]


def findings(run):
    """Return the findings of *run* as text."""
    recorder = run.recorder()
    recorder._take_outcomes()
    recorder._flush(complete_only=False)
    recorder._take_rows(0)
    return [str(finding) for finding in audit(run.cluster_account(), recorder.totals)]


def test_sound_runs_pass(plain, preempted, unfinished):
    """Runs with rejections, preemptions and unfinished requests add up."""
    for run in (plain, preempted, unfinished):
        assert findings(run) == []


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("queue_area_s", 0.2500001, "replica 0: integral of the requests in the queue = sum"),
        ("batch_area_s", 2.4, "replica 0: integral of the requests in the batch = sum"),
        ("enqueued", 3, "replica 0: accepted requests = completed + unfinished (got 2). expected 3"),
        ("completed", 1, "replica 0: completed requests (got 2). expected 1"),
        ("rejected", 0, "replica 0: rejected requests (got 1). expected 0"),
        ("preemptions", 1, "replica 0: events of preemption (got 0). expected 1"),
        ("output_tokens", 6, "replica 0: tokens emitted for its requests = counted (got 5). expected 6"),
        (
            "output_tokens",
            6,
            "replica 0: decoded + first + resumed tokens = tokens counted (got 5). expected 6",
        ),
        ("steps", 4, "replica 0: steps of its segments = counted (got 3). expected 4"),
        ("busy_s", 1.4, "replica 0: segments take its busy time (got 1.5). expected 1.4"),
        ("busy_s", 1.6, "replica 0: busy time <= duration of the run (got 1.6). expected 1.5"),
        ("kv_blocks_used", 1, "replica 0: KV blocks taken when its batch is empty (got 1). expected 0"),
        (
            "kv_blocks_used_max",
            9,
            "replica 0: KV blocks taken at the end, at most, and there are (got '(0, 9, 8)')",
        ),
        (
            "waiting",
            1,
            "replica 0: unfinished requests = in the front end + in the queue + in the batch (got 0). expected 1",
        ),
        ("front_end_area_s", 0.1, "replica 0: integral of the requests in the front end = sum"),
        ("front_end_requests", 1, "replica 0: unfinished requests = in the front end + in the queue"),
    ],
)
def test_replica_that_counts_wrong(plain, key, value, expected):
    """A count of the replica that its rows do not bear out is found."""
    plain.replica[key] = value
    assert any(finding.startswith(expected) for finding in findings(plain))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("arrived", 4, "cluster: requests arrived = completed + rejected + unfinished (got 3). expected 4"),
        ("system_area_s", 2.7499, "cluster: integral of the requests in the system = sum of their sojourns"),
        ("end_s", 1.4, "cluster: nothing happens after the end of the run (got 1.5). expected 1.4"),
    ],
)
def test_cluster_that_counts_wrong(plain, key, value, expected):
    """A count of the cluster that the rows do not bear out is found."""
    plain.account[key] = value
    assert any(finding.startswith(expected) for finding in findings(plain))


@pytest.mark.parametrize(
    ("row", "change", "expected"),
    [
        (1, {"scheduled_s": 0.2}, "request 1: scheduled before it arrived"),
        (1, {"first_token_s": 0.5}, "request 1: first token not after it was scheduled"),
        (1, {"finished_s": 0.9}, "request 1: finished before its first token"),
        (
            1,
            {"finished_s": float("nan")},
            "request 1: completed without being scheduled, a first token and an end",
        ),
        (0, {"output_tokens": 1}, "request 2: rejected, but served"),
        (0, {"scheduled_s": 1.0}, "request 2: rejected, but served"),
        (1, {"state": "unfinished"}, "request 1: finished, but not completed"),
        (2, {"output_tokens": 0}, "request 0: first token, but none emitted, or the reverse"),
        (2, {"output_tokens": 4}, "request 0: emitted more tokens than asked for"),
        (2, {"output_tokens": 2}, "request 0: stopped short of the tokens asked for"),
        (1, {"replica": 1}, "cluster: rows name replicas that exist (got 2). expected 1"),
        (1, {"preemptions": 1}, "replica 0: preemptions of its requests (got 1). expected 0"),
    ],
)
def test_request_that_breaks_a_rule(plain, row, change, expected):
    """An outcome that contradicts itself, or the arrival, is found and named."""
    plain.outcomes[row] |= change
    assert any(finding.startswith(expected) for finding in findings(plain))


@pytest.mark.parametrize(
    ("row", "change", "expected"),
    [
        (1, {"start_s": 0.4999999}, "replica 0 at 0.4999999 s: segment starts before the last one"),
        (0, {"start_s": -0.1}, "replica 0 at -0.1 s: segment starts before the last one"),
        (2, {"steps": 2}, "cluster: nothing happens after the end of the run (got 2.0). expected 1.5"),
        (
            2,
            {"sequences": 1},
            "replica 0: decoded + first + resumed tokens = tokens counted (got 4). expected 5",
        ),
        (
            0,
            {"prefill_tokens": 11},
            "replica 0: prefilled tokens = prompts of its requests (got 31). expected 30",
        ),
    ],
)
def test_segment_that_breaks_a_rule(plain, row, change, expected):
    """A segment that overlaps another, or does not account for the tokens, is found."""
    plain.segments[row] |= change
    assert any(finding.startswith(expected) for finding in findings(plain))


def test_overlap_is_found_across_buffers(plain):
    """Segments are compared with the last one of their replica even when that was taken before."""
    recorder = plain.recorder()
    recorder._take_rows(0)
    plain.segments = [plain.segments[2] | {"start_s": 1.4}]
    plain.arrivals, plain.outcomes, plain.events = [], [], []
    recorder.segments += plain.recorder().segments
    recorder._take_rows(0)
    assert list(recorder.totals.broken) == ["segment starts before the last one of its replica ended"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (0, "replica 0: events of preemption (got 0). expected 1"),
        (
            1,
            "replica 0: requests never scheduled or preempted and not readmitted = in the queue (got 1)",
        ),
        (1, "replica 0: integral of the requests in the queue"),
        (2, "replica 0: decoded + first + resumed tokens = tokens counted (got 10). expected 11"),
    ],
)
def test_lost_event(preempted, row, expected):
    """An event that was not written down is missed."""
    del preempted.events[row]
    assert any(finding.startswith(expected) for finding in findings(preempted))


def test_event_at_the_wrong_time(preempted):
    """A preemption at another time shifts waiting to running: Little's law fails at queue and batch."""
    preempted.events[0]["time_s"] = 2.0
    found = findings(preempted)
    assert [finding.split(" (")[0] for finding in found] == [
        "replica 0: integral of the requests in the queue = sum of the times they spend there",
        "replica 0: integral of the requests in the batch = sum of the times they spend there",
    ]


def test_too_little_prefilled(preempted):
    """Where prompts are recomputed, fewer prefilled tokens than prompts are still found."""
    preempted.segments[0]["prefill_tokens"] = 0
    assert any(
        "prefilled tokens >= prompts that have a first token (got 7.0). expected 8.0" in f
        for f in findings(preempted)
    )


def test_rejection_without_event(plain):
    """A rejected request without its event is found."""
    plain.events.clear()
    assert findings(plain) == ["replica 0: events of rejection (got 0). expected 1"]


def test_preempted_before_its_first_token(preempted):
    """A request that lost its cache before its first token emits that token once, whatever it is called."""
    run = preempted
    run.outcomes[1] |= {"first_token_s": 7.75, "output_tokens": 2}
    run.arrivals[1]["output_tokens"] = 2
    run.segments[1] |= {"sequences": 1}
    run.segments[3] |= {"prefill_tokens": 4}
    for event, tokens in zip(run.events, (0, 0, 1), strict=True):
        event["output_tokens"] = tokens
    run.replica["output_tokens"] = 8
    assert findings(run) == []
    del run.events[2]
    assert findings(run) == []


def test_all_findings_are_listed(plain):
    """The error names every finding, each on a line."""
    plain.replica |= {"completed": 1, "output_tokens": 6}
    with pytest.raises(InvariantError) as caught:
        plain.result()
    lines = str(caught.value).splitlines()
    assert lines[0] == "results: 3 audit findings:"
    assert sum(line.startswith("  - replica 0: ") for line in lines) == 3


def test_empty_run(plain):
    """A run in which nothing arrived adds up."""
    plain.arrivals, plain.outcomes, plain.segments, plain.events, plain.replica = [], [], [], [], {}
    plain.account = {"end_s": 0.0, "arrived": 0, "system_area_s": 0.0}
    assert findings(plain) == []


def test_request_that_reached_no_replica(unfinished):
    """A request that waits nowhere is missed by Little's law of the cluster, and by none of a replica."""
    unfinished.arrivals.append({"arrival_s": 4.5, "prompt_tokens": 4, "output_tokens": 1})
    unfinished.outcomes.append({"request_id": 3, "state": "unfinished", "replica": -1})
    unfinished.account["arrived"] = 4
    assert findings(unfinished) == [
        "cluster: integral of the requests in the system = sum of their sojourns (got 11.5). expected 11.0"
    ]
