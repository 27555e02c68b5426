"""Forms of traces: native files come back as they were, and what a form cannot hold is named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from workloads import collect

from servesim.errors import ServesimError, TraceError
from servesim.readers.claude_code import ClaudeCodeReader
from servesim.traces.convert import convert, form_of
from servesim.traces.datasheets import read_datasheet
from servesim.traces.generate import generate
from servesim.traces.source import read_requests, read_spec
from servesim.workload.source import load

NATIVE = [
    "azure_conv_sample.csv",
    "azure_2024_sample.csv",
    "azure_lmm_2025_sample.csv",
    "burstgpt_1_sample.csv",
    "burstgpt_3_sample.csv",
    "mooncake_sample.jsonl",
]
REAL = [
    "azure_llm/AzureLLMInferenceTrace_code.csv",
    "azure_llm/AzureLLMInferenceTrace_conv.csv",
    "burstgpt/burstgpt_1_first400.csv",
    "burstgpt/burstgpt_3_first400.csv",
    "mooncake/conversation_trace.jsonl",
]


def there_and_back(path: Path, folder: Path) -> bytes:
    """Return the bytes of a native file that was servesim's Parquet in between."""
    convert(path, folder / "between.parquet")
    back = folder / f"back{path.suffix}"
    convert(folder / "between.parquet", back)
    return back.read_bytes()


@pytest.mark.parametrize("name", NATIVE)
def test_samples_come_back_to_the_last_byte(name: str, root: Path, tmp_path: Path):
    """Line ends, dates, failures, images, sessions, blocks: nothing is lost."""
    path = root / "traces" / name
    assert there_and_back(path, tmp_path) == path.read_bytes()


@pytest.mark.parametrize("name", REAL)
def test_real_traces_come_back_to_the_last_byte(name: str, shared: Callable[[str], Path], tmp_path: Path):
    """The same for the real files."""
    path = shared(f"traces/{name}")
    assert there_and_back(path, tmp_path) == path.read_bytes()


@pytest.mark.parametrize(("name", "reader"), [(name, name.split("_")[0]) for name in NATIVE])
def test_a_simulation_sees_the_same_requests(name: str, reader: str, root: Path, tmp_path: Path):
    """The reader of servesim's form gives what the native reader gives, failures left out alike."""
    path = root / "traces" / name
    convert(path, tmp_path / "x.parquet")
    columns = [
        name
        for name in collect({"source": {"reader": reader, "path": path}}).columns
        if name != "prefix_block_tokens"
    ]
    native = collect({"source": {"reader": reader, "path": path}}).select(columns)
    own = collect({"source": {"reader": "servesim", "path": tmp_path / "x.parquet"}}).select(columns)
    first = own["arrival_s"][0] - native["arrival_s"][0]
    assert abs(first) < 1e-9
    assert own.equals(native)


def test_rows_out_of_order_come_back_in_their_order(tmp_path: Path):
    """Parquet is sorted; the native file written from it is not."""
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
        f"2024-05-10 00:00:{second:02}.000000+00:00,{tokens},0\n"
        for second, tokens in ((5, 7), (3, 8), (9, 1))
    )
    (tmp_path / "a.csv").write_text(text)
    assert there_and_back(tmp_path / "a.csv", tmp_path).decode() == text
    assert pl.read_parquet(tmp_path / "between.parquet")["arrival_s"].to_list() == [0.0, 2.0, 6.0]


def test_own_columns_are_kept(tmp_path: Path):
    """Elapsed times, totals that do not add up, empty sessions and cells of BurstGPT."""
    text = (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "19440110.0,abc,3,GPT-4,10,5,16,Conversation log\n"
        "19440111.5,,,ChatGPT,0,0,0,API log\n"
    )
    (tmp_path / "b.csv").write_text(text)
    assert there_and_back(tmp_path / "b.csv", tmp_path).decode() == text


def test_the_parquet_form(root: Path, tmp_path: Path):
    """Zstd and dictionaries, statistics of row groups, sorted by arrival, marked with its version."""
    convert(root / "traces" / "burstgpt_3_sample.csv", tmp_path / "x.parquet")
    metadata = pq.read_metadata(tmp_path / "x.parquet")
    columns = {
        metadata.row_group(0).column(index).path_in_schema: metadata.row_group(0).column(index)
        for index in range(metadata.num_columns)
    }
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "RLE_DICTIONARY" in columns["model"].encodings
    assert columns["arrival_s"].statistics.min == 0.0
    assert metadata.row_group(0).sorting_columns[0].column_index == 0
    assert metadata.metadata[b"servesim.requests"] == b"1"
    assert json.loads(metadata.metadata[b"servesim.source"])["form"] == "burstgpt-8"


@pytest.mark.parametrize(
    ("name", "to", "lost"),
    [
        ("burstgpt_3_sample.csv", "burstgpt-6", "session (565 requests have one); source.Elapsed time"),
        ("burstgpt_1_sample.csv", "azure-2023", "the date or time of the first arrival; model"),
        ("mooncake_sample.jsonl", "table", "prefix_blocks (300 requests have one)"),
        ("azure_conv_sample.csv", "mooncake", "arrival_s finer than 0.001 s"),
        ("azure_lmm_2025_sample.csv", "azure-2024", "source.NumImages"),
    ],
)
def test_what_a_form_cannot_hold_is_refused_by_name(
    name: str, to: str, lost: str, root: Path, tmp_path: Path
):
    """Unless it may be lost; then it is told."""
    out = tmp_path / "out.x"
    count = pl.read_csv(root / "traces" / "burstgpt_3_sample.csv")["Session ID"].is_not_null().sum()
    expected = lost.replace("565", str(count))
    with pytest.raises(ServesimError, match="cannot hold all of it") as caught:
        convert(root / "traces" / name, out, to=to)
    assert expected in str(caught.value)
    assert not out.exists()
    written = convert(root / "traces" / name, out, to=to, lossy=True)
    assert any(expected.split(";")[0] in each for each in written.lost)
    assert out.stat().st_size


def test_dates_stay_between_forms_that_have_dates(root: Path, tmp_path: Path):
    """2023 to 2024: the same instants, in the other form."""
    convert(root / "traces" / "azure_conv_sample.csv", tmp_path / "x.csv", to="azure-2024")
    assert (tmp_path / "x.csv").read_text().splitlines()[1].startswith("2023-11-16 09:00:00.000000+00:00,")


def test_a_table_is_for_other_tools(root: Path, tmp_path: Path):
    """Plain names, exact times, and the reader table takes it without a map."""
    (tmp_path / "in.csv").write_bytes((root / "traces" / "azure_conv_sample.csv").read_bytes())
    convert(tmp_path / "in.csv", tmp_path / "x.csv", to="table", lossy=True)
    header = (tmp_path / "x.csv").read_text().splitlines()[0]
    assert header == "arrival_s,prompt_tokens,output_tokens,model,tenant,priority,session,slo_class"
    one, other = (read_requests(tmp_path / name).frame for name in ("in.csv", "x.csv"))
    assert one.equals(other)


def test_names_that_do_not_tell_the_form(tmp_path: Path):
    """Three forms are CSV, one is JSON lines, Parquet is servesim's."""
    assert form_of(tmp_path / "x.parquet") == "servesim"
    assert form_of(tmp_path / "x.jsonl") == "mooncake"
    with pytest.raises(ServesimError, match="form is not clear from the name"):
        form_of(tmp_path / "x.csv")
    with pytest.raises(ServesimError, match="unknown form"):
        convert(tmp_path / "x.csv", tmp_path / "y.csv", to="azure")
    with pytest.raises(TraceError, match="no such file"):
        convert(tmp_path / "x.csv", tmp_path / "y.csv", to="azure-2023")


def test_another_programs_parquet_is_refused_by_the_reader(tmp_path: Path):
    """Its version is told, and the way out."""
    pl.DataFrame({"arrival_s": [0.0], "prompt_tokens": [1], "output_tokens": [1]}).write_parquet(
        tmp_path / "x.parquet"
    )
    from servesim.readers.parquet import ParquetReader

    with pytest.raises(TraceError, match="not servesim's form of requests") as caught:
        load(ParquetReader(path=tmp_path / "x.parquet"), "servesim")
    assert "reader: table" in str(caught.value)


SPEC = """\
name: bursts
seed: 4
workload:
  generator:
    name: gamma
    rate_per_s: 50
    cv: 2
    requests: 70000
    prompt_tokens: {distribution: lognormal, mean: 500, sigma: 1}
    output_tokens: {distribution: exponential, mean: 100}
"""


def generated(tmp_path: Path, name: str, text: str = SPEC, **options: Any) -> Path:
    """Generate requests into a file called *name*."""
    (tmp_path / "spec.yaml").write_text(text)
    generate(read_spec(tmp_path / "spec.yaml"), tmp_path / name, **options)
    return tmp_path / name


def test_generation_gives_the_same_bytes_for_the_same_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever the number of workers; another seed gives other bytes."""
    digests = []
    for workers, text in (("1", SPEC), ("2", SPEC), ("1", SPEC.replace("seed: 4", "seed: 5"))):
        monkeypatch.setenv("SERVESIM_WORKERS", workers)
        path = generated(tmp_path, "x.parquet", text)
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    assert digests[0] == digests[1] != digests[2]


def test_generated_requests_are_those_of_the_workload(tmp_path: Path):
    """A file stands for its description: a scenario may name either."""
    path = generated(tmp_path, "x.parquet")
    described = read_requests(tmp_path / "spec.yaml").frame
    assert read_requests(path).frame.equals(described)
    assert described.height == 70_000


@pytest.mark.parametrize(
    "to", ["azure-2023", "azure-2024", "azure-2025", "burstgpt-6", "burstgpt-8", "mooncake", "table"]
)
def test_every_form_can_be_generated_and_read_again(to: str, tmp_path: Path):
    """Lengths are the same, times as fine as the form has them; the datasheet says how it is read."""
    text = SPEC.replace("70000", "500")
    path = generated(tmp_path, "x.csv" if to != "mooncake" else "x.jsonl", text, to=to, lossy=True)
    sheet = read_datasheet(tmp_path / "x.datasheet.yaml")
    requests = read_requests(path).frame
    described = read_requests(tmp_path / "spec.yaml").frame
    assert requests["prompt_tokens"].equals(described["prompt_tokens"])
    assert requests["output_tokens"].equals(described["output_tokens"])
    tick_s = {"azure-2025": 1e-3, "burstgpt-6": 1.0, "mooncake": 1e-3}.get(to, 1e-6)
    first = described["arrival_s"][0] if to != "table" else 0.0
    assert ((requests["arrival_s"] - described["arrival_s"] + first).abs() <= tick_s).all()
    assert sheet.rows == 500
    assert sheet.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_datasheet_of_a_generated_trace(tmp_path: Path):
    """Who made it from what, and what is in it."""
    path = generated(tmp_path, "x.parquet", SPEC.replace("70000", "500"))
    sheet = read_datasheet(tmp_path / "x.datasheet.yaml")
    assert (sheet.file, sheet.reader) == (path.name, "servesim")
    assert "from bursts, seed 4: generator gamma" in sheet.collection
    assert sheet.composition.startswith("A row is a request. 500 requests in ")


def test_the_datasheet_counts_billions_of_tokens(tmp_path: Path):
    """50 prompts of 100 million tokens: more than 32 bits hold."""
    text = SPEC.replace("70000", "50").replace(
        "lognormal, mean: 500, sigma: 1", "constant, value: 100_000_000"
    )
    generated(tmp_path, "x.parquet", text)
    composition = read_datasheet(tmp_path / "x.datasheet.yaml").composition
    assert "prompts of 100,000,000 tokens on average" in composition


def test_the_datasheet_tells_what_waits_for_answers(tmp_path: Path):
    """Requests that follow others have no part in the rate; a limit of concurrency is no part of a trace."""
    text = """\
workload:
  max_concurrency: 8
  generator:
    name: closed_loop
    clients: 20
    requests: 100
    think_s: {distribution: constant, value_s: 1}
    prompt_tokens: {distribution: constant, value: 100}
    output_tokens: {distribution: constant, value: 10}
"""
    generated(tmp_path, "x.parquet", text)
    sheet = read_datasheet(tmp_path / "x.datasheet.yaml")
    assert sheet.composition.startswith("A row is a request. 20 requests in ")
    assert ", which 80 more follow as their sessions go on; " in sheet.composition
    assert any("workload.max_concurrency of 8 is no part of a trace" in each for each in sheet.known_defects)


def test_generation_that_cannot_be_written_leaves_nothing(tmp_path: Path):
    """Refused half-way: neither a file nor a part of one."""
    with pytest.raises(ServesimError, match="burstgpt-6 cannot hold all of it"):
        generated(tmp_path, "x.csv", to="burstgpt-6")
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]


def test_the_datasheet_of_another_file_is_not_replaced(tmp_path: Path):
    """x.csv and x.parquet would share a name of their datasheets."""
    generated(tmp_path, "x.parquet", SPEC.replace("70000", "5"))
    with pytest.raises(ServesimError, match="the datasheet of another file"):
        generated(tmp_path, "x.csv", SPEC.replace("70000", "5"), to="table")


def test_mixed_workloads_keep_columns_that_begin_late(tmp_path: Path, root: Path):
    """A tag that only later requests have is there."""
    text = f"""\
workload:
  sources:
    - generator:
        name: constant
        rate_per_s: 1000
        requests: 70000
        prompt_tokens: {{distribution: constant, value: 9}}
        output_tokens: {{distribution: constant, value: 3}}
    - source: {{reader: azure, path: {root / "traces" / "azure_conv_sample.csv"}}}
      tenant: late
      rate_scale: 0.5
"""
    requests = read_requests(generated(tmp_path, "x.parquet", text)).frame
    assert requests["tenant"].null_count() == 70_000


def test_times_between_whole_seconds_come_back(tmp_path: Path):
    """The first time says nothing of the others; neither do milliseconds of Mooncake's."""
    text = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    rows = "".join(f"{time},ChatGPT,10,5,15,API log\n" for time in ("5.0", "6.5", "7.25"))
    (tmp_path / "b.csv").write_text(text + rows)
    convert(tmp_path / "b.csv", tmp_path / "b.parquet")
    convert(tmp_path / "b.parquet", tmp_path / "c.csv")
    assert (tmp_path / "c.csv").read_text() == text + rows
    (tmp_path / "m.jsonl").write_text(
        '{"timestamp": 0, "input_length": 4, "output_length": 2}\n' * 2
        + '{"timestamp": 1.5, "input_length": 4, "output_length": 2}\n'
    )
    with pytest.raises(ServesimError, match=r"arrival_s finer than 0.001 s \(1 requests\)"):
        convert(tmp_path / "m.jsonl", tmp_path / "n.jsonl")


def test_blocks_of_another_size_are_left_out(tmp_path: Path, root: Path):
    """With --lossy a file of blocks of 512 tokens gets none of 16."""
    convert(root / "traces/qwen_bailian_sample.jsonl", tmp_path / "m.jsonl", to="mooncake", lossy=True)
    assert "hash_ids" not in (tmp_path / "m.jsonl").read_text()


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("ragpulse_sample.jsonl", "the file's 'hash_ids'"),
        ("qwen_bailian_sample.jsonl", "the file's 'parent_chat_id'; the file's 'turn'"),
        ("claude_code_sample.json", "the file's 'api_time'; the file's 'think_time'"),
        ("lmcache_sample.jsonl", "the file's 'input'; the file's 'output'"),
    ],
)
def test_what_a_reader_leaves_out_is_refused_by_name(name: str, lost: str, root: Path, tmp_path: Path):
    """Columns and keys that servesim's form has no place for: told, and lost only with --lossy."""
    with pytest.raises(ServesimError, match="the form servesim cannot hold all of it") as caught:
        convert(root / "traces" / name, tmp_path / "x.parquet")
    assert lost in str(caught.value)
    assert "Parquet" not in str(caught.value)
    written = convert(root / "traces" / name, tmp_path / "x.parquet", lossy=True)
    assert set(lost.split("; ")) <= set(written.lost)


def test_blocks_that_are_asked_for_are_not_lost(root: Path):
    """Agents' sessions with their blocks."""
    claude = ClaudeCodeReader(path=root / "traces" / "claude_code_sample.json", prefix_blocks=True)
    load(claude, "claude_code")
    assert not {"hash_ids", "in", "out", "model"} & set(claude.left_out)


def test_a_table_is_taken_whole(tmp_path: Path):
    """Failures and the order of rows come back; a column that means nothing to servesim is named."""
    text = "arrival_s,prompt_tokens,output_tokens,model,tenant,priority,session,slo_class\n"
    rows = "2.0,5,0,,a,,,\n1.0,6,3,,b,,,\n"
    (tmp_path / "t.csv").write_text(text + rows)
    convert(tmp_path / "t.csv", tmp_path / "t.parquet")
    assert pl.read_parquet(tmp_path / "t.parquet")["output_tokens"].to_list() == [3, 0]
    convert(tmp_path / "t.parquet", tmp_path / "back.csv")
    assert (tmp_path / "back.csv").read_text() == text + rows
    (tmp_path / "u.csv").write_text("arrival_s,prompt_tokens,output_tokens,foo,end_s\n1.0,5,1,x,2.0\n")
    with pytest.raises(ServesimError, match="the file's 'foo'; the file's 'end_s'"):
        convert(tmp_path / "u.csv", tmp_path / "u.parquet")


def test_sessions_that_are_there_twice_are_told(shared: Callable[[str], Path], tmp_path: Path):
    """Section 4 of the README of the traces: 25 files are 6 sessions, which are 3,128 rows too many."""
    written = convert(shared("traces/claude_code/requests.parquet"), tmp_path / "x.parquet", lossy=True)
    assert "3,128 rows in sessions that are there twice" in written.lost
    assert "that 27 requests have no output: it is 1 token" in written.lost
    assert written.rows == 49_334 - 3_128


def test_a_described_workload_is_no_trace(tmp_path: Path):
    """A YAML file is refused, and the command that writes its requests is named."""
    spec = tmp_path / "map.yaml"
    spec.write_text("workload: {source: {reader: table, path: a.csv}}\n", encoding="utf-8")
    with pytest.raises(ServesimError, match=r"map\.yaml: no trace to convert") as caught:
        convert(spec, tmp_path / "out.parquet")
    assert "trace generate" in str(caught.value.hint)


def test_burstgpt_holds_two_tenants(tmp_path: Path) -> None:
    """Others are told as lost; a request without one is of the API, or in a session of a conversation."""
    source = tmp_path / "in.csv"
    source.write_text(
        "arrival_s,prompt_tokens,output_tokens,model,tenant,session\n"
        "0,5,6,m,api,\n1,5,6,m,,\n2,5,6,m,,s\n3,5,6,m,acme,\n"
    )
    out = tmp_path / "out.csv"
    with pytest.raises(
        ServesimError, match=r"tenants other than conversation and api \(1 requests have one\)"
    ):
        convert(source, out, to="burstgpt-8")
    convert(source, out, to="burstgpt-8", lossy=True)
    assert read_requests(out).frame["tenant"].to_list() == ["api", "api", "conversation", "api"]
