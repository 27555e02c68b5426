"""Sessions of traces as closed loops, and transforms that keep sessions whole and apart."""

from __future__ import annotations

import polars as pl
import pytest
from workloads import build, collect, frame, rows, stream_of

from servesim.errors import ServesimError, TraceError
from servesim.workload.merge import merge
from servesim.workload.resample import bootstrap_blocks, thin
from servesim.workload.sessions import follow_ups, whole_sessions
from servesim.workload.spec import TransformSpec
from servesim.workload.transforms import transform

TRACE = """\
arrival_s,prompt_tokens,output_tokens,session,end_s
0,10,1,a,2
1,11,1,b,1.5
4,12,1,,9
5,13,1,a,6
5.5,14,1,b,7
5.75,15,1,a,8
"""


@pytest.fixture
def trace(tmp_path):
    """Return the workload of a table with two sessions and a request without one."""
    path = rows(tmp_path / "trace.csv", TRACE)
    return {"source": {"reader": "table", "path": str(path)}}


def chains(requests):
    """Return (session, arrival, prompt, think) of each request."""
    return requests.select("session", "arrival_s", "prompt_tokens", "think_s").rows()


def test_open_loop_is_as_recorded(trace):
    """Without closed_loop the ends are not looked at."""
    requests = collect(trace)
    assert requests["arrival_s"].to_list() == [0, 1, 4, 5, 5.5, 5.75]
    assert requests["think_s"].null_count() == 6


def test_closed_loop_takes_think_times_from_the_end_of_the_predecessor(trace):
    """A thinks from 2 to 5; its third request came before the second had ended, and follows at once."""
    workload = build(trace | {"closed_loop": True})
    requests = pl.concat(list(workload.frames()))
    assert chains(requests) == [
        ("a", 0.0, 10, None),
        ("a", 0.0, 13, 3.0),
        ("a", 0.0, 15, 0.0),
        ("b", 1.0, 11, None),
        ("b", 1.0, 14, 4.0),
        (None, 4.0, 12, None),
    ]
    assert {key: workload.notes[key] for key in ("sessions", "follow_ups", "overlaps")} == {
        "sessions": 2,
        "follow_ups": 3,
        "overlaps": 1,
    }
    assert workload.extras == {"think_s"}


def test_without_ends_the_gap_of_arrivals_counts():
    """Where a trace has no end, or an end is missing, the think time is the distance of the arrivals."""
    requests = pl.DataFrame({"arrival_s": [0.0, 3.0, 7.0], "session": ["a"] * 3})
    assert follow_ups(requests, "trace")[0]["think_s"].to_list() == [None, 3.0, 4.0]
    some = requests.with_columns(end_s=pl.Series([None, 5.0, 8.0]))
    assert follow_ups(some, "trace")[0]["think_s"].to_list() == [None, 3.0, 2.0]


def test_ends_are_on_the_clock_of_the_arrivals(tmp_path):
    """Dates count from the first arrival, numbers in their unit; an end that is missing is named."""
    dates = rows(
        tmp_path / "dates.csv",
        "arrival_s,prompt_tokens,output_tokens,session,done\n"
        "2024-05-10 00:00:10,1,1,a,2024-05-10 00:00:12\n2024-05-10 00:00:15,1,1,a,2024-05-10 00:00:16\n",
    )
    source = {"reader": "table", "path": str(dates), "time_unit": "datetime", "columns": {"end_s": "done"}}
    assert chains(collect({"source": source, "closed_loop": True})) == [
        ("a", 0.0, 1, None),
        ("a", 0.0, 1, 3.0),
    ]
    ticks = rows(
        tmp_path / "ticks.csv",
        "arrival_s,prompt_tokens,output_tokens,session,end_s\n9000,1,1,a,9500\n9750,1,1,a,9800\n",
    )
    source = {"reader": "table", "path": str(ticks), "time_unit": "ms"}
    assert chains(collect({"source": source, "closed_loop": True})) == [
        ("a", 0.0, 1, None),
        ("a", 0.0, 1, 0.25),
    ]
    empty = rows(
        tmp_path / "empty.csv", "arrival_s,prompt_tokens,output_tokens,session,end_s\n0,1,1,a,1\n2,1,1,a,\n"
    )
    with pytest.raises(TraceError, match=r"empty\.csv: row 2: end_s"):
        collect({"source": {"reader": "table", "path": str(empty)}, "closed_loop": True})


def test_rows_out_of_order_are_sorted_first():
    """The order of a session is that of its arrivals, ties as they stand."""
    requests = pl.DataFrame({"arrival_s": [5.0, 0.0, 0.0], "session": ["a"] * 3, "row": [1, 2, 3]})
    linked, _ = follow_ups(requests, "trace")
    assert linked["row"].to_list() == [2, 3, 1]
    assert linked["think_s"].to_list() == [None, 0.0, 5.0]


def test_the_whole_session_is_read_although_the_window_is_short(trace):
    """A session belongs to the window in which it begins, and keeps its later requests."""
    requests = collect(trace | {"closed_loop": True, "window": {"start_s": 0.5, "end_s": 2.0}})
    assert chains(requests) == [("b", 0.5, 11, None), ("b", 0.5, 14, 4.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arrival_s,prompt_tokens,output_tokens\n0,1,1\n", "no sessions"),
        ("arrival_s,prompt_tokens,output_tokens,session\n0,1,1,\n", "no sessions"),
        (
            "arrival_s,prompt_tokens,output_tokens,session,end_s\n0,1,1,a,2\n3,1,1,a,2.5\n",
            "row 2: end_s: before",
        ),
        ("arrival_s,prompt_tokens,output_tokens,session,end_s\n0,1,1,a,x\n", "row 1: end_s"),
        (
            "arrival_s,prompt_tokens,output_tokens,session,think_s\n0,1,1,a,\n0,1,1,a,2\n",
            "think times itself",
        ),
    ],
)
def test_what_cannot_be_closed_is_refused(tmp_path, text, message):
    """The message names the file, and where there is one the row."""
    path = rows(tmp_path / "trace.csv", text)
    with pytest.raises(TraceError, match=f"trace.csv: .*{message}"):
        collect({"source": {"reader": "table", "path": str(path)}, "closed_loop": True})


def test_only_a_source_can_be_closed():
    """A generator has think times of its own or none."""
    poisson = {"name": "poisson", "rate_per_s": 1.0, "requests": 1}
    lengths = {
        "prompt_tokens": {"distribution": "constant", "value": 1},
        "output_tokens": {"distribution": "constant", "value": 1},
    }
    with pytest.raises(ValueError, match="closed_loop: no trace to take think times from"):
        build({"generator": poisson | lengths, "closed_loop": True})


def test_a_table_may_have_think_times_itself(tmp_path):
    """The column think_s of a table is taken as it is."""
    path = rows(
        tmp_path / "own.csv", "arrival_s,prompt_tokens,output_tokens,session,think_s\n1,1,1,a,\n1,1,1,a,2.5\n"
    )
    workload = build({"source": {"reader": "table", "path": str(path)}})
    assert pl.concat(list(workload.frames()))["think_s"].to_list() == [None, 2.5]
    assert workload.extras == {"think_s"}


def talks(*sessions):
    """Return a stream of (start, name, turns), think time 1 s, announced as such."""
    times, names, think_s = [], [], []
    for start_s, name, turns in sessions:
        times += [start_s] * turns
        names += [name] * turns
        think_s += [None] + [1.0] * (turns - 1)
    stream = stream_of(frame(times, session=names, think_s=think_s))
    return type(stream)(frames=stream.frames, requests=stream.requests, extras=frozenset({"think_s"}))


def played(stream):
    """Return (session, arrival, think) of each request of a stream."""
    return pl.concat(list(stream.frames())).select("session", "arrival_s", "think_s").rows()


def test_repetitions_are_other_sessions():
    """Each plays under a new name, so that nobody waits for the repetition before."""
    stream = transform(talks((0.0, "a", 2), (2.0, "b", 1)), TransformSpec(repeat=2), 0)
    assert played(stream) == [
        ("a#0", 0.0, None),
        ("a#0", 0.0, 1.0),
        ("b#0", 2.0, None),
        ("a#1", 3.0, None),
        ("a#1", 3.0, 1.0),
        ("b#1", 5.0, None),
    ]


def test_rate_scale_moves_beginnings_only():
    """Twice the rate of sessions; who thinks does so as long as before."""
    stream = transform(talks((0.0, "a", 2), (2.0, "b", 1)), TransformSpec(rate_scale=2.0), 0)
    assert played(stream) == [("a", 0.0, None), ("a", 0.0, 1.0), ("b", 1.0, None)]


def test_max_requests_leaves_no_follow_up_alone():
    """It cuts the end of a session off: predecessors always stand before."""
    stream = transform(talks((0.0, "a", 3)), TransformSpec(max_requests=2), 0)
    assert played(stream) == [("a", 0.0, None), ("a", 0.0, 1.0)]


def test_thinning_takes_sessions_whole():
    """About half of 400 sessions stay, each with all of its turns, whatever the framing."""
    whole = pl.concat(list(talks(*((float(i // 2), f"s{i}", 1 + i % 4) for i in range(400))).frames()))
    one = pl.concat(list(thin(iter([whole]), 0.5, 3, by_session=True)))
    many = pl.concat(list(thin(whole.iter_slices(7), 0.5, 3, by_session=True)))
    assert one.equals(many)
    turns = dict(one["session"].value_counts().rows())
    assert all(count == 1 + int(name[1:]) % 4 for name, count in turns.items())
    assert 150 < len(turns) < 250


def test_resampled_sessions_are_whole_and_apart():
    """A session that is drawn twice is two sessions; each has all its turns at one time."""
    whole = pl.concat(list(talks(*((float(i), f"s{i}", 3) for i in range(30))).frames()))
    drawn = pl.concat(list(bootstrap_blocks(iter([whole]), block_s=2.0, period_s=30.0, seed=1)))
    groups = drawn.group_by("session").agg(
        pl.len(), pl.col("arrival_s").n_unique(), pl.col("think_s").null_count()
    )
    assert groups.drop("session").unique().rows() == [(3, 1, 1)]
    names = groups["session"].str.split("#").list.first()
    assert names.n_unique() < len(names)


def test_merged_sources_share_no_session():
    """Their numbers stand before the names, whether anything waits or not."""
    plain = stream_of(frame([0.5], session=["a"]))
    assert played(merge([talks((0.0, "a", 2)), plain])) == [
        ("0/a", 0.0, None),
        ("0/a", 0.0, 1.0),
        ("1/a", 0.5, None),
    ]
    assert played(merge([plain, plain])) == [("0/a", 0.5, None), ("1/a", 0.5, None)]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_whole_sessions(size):
    """However a stream is cut, no time is in two frames, and nothing is lost or moved."""
    whole = frame([0.0, 0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 5.0])
    pieces = list(whole_sessions(whole.iter_slices(size)))
    assert pl.concat(pieces).equals(whole)
    times = [set(piece["arrival_s"]) for piece in pieces]
    assert sum(map(len, times)) == len(set.union(*times))
    assert list(whole_sessions(iter([whole.clear()]))) == []


def test_a_generator_must_announce_think_times():
    """Kernel and transforms prepare for follow-ups before the first frame."""
    from servesim.workload.generated import generated

    class Silent:
        requests = 2
        duration_s = None

        def frames(self, seed):
            yield frame([0.0, 0.0], session=["a", "a"], think_s=[None, 1.0])

    with pytest.raises(ServesimError, match="think_s: not announced"):
        list(generated(Silent(), "generator", 0))
