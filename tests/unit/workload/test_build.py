"""From a workload block to frames: the contract of the stream, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError
from workloads import build, collect, rows

from servesim.errors import PluginError, ScenarioError, TraceError
from servesim.workload.registries import GENERATORS, READERS
from servesim.workload.schema import CHUNK_ROWS, SCHEMA
from servesim.workload.source import load

ONE = {"distribution": "constant", "value": 1}
LENGTHS = {"prompt_tokens": ONE, "output_tokens": ONE}
TABLE = "arrival_s,prompt_tokens,output_tokens\n"


def constant(**parameters: Any) -> dict[str, Any]:
    """Return a generator block with one request per second."""
    return {"name": "constant", "rate_per_s": 1, **LENGTHS, **parameters}


def test_frames_have_exactly_the_schema_and_at_most_a_chunk(tmp_path: Path) -> None:
    """For a generator and for a trace longer than a chunk."""
    n = CHUNK_ROWS + 3
    pl.DataFrame({"arrival_s": range(n), "prompt_tokens": [1] * n, "output_tokens": [1] * n}).write_parquet(
        tmp_path / "t.parquet"
    )
    source = {"reader": "table", "path": str(tmp_path / "t.parquet")}
    for spec in ({"source": source}, {"generator": constant(requests=n)}):
        frames = list(build(spec).frames())
        assert [frame.height for frame in frames] == [CHUNK_ROWS, 3]
        assert all(dict(frame.schema) == SCHEMA for frame in frames)
        assert frames[0]["priority"].unique().to_list() == [0]
        assert frames[0]["model"].null_count() == CHUNK_ROWS


def test_a_workload_can_be_played_twice() -> None:
    """Each call of frames starts anew, with the same requests and the same notes."""
    workload = build({"generator": constant(requests=5), "resample": {"thin_ratio": 0.5}}, seed=4)
    first, second = pl.concat(list(workload.frames())), pl.concat(list(workload.frames()))
    assert first.equals(second)
    assert workload.notes["requests"] == first.height


def test_relative_paths_start_from_the_base_folder(tmp_path: Path) -> None:
    """Of traces, and of tables of lengths inside a generator."""
    rows(tmp_path / "t.csv", TABLE + "0,2,3\n")
    rows(tmp_path / "lengths.csv", "tokens\n77\n")
    (tmp_path / "scenarios").mkdir()
    trace = {"source": {"reader": "table", "path": "../t.csv"}}
    table = {"distribution": "empirical", "file": "../lengths.csv"}
    for spec, prompt in ((trace, 2), ({"generator": constant(requests=1, prompt_tokens=table)}, 77)):
        frames = list(build(spec, base_dir=tmp_path / "scenarios").frames())
        assert frames[0]["prompt_tokens"].to_list() == [prompt]


def test_the_end_of_a_generator_must_be_known() -> None:
    """Something has to end it: its own parameters, a window, or max_requests; alone and in a mix."""
    with pytest.raises(ScenarioError, match="nothing ends the stream"):
        build({"generator": constant()})
    with pytest.raises(ScenarioError, match="nothing ends the stream"):
        build({"sources": [{"generator": constant(requests=1)}, {"generator": constant()}]})
    assert collect({"generator": constant(), "max_requests": 3}).height == 3
    assert collect({"generator": constant(), "window": {"end_s": 4}}).height == 4
    assert collect({"generator": constant(duration_s=5)}).height == 5
    assert collect({"generator": constant(duration_s=5, requests=2)}).height == 2


def test_the_number_of_requests_is_noted_even_if_the_run_ends_first(tmp_path: Path) -> None:
    """It is known of a trace beforehand; with thinning it is known at the end only."""
    path = rows(tmp_path / "t.csv", TABLE + "0,1,1\n1,1,1\n")
    spec = {"source": {"reader": "table", "path": path}, "repeat": 3}
    workload = build(spec)
    assert workload.notes["requests"] == 6
    thinned = build(spec | {"resample": {"thin_ratio": 1.0}})
    assert "requests" not in thinned.notes
    list(thinned.frames())
    assert thinned.notes["requests"] == 6


@pytest.mark.parametrize(
    ("first", "last", "late"),
    [(1_700_000_000, 1_700_000_600, True), (4000, 4401, False), (4001, 4401, True), (30, 31, False)],
)
def test_a_first_arrival_far_from_0_is_noted(first: int, last: int, late: bool, tmp_path: Path) -> None:
    """Far is more than an hour, and more than ten times what lies between the first and the last."""
    path = rows(tmp_path / "t.csv", f"{TABLE}{first},1,1\n{last},1,1\n")
    workload = build({"source": {"reader": "table", "path": path, "start_at_zero": False}})
    list(workload.frames())
    assert workload.notes.get("first_arrival_s") == (first if late else None)


def test_a_generators_duration_is_the_period_of_a_repetition() -> None:
    """Five seconds of arrivals repeat after five seconds, not after four and a gap."""
    spec = {"generator": constant(rate_per_s=0.5, duration_s=5), "repeat": 2}
    assert collect(spec)["arrival_s"].to_list() == [0, 2, 4, 5, 7, 9]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"window": {"start_s": 2, "end_s": 6}}, "3 from the trace before 6.0 s, 0 in the window"),
        ({"resample": {"thin_ratio": 1e-9}}, "4 from the trace, 0 after thinning"),
        (
            {"window": {"end_s": 2}, "resample": {"thin_ratio": 1e-9}},
            "3 from the trace before 2.0 s, 3 in the window, 0 after thinning",
        ),
    ],
)
def test_a_workload_without_a_request_is_an_error(changed: dict[str, Any], told: str, tmp_path: Path) -> None:
    """The message counts what was left after each step."""
    path = rows(tmp_path / "t.csv", TABLE + "0,1,1\n0,1,1\n1,1,1\n9,1,1\n")
    workload = build({"source": {"reader": "table", "path": path}, **changed})
    with pytest.raises(ScenarioError) as caught:
        list(workload.frames())
    assert str(caught.value).startswith(f"workload: no request is left (got {told}). expected at least one")


def test_a_mix_without_a_request_tells_its_sources_apart(tmp_path: Path) -> None:
    """A trace cut away by its window, and a generator whose requests come too late for one."""
    path = rows(tmp_path / "t.csv", TABLE + "0,1,1\n")
    trace = {"source": {"reader": "table", "path": path}, "window": {"start_s": 5, "end_s": 6}}
    made = {"generator": constant(requests=5), "resample": {"thin_ratio": 1e-9}}
    with pytest.raises(ScenarioError) as caught:
        list(build({"sources": [trace, made]}).frames())
    told = (
        "sources.0: 1 from the trace before 6.0 s, 0 in the window, sources.1: 5 generated, 0 after thinning"
    )
    assert f"(got {told})" in str(caught.value)


def test_a_bad_trace_is_found_before_the_run(tmp_path: Path) -> None:
    """Building reads the file."""
    with pytest.raises(TraceError, match="no such file"):
        build({"source": {"reader": "azure", "path": tmp_path / "none.csv"}})


def test_an_unknown_reader_names_the_nearest() -> None:
    """As every plugin does."""
    with pytest.raises(PluginError, match=r"unknown trace reader \(got 'azur'\)[\s\S]*did you mean 'azure'"):
        build({"source": {"reader": "azur", "path": "x"}})


@pytest.mark.parametrize(
    "generator",
    [
        constant(requests=1, rate_per_s=0),
        constant(requests=0),
        constant(requests=1, duration_s=-1),
        constant(requests=1, burst=3),
        {"name": "poisson", "requests": 1, **LENGTHS},
        {"name": "poisson", "rate_per_s": float("nan"), "requests": 1, **LENGTHS},
        {"name": "gamma", "rate_per_s": 1, "cv": 0, "requests": 1, **LENGTHS},
        {"name": "mmpp", "states": [], "requests": 1, **LENGTHS},
    ],
)
def test_wrong_parameters_are_refused(generator: dict[str, Any]) -> None:
    """Rates, counts and durations are positive; unknown and missing parameters are named."""
    with pytest.raises(ValidationError):
        build({"generator": generator})


@pytest.mark.parametrize("registry", [READERS, GENERATORS])
def test_every_built_in_can_be_described(registry: Any) -> None:
    """Its class imports, has a docstring, and its parameters have a schema."""
    for name in registry.builtin:
        assert registry.resolve(name).__doc__
        assert registry.parameters(name).model_json_schema()["properties"]


def test_notes_of_a_mix_tell_the_sources_apart(tmp_path: Path) -> None:
    """The first file has a row out of order, the second none."""
    first = rows(tmp_path / "a.csv", TABLE + "5,1,1\n1,1,1\n")
    second = rows(tmp_path / "b.csv", TABLE + "1,1,1\n2,1,1\n")
    workload = build({"sources": [{"source": {"reader": "table", "path": path}} for path in (first, second)]})
    assert workload.notes["sources.0.rows_sorted"] == 1
    assert workload.notes["sources.1.rows_sorted"] == 0


class Handmade:
    """A reader as a third party might write it."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame
        self.notes: dict[str, int | float | str] = {}

    def read(self) -> pl.LazyFrame:
        """Return the given frame."""
        return self.frame.lazy()


GOOD = pl.DataFrame({"arrival_s": [3, 1], "prompt_tokens": [1, 2], "output_tokens": [3.0, 4.0]})


def test_a_third_partys_reader_is_sorted_and_cast() -> None:
    """Any type of number will do."""
    frame, notes = load(Handmade(GOOD), "handmade")
    assert frame.rows() == [(1.0, 2, 4), (3.0, 1, 3)]
    assert frame.schema == {name: SCHEMA[name] for name in GOOD.columns}
    assert notes == {"rows_sorted": 1, "steps_back": 1}


def test_a_reader_that_fails_is_named() -> None:
    """Whatever it raises, with file and line."""

    class Fails(Handmade):
        def read(self) -> pl.LazyFrame:
            raise KeyError("colour")

    with pytest.raises(
        PluginError, match=r"trace reader 'fails': read failed \(got KeyError: 'colour', at .*:"
    ):
        load(Fails(GOOD), "fails")


def test_a_reader_that_promises_order_must_keep_it() -> None:
    """The note rows_sorted 0 lets the first requests be taken without looking at the rest."""
    reader = Handmade(GOOD.sort("arrival_s"))
    reader.notes["rows_sorted"] = 0
    assert load(reader, "handmade", rows=1)[0]["arrival_s"].to_list() == [1.0]
    assert load(reader, "handmade", end_s=3.0)[0]["arrival_s"].to_list() == [1.0]
    reader.frame = GOOD
    with pytest.raises(PluginError, match=r"requests are out of order \(got 1 behind"):
        load(reader, "handmade", rows=2)


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        (GOOD.drop("output_tokens"), PluginError, "columns do not follow the schema"),
        (GOOD.with_columns(lenght=1), PluginError, "columns do not follow the schema"),
        (GOOD.clear(), TraceError, "no requests"),
        (GOOD.with_columns(arrival_s=pl.lit(-1.0)), TraceError, "arrival_s: before time 0"),
        (GOOD.with_columns(arrival_s=pl.lit(float("nan"))), TraceError, "row 1: arrival_s"),
        (GOOD.with_columns(prompt_tokens=pl.lit(0)), TraceError, "row 1: prompt_tokens"),
        (GOOD.with_columns(output_tokens=pl.Series([1.0, None])), TraceError, "row 2: output_tokens"),
        (GOOD.with_columns(output_tokens=pl.lit("x")), TraceError, "output_tokens: not numbers"),
    ],
)
def test_a_third_partys_reader_is_checked(frame: pl.DataFrame, error: type[Exception], message: str) -> None:
    """A reader cannot smuggle in what the cluster could not serve; the message names the reader."""
    with pytest.raises(error, match=f"trace reader 'handmade'.*{message}"):
        load(Handmade(frame), "handmade")
