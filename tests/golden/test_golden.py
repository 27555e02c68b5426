"""What the golden scenarios give: as it was when a person last looked, and as it must be, whatever it is.

Every run has passed the audits, which raise; the invariants here are found from the frames alone. The files
are rewritten by ``python scripts/golden --update`` alone; that needs a [RESULTS] entry in the changelog.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from functools import cache

import polars as pl
import pytest

from golden import cases
from servesim.results import RunResult


@cache
def once(name: str) -> RunResult:
    """Return the result of a golden scenario, simulated once for all tests of this file."""
    return cases.run(name)


@pytest.fixture(params=list(cases.CASES))
def name(request, shared):
    """Return the name of each case; those on third-party traces need them to be there."""
    if request.param in cases.TRACES:
        shared(cases.TRACES[request.param])
    return request.param


def test_every_file_has_its_case():
    """No golden result is left over from a scenario that is gone."""
    assert {path.stem for path in cases.HERE.glob("*.json")} == set(cases.CASES)


def test_headline_numbers_have_not_moved(name):
    """Counts are as they were, and times within rounding; a difference is listed as old -> new."""
    assert cases.moved(cases.read(name), cases.record(once(name))) == []


def test_fingerprint_has_not_moved(name):
    """Every value of every frame is as it was. Alone, this failing means rounding, or a new column or key."""
    assert once(name).fingerprint() == cases.read(name)["fingerprint"]


def test_requests_are_conserved(name):
    """A row per arrival, in order; each in one state, with the times and tokens that belong to it."""
    result, summary = once(name), once(name).summary
    requests = result.requests
    assert requests["request_id"].to_list() == list(range(summary["requests_arrived"]))
    assert requests["arrival_s"].is_sorted()
    counts = dict(requests["state"].cast(pl.String).value_counts().iter_rows())
    assert {state: counts.get(state, 0) for state in ("completed", "rejected", "unfinished")} == {
        state: summary[f"requests_{state}"] for state in ("completed", "rejected", "unfinished")
    }
    done = requests.filter(pl.col("state") == "completed")
    assert done.height > 0
    ordered = (
        (pl.col("arrival_s") <= pl.col("scheduled_s"))
        & (pl.col("scheduled_s") < pl.col("first_token_s"))
        & (pl.col("first_token_s") <= pl.col("finished_s"))
    )
    assert done.filter(~ordered).is_empty() and done.filter(ordered).height == done.height
    assert done.filter(pl.col("output_tokens") > pl.col("output_tokens_target")).is_empty()
    cut = done.filter(pl.col("output_tokens") < pl.col("output_tokens_target"))
    assert cut.height == summary["requests_cut"]
    assert set(cut["finish_reason"]) <= {"length"}


def test_tokens_are_conserved(name):
    """Tokens of requests = decode steps times sequences + first tokens + tokens of completed recomputations.

    The right side comes from segments and events, which the kernel writes apart from the requests' rows.
    """
    result = once(name)
    requests = result.requests
    emitted = requests["output_tokens"].sum()
    resumed = result.events.filter(pl.col("kind") == "resumed").height
    firsts = requests["first_token_s"].drop_nulls().len()
    decoded = result.segments.select(pl.col("steps").cast(pl.Int64) * pl.col("sequences")).sum().item()
    assert emitted == decoded + firsts + resumed


def test_littles_law(name):
    """The mean number in the system, sampled coarsely, is the sum of the times in it over the duration."""
    result = once(name)
    end_s = result.summary["duration_s"]
    requests = result.requests.filter(pl.col("state") != "rejected")
    inside_s = (requests["finished_s"].fill_null(end_s) - requests["arrival_s"]).sum()
    sampled = result.replicas.group_by("time_s").agg(
        (pl.col("waiting_requests") + pl.col("running_requests")).sum().alias("number")
    )
    assert sampled["number"].mean() == pytest.approx(inside_s / end_s, rel=0.15)


def test_preemptions_happen_and_come_back():
    """The cache is full at times; every preempted request is admitted again and finishes."""
    result = once("preemptions")
    kinds = dict(result.events["kind"].cast(pl.String).value_counts().iter_rows())
    assert kinds["preempted"] == kinds["readmitted"] == result.summary["preemptions"] > 50
    assert result.requests["preemptions"].sum() == kinds["preempted"]
    assert result.summary["kv_used_ratio_max"] == 1.0
    assert result.summary["requests_unfinished"] == 0


def test_whole_prompts_are_never_split():
    """Each prompt is in one segment of one step, whose budget holds it."""
    result = once("whole_prompts")
    prefills = result.segments.filter(pl.col("prefill_sequences") > 0)
    assert prefills["prefill_sequences"].sum() == result.summary["requests_completed"] == 800
    assert prefills["prefill_tokens"].sum() == result.requests["prompt_tokens"].sum()
    assert prefills["steps"].max() == 1
    assert prefills.filter(pl.col("prefill_tokens") + pl.col("sequences") > 4096).is_empty()


def test_priority_goes_first():
    """No patient request is admitted while an urgent one is in the queue that came there before that moment."""
    requests = once("priority").requests
    waits = requests.group_by("tenant").agg(pl.col("queue_s").mean())
    means = dict(waits.iter_rows())
    assert means["urgent"] < means["patient"] / 5
    urgent = requests.filter(pl.col("tenant") == "urgent").select("enqueued_s", "scheduled_s")
    patient = requests.filter(pl.col("tenant") == "patient")["scheduled_s"].drop_nulls()
    for admitted_s in patient:
        waiting = urgent.filter(
            (pl.col("enqueued_s") < admitted_s)
            & (pl.col("scheduled_s").is_null() | (pl.col("scheduled_s") > admitted_s))
        )
        assert waiting.is_empty()


def test_models_stay_on_their_pools():
    """Requests for the small model run on replicas 0 and 1, for the large one on replica 2."""
    requests = once("two_models").requests
    assert set(requests.filter(pl.col("model") == "llama-3.1-8b")["replica"]) == {0, 1}
    assert set(requests.filter(pl.col("model") == "llama-3.3-70b")["replica"]) == {2}
    assert set(requests["model"]) == {"llama-3.1-8b", "llama-3.3-70b"}


def test_the_azure_trace_is_served_whole(shared):
    """Every row of the file is served, with the tokens that the file says (the csv module adds them up)."""
    with shared(cases.TRACES["azure_conv"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    result = once("azure_conv")
    assert result.summary["requests_completed"] == len(rows) == 19_366
    assert result.requests["prompt_tokens"].sum() == sum(int(row["ContextTokens"]) for row in rows)
    assert result.requests["output_tokens"].sum() == sum(int(row["GeneratedTokens"]) for row in rows)
    assert set(result.requests["replica"]) == {0, 1, 2, 3}


def test_the_script_tells_what_moved(root, tmp_path, monkeypatch):
    """`scripts/golden` passes on what is stored, and names a number that differs without writing it."""
    script = [sys.executable, str(root / "scripts" / "golden"), "priority"]
    stored = cases.path_of("priority").read_bytes()
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "priority: unchanged\n"), done.stderr
    assert cases.path_of("priority").read_bytes() == stored
    golden = json.loads(stored)
    other = {**golden, "summary": {**golden["summary"], "preemptions": 10**6, "ttft_s_p50": 1e9}}
    assert [line.partition(":")[0] for line in cases.moved(golden, other)] == ["preemptions", "ttft_s_p50"]
