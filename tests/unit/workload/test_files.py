"""What is not a trace at all, and what is one in spite of its looks: common to all readers of text."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest
from workloads import rows

from servesim.errors import TraceError
from servesim.workload.files import csv_header, read_csv, read_jsonl, read_parquet


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The message has the whole path."""
    with pytest.raises(TraceError, match=rf"{tmp_path}/nowhere\.csv: no such file"):
        read_csv(tmp_path / "nowhere.csv", numbers=["a"])


def test_a_folder_is_not_a_trace(tmp_path: Path) -> None:
    """A folder gets a message of its own."""
    with pytest.raises(TraceError, match="a folder"):
        read_csv(tmp_path, numbers=["a"])


@pytest.mark.parametrize("content", ["", "\n\n", " \r\n"])
def test_an_empty_file_is_refused(content: str, tmp_path: Path) -> None:
    """Zero bytes, or nothing but blank lines."""
    with pytest.raises(TraceError, match="empty"):
        read_csv(rows(tmp_path / "a.csv", content), numbers=["a"])


def test_a_header_alone_is_refused(tmp_path: Path) -> None:
    """A header without rows holds no requests."""
    with pytest.raises(TraceError, match="no requests"):
        read_csv(rows(tmp_path / "a.csv", "a,b\n"), numbers=["a"])


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_git_lfs_pointer_is_recognised(name: str, tmp_path: Path) -> None:
    """Whatever the file claims to be, the pointer's text gives it away, and the hint says what to do."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4bb37836\nsize 52283111\n"
    path = rows(tmp_path / name, pointer)
    readers = {
        "a.csv": lambda: read_csv(path, numbers=["a"]),
        "a.jsonl": lambda: read_jsonl(path, numbers=["a"], others={}),
        "a.parquet": lambda: read_parquet(path, ["a"]),
    }
    with pytest.raises(TraceError, match=r"Git LFS pointer[\s\S]*git lfs pull"):
        readers[name]()


def test_a_missing_column_lists_what_there_is(tmp_path: Path) -> None:
    """The header is shown, and the nearest name suggested."""
    with pytest.raises(
        TraceError, match=r"missing column 'tokens' \(got 'token', 'b'\)[\s\S]*did you mean 'token'"
    ):
        read_csv(rows(tmp_path / "a.csv", "token,b\n1,2\n"), numbers=["tokens"])


def test_crlf_bom_quotes_and_blank_lines_are_survived(tmp_path: Path) -> None:
    """The last column has no carriage return in it, the first name no mark, and blank lines are no rows."""
    text = '\ufeffa,b,c\r\n"1",x,2.0\r\n\r\n 3 ,"y",4\r\n\r\n\r\n'
    frame = read_csv(rows(tmp_path / "a.csv", text), numbers=["a"], texts=["b", "c"])
    assert frame.select("a", "b", "c").rows() == [(1.0, "x", "2.0"), (3.0, "y", "4")]
    assert csv_header(tmp_path / "a.csv") == ["a", "b", "c"]


def test_a_gzipped_file_is_read_like_a_plain_one(tmp_path: Path) -> None:
    """The compression is told from the content."""
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    assert read_csv(tmp_path / "a.csv.gz", numbers=["b"])["b"].to_list() == [2.0]


def test_columns_are_found_by_name_wherever_they_stand(tmp_path: Path) -> None:
    """A column inserted in the middle moves nothing."""
    path = rows(tmp_path / "a.csv", "a,new,b\n1,7,2\n")
    assert read_csv(path, numbers=["b", "a"]).select("a", "b").row(0) == (1.0, 2.0)


def test_a_row_with_too_many_cells_is_refused(tmp_path: Path) -> None:
    """Where all columns are read, a thousands separator cannot shift numbers unnoticed; blank lines count as rows."""
    path = rows(tmp_path / "a.csv", "\ufeffa,b\r\n3,4\r\n\r\n1,155,2\r\n")
    with pytest.raises(TraceError, match=r"a\.csv: row 3: 3 cells \(got '1,155,2'\)\. expected 2"):
        read_csv(path, numbers=["a", "b"])


def test_a_quote_that_is_not_closed_is_found(tmp_path: Path) -> None:
    """Polars tells the cell only."""
    with pytest.raises(TraceError, match=r"a\.csv: row 2: a quote that is not closed \(got '4"):
        read_csv(rows(tmp_path / "a.csv", 'a,b\n1,2\n3,"4\n5,6\n'), numbers=["a", "b"])


LINE = '{"t": 1, "ids": [1]}\n'


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"t": 2,', r"not a JSON object \(got '\{\"t\": 2,': "),
        ("[1, 2]", r"not a JSON object \(got '\[1, 2\]'\)"),
        ("5", r"not a JSON object \(got '5'\)"),
        ('{"t": 2, "ids": "x"}', r"ids: not a list of whole numbers \(got '\"x\"'\)"),
        ('{"t": 2, "ids": [1.5]}', r"ids: not a list of whole numbers \(got '\[1.5\]'\)"),
        ('{"t": [2], "ids": [1]}', r"t: not a number \(got '\[2\]'\)"),
    ],
)
def test_the_first_bad_line_of_json_is_named(bad: str, message: str, tmp_path: Path) -> None:
    """By its number, blank lines not counted, wherever it is among 20,000; packed and with a byte-order mark, too."""
    text = "\ufeff" + LINE * 9_000 + "\n" + f"{bad}\n" + LINE * 9_000 + "also bad\n" * ("{" not in bad)
    for path in (rows(tmp_path / "a.jsonl", text), tmp_path / "a.jsonl.gz"):
        if path.suffix == ".gz":
            path.write_bytes(gzip.compress(text.encode()))
        with pytest.raises(TraceError, match=rf"{path.name}: row 9001: {message}"):
            read_jsonl(path, numbers=["t"], others={"ids": pl.List(pl.Int64)})


def test_numbers_in_json_may_be_strings(tmp_path: Path) -> None:
    """Some writers quote their numbers, and end with a blank line."""
    path = rows(tmp_path / "a.jsonl", '{"t": "82", "n": 1}\n{"t": 83.5, "n": "2"}\n\n')
    assert read_jsonl(path, numbers=["t", "n"], others={}).select("t", "n").rows() == [
        (82.0, 1.0),
        (83.5, 2.0),
    ]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "[1, 2]\n", '{"t": 1}\n{"t": \n'])
def test_what_is_not_json_lines_is_refused(text: str, tmp_path: Path) -> None:
    """CSV, a bare list, or a line cut off."""
    with pytest.raises(TraceError, match=r"a\.jsonl: .*not (a JSON object|readable as JSON lines)"):
        read_jsonl(rows(tmp_path / "a.jsonl", text), numbers=["t"], others={})


def test_what_is_not_parquet_is_refused(tmp_path: Path) -> None:
    """Text with the wrong name."""
    with pytest.raises(TraceError, match="not readable as Parquet"):
        read_parquet(rows(tmp_path / "a.parquet", "a,b\n1,2\n"), ["a"])


def test_a_first_object_of_any_length_is_read(tmp_path: Path) -> None:
    """A prompt's text beside the numbers may be longer than any buffer."""
    path = rows(tmp_path / "a.jsonl", '{"text": "' + "x" * 200_000 + '", "n": 3}\n')
    assert read_jsonl(path, numbers=["n"], others={})["n"].to_list() == [3.0]


def test_brackets_in_a_name_are_no_pattern(tmp_path: Path) -> None:
    """The path is one file's, whatever characters it has."""
    path = rows(tmp_path / "day[1].csv", "a\n4\n")
    assert read_csv(path, numbers=["a"])["a"].to_list() == [4.0]
    path = rows(tmp_path / "day[1].jsonl", '{"a": 5}\n')
    assert read_jsonl(path, numbers=["a"], others={})["a"].to_list() == [5.0]
