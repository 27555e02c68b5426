"""The table reader: any columns, any of three formats, any unit of time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from workloads import collect, rows

from servesim.errors import TraceError
from servesim.readers.table import TableReader

COLUMNS = {"arrival_s": "ts", "prompt_tokens": "input", "output_tokens": "output"}


def written(path: Path, frame: pl.DataFrame) -> Path:
    """Write *frame* in the format of the name."""
    writers: dict[str, Callable[[Path], Any]] = {
        ".csv": frame.write_csv,
        ".parquet": frame.write_parquet,
        ".jsonl": frame.write_ndjson,
    }
    writers[path.suffix](path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_all_formats_give_the_same_requests(suffix: str, tmp_path: Path) -> None:
    """Mapped and equally named columns are taken, others ignored."""
    table = pl.DataFrame(
        {
            "ts": [100.5, 101.0],
            "input": [3, 4],
            "output": [5, 6],
            "tenant": ["a", None],
            "priority": [2, 1],
            "x": [0, 0],
        }
    )
    path = written(tmp_path / f"t{suffix}", table)
    requests = collect({"source": {"reader": "table", "path": path, "columns": COLUMNS}})
    assert requests["arrival_s"].to_list() == [0.0, 0.5]
    assert requests.select("prompt_tokens", "output_tokens", "tenant", "priority").rows() == [
        (3, 5, "a", 2),
        (4, 6, None, 1),
    ]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_units_of_time(unit: Any, factor: int, tmp_path: Path) -> None:
    """Whole numbers since the epoch, a quarter of a second apart... and two seconds."""
    times = [1_700_000_000 * factor, 1_700_000_002 * factor]
    path = written(tmp_path / "t.parquet", pl.DataFrame({"ts": times, "input": [1, 1], "output": [1, 1]}))
    requests = TableReader(path=path, columns=COLUMNS, time_unit=unit).read().collect()
    assert requests["arrival_s"].to_list() == [0.0, 2.0]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_dates_and_times(suffix: str, tmp_path: Path) -> None:
    """As text in CSV, as a date-time column in Parquet."""
    stamps = [datetime(2026, 1, 1, 0, 0, 0), datetime(2026, 1, 1, 0, 1, 0, 500_000)]
    table = pl.DataFrame({"ts": stamps, "input": [1, 1], "output": [1, 1]})
    if suffix == ".csv":
        table = table.with_columns(pl.col("ts").dt.to_string("iso:strict"))
    reader = TableReader(path=written(tmp_path / f"t{suffix}", table), columns=COLUMNS, time_unit="datetime")
    assert reader.read().collect()["arrival_s"].to_list() == [0.0, 60.5]


def test_times_are_kept_where_asked(tmp_path: Path) -> None:
    """Several files with a common clock stay aligned."""
    path = rows(tmp_path / "t.csv", "arrival_s,prompt_tokens,output_tokens\n40,1,1\n41.5,1,1\n")
    assert TableReader(path=path, start_at_zero=False).read().collect()["arrival_s"].to_list() == [40.0, 41.5]


def test_prefix_blocks_come_from_lists(tmp_path: Path) -> None:
    """Parquet and JSON lines can hold lists."""
    table = pl.DataFrame({"ts": [0], "input": [9], "output": [1], "ids": [[1, 2]]})
    for suffix in (".parquet", ".jsonl"):
        path = written(tmp_path / f"t{suffix}", table)
        source = {"reader": "table", "path": path, "columns": {**COLUMNS, "prefix_blocks": "ids"}}
        assert collect({"source": source})["prefix_blocks"].to_list() == [[1, 2]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (COLUMNS | {"output_tokens": "out"}, r"missing column 'out' \(got 'ts', 'input', 'output'\)"),
        (
            {},
            r"missing column 'arrival_s' \(got 'ts', 'input', 'output'\)\. expected 'arrival_s', "
            r"'prompt_tokens', 'output_tokens'\n  hint: columns: \{arrival_s: NAME, \.\.\.\} says",
        ),
        (
            COLUMNS | {"promt_tokens": "input"},
            r"unknown name \(got 'promt_tokens'\)[\s\S]*did you mean 'prompt_tokens'",
        ),
        (COLUMNS | {"prefix_blocks": "ts"}, "prefix_blocks: a list in CSV"),
    ],
)
def test_a_wrong_column_map_is_explained(columns: dict[str, str], message: str, tmp_path: Path) -> None:
    """A column that the file lacks, a name that servesim lacks, a list where there are none."""
    with pytest.raises(TraceError, match=message):
        TableReader(path=rows(tmp_path / "t.csv", "ts,input,output\n0,1,1\n"), columns=columns).read()


def test_numbers_are_not_dates(tmp_path: Path) -> None:
    """time_unit: datetime on a column of numbers says what it found."""
    path = written(tmp_path / "t.parquet", pl.DataFrame({"ts": [5], "input": [1], "output": [1]}))
    with pytest.raises(TraceError, match="ts: not dates and times"):
        TableReader(path=path, columns=COLUMNS, time_unit="datetime").read()


def test_dates_are_not_numbers(tmp_path: Path) -> None:
    """A date-time column without time_unit: datetime says what it found."""
    path = written(
        tmp_path / "t.parquet", pl.DataFrame({"ts": [datetime(2026, 1, 1)], "input": [1], "output": [1]})
    )
    with pytest.raises(TraceError, match="ts: not numbers"):
        TableReader(path=path, columns=COLUMNS).read()


def test_an_unknown_kind_of_file_is_refused(tmp_path: Path) -> None:
    """The message lists the endings that are known."""
    with pytest.raises(TraceError, match=r"unknown kind of file.*\.parquet"):
        TableReader(path=rows(tmp_path / "t.xlsx", "x")).read()


def test_real_parquet_of_another_trace_is_read(shared: Callable[[str], Path]) -> None:
    """The coding-agent trace is a table like any other: 49,334 requests, times from the start of each
    session.
    """
    columns = {"arrival_s": "t", "prompt_tokens": "in_tokens", "output_tokens": "out_tokens"}
    path = shared("traces/claude_code/requests.parquet")
    source = {"reader": "table", "path": path, "columns": columns, "zero_output": "keep_as_one"}
    assert collect({"source": source}).height == 49_334


def test_too_many_tokens_are_told_the_limit(tmp_path: Path) -> None:
    """Three billion is a whole number; what is wrong is its size."""
    path = rows(tmp_path / "t.csv", "ts,input,output\n0,1,1\n1,3000000000,1\n")
    with pytest.raises(TraceError) as caught:
        TableReader(path=path, columns=COLUMNS).read()
    assert str(caught.value).endswith(
        "row 2: input: unusable value (got 3000000000). expected at most 2147483647 tokens"
    )


TABLE = pl.DataFrame({"arrival_s": [0, 1], "prompt_tokens": [3, 4], "output_tokens": [5, 6]})


def read(
    tmp_path: Path, suffix: str = ".parquet", columns: dict[str, str] | None = None, **changed: Any
) -> Any:
    """Return the requests of `TABLE` with columns changed, through a file."""
    path = written(tmp_path / f"t{suffix}", TABLE.with_columns(**changed))
    return collect({"source": {"reader": "table", "path": path, "columns": columns}})


@pytest.mark.parametrize(
    "kind",
    [pl.Int8, pl.UInt8, pl.Int16, pl.UInt16, pl.Int32, pl.UInt64, pl.Int128, pl.Float32, pl.Decimal(10, 2)],
)
def test_numbers_of_every_type_are_read(kind: Any, tmp_path: Path) -> None:
    """However wide or narrow: the limit of tokens need not fit into the type."""
    names = ("arrival_s", "prompt_tokens", "output_tokens")
    requests = read(tmp_path, **{name: pl.col(name).cast(pl.Int64).cast(kind) for name in names})
    assert requests.select(names).rows() == [(0.0, 3, 5), (1.0, 4, 6)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
@pytest.mark.parametrize(
    ("priorities", "message"),
    [
        (
            [2**40, 1],
            "row 1: priority: unusable value .got 1099511627776.. expected a whole number from -2147",
        ),
        ([1, -(2**31) - 1], "row 2: priority: unusable value .got -2147483649"),
        ([1.0, 2.5], "row 2: priority: unusable value .got 2.5"),
        (["high", "low"], "row 1: priority: not a number .got 'high'"),
    ],
)
def test_wrong_priorities_are_refused(
    priorities: list[Any], message: str, suffix: str, tmp_path: Path
) -> None:
    """Out of 32 bits, with a fraction, or words: none is cut to what fits."""
    with pytest.raises(TraceError, match=message):
        read(tmp_path, suffix, priority=pl.Series(priorities))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_no_priority_is_0(suffix: str, tmp_path: Path) -> None:
    """An empty cell, and a column of nothing else."""
    assert read(tmp_path, suffix, priority=pl.Series([None, 7]))["priority"].to_list() == [0, 7]
    if suffix == ".parquet":
        assert read(tmp_path, suffix, priority=pl.Series([None, None]))["priority"].to_list() == [0, 0]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_column_may_serve_as_several(suffix: str, tmp_path: Path) -> None:
    """As both lengths, as two tags, as a number and the text that stands in the file."""
    columns = {
        "prompt_tokens": "n",
        "output_tokens": "n",
        "tenant": "tier",
        "slo_class": "tier",
        "priority": "tier",
        "session": "arrival_s",
    }
    path = written(
        tmp_path / f"t{suffix}", TABLE.select("arrival_s", n="prompt_tokens", tier=pl.Series([2, 1]))
    )
    requests = collect({"source": {"reader": "table", "path": path, "columns": columns}})
    names = ("arrival_s", "session", "prompt_tokens", "output_tokens", "tenant", "slo_class", "priority")
    assert requests.select(names).rows() == [(0.0, "0", 3, 3, "2", "2", 2), (1.0, "1", 4, 4, "1", "1", 1)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_column_named_row_is_like_any_other(suffix: str, tmp_path: Path) -> None:
    """It is ignored, or taken for a tag."""
    named = {"row": pl.Series(["a", "b"])}
    assert read(tmp_path, suffix, **named).height == 2
    assert read(tmp_path, suffix, {"session": "row"}, **named)["session"].to_list() == ["a", "b"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"session": pl.Series([[1], [2]])}, r"session: not text \(got type List"),
        ({"tenant": pl.Series([b"\xff", b"a"])}, r"tenant: not text \(got type Binary"),
        ({"prefix_blocks": pl.Series([[1.5], [2.0]])}, r"prefix_blocks: not lists of block ids"),
        ({"prefix_blocks": pl.Series([[2**63], [1]], dtype=pl.List(pl.UInt64))}, "whole numbers below 2"),
        ({"prefix_blocks": pl.Series([1, 2])}, r"prefix_blocks: not lists of block ids \(got type Int64"),
        (
            {"prefix_blocks": pl.Series([[1], [2, None]])},
            r"row 2: prefix_blocks: unusable value \(got \[2, N",
        ),
    ],
)
def test_tags_of_another_type_are_refused(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Lists are no names, fractions no ids."""
    with pytest.raises(TraceError, match=message):
        read(tmp_path, **changed)


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """Nothing tells which one is meant."""
    path = rows(tmp_path / "t.csv", "arrival_s,prompt_tokens,output_tokens,prompt_tokens\n0,1,1,2\n")
    with pytest.raises(TraceError, match="column 'prompt_tokens' more than once"):
        TableReader(path=path).read()


def test_more_blocks_than_the_prompt_has_are_refused(tmp_path: Path) -> None:
    """In any format whose requests say how long a block is: 3 of 16 tokens are too many for a prompt of 32."""
    lengths = '"prompt_tokens": 33, "output_tokens": 1, "prefix_block_tokens": 16'
    line = f'{{"arrival_s": 0, {lengths}, "prefix_blocks": [1, 2, 3]}}'
    text = f"{line}\n{line.replace('33', '32')}\n"
    with pytest.raises(TraceError, match=r"t\.jsonl: row 2: prefix_blocks: more blocks .*got 3.*at most 2"):
        collect({"source": {"reader": "table", "path": rows(tmp_path / "t.jsonl", text)}})
