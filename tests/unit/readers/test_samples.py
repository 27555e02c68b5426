"""The bundled traces: made by their script, described by their datasheets, taken by their readers."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest
from ruamel.yaml import YAML
from workloads import build

from servesim.traces.finding import CHECKSUM, rubric_of
from servesim.traces.look import look
from servesim.workload.datasheet import Datasheet

NAMES = [
    "azure_2024_sample.csv",
    "azure_conv_sample.csv",
    "azure_lmm_2025_sample.csv",
    "burstgpt_1_sample.csv",
    "burstgpt_3_sample.csv",
    "claude_code_sample.json",
    "lmcache_sample.jsonl",
    "mooncake_sample.jsonl",
    "qwen_bailian_sample.jsonl",
    "ragpulse_sample.jsonl",
    "table_sample.csv",
]

SERVERLESS_NAMES = [
    "azure_functions_2019_sample.csv",
    "azure_functions_2021_sample.csv",
    "genai_base_model_update_latency_sample.csv",
    "genai_lora_request_trace_sample.csv",
    "huawei_cold_starts_sample.csv",
    "huawei_functions_sample.csv",
    "huawei_requests_sample.csv",
]
"""Read in tests/unit/serverless/test_serverless_samples.py."""

POOL = "servegen_sample"
"""Read in tests/unit/servegen/test_sample_pool.py."""


@pytest.fixture(scope="module")
def script(root: Path) -> ModuleType:
    """Return scripts/make_samples.py as a module."""
    spec = importlib.util.spec_from_file_location("make_samples", root / "scripts" / "make_samples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_samples"] = module
    spec.loader.exec_module(module)
    return module


def sheet(root: Path, name: str) -> Datasheet:
    """Return the datasheet beside a sample."""
    path = root / "traces" / f"{Path(name).stem}.datasheet.yaml"
    return Datasheet.model_validate(YAML(typ="safe").load(path.read_text(encoding="utf-8")))


def test_every_trace_has_a_datasheet_and_is_tested(root: Path) -> None:
    """No file in traces/ without one."""
    files = {path.name for path in (root / "traces").iterdir()}
    names = [*NAMES, *SERVERLESS_NAMES, POOL]
    assert files == set(names) | {f"{Path(name).stem}.datasheet.yaml" for name in names}


@pytest.mark.parametrize("name", [*NAMES, *SERVERLESS_NAMES, POOL])
def test_every_datasheet_has_a_rubric(name: str, root: Path) -> None:
    """What servesim trace info finds today, but for the checksum, which is beside it."""
    info = look(root / "traces" / name)
    assert sheet(root, name).rubric == rubric_of(info.findings)
    assert "duplicates" in sheet(root, name).rubric or name == POOL
    assert [each.level for each in info.findings if each.check == CHECKSUM] == ["ok"]


@pytest.mark.parametrize("name", NAMES)
def test_the_datasheet_belongs_to_the_file(name: str, root: Path) -> None:
    """Checksum and number of rows agree, and the reader it names takes the file whole."""
    described = sheet(root, name)
    path = root / "traces" / name
    assert described.file == name
    assert described.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    workload = build({"source": {"reader": described.reader, "path": path, **described.parameters}})
    assert workload.notes["rows_read"] == described.rows
    assert described.licence == "Apache-2.0"


def test_the_script_reproduces_the_files(script: ModuleType, root: Path, tmp_path: Path) -> None:
    """Byte for byte, datasheets included."""
    script.make_samples(tmp_path)
    made = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    for path in made:
        assert path.read_bytes() == (root / "traces" / path.relative_to(tmp_path)).read_bytes(), path.name
    assert len(made) == sum(path.is_file() for path in (root / "traces").rglob("*"))


def test_the_conversation_sample_resembles_its_model(root: Path) -> None:
    """Form of 2023; rate and mean lengths of the real trace within 10 %."""
    path = root / "traces" / "azure_conv_sample.csv"
    content = path.read_bytes()
    assert content.count(b"\r\n") == 2000
    assert content.count(b"\n") == 2000
    assert not content.endswith(b"\n")
    requests = pl.concat(list(build({"source": {"reader": "azure", "path": path}}).frames()))
    assert requests.height / requests["arrival_s"][-1] == pytest.approx(5.53, rel=0.1)
    assert requests["prompt_tokens"].mean() == pytest.approx(1155, rel=0.1)
    assert requests["output_tokens"].mean() == pytest.approx(211, rel=0.1)


def test_the_failures_of_the_burstgpt_samples_are_as_rare_as_published(root: Path) -> None:
    """4.25 % and 7.26 % of 1,000 rows, within five standard errors."""
    for name, ratio in (("burstgpt_1_sample.csv", 0.0425), ("burstgpt_3_sample.csv", 0.0726)):
        workload = build({"source": {"reader": "burstgpt", "path": root / "traces" / name}})
        failures = workload.notes["failures"]
        assert isinstance(failures, int)
        assert abs(failures - 1000 * ratio) < 5 * (1000 * ratio * (1 - ratio)) ** 0.5


def test_the_page_of_traces_reads_the_table_sample(root: Path) -> None:
    """Its example runs as it stands from the repository's root, and does what the datasheet says."""
    page = (root / "docs" / "reference" / "traces.md").read_text(encoding="utf-8")
    section = page[page.index("## `table`") :]
    example = YAML(typ="safe").load(section.split("```yaml\n")[1].split("```")[0])
    described = sheet(root, "table_sample.csv")
    shown = dict(example["source"])
    assert shown.pop("path") == "traces/table_sample.csv"
    assert shown == {"reader": "table", **described.parameters}
    path = root / "traces" / "table_sample.csv"
    workload = build({"source": {**shown, "path": path}})
    requests = pl.concat(list(workload.frames()))
    assert requests["tenant"].equals(requests["slo_class"].alias("tenant"))
    assert set(requests.select("tenant", "priority").unique().rows()) == {
        ("search", 0),
        ("support", 1),
        ("batch", 2),
    }
    arrivals = [int(line.split(",")[0]) for line in path.read_text().splitlines()[1:]]
    behind = [row for row, arrival in enumerate(arrivals) if arrival < max(arrivals[: row + 1])]
    assert workload.notes["rows_sorted"] == len(behind) > 100
