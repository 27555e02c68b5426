"""Formats told from files, and datasheets beside them."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from servesim.errors import PluginError, ScenarioError, ServesimError, TraceError
from servesim.traces.datasheets import UNKNOWN, datasheet_path, read_datasheet, write_datasheet
from servesim.traces.detect import detect, signatures
from servesim.traces.info import datasheet_of, trace_info
from servesim.traces.source import read_requests
from servesim.workload.registries import READERS


@pytest.mark.parametrize(
    ("text", "reader"),
    [
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10", "azure"),
        ("TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2024-10-15T12:00:00.269Z,1,2,3\n", "azure"),
        (
            "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,GPT-4,1,2,3,API log\n",
            "burstgpt",
        ),
        (
            "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
            "5.0,,0,GPT-4,1,2,3,API log\n",
            "burstgpt",
        ),
        ('{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}\n', "mooncake"),
        ("arrival_s,prompt_tokens,output_tokens\n0.5,1,2\n", "table"),
        ('{"arrival_s": 0.5, "prompt_tokens": 1, "output_tokens": 2}\n', "table"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_words_of_a_file_tell_its_format(text: str, reader: str, packed: bool, tmp_path: Path):
    """Whatever its name, packed or not, with a byte-order mark or without."""
    for mark in ("", "\ufeff"):
        content = (mark + text).encode()
        path = tmp_path / "some.thing"
        path.write_bytes(gzip.compress(content) if packed else content)
        assert detect(path).reader == reader


def test_every_reader_says_how_its_files_are_told():
    """Built-in readers have a signature, so that their files need no --reader."""
    assert {name for name, _ in signatures()} >= set(READERS.builtin)


def test_parquet_is_servesims_by_its_mark_and_a_table_without(tmp_path: Path):
    """The mark counts as one more column."""
    frame = pl.DataFrame({"arrival_s": [0.0], "prompt_tokens": [1], "output_tokens": [1]})
    frame.write_parquet(tmp_path / "plain.parquet")
    frame.write_parquet(tmp_path / "own.parquet", metadata={"servesim.requests": "1"})
    assert detect(tmp_path / "plain.parquet").reader == "table"
    assert detect(tmp_path / "own.parquet").reader == "servesim"


def test_what_fits_no_format_is_told_with_what_would(tmp_path: Path):
    """Its columns, the formats' columns, and how to describe a table."""
    (tmp_path / "log.csv").write_text("when,what\n1,2\n")
    with pytest.raises(TraceError, match=r"no known format \(got columns 'when', 'what'\)") as caught:
        detect(tmp_path / "log.csv")
    assert "azure (TIMESTAMP, ContextTokens, GeneratedTokens)" in str(caught.value)
    assert "mooncake" not in str(caught.value)
    assert "reader: table" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4bb\nsize 5\n", "a Git LFS pointer"),
        (b"\xff\xfea\x00", "UTF-16"),
        (b"{not json}\n", "not a JSON object"),
    ],
)
def test_what_is_no_data_is_told_as_such(content: bytes, message: str, tmp_path: Path):
    """Before any format is thought of."""
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(TraceError, match=message):
        detect(tmp_path / "x.csv")


def test_missing_files_and_unknown_readers(tmp_path: Path):
    """Each with its own message."""
    with pytest.raises(TraceError, match="no such file"):
        detect(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text("a\n")
    with pytest.raises(PluginError, match="unknown trace reader"):
        detect(tmp_path / "x.csv", reader="azur")


def test_the_datasheet_tells_what_columns_mean(root: Path):
    """The table sample has names of its own; its datasheet maps them."""
    found = detect(root / "traces" / "table_sample.csv")
    assert (found.reader, found.by) == ("table", "its datasheet")
    assert read_requests(root / "traces" / "table_sample.csv").frame.height == 500


def test_a_workload_stands_for_its_requests(tmp_path: Path, root: Path):
    """A YAML file in place of a trace: the way to look at a table with names of its own."""
    (tmp_path / "w.yaml").write_text(
        f"workload: {{source: {{reader: table, path: {root / 'traces' / 'table_sample.csv'}, time_unit: ms, "
        "columns: {arrival_s: received_ms, prompt_tokens: input_len, output_tokens: output_len}}}\n"
    )
    info = trace_info(tmp_path / "w.yaml")
    assert (info.rows, info.detected) == (500, None)
    with pytest.raises(ServesimError, match="no trace but a description"):
        datasheet_of(info)


def test_mistakes_in_a_workload_are_named_at_their_line(tmp_path: Path):
    """As in a scenario."""
    (tmp_path / "w.yaml").write_text("workload:\n  generator: {name: poison, rate_per_s: 1}\n")
    with pytest.raises(ScenarioError, match=r"w.yaml:2:.*unknown workload generator"):
        read_requests(tmp_path / "w.yaml")


def test_a_datasheet_has_what_was_measured(tmp_path: Path, root: Path):
    """Rubric, defects, checksum; what cannot be known from the file is said not to be."""
    path = tmp_path / "b.csv"
    path.write_bytes((root / "traces" / "burstgpt_1_sample.csv").read_bytes())
    sheet = datasheet_of(trace_info(path))
    assert (sheet.file, sheet.reader, sheet.rows) == ("b.csv", "burstgpt", 1000)
    assert sheet.motivation == sheet.licence == UNKNOWN
    assert set(sheet.rubric) >= {
        "missing values",
        "monotone time",
        "duplicates",
        "zero outputs",
        "drift",
    }
    assert any("no output" in defect for defect in sheet.known_defects)
    write_datasheet(sheet, datasheet_path(path))
    assert read_datasheet(tmp_path / "b.datasheet.yaml") == sheet
    assert detect(path).by == "its datasheet"


def test_a_wrong_datasheet_is_refused_at_its_line(tmp_path: Path):
    """It would tell the wrong reader."""
    (tmp_path / "b.csv").write_text("a\n")
    (tmp_path / "b.datasheet.yaml").write_text("file: b.csv\nreader: azure\nrows: none\n")
    with pytest.raises(ScenarioError, match=r"b\.datasheet\.yaml:3:7: rows: not a whole number"):
        detect(tmp_path / "b.csv")


def test_the_datasheets_of_bundled_traces_name_their_files(root: Path):
    """Every bundled trace has one that is valid."""
    sheets = [read_datasheet(path) for path in (root / "traces").glob("*.datasheet.yaml")]
    traces = {path.name for path in (root / "traces").iterdir() if not path.name.endswith(".yaml")}
    assert {sheet.file for sheet in sheets} == traces
