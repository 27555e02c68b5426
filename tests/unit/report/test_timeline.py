"""Tests of timelines: a hand-computed one, what must hold for all, and what is left out."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from trace_format import check_trace

import servesim
from servesim.errors import ServesimError
from servesim.report.timeline import TimelineOptions, timeline

ROOT = Path(__file__).resolve().parents[3]


def events_of(result, **options):
    """Return the checked events of a timeline."""
    return check_trace(json.loads(timeline(result, TimelineOptions(**options)).text()))


def tracks_of(events):
    """Return {(process, thread): [(name, start_ms, end_ms)]} of all slices."""
    named = {
        kind: {each["pid" if kind == "process_name" else "tid"]: each["args"]["name"] for each in events
               if each["name"] == kind}
        for kind in ("process_name", "thread_name")
    }  # fmt: skip
    tracks = {}
    for each in events:
        if each["ph"] == "X":
            key = (named["process_name"][each["pid"]], named["thread_name"][each["tid"]])
            span = (each["name"], each["ts"] / 1000, (each["ts"] + each["dur"]) / 1000)
            tracks.setdefault(key, []).append(span)
    return tracks


def counter_of(events, name, series, pid=2):
    """Return [(time in ms, value)] of a counter."""
    return [
        (each["ts"] / 1000, each["args"][series])
        for each in events
        if each["ph"] == "C" and each["name"] == name and each["pid"] == pid
    ]


def test_the_example_of_how_it_works(run):
    """Two requests on one replica give exactly the slices of the drawing in docs/how-it-works.md."""
    events = events_of(run())
    replica = "replica 0 (main)"
    assert tracks_of(events) == {
        (replica, "engine steps"): [
            ("prefill", 0, 10),
            ("decode", 10, 20),
            ("decode", 20, 30),
            ("decode", 30, 40),
            ("prefill + decode", 40, 50),
            *(("decode", start, start + 10) for start in (50, 60, 70, 80, 90)),
        ],
        (replica, "requests 1"): [("request 0", 0, 100), ("prefill", 0, 10), ("decode", 10, 100)],
        (replica, "requests 2"): [
            ("request 1", 33, 80),
            ("queue", 33, 40),
            ("prefill", 40, 50),
            ("decode", 50, 80),
        ],
    }
    assert counter_of(events, "requests", "running") == [(0, 1), (33, 1), (40, 2), (80, 1), (100, 0)]
    assert counter_of(events, "requests", "waiting") == [(0, 0), (33, 1), (40, 0), (80, 0), (100, 0)]
    assert counter_of(events, "batch", "decoding") == [(0, 0), (10, 1), (40, 1), (50, 2), (80, 1), (100, 0)]
    assert counter_of(events, "batch", "prefilling") == [(0, 1), (10, 0), (40, 1), (50, 0), (80, 0), (100, 0)]
    arrivals = [each for each in events if each["name"] == "arrivals per s"]
    # 200 us each: one request in the first of them and one in that of 33 ms.
    assert [(each["ts"], each["args"]["requests"]) for each in arrivals] == [
        (0, 5000.0),
        (200, 0.0),
        (33_000, 5000.0),
        (33_200, 0.0),
    ]


def test_arguments(run):
    """A request's slice tells its lengths and latencies, a step's what was in its batch."""
    events = events_of(run())
    second = next(each["args"] for each in events if each["name"] == "request 1")
    assert (second["request_id"], second["prompt_tokens"], second["output_tokens"]) == (1, 50, 4)
    assert (second["state"], second["finish_reason"]) == ("completed", "stop")
    assert second["ttft_s"] == pytest.approx(0.017) and second["e2e_s"] == pytest.approx(0.047)
    assert "tenant" not in second
    steps = [each["args"] for each in events if each["ph"] == "X" and "sequences" in each["args"]]
    assert [step["context_tokens"] for step in steps[1:4]] == [101, 102, 103]
    assert [step["prefill_tokens"] for step in steps] == [100, 0, 0, 0, 50, 0, 0, 0, 0, 0]


def test_segments(run):
    """As segments, the example has five slices that tell how many steps each holds."""
    events = events_of(run(), steps="segments")
    found = [
        (each["name"], each["ts"], each["dur"], each["args"]["steps"])
        for each in events
        if each["ph"] == "X" and "steps" in each["args"]
    ]
    assert found == [
        ("prefill", 0, 10_000, 1),
        ("decode", 10_000, 30_000, 3),
        ("prefill + decode", 40_000, 10_000, 1),
        ("decode", 50_000, 30_000, 3),
        ("decode", 80_000, 20_000, 2),
    ]


def test_a_window_cuts_what_crosses_its_edges(run):
    """From 25 to 45 ms: steps and requests are cut there, counters begin with the state at the start."""
    events = events_of(run(), start_s=0.025, end_s=0.045)
    tracks = tracks_of(events)
    assert tracks["replica 0 (main)", "engine steps"] == [
        ("decode", 25, 30),
        ("decode", 30, 40),
        ("prefill + decode", 40, 45),
    ]
    assert tracks["replica 0 (main)", "requests 1"] == [("request 0", 25, 45), ("decode", 25, 45)]
    assert tracks["replica 0 (main)", "requests 2"] == [
        ("request 1", 33, 45),
        ("queue", 33, 40),
        ("prefill", 40, 45),
    ]
    assert counter_of(events, "requests", "running") == [(25, 1), (33, 1), (40, 2)]


def test_preemption(preempted_run):
    """A request that lost its KV cache is preempted, then recomputes, then decodes again; an instant marks it."""
    result, victim = preempted_run
    preempted_s, readmitted_s, resumed_s = (
        result.events.filter((result.events["kind"] == kind) & (result.events["request_id"] == victim))[
            "time_s"
        ][0]
        for kind in ("preempted", "readmitted", "resumed")
    )
    row = result.requests.row(victim, named=True)
    events = events_of(result)
    spans = next(
        spans
        for spans in tracks_of(events).values()
        if any(name == f"request {victim}" for name, _, _ in spans)
    )
    ends_ms = [round(row[key] * 1000) for key in ("scheduled_s", "first_token_s")]
    ends_ms += [round(time_s * 1000) for time_s in (preempted_s, readmitted_s, resumed_s, row["finished_s"])]
    expected = [
        (name, start, end)
        for name, start, end in zip(
            ("prefill", "decode", "preempted", "recompute", "decode"), ends_ms, ends_ms[1:], strict=False
        )
        if end > start
    ]
    assert [span for span in spans if span[0] in ("prefill", "decode", "preempted", "recompute")
            and ends_ms[0] <= span[1] and span[2] <= ends_ms[-1]] == expected  # fmt: skip
    marks = [each for each in events if each["ph"] == "i"]
    assert [each["name"] for each in marks] == ["preempted"] * result.summary["preemptions"]
    assert {each["args"]["request_id"] for each in marks} == set(
        result.events.filter(result.events["kind"] == "preempted")["request_id"]
    )


@pytest.fixture
def preempted_run(run):
    """Return a run in which the second of two requests is preempted once, and its id.

    Twelve blocks of 16 tokens hold two requests of 60 + 30 tokens until both have grown into their sixth
    block, but not into their seventh.
    """
    result = run(
        [(0.0, 60, 60), (0.0, 60, 60)], engine="{async_scheduling: false, kv_blocks: 12, kv_block_tokens: 16}"
    )
    assert result.summary["preemptions"] == 1
    return result, result.events["request_id"][0]


def test_rejections_and_unfinished_requests(run):
    """A rejected request is an instant without a lane; an unfinished one lasts to the end of the run."""
    result = run(
        [(0.0, 100, 1000), (0.02, 5000, 4)],
        engine="{async_scheduling: false, kv_blocks: 100, kv_block_tokens: 16}",
        run="{horizon_s: 0.5, drain: false}",
    )
    assert (result.summary["requests_rejected"], result.summary["requests_unfinished"]) == (1, 1)
    events = events_of(result)
    assert [(each["name"], each["ts"]) for each in events if each["ph"] == "i"] == [("rejected", 20_000)]
    lanes = [spans for (_, thread), spans in tracks_of(events).items() if thread.startswith("requests")]
    assert lanes == [[("request 0", 0, 500), ("prefill", 0, 10), ("decode", 10, 500)]]


@pytest.fixture(scope="module")
def busy():
    """Return a run with preemptions and rejections on two replicas."""
    return servesim.run(
        ROOT / "tests" / "golden" / "preemptions.yaml",
        overrides=["workload.generator.requests=150", "cluster.pools.main.engine.kv_blocks=150"],
    )


def test_every_request_and_every_step_is_there(busy):
    """With room enough, slices count what the run counted, and steps take the time that replicas were busy."""
    events = events_of(busy, most_events=1_000_000)
    steps = [each for each in events if each["ph"] == "X" and "sequences" in each["args"]]
    assert len(steps) == busy.summary["engine_steps"]
    assert sum(step["args"]["step_s"] for step in steps) == pytest.approx(
        busy.summary["utilization_ratio"] * 2 * busy.summary["duration_s"], rel=1e-9
    )
    shown = {each["args"]["request_id"] for each in events if each["name"].startswith("request ")}
    assert len(shown) == busy.summary["requests_completed"]
    kinds = [each["name"] for each in events if each["ph"] == "i"]
    assert kinds.count("preempted") == busy.summary["preemptions"] > 0
    assert kinds.count("rejected") == busy.summary["requests_rejected"] > 0
    for pid in (2, 3):
        assert counter_of(events, "requests", "running", pid)[-1][1] == 0
        assert min(value for _, value in counter_of(events, "requests", "waiting", pid)) == 0


def test_phases_fill_a_request(busy):
    """The phases of a request follow each other without a gap, from its arrival to its end."""
    events = events_of(busy, most_events=1_000_000)
    outer, phases = {}, {}
    for each in events:
        if each["ph"] == "X" and "request_id" in each["args"]:
            span = (each["ts"], each["ts"] + each["dur"])
            if each["name"].startswith("request "):
                outer[each["args"]["request_id"]] = span
            else:
                phases.setdefault(each["args"]["request_id"], []).append(span)
    assert outer.keys() == phases.keys()
    for request_id, spans in phases.items():
        assert (spans[0][0], spans[-1][1]) == outer[request_id]
        assert all(before[1] == after[0] for before, after in pairwise(spans))


@pytest.mark.parametrize("most_events", [1_000, 1_500, 3_000, 20_000])
def test_bounded(busy, most_events):
    """There are never more events than asked for, what is left out is said, and what is there is whole."""
    shown = timeline(busy, TimelineOptions(most_events=most_events))
    events = check_trace(json.loads(shown.text()))
    assert len(events) == shown.events <= most_events
    requests = [each for each in events if each["name"].startswith("request ")]
    count = busy.summary["requests_completed"]
    said = [
        note for note in shown.left_out if note.startswith(f"{len(requests):,} of {count} requests are shown")
    ]
    assert bool(said) == (len(requests) < count)
    if most_events < 20_000:
        assert any("engine steps" in note and "--from 0 --to " in note for note in shown.left_out)


def test_the_hint_of_a_narrower_window_is_right(busy):
    """The window that the note names has room for what the note says."""
    start_s, end_s, notes = 10.0, None, []
    while end_s is None or notes:
        shown = timeline(busy, TimelineOptions(most_events=2_000, start_s=start_s, end_s=end_s))
        notes.append(next((note for note in shown.left_out if "engine steps" in note), None))
        if notes[-1] is None:
            break
        end_s = float(notes[-1].split("--to ")[1].split()[0])
    assert [note and note.split("; ")[1].split()[-1] for note in notes] == ["segments", "step", None]


def test_a_smaller_sample_is_part_of_a_larger_one(busy):
    """Requests are drawn by the run's seed: the same for the same options, nested for fewer."""

    def shown(number):
        return {
            each["name"] for each in events_of(busy, requests=number) if each["name"].startswith("request ")
        }

    assert len(shown(10)) == 10
    assert shown(10) == shown(10) < shown(30)
    assert shown(0) == set()


def test_replicas(busy):
    """Only the chosen replica has a process beside the cluster's, and only its requests are drawn."""
    events = events_of(busy, replicas=[1])
    processes = {each["args"]["name"] for each in events if each["name"] == "process_name"}
    assert processes == {"cluster", "replica 1 (main)"}
    shown = {each["args"]["request_id"] for each in events if each["name"].startswith("request ")}
    mine = busy.requests.filter((busy.requests["replica"] == 1) & (busy.requests["state"] == "completed"))
    assert shown == set(mine["request_id"])


def test_the_same_bytes_on_every_run(run, tmp_path):
    """Two results of one scenario, in memory and on disk, give the same file, compressed or not."""
    paths = [tmp_path / name for name in ("a.json", "b.json", "a.json.gz", "b.json.gz")]
    first, second = run(), run(out=tmp_path / "saved")
    loaded = servesim.RunResult.load(tmp_path / "saved")
    for result, path in zip((first, loaded, second, loaded), paths, strict=True):
        assert timeline(result).write(path) == path.stat().st_size
    assert paths[0].read_bytes() == paths[1].read_bytes() == gzip.decompress(paths[2].read_bytes())
    assert paths[2].read_bytes() == paths[3].read_bytes()


def test_names_that_need_escaping(run, tmp_path):
    """Tenants may be called anything: the JSON holds it."""
    result = run()
    frames = result.frames._frames
    names = ['a "b" \\ c', "line\nbreak \N{SNOWMAN}"]
    frames["requests"] = frames["requests"].with_columns(tenant=pl.Series(names))
    tenants = [each["args"]["tenant"] for each in events_of(result) if each["name"].startswith("request ")]
    assert tenants == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"start_s": 0.2},
            r"starts outside of the run \(got 0.2 s\). expected a time from 0 to before 0.1 s",
        ),
        ({"start_s": -1.0}, r"starts outside of the run \(got -1 s\)"),
        ({"start_s": float("nan")}, r"starts outside of the run \(got nan s\)"),
        ({"start_s": 0.05, "end_s": 0.05}, r"the window is empty \(got 0.05 to 0.05 s\)"),
        ({"end_s": float("nan")}, r"the window is empty \(got 0 to nan s\)"),
        ({"replicas": [0, 7]}, r"no such replicas \(got \[7\]\). expected numbers from 0 to 0"),
        ({"replicas": []}, r"no such replicas \(got none\)"),
        ({"steps": "some"}, r"unknown way to show steps \(got 'some'\)"),
        ({"most_events": 10}, r"too few events \(got 10\). expected at least 1000"),
    ],
)
def test_bad_options(run, options, message):
    """What cannot be shown is refused with what could be."""
    with pytest.raises(ServesimError, match=message):
        timeline(run(), TimelineOptions(**options))


def test_no_room_for_what_is_asked_for(busy, run):
    """Steps that were asked for are not left out silently; a timeline of names alone is refused."""
    with pytest.raises(
        ServesimError, match=r"no room for the steps in the window \(got .*\). expected at most"
    ):
        timeline(busy, TimelineOptions(steps="all", most_events=1_000))
    with pytest.raises(ServesimError, match=r"no room for the segments in the window"):
        timeline(busy, TimelineOptions(steps="segments", most_events=1_000))
    many = run([(0.0, 10, 2)], replicas=600)
    with pytest.raises(ServesimError, match=r"too few events for 600 replicas \(got 1000\)"):
        timeline(many, TimelineOptions(most_events=1_000))


def test_a_run_without_requests_in_the_window(run):
    """Between two requests nothing happens: counters say so, and there are no slices."""
    result = run([(0.0, 10, 2), (5.0, 10, 2)])
    events = events_of(result, start_s=1.0, end_s=2.0)
    assert [each for each in events if each["ph"] == "X"] == []
    assert counter_of(events, "requests", "running") == [(1000, 0)]
