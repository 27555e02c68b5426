"""The command line of traces: pages, JSON, files, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from matplotlib import image

from servesim.traces.datasheets import read_datasheet

SPEC = """\
seed: 1
workload:
  generator:
    name: poisson
    rate_per_s: 2
    requests: 200
    prompt_tokens: {distribution: uniform, low: 10, high: 600}
    output_tokens: {distribution: exponential, mean: 20}
"""


@pytest.fixture
def sample(root: Path) -> Path:
    """Return the path of the BurstGPT sample with sessions."""
    return root / "traces" / "burstgpt_3_sample.csv"


def test_info_is_a_page(servesim_main, sample):
    """Format, counts, sessions, lengths, a line of bars, findings; results only on stdout."""
    code, out, err = servesim_main("trace", "info", sample)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].endswith("(burstgpt, told by its datasheet)")
    assert any(line.startswith("  rows        1,000, of which ") and "failed" in line for line in lines)
    assert any(line.startswith("  sessions    ") for line in lines)
    assert any(line.startswith("  prompt ") and line.endswith("tokens") for line in lines)
    assert any(line.startswith("  rate  ") and "full bar" in line for line in lines)
    assert any(line.startswith("note: zero outputs: ") for line in lines)


def test_info_as_json(servesim_main, root):
    """Every number, with its unit in its name, and every check."""
    code, out, _ = servesim_main("trace", "info", root / "traces" / "mooncake_sample.jsonl", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["format"], found["rows"], found["requests"]) == ("mooncake", 300, 300)
    assert 0 < found["prefix"]["hit_ceiling_ratio"] < 1
    assert {each["check"] for each in found["findings"]} >= {"time grid", "regularity"}
    assert set(found["prompt_tokens"]) == {"mean", "min", "p50", "p90", "p95", "p99", "max"}


def test_info_tells_prefixes_that_it_does_not_read(servesim_main, root):
    """Reuse that the reader counted; where chunks' lengths are missing, what would tell it; nothing of no prefixes."""
    line = {}
    for name in (
        "claude_code_sample.json",
        "ragpulse_sample.jsonl",
        "mooncake_sample.jsonl",
        "burstgpt_3_sample.csv",
    ):
        _, out, _ = servesim_main("trace", "info", root / "traces" / name)
        line[name.split("_")[0]] = [
            each.split(None, 1)[1] for each in out.splitlines() if "  prefixes " in each
        ]
    (told,) = line["claude"]
    assert re.fullmatch(r"\d+\.\d% of the blocks are those of the agent's previous request", told)
    assert line["ragpulse"][0].startswith("not told: the lengths of chunks are in a file of their own")
    assert "hit ceiling" in line["mooncake"][0]
    assert line["burstgpt"] == []


def test_info_draws_and_describes(servesim_main, sample, tmp_path):
    """Figure and datasheet are written, and said on stderr."""
    code, _, err = servesim_main(
        "trace", "info", sample, "--plot", tmp_path / "a.png", "--datasheet", tmp_path / "a.yaml"
    )
    assert code == 0
    assert err.splitlines() == [f"wrote {tmp_path / 'a.png'}", f"wrote {tmp_path / 'a.yaml'}"]
    assert image.imread(tmp_path / "a.png").std() > 0.01
    assert read_datasheet(tmp_path / "a.yaml").file == sample.name
    code, _, err = servesim_main("trace", "info", sample, "--plot", tmp_path / "a.txt")
    assert code == 2
    assert "unknown kind of figure (got '.txt'). expected .png, .svg, .pdf" in err


def test_generate_convert_and_look(servesim_main, tmp_path):
    """From a description to Parquet to a native form, and what each is."""
    (tmp_path / "spec.yaml").write_text(SPEC)
    code, out, _ = servesim_main(
        "trace", "generate", tmp_path / "spec.yaml", tmp_path / "g.parquet", "--set", "seed=9"
    )
    assert code == 0
    assert out.startswith(f"wrote {tmp_path / 'g.parquet'}: 200 rows, form servesim\n")
    assert "seed 9" in read_datasheet(tmp_path / "g.datasheet.yaml").collection
    code, out, err = servesim_main("trace", "convert", tmp_path / "g.parquet", tmp_path / "m.jsonl")
    assert (code, out) == (2, "")
    assert "the form mooncake cannot hold all of it (got arrival_s finer than 0.001 s" in err
    code, out, err = servesim_main(
        "trace", "convert", tmp_path / "g.parquet", tmp_path / "m.jsonl", "--lossy"
    )
    assert (code, out) == (0, f"wrote {tmp_path / 'm.jsonl'}: 200 rows, form mooncake\n")
    assert err.startswith("left out: arrival_s finer than 0.001 s")
    code, out, _ = servesim_main("trace", "info", tmp_path / "m.jsonl")
    assert "(mooncake, told by its keys)" in out
    code, out, _ = servesim_main("trace", "info", tmp_path / "spec.yaml")
    assert "(a workload)" in out


def test_a_scenario_is_a_spec_too(servesim_main, scenario, tmp_path):
    """Its workload is what is written."""
    code, out, _ = servesim_main("trace", "generate", scenario, tmp_path / "x.parquet")
    assert code == 0
    assert "3 rows" in out


def test_compare_is_two_tables(servesim_main, root):
    """Numbers side by side, and distances."""
    a, b = root / "traces" / "azure_conv_sample.csv", root / "traces" / "azure_2024_sample.csv"
    code, out, _ = servesim_main("trace", "compare", a, b)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")][:4] == [
        "A",
        "requests",
        "span",
        "rate",
    ]
    assert "quantile distance" in out
    code, out, _ = servesim_main("trace", "compare", a, b, "--json")
    assert set(json.loads(out)) == {"distributions", "numbers"}


def test_compare_explains(servesim_main, scenario, tmp_path):
    """Shares of the difference that add up, as text and as JSON."""
    for name, rate in (("a", "2"), ("b", "60")):
        (tmp_path / f"{name}.yaml").write_text(SPEC.replace("rate_per_s: 2", f"rate_per_s: {rate}"))
    arguments = ["trace", "compare", tmp_path / "a.yaml", tmp_path / "b.yaml", "--scenario", scenario]
    arguments += ["--metric", "queue_s_mean", "--workers", "1", "--quiet"]
    code, out, err = servesim_main(*arguments)
    assert (code, err) == (0, "")
    assert "queue_s_mean is" in out
    assert any(line.startswith("  sum ") and line.endswith("100%") for line in out.splitlines())
    found = json.loads(servesim_main(*arguments, "--json")[1])["explanation"]
    assert sum(found["shares"].values()) == pytest.approx(found["difference"], rel=1e-12)
    assert max(found["shares"], key=found["shares"].get) == "gaps"
    code, _, err = servesim_main(*arguments[:-4], "nonsense", "--workers", "1")
    assert code == 2
    assert "--metric: unknown metric (got 'nonsense')" in err


def test_fetch_lists_what_is_published(servesim_main):
    """Names, sizes, licences, descriptions."""
    code, out, _ = servesim_main("trace", "fetch")
    assert code == 0
    assert any(line.split() == ["burstgpt-3", "231,682,327", "CC-BY-4.0", "yes"] for line in out.splitlines())


def test_fetch_takes_a_file_that_is_there(servesim_main, tmp_path, shared):
    """Downloaded elsewhere and put into place: it is checked, without a connection."""
    name = "AzureLLMInferenceTrace_code.csv"
    (tmp_path / name).write_bytes(shared(f"traces/azure_llm/{name}").read_bytes())
    code, out, err = servesim_main("trace", "fetch", "azure-code-2023", "--out", tmp_path)
    assert code == 0
    assert out.startswith(f"already there: {tmp_path / name}")
    assert "Licence: CC-BY-4.0" in err
    (tmp_path / name).write_bytes(b"else")
    code, _, err = servesim_main("trace", "fetch", "azure-code-2023", "--out", tmp_path, "--quiet")
    assert code == 2
    assert "not the file that was published (got 4 bytes). expected 320,117" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("info", "nothing.csv"), "nothing.csv: no such file. expected a trace"),
        (("info", "nothing.yaml"), "nothing.yaml: no such file. expected a trace"),
        (("convert", "nothing.csv", "x.parquet"), "no such file"),
        (("generate", "nothing.yaml", "x.parquet"), "no such file"),
        (("fetch", "burst"), "unknown trace (got 'burst')"),
    ],
)
def test_mistakes_end_with_a_message(arguments, message, servesim_main, tmp_path, monkeypatch):
    """Exit code 2, one line, no traceback."""
    monkeypatch.chdir(tmp_path)
    code, out, err = servesim_main("trace", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
