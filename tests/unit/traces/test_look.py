"""What a file is: client pools and serverless logs beside requests, and their numbers by hand."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import polars as pl
import pytest
from pools import FULL, pool_of, write

from servesim import serverless
from servesim.errors import ServesimError, TraceError
from servesim.servegen.pool import ClientPool
from servesim.traces.datasheets import UNKNOWN, datasheet_path, read_datasheet, write_datasheet
from servesim.traces.detect import detect
from servesim.traces.finding import Finding
from servesim.traces.info import TraceInfo
from servesim.traces.kinds import kind_of
from servesim.traces.log_info import LogInfo
from servesim.traces.look import datasheet_for, look
from servesim.traces.pool_info import PoolInfo, info_of
from servesim.traces.pool_statistics import weighted_quantiles


@pytest.fixture
def pool() -> ClientPool:
    """Return a pool of three clients over six hours, of 600, 300 and 60 requests a window."""
    return pool_of()


def native(folder: Path) -> Path:
    """Write a pool of two clients in the native form, one without lengths."""
    folder.mkdir()
    (folder / "chunk-1-trace.csv").write_text("0,0.1,1.5,Gamma,0.4444,22.5\n600,0,0,,0,0")
    (folder / "chunk-2-trace.csv").write_text("0,0,0,,0,0\n600,0.3,1.0,Weibull,1.0,3.3333")
    lengths = {"0": {"input_tokens": "{5: 0.5, 7: 0.5}", "output_tokens": "{1: 1.0}"}}
    (folder / "chunk-1-dataset.json").write_text(json.dumps(lengths))
    return folder


def level(findings: list[Finding], check: str) -> str:
    """Return the level of the finding of a check."""
    return next(finding.level for finding in findings if finding.check == check)


def test_numbers_of_a_pool_by_hand(pool: ClientPool, tmp_path: Path) -> None:
    """600 + 300 + 60 requests in each of 36 windows: rate 1.6/s, shares 62.5 and 93.75 %, lengths weighted so."""
    found = info_of(pool, path=tmp_path / "three.trace.parquet").to_dict()
    assert found["requests"] == 36 * 960
    assert (found["windows"], found["span_s"]) == (36, 21_600)
    assert [found["rate_per_s"][name] for name in ("mean", "min")] == pytest.approx([1.6, 1.6])
    assert found["active_clients"]["p50"] == 3
    assert found["top_ratio"] == pytest.approx({"1": 0.625, "5": 1.0, "10": 1.0})
    assert found["clients_for_90_percent"] == 2
    assert found["pattern_ratio"] == pytest.approx({"gamma": 1.0, "weibull": 0.0})
    assert found["cv_above_1_ratio"] == 0.0
    # of 960 requests: 300 of 7 tokens, 450 of 10, 150 of 20, 60 of 99
    prompts = found["lengths"]["input_tokens"]
    assert prompts["mean"] == pytest.approx(15_540 / 960)
    assert [prompts[name] for name in ("min", "p50", "p90", "p95", "max")] == [7, 10, 20, 99, 99]
    assert [each["client"] for each in found["busiest"]] == ["a", "b", "c"]
    assert found["busiest"][2]["rate_per_s_max"] == pytest.approx(0.1)


def test_a_quantile_is_a_value_that_reaches_the_share() -> None:
    """Weights 1, 2, 7: the median of the third value, a tenth lies up to the first."""
    values, weights = pl.Series([3, 1, 2]).to_numpy(), pl.Series([7.0, 1.0, 2.0]).to_numpy()
    levels = {"p10": 0.1, "p30": 0.3, "p31": 0.31, "all": 1.0}
    assert list(weighted_quantiles(values, weights, levels).values()) == [1, 2, 3, 3]


def test_findings_of_a_pool(tmp_path: Path) -> None:
    """Bursts, few requests, shapes that do not fit the CV, borrowed lengths: each is noticed."""
    pool = pool_of(activity=[*FULL, ("d", 3, 4, True, 0.5, 5.0)])
    info = info_of(pool, path=tmp_path / "x.trace.parquet")
    assert level(info.findings, "bursts") == "note"  # client c, 6.25 % of the requests
    assert level(info.findings, "few requests") == "note"
    assert level(info.findings, "lengths") == "note"
    assert level(info.findings, "gamma windows") == "ok"  # shape 1 and CV 1
    assert level(info.findings, "weibull windows") == "note"  # shape 0.5 has a CV of sqrt(5), stated is 1
    (text,) = (each.text for each in info.findings if each.check == "weibull windows")
    assert "imply 2.24 of the CV" in text
    assert level(info.findings, "drift") == "ok"
    assert info.statistics["clients_without_lengths"] == 1
    assert info.statistics["without_lengths_ratio"] == pytest.approx(4 / (36 * 960 + 4))


def test_pools_are_told_in_every_form(pool: ClientPool, tmp_path: Path) -> None:
    """Either file of a packed one, and a folder."""
    trace = write(tmp_path / "three.trace.parquet", pool)
    for path in (trace, tmp_path / "three.dataset.parquet"):
        info = look(path)
        assert isinstance(info, PoolInfo)
        assert (info.form, info.path) == ("packed", trace)
    info = look(native(tmp_path / "pool"))
    assert isinstance(info, PoolInfo)
    assert (info.form, info.statistics["clients"]) == ("native", 2)
    assert info.statistics["clients_without_lengths"] == 1
    assert info.statistics["without_lengths_ratio"] == pytest.approx(0.75)
    assert info.statistics["pattern_ratio"] == pytest.approx({"gamma": 0.25, "weibull": 0.75})


def test_one_client_is_not_a_pool(tmp_path: Path) -> None:
    """Its folder is named."""
    folder = native(tmp_path / "pool")
    for name in ("chunk-1-trace.csv", "chunk-1-dataset.json"):
        with pytest.raises(TraceError, match="one client of a ServeGen pool") as caught:
            look(folder / name)
        assert str(folder) in str(caught.value)


def test_a_pool_without_its_other_file(pool: ClientPool, tmp_path: Path) -> None:
    """Or with another name: what is missing is named."""
    trace = write(tmp_path / "three.trace.parquet", pool)
    shutil.copy(trace, tmp_path / "renamed.parquet")
    with pytest.raises(
        TraceError, match=r"renamed.parquet: not a client pool .* expected NAME.trace.parquet"
    ):
        look(tmp_path / "renamed.parquet")
    (tmp_path / "three.dataset.parquet").unlink()
    with pytest.raises(TraceError, match=r"three.dataset.parquet: no such file"):
        look(trace)


def test_requests_in_a_file_named_like_a_pool_are_requests(tmp_path: Path) -> None:
    """Columns tell, not names."""
    frame = pl.DataFrame({"arrival_s": [0.0, 1.0], "prompt_tokens": [1, 1], "output_tokens": [1, 1]})
    frame.write_parquet(tmp_path / "a.trace.parquet")
    assert isinstance(look(tmp_path / "a.trace.parquet"), TraceInfo)


def test_other_commands_refuse_what_is_no_requests(pool: ClientPool, tmp_path: Path, root: Path) -> None:
    """With what to do instead."""
    trace = write(tmp_path / "three.trace.parquet", pool)
    with pytest.raises(TraceError, match=r"a client pool\. expected requests") as caught:
        detect(trace)
    assert "name: servegen" in str(caught.value)
    with pytest.raises(TraceError, match=r"a serverless log\. expected requests"):
        detect(root / "traces" / "azure_functions_2021_sample.csv")
    with pytest.raises(TraceError, match=r"a client pool\. expected requests"):
        detect(native(tmp_path / "pool"))


@pytest.mark.parametrize(
    "name",
    [
        "azure_functions_2019_sample.csv",
        "azure_functions_2021_sample.csv",
        "genai_base_model_update_latency_sample.csv",
        "genai_lora_request_trace_sample.csv",
        "huawei_cold_starts_sample.csv",
        "huawei_functions_sample.csv",
        "huawei_requests_sample.csv",
    ],
)
def test_logs_are_told_with_and_without_a_datasheet(name: str, root: Path, tmp_path: Path) -> None:
    """By their columns to the same format that the datasheet names; all of it is JSON."""
    shutil.copy(root / "traces" / name, tmp_path / name)
    bare, told = look(tmp_path / name), look(root / "traces" / name)
    assert isinstance(bare, LogInfo)
    assert isinstance(told, LogInfo)
    assert (bare.by, told.by) == ("its columns", "its datasheet")
    assert bare.format == told.format == read_datasheet(datasheet_path(root / "traces" / name)).reader
    json.dumps(bare.to_dict(), allow_nan=False)
    assert isinstance(look(tmp_path / name, reader=told.format), LogInfo)


COLD_STARTS = (
    "day,time,clusterName,funcName,userID,requestID,totalCost_cold_start,podAllocationCost,deployCodeCost,"
    "deployDependencyCost,schedulingCost,podID\n"
    "0,0.0,1,5,7,a,1.0,0.4,0.3,0.2,0.1,pool22-300-128-0001\n"
    "0,3.0,1,5,7,b,3.0,0.4,0.3,0.2,0.1,pool22-300-128-0002\n"
    "0,1.0,1,6,7,c,2.0,0.8,0.6,0.4,0.2,somepod\n"
)


def test_numbers_of_a_log_by_hand(tmp_path: Path) -> None:
    """Three cold starts at 0, 1 and 3 s: gaps 1 and 2 s; one total that its parts do not make, one nameless pool."""
    (tmp_path / "day_0.csv").write_text(COLD_STARTS)
    info = look(tmp_path / "day_0.csv")
    assert isinstance(info, LogInfo)
    found = info.to_dict()
    assert (found["cold_starts"], found["span_s"], found["cold_starts_per_s"]) == (3, 3.0, 1.0)
    assert (found["total_s_mean"], found["total_s_p50"], found["gap_s_mean"]) == (2.0, 2.0, 1.5)
    assert found["gap_cv"] == pytest.approx(0.5**0.5 / 1.5)  # of a sample
    assert found["pod_allocation_s_mean"] == pytest.approx(1.6 / 3)
    levels = {finding.check: finding.level for finding in info.findings}
    assert levels == {
        "duplicates": "ok",
        "monotone time": "note",
        "totals": "warning",
        "pods": "note",
        "rows": "note",
    }
    assert {row["pool"]: row["cold_starts"] for row in found["tables"]["by_pool"]} == {
        "pool22-300-128": 2,
        None: 1,
    }


def test_functions_and_series_of_a_log_by_hand(tmp_path: Path) -> None:
    """Owners, requests and the share of the busiest; values of a metric over functions and minutes."""
    path = tmp_path / "functions.csv"
    path.write_text("funcID,requests,runtime\n1---7---pool22-300-128,30,Go\n2---7---pool22-300-128,10,Go\n")
    found = look(path).to_dict()
    assert (found["functions"], found["users"], found["function_invocations"]) == (2, 1, 40)
    assert found["busiest_function_ratio"] == 0.75
    assert found["tables"]["functions_by_runtime"] == [{"runtime": "Go", "functions": 2, "share_ratio": 1.0}]
    path = tmp_path / "cpu_q50.csv"
    path.write_text("day,time,1---7---p,2---7---p\n0,0,2,NaN\n0,60,4,6\n")
    (row,) = look(path).to_dict()["tables"]["series"]
    assert (row["metric"], row["statistic"], row["functions"], row["windows"]) == ("cpu", "q50", 2, 2)
    assert (row["values"], row["value_mean"], row["value_p50"], row["value_max"]) == (3, 4.0, 4.0, 6.0)


def test_pod_utility_is_told_where_it_is_known() -> None:
    """A generated log knows when its pods ended."""
    from servesim.cli.trace_log import _cold_starts

    log = serverless.generate_functions(seed=0, functions=50, duration_s=3600.0)
    figures = serverless.summary(log).figures
    assert _cold_starts(figures)["pod utility"].startswith("p50 ")


def test_datasheets_of_pools_and_logs(pool: ClientPool, tmp_path: Path, root: Path) -> None:
    """They name what takes the file; a folder has none. A pool's then tells what it is."""
    trace = write(tmp_path / "three.trace.parquet", pool)
    sheet = datasheet_for(look(trace))
    assert (sheet.reader, sheet.rows) == ("servegen", 108)
    assert "three.dataset.parquet, sha256 " in sheet.composition
    write_datasheet(sheet, datasheet_path(trace))
    assert kind_of(trace) == "client pool"
    log = tmp_path / "log.csv"
    shutil.copy(root / "traces" / "huawei_cold_starts_sample.csv", log)
    sheet = datasheet_for(look(log))
    assert (sheet.reader, sheet.rows) == ("huawei_cold_starts", 250)
    assert sheet.composition == "250 cold starts, in the form huawei_cold_starts."
    (tmp_path / "logs").mkdir()
    log.rename(tmp_path / "logs" / "day_0.csv")
    for folder in (native(tmp_path / "pool"), tmp_path / "logs"):
        with pytest.raises(ServesimError, match="a folder"):
            datasheet_for(look(folder))


def test_what_a_datasheet_tells_is_kept_in_another_one(root: Path, tmp_path: Path) -> None:
    """Beside what is measured, as long as it is of the same file: licence, uses, defects."""
    path = tmp_path / "burstgpt_1_sample.csv"
    for name in (path.name, datasheet_path(path).name):
        shutil.copy(root / "traces" / name, tmp_path)
    old, new = read_datasheet(datasheet_path(path)), datasheet_for(look(path))
    assert (new.licence, new.uses, new.collection) == (old.licence, old.uses, old.collection)
    assert new.known_defects[: len(old.known_defects)] == old.known_defects
    assert new.composition.startswith("A row is a request. 959 requests")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:100]))
    assert datasheet_for(look(path)).licence == UNKNOWN


def test_what_is_broken_is_told_and_not_taken_for_something_else(tmp_path: Path, root: Path) -> None:
    """Binary, damaged Parquet, an archive, an empty folder, a pointer, nothing at all."""
    (tmp_path / "binary.csv").write_bytes(b"\x00\x01\x02" * 50)
    (tmp_path / "half.trace.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "pointer.csv").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4bb\nsize 5\n"
    )
    (tmp_path / "empty").mkdir()
    with tarfile.open(tmp_path / "log.tar.gz", "w:gz") as archive:
        archive.add(root / "traces" / "huawei_cold_starts_sample.csv", "a.csv")
    for name, message in (
        ("binary.csv", "not text"),
        ("half.trace.parquet", "not readable as Parquet"),
        ("pointer.csv", "a Git LFS pointer"),
        ("empty", "no known format"),
        ("log.tar.gz", "an archive"),
        ("none.csv", "no such file"),
    ):
        with pytest.raises(TraceError, match=message):
            look(tmp_path / name)


def test_a_datasheet_of_another_file_is_noticed(root: Path, tmp_path: Path) -> None:
    """A trace cut to 99 rows, a log and a pool that were changed: the datasheet is not theirs any more."""
    for name in ("burstgpt_1_sample.csv", "huawei_cold_starts_sample.csv"):
        lines = (root / "traces" / name).read_text().splitlines(keepends=True)
        (tmp_path / name).write_text("".join(lines[:100]))
        sheet = name.replace(".csv", ".datasheet.yaml")
        (tmp_path / sheet).write_bytes((root / "traces" / sheet).read_bytes())
        (found,) = (each for each in look(tmp_path / name).findings if each.check == "checksum")
        rows = "1,000" if name.startswith("burst") else "250"
        assert found.level == "warning"
        assert found.text == (
            f"not the file that {sheet} describes: another SHA-256, 99 rows instead of {rows}"
        )
    pool = shutil.copytree(root / "traces" / "servegen_sample", tmp_path / "servegen_sample")
    sheet = "servegen_sample.datasheet.yaml"
    (tmp_path / sheet).write_bytes((root / "traces" / sheet).read_bytes())
    assert level(look(pool).findings, "checksum") == "ok"
    (pool / "chunk-1-trace.csv").unlink()
    info = look(pool)
    assert level(info.findings, "checksum") == "warning"
    assert "checksum" not in datasheet_for(look(tmp_path / "burstgpt_1_sample.csv")).rubric


@pytest.mark.parametrize("form", ["gztar", "tar", "bztar", "xztar", "zip"])
def test_an_archive_is_to_be_unpacked(form: str, root: Path, tmp_path: Path) -> None:
    """Whatever packed it."""
    (tmp_path / "in").mkdir()
    shutil.copy(root / "traces" / "burstgpt_1_sample.csv", tmp_path / "in")
    path = Path(shutil.make_archive(str(tmp_path / "trace"), form, tmp_path / "in"))
    with pytest.raises(TraceError, match="an archive") as caught:
        look(path)
    assert "unpack it first" in str(caught.value)
