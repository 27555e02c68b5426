"""The azure reader: the three forms of the trace, the real files, and what breaks them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from workloads import build, collect, rows

from servesim.errors import TraceError
from servesim.readers.azure import AzureReader
from servesim.workload.schema import SCHEMA


def test_conv_2023_is_read_whole_with_its_published_statistics(shared: Callable[[str], Path]) -> None:
    """The real conversation trace: 19,366 requests at 5.53/s, mean lengths 1,155 and 211."""
    path = shared("traces/azure_llm/AzureLLMInferenceTrace_conv.csv")
    workload = build({"source": {"reader": "azure", "path": path}})
    requests = pl.concat(list(workload.frames()))
    assert workload.requests == requests.height == 19_366
    assert dict(requests.schema) == SCHEMA
    assert requests.height / requests["arrival_s"][-1] == pytest.approx(5.53, abs=0.005)
    assert requests["prompt_tokens"].mean() == pytest.approx(1155, abs=0.5)
    assert requests["output_tokens"].mean() == pytest.approx(211, abs=0.5)
    assert requests["arrival_s"].head(3).to_list() == pytest.approx([0.0, 4.314579, 4.541877], abs=1e-9)
    assert requests.row(-1)[1:3] == (197, 183)  # the last line has no newline
    assert workload.notes["rows_sorted"] == 0


def test_code_2023_is_read_whole_with_its_published_statistics(shared: Callable[[str], Path]) -> None:
    """The real coding trace: 8,819 requests at 2.57/s, mean lengths 2,048 and 28, prompts up to 7,437."""
    path = shared("traces/azure_llm/AzureLLMInferenceTrace_code.csv")
    requests = collect({"source": {"reader": "azure", "path": path}})
    assert requests.height == 8_819
    assert requests.height / requests["arrival_s"][-1] == pytest.approx(2.57, abs=0.005)
    assert requests["prompt_tokens"].mean() == pytest.approx(2048, abs=0.5)
    assert requests["output_tokens"].mean() == pytest.approx(28, abs=0.5)
    assert requests["prompt_tokens"].max() == 7437


HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
FORMS = {
    "2023": f"{HEADER}\r\n2023-11-16 23:59:59.5000000,10,20\r\n2023-11-17 00:00:01.7500001,30,40",
    "2024": f"{HEADER}\n2024-05-10 00:00:00.500000+00:00,10,20\n2024-05-10 00:00:02.7500001+00:00,30,40\n",
    "2025": "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n"
    "2024-10-15T12:00:00.5Z,0,10,20\n2024-10-15T12:00:02.7500001Z,3,30,40\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_requests(form: str, tmp_path: Path) -> None:
    """Zone, separator and decimals differ between the years; the requests come out equal, to 100 ns."""
    reader = AzureReader(path=rows(tmp_path / "trace.csv", FORMS[form]))
    requests = reader.read().collect()
    assert requests["arrival_s"].to_list() == pytest.approx([0.0, 2.2500001], abs=1e-12)
    assert requests["prompt_tokens"].to_list() == [10, 30]
    assert requests["output_tokens"].to_list() == [20, 40]
    assert reader.notes.get("images") == (3 if form == "2025" else None)


def test_images_have_tokens_where_their_length_is_given(tmp_path: Path) -> None:
    """Of 8 tokens each: none, 24 of 30, and of a prompt of 10 that is too short for two, all of it."""
    path = rows(tmp_path / "trace.csv", FORMS["2025"] + "2024-10-15T12:00:03Z,2,10,1\n")
    reader = AzureReader(path=path, tokens_per_image=8)
    assert reader.read().collect()["image_tokens"].to_list() == [0, 24, 10]
    assert (reader.notes["images"], reader.notes["images_cut"]) == (5, 1)
    source = {"reader": "azure", "path": path, "tokens_per_image": 8}
    assert collect({"source": source})["image_tokens"].to_list() == [0, 24, 10]
    assert "image_tokens" not in AzureReader(path=path).read().collect().columns


@pytest.mark.parametrize("images", ["-1", "1.5", "NaN", ""])
def test_a_number_of_images_is_whole(images: str, tmp_path: Path) -> None:
    """By row and column, also where images are only counted."""
    text = FORMS["2025"] + f"2024-10-15T12:00:03Z,{images},10,1\n"
    with pytest.raises(TraceError, match="row 3: NumImages: unusable value"):
        AzureReader(path=rows(tmp_path / "trace.csv", text)).read()


def test_a_time_without_decimals_is_a_time(tmp_path: Path) -> None:
    """Writers of 2024's form leave out the decimals where they are zero."""
    text = f"{HEADER}\n2024-05-10 00:00:00+00:00,1,1\n2024-05-10 00:00:00.25+00:00,1,1\n"
    requests = AzureReader(path=rows(tmp_path / "trace.csv", text)).read().collect()
    assert requests["arrival_s"].to_list() == [0.0, 0.25]


def test_offsets_are_honoured(tmp_path: Path) -> None:
    """01:00 at +01:00 is midnight UTC."""
    text = f"{HEADER}\n2024-05-10 00:00:00+00:00,1,1\n2024-05-10 01:00:03+01:00,1,1\n"
    requests = AzureReader(path=rows(tmp_path / "trace.csv", text)).read().collect()
    assert requests["arrival_s"].to_list() == [0.0, 3.0]


def test_unsorted_rows_are_sorted_and_counted(tmp_path: Path) -> None:
    """Three rows stand behind a later one; equal times keep the order of the file."""
    seconds, prompts = [9, 1, 5, 5, 9], [1, 2, 3, 4, 5]
    lines = [f"2024-05-10 00:00:0{s}+00:00,{p},1" for s, p in zip(seconds, prompts, strict=True)]
    path = rows(tmp_path / "trace.csv", "\n".join([HEADER, *lines]))
    workload = build({"source": {"reader": "azure", "path": path}})
    requests = pl.concat(list(workload.frames()))
    assert requests["arrival_s"].to_list() == [0, 4, 4, 8, 8]
    assert requests["prompt_tokens"].to_list() == [2, 3, 4, 1, 5]
    assert workload.notes["rows_sorted"] == 3


@pytest.mark.parametrize(("policy", "expected"), [("drop", [7]), ("keep_as_one", [1, 7])])
def test_zero_outputs_are_treated_as_asked_and_counted(
    policy: str, expected: list[int], tmp_path: Path
) -> None:
    """A request without output is dropped or takes one token; time 0 stays the file's first row."""
    text = f"{HEADER}\n2024-05-10 00:00:00Z,1,0\n2024-05-10 00:00:02Z,1,7\n"
    path = rows(tmp_path / "trace.csv", text)
    workload = build({"source": {"reader": "azure", "path": path, "zero_output": policy}})
    requests = pl.concat(list(workload.frames()))
    assert requests["output_tokens"].to_list() == expected
    assert requests["arrival_s"][-1] == 2.0
    assert workload.notes["zero_output"] == 1


def test_a_zero_output_is_refused_by_default(tmp_path: Path) -> None:
    """The message names file, row and column, and the hint the option."""
    text = f"{HEADER}\n2024-05-10 00:00:00Z,1,3\n2024-05-10 00:00:02Z,1,0\n"
    with pytest.raises(
        TraceError, match=r"trace\.csv: row 2: GeneratedTokens: .*got 0.*\n.*zero_output: drop"
    ):
        AzureReader(path=rows(tmp_path / "trace.csv", text)).read()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2024-05-10 00:00:02Z,-4,3", r"row 2: ContextTokens: .*got -4"),
        ("2024-05-10 00:00:02Z,0,3", r"row 2: ContextTokens: .*got 0"),
        ("2024-05-10 00:00:02Z,2.5,3", r"row 2: ContextTokens: .*got 2\.5"),
        ("2024-05-10 00:00:02Z,NaN,3", r"row 2: ContextTokens: .*got nan"),
        ("2024-05-10 00:00:02Z,,3", r"row 2: ContextTokens: .*got an empty cell"),
        ("2024-05-10 00:00:02Z,NULL,3", r"row 2: ContextTokens: .*got 'NULL'"),
        ("2024-05-10 00:00:02Z,5000000000,3", r"row 2: ContextTokens: .*got 5000000000"),
        ("2024-05-10 00:00:02Z,4,many", r"row 2: GeneratedTokens: .*got 'many'"),
        ("2024-05-10 00:00:02Z,4,-1", r"row 2: GeneratedTokens: .*got -1"),
        ("yesterday,4,3", r"row 2: TIMESTAMP: .*got 'yesterday'.*form of the first row"),
        (",4,3", r"row 2: TIMESTAMP: .*got an empty cell"),
    ],
)
def test_a_bad_cell_is_named_by_row_and_column(line: str, message: str, tmp_path: Path) -> None:
    """Negative, zero, fractional, missing, huge and non-numeric cells are told apart and located."""
    text = f"{HEADER}\n2024-05-10 00:00:00Z,1,3\n{line}\n"
    with pytest.raises(TraceError, match=r"trace\.csv: " + message):
        build({"source": {"reader": "azure", "path": rows(tmp_path / "trace.csv", text)}})
