"""The bundled serverless logs: described by their datasheets, told apart by their headers, taken by their readers."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from ruamel.yaml import YAML

from servesim.serverless import detect, read
from servesim.serverless.huawei import cold_start_table
from servesim.workload.datasheet import Datasheet

FORMAT = {
    "azure_functions_2019_sample.csv": "azure_functions_2019_invocations",
    "azure_functions_2021_sample.csv": "azure_functions_2021",
    "genai_base_model_update_latency_sample.csv": "genai_loads",
    "genai_lora_request_trace_sample.csv": "genai_requests",
    "huawei_cold_starts_sample.csv": "huawei_cold_starts",
    "huawei_functions_sample.csv": "huawei_functions",
    "huawei_requests_sample.csv": "huawei_series",
}


@pytest.mark.parametrize("name", FORMAT)
def test_the_datasheet_belongs_to_the_file_and_the_header_tells_the_format(name: str, root: Path) -> None:
    """Checksum and rows agree; the format is told from the header, as the datasheet names it."""
    path = root / "traces" / name
    text = (root / "traces" / f"{path.stem}.datasheet.yaml").read_text(encoding="utf-8")
    sheet = Datasheet.model_validate(YAML(typ="safe").load(text))
    assert sheet.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sheet.rows == path.read_text(encoding="utf-8").count("\n") - 1
    assert detect(path) == sheet.reader == FORMAT[name]
    log = read(path)
    assert log.format == sheet.reader
    assert log.notes.get("rows_read", sheet.rows) == sheet.rows


def test_a_request_trace_is_no_serverless_log(root: Path) -> None:
    """Others than serverless logs are told as such, and refused by name."""
    path = root / "traces" / "burstgpt_1_sample.csv"
    assert detect(path) is None
    with pytest.raises(Exception, match="not a serverless log that is known"):
        read(path)
    with pytest.raises(Exception, match="did you mean 'huawei_requests'"):
        read(path, form="huawei_request")


def test_cold_starts_go_round_trip(root: Path) -> None:
    """Native, servesim, native: every cell is the same."""
    path = root / "traces" / "huawei_cold_starts_sample.csv"
    log = read(path)
    assert log.cold_starts is not None
    text = dict.fromkeys(("clusterName", "funcName", "userID", "requestID", "podID"), pl.String)
    native = pl.read_csv(path, schema_overrides=text | {"deployDependencyCost": pl.Float64})
    assert_frame_equal(cold_start_table(log.cold_starts.collect()), native, check_exact=True)


def test_cold_starts_know_their_functions(root: Path) -> None:
    """Every cold start finds its runtime and trigger in the function table."""
    log = read(
        root / "traces" / "huawei_cold_starts_sample.csv",
        functions=root / "traces" / "huawei_functions_sample.csv",
    )
    assert log.cold_starts is not None
    cold_starts = log.cold_starts.collect()
    assert cold_starts.height == 250
    assert cold_starts.select("runtime", "trigger").null_count().row(0) == (0, 0)
