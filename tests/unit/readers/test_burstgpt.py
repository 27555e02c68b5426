"""The burstgpt reader: both forms, failures, sessions, the real slices."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from workloads import build, collect, rows

from servesim.errors import TraceError
from servesim.readers.burstgpt import BurstGptReader

SIX = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
7,ChatGPT,0,0,0,Conversation log
9,GPT-4,30,40,70,API log
9,GPT-4,31,0,31,API log
"""

EIGHT = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
19440110.0,1722ac82-0a46-4bf0-aa08-89794e7a2b3f,43,GPT-4,906,446,1352,Conversation log
19440112.0,,0,ChatGPT,36,29,65,API log
"""


def test_slice_1_is_read_without_its_failures(shared: Callable[[str], Path]) -> None:
    """The real six-column slice: 400 rows, 17 of them (4.25 %) failed with no token at all."""
    workload = build(
        {"source": {"reader": "burstgpt", "path": shared("traces/burstgpt/burstgpt_1_first400.csv")}}
    )
    requests = pl.concat(list(workload.frames()))
    assert (workload.notes["rows_read"], workload.notes["failures"], requests.height) == (400, 17, 383)
    assert requests["prompt_tokens"].median() == 353
    assert requests["output_tokens"].median() == 238
    assert requests["arrival_s"][0] == 0.0
    assert requests["arrival_s"][-1] == 37_274 - 5
    assert set(requests["model"]) == {"ChatGPT", "GPT-4"}
    assert requests["session"].null_count() == 383


def test_slice_3_has_sessions_except_on_api_rows(shared: Callable[[str], Path]) -> None:
    """The real eight-column slice: 135 sessions; no session on exactly the API rows; time starts at 0, not
    day 225.
    """
    source = {
        "reader": "burstgpt",
        "path": shared("traces/burstgpt/burstgpt_3_first400.csv"),
        "failures": "keep",
    }
    requests = collect({"source": source})
    assert requests.height == 400
    assert requests["session"].drop_nulls().n_unique() == 135
    assert requests.filter(pl.col("session").is_null())["tenant"].unique().to_list() == ["api"]
    assert requests.filter(pl.col("tenant") == "api")["session"].null_count() == 6
    assert requests["arrival_s"][0] == 0.0
    assert requests["arrival_s"][-1] == 19_481_563 - 19_440_110


def test_inserted_columns_move_nothing(tmp_path: Path) -> None:
    """The eight-column form has two more columns in the middle; lengths still come from the right ones."""
    requests = BurstGptReader(path=rows(tmp_path / "b.csv", EIGHT)).read().collect()
    assert requests["prompt_tokens"].to_list() == [906, 36]
    assert requests["output_tokens"].to_list() == [446, 29]
    assert requests["session"].to_list() == ["1722ac82-0a46-4bf0-aa08-89794e7a2b3f", None]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("5,ChatGPT,1,234,5,1239,Conversation log", r"row 2: 7 cells \(got '5,ChatGPT,1,234,5,"),
        ("5,ChatGPT,1,234", "row 2: Log Type: unknown .got an empty cell"),
        ("5,ChatGPT,1,234,235", "row 2: Log Type: unknown .got an empty cell"),
        (
            "5,ChatGPT,1,234,235,Chat log",
            "row 2: Log Type: unknown .got 'Chat log'.*'Conversation log' or 'API log'",
        ),
        ("5,ChatGPT,1,234,1239,API log", "row 2: Total tokens: not the sum .*got 1239.. expected 235"),
        ("5,ChatGPT,1,-234,-233,API log", "row 2: Response tokens: unusable value .got -234"),
    ],
)
def test_a_row_that_cannot_be_is_named(row: str, message: str, tmp_path: Path) -> None:
    """A thousands separator, missing cells, another type, a total that is none: nothing is read into other columns."""
    header, first = SIX.splitlines()[:2]
    with pytest.raises(TraceError, match=r"b\.csv: " + message):
        BurstGptReader(path=rows(tmp_path / "b.csv", f"{header}\n{first}\n{row}\n{first}\n")).read()


def test_a_file_without_totals_is_read(tmp_path: Path) -> None:
    """They say nothing that the other columns do not; an empty total is none."""
    text = "Timestamp,Model,Request tokens,Response tokens,Log Type\n5,ChatGPT,472,18,API log\n"
    assert BurstGptReader(path=rows(tmp_path / "b.csv", text)).read().collect()[
        "prompt_tokens"
    ].to_list() == [472]
    path = rows(tmp_path / "c.csv", SIX.replace(",490,", ",,"))
    assert BurstGptReader(path=path).read().collect().height == 2


def test_crlf_leaves_no_trace_in_the_last_column(tmp_path: Path) -> None:
    """The log type stands last: its slug has no carriage return."""
    path = rows(tmp_path / "b.csv", SIX.replace("\n", "\r\n"))
    assert collect({"source": {"reader": "burstgpt", "path": path}})["tenant"].to_list() == [
        "conversation",
        "api",
    ]


@pytest.mark.parametrize(("policy", "expected"), [("drop", 2), ("keep", 4), ("retry", 6)])
def test_failures_are_counted_whatever_is_done_with_them(policy: str, expected: int, tmp_path: Path) -> None:
    """Two of four rows failed: none, both, or both and their retries are requests."""
    source = {"reader": "burstgpt", "path": rows(tmp_path / "b.csv", SIX), "failures": policy}
    workload = build({"source": source})
    assert (workload.requests, workload.notes["failures"]) == (expected, 2)


def test_a_kept_failure_reaches_the_engine_with_one_output_token(tmp_path: Path) -> None:
    """A prompt of 0 becomes 1; a prompt that is known stays."""
    requests = BurstGptReader(path=rows(tmp_path / "b.csv", SIX), failures="keep").read().collect()
    assert requests.select("prompt_tokens", "output_tokens").rows() == [(472, 18), (1, 1), (30, 40), (31, 1)]


def test_a_retry_follows_with_the_lengths_of_its_like(tmp_path: Path) -> None:
    """Here each kind has one request that succeeded, so the retry's lengths are certain."""
    reader = BurstGptReader(path=rows(tmp_path / "b.csv", SIX), failures="retry", retry_delay_s=2.5)
    requests = reader.read().collect()
    assert requests.select("arrival_s", "prompt_tokens", "output_tokens", "model").rows() == [
        (0.0, 472, 18, "ChatGPT"),
        (2.0, 1, 1, "ChatGPT"),
        (4.0, 30, 40, "GPT-4"),
        (4.0, 31, 1, "GPT-4"),
        (4.5, 472, 18, "ChatGPT"),
        (6.5, 30, 40, "GPT-4"),
    ]
    assert reader.notes["retries"] == 2


def test_a_retry_without_a_like_that_succeeded_is_an_error(tmp_path: Path) -> None:
    """There is nothing to draw the lengths from; the hint names the way out."""
    text = SIX.replace("9,GPT-4,30,40,70,API log\n", "")
    with pytest.raises(
        TraceError, match=r"'GPT-4' and log type 'api' succeeded[\s\S]*failures: keep or drop"
    ):
        BurstGptReader(path=rows(tmp_path / "b.csv", text), failures="retry").read()


def test_unsorted_rows_are_counted_with_retries_too(tmp_path: Path) -> None:
    """Retries are sorted in without being counted as disorder of the file."""
    header, *lines = SIX.splitlines()
    path = rows(tmp_path / "b.csv", "\n".join([header, lines[1], lines[0], *lines[2:]]))
    workload = build({"source": {"reader": "burstgpt", "path": path, "failures": "retry"}})
    assert workload.notes["rows_sorted"] == 1


def test_halves_of_a_trace_stay_aligned(tmp_path: Path) -> None:
    """Taking one log type does not move its time 0 to its own first row."""
    source = {"reader": "burstgpt", "path": rows(tmp_path / "b.csv", SIX), "log_type": "api"}
    workload = build({"source": source})
    requests = pl.concat(list(workload.frames()))
    assert requests.select("arrival_s", "tenant").rows() == [(4.0, "api")]
    assert (workload.notes["rows_read"], workload.notes["failures"]) == (4, 1)


def test_model_tags_are_mapped_to_served_models(tmp_path: Path) -> None:
    """A tag in the map gets its model; the others stay as the trace has them."""
    source = {"reader": "burstgpt", "path": rows(tmp_path / "b.csv", SIX)}
    requests = collect({"source": source, "model_map": {"GPT-4": "llama-3.1-70b"}})
    assert requests["model"].to_list() == ["ChatGPT", "llama-3.1-70b"]


def test_negative_tokens_are_refused(tmp_path: Path) -> None:
    """0 is a failure, less is nonsense."""
    with pytest.raises(TraceError, match=r"row 3: Response tokens: .*got -40"):
        BurstGptReader(path=rows(tmp_path / "b.csv", SIX.replace("30,40", "30,-40"))).read()


def test_retries_do_not_depend_on_the_hash_seed(root: Path) -> None:
    """The same requests come out of processes whose strings hash differently."""
    code = (
        "from servesim.readers.burstgpt import BurstGptReader; from pathlib import Path; "
        "r = BurstGptReader(path=Path('traces/burstgpt_3_sample.csv'), failures='retry').read().collect(); "
        "print(r.hash_rows().sum())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert outputs != {"0\n"}


def test_a_request_that_succeeded_without_a_prompt_is_kept(tmp_path: Path) -> None:
    """It emitted tokens, so it counts, with a prompt of one token."""
    path = rows(tmp_path / "b.csv", SIX.replace("5,ChatGPT,472,18,490", "5,ChatGPT,0,18,18"))
    assert collect({"source": {"reader": "burstgpt", "path": path}})["prompt_tokens"].to_list() == [1, 30]


def test_a_trace_of_nothing_but_failures_counts_them(tmp_path: Path) -> None:
    """The message tells what left the rows out: failures, or the log type that was not asked for."""
    path = rows(
        tmp_path / "b.csv",
        "".join(line for line in SIX.splitlines(keepends=True) if ",0," in line or line[0] == "T"),
    )
    with pytest.raises(TraceError, match=r"b\.csv: no requests left \(got rows_read 2, failures 2\)"):
        build({"source": {"reader": "burstgpt", "path": path}})
    path = rows(tmp_path / "b.csv", SIX.replace("API log", "Conversation log"))
    with pytest.raises(TraceError, match=r"no requests left \(got rows_read 4, other_log_types 4\)"):
        build({"source": {"reader": "burstgpt", "path": path, "log_type": "api"}})


@pytest.mark.parametrize("failures", ["drop", "keep", "retry"])
@pytest.mark.parametrize("log_type", ["all", "conversation", "api"])
@pytest.mark.parametrize("order", ["sorted", "reversed"])
def test_what_is_not_needed_is_not_read_and_changes_nothing(
    failures: str, log_type: str, order: str, root: Path, tmp_path: Path
) -> None:
    """The first requests, or those of a window, are the whole trace's; the counts are of the whole file."""
    header, *lines = (root / "traces" / "burstgpt_3_sample.csv").read_text().splitlines()
    lines = lines if order == "sorted" else lines[::-1]
    path = rows(tmp_path / "b.csv", "\n".join([header, *lines]))
    source = {"reader": "burstgpt", "path": path, "failures": failures, "log_type": log_type}
    whole = build({"source": source})
    requests = pl.concat(list(whole.frames()))
    for cut, expected in (
        ({"max_requests": 7}, requests.head(7)),
        ({"window": {"end_s": 300.0}}, requests.filter(pl.col("arrival_s") < 300)),
        ({"window": {"end_s": 300.0}, "max_requests": 7}, requests.head(7)),
        ({"repeat": 2, "max_requests": requests.height + 3}, None),
    ):
        workload = build({"source": source} | cut)
        first = pl.concat(list(workload.frames()))
        if expected is not None:
            assert first.equals(expected)
        assert first.height == workload.notes["requests"]
        assert {**workload.notes, "requests": 0} == {**whole.notes, "requests": 0}


def test_numbers_that_are_quoted_or_spaced_are_numbers(tmp_path: Path) -> None:
    """Then the file is read as text first, with the same requests."""
    plain = collect({"source": {"reader": "burstgpt", "path": rows(tmp_path / "b.csv", SIX)}})
    text = SIX.replace("472,18", ' 472 ,"18"')
    assert collect({"source": {"reader": "burstgpt", "path": rows(tmp_path / "b.csv", text)}}).equals(plain)
