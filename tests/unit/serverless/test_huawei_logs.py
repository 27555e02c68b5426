"""Readers of the Huawei trace: what its columns mean, its real rows, what is odd in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from servesim.errors import TraceError
from servesim.serverless import read
from servesim.serverless.huawei import CPU_REQUEST_MCPU

HEADER = (
    "day,time,clusterName,funcName,userID,requestID,totalCost_cold_start,podAllocationCost,deployCodeCost,"
    "deployDependencyCost,schedulingCost,podID"
)
ROW = "0,10.5,1,7,8,aa,1.5,0.25,0.5,0.25,0.5,pool22-300-128-0000000001"


def log_file(folder: Path, *rows: str, name: str = "day_00.csv") -> Path:
    """Write a cold-start table."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return path


def test_real_cold_starts_add_up(shared: Callable[[str], Path]) -> None:
    """In the release's own rows the total is the sum of the four parts, and the pod tells pool and function."""
    log = read(shared("traces/huawei_coldstart/cold_start_rows_R1_R5.csv"))
    assert log.cold_starts is not None
    frame = log.cold_starts.collect()
    assert log.notes["rows_read"] == 10
    assert log.notes["totals_off"] == log.notes["pods_without_pool"] == log.notes["rows_sorted"] == 0
    row = frame.row(4, named=True)
    assert (
        row
        | {
            "region": "R1",
            "cluster": "3",
            "function": "84---602---pool26-1000-1024",
            "cpu_limit_mcpu": 1000.0,
            "memory_limit_mb": 1024.0,
            "total_s": 5.309122,
            "deploy_code_s": 1.733,
            "runtime": None,
        }
        == row
    )
    assert frame["region"].to_list() == ["R1"] * 5 + ["R5"] * 5


def test_real_rows_with_runtime_and_trigger(shared: Callable[[str], Path]) -> None:
    """The joined table of R2 keeps its runtimes and triggers."""
    log = read(shared("traces/huawei_coldstart/cold_start_rows_R2_runtime_trigger.csv"))
    assert log.cold_starts is not None
    frame = log.cold_starts.collect()
    assert frame["runtime"].value_counts(sort=True).rows() == [("Python3", 6), ("Node.js", 4)]
    assert sorted(frame["trigger"]) == ["TIMER-A"] * 5 + ["workflow-S"] * 5


def test_real_requests_without_frontend(shared: Callable[[str], Path]) -> None:
    """Half of the rows have no frontend columns: those are null, not 0, and counted."""
    log = read(shared("traces/huawei_coldstart/request_rows_R5.csv"))
    assert log.invocations is not None
    frame = log.invocations.collect()
    assert log.notes["without_frontend"] == frame["request_bytes"].null_count() == 5
    assert frame["arrival_s"][0] == 2592000.02
    assert frame["duration_s"][0] == 0.000931


def test_real_function_tables(shared: Callable[[str], Path]) -> None:
    """FuncID is taken apart; the CPU request is the file's, or follows from the limit."""
    tables = ("functions_R2_head_tail", "functions_R2_3days", "runtime_trigger_rows_R2")
    heads = []
    for name in tables:
        log = read(shared(f"traces/huawei_coldstart/{name}.csv"))
        assert log.functions is not None
        heads.append(log.functions.collect().row(0, named=True))
    assert heads[0]["invocations"] == 8_531_371_000
    assert [head["user"] for head in heads] == ["337", "337", "418"]
    assert [head["cpu_request_mcpu"] for head in heads] == [500.0, 500.0, 100.0]
    assert heads[2]["runtime"] == "Python3"
    last = read(shared(f"traces/huawei_coldstart/{tables[2]}.csv")).functions
    assert last is not None
    assert last.collect()["trigger"][-1] == "unknown"


def test_the_mapping_of_limits_is_whole() -> None:
    """17 limits, each asking for less than it is."""
    assert len(CPU_REQUEST_MCPU) == 17
    assert all(request < limit for limit, request in CPU_REQUEST_MCPU.items())
    assert (CPU_REQUEST_MCPU[300], CPU_REQUEST_MCPU[25800]) == (100, 12900)


def test_a_folder_of_regions_and_days(tmp_path: Path) -> None:
    """Regions are folders, days files in their order; companions of macOS are no data; rows are put into order."""
    log_file(tmp_path / "R1", ROW.replace("0,10.5", "0,20.0"), name="day_2.csv")
    log_file(tmp_path / "R1", ROW.replace("0,10.5", "10,864001.0"), name="day_10.csv")
    log_file(tmp_path / "R4", ROW)
    (tmp_path / "R4" / "._day_00.csv").write_bytes(b"\x00\x05\x16\x07")
    log = read(tmp_path)
    assert log.cold_starts is not None
    frame = log.cold_starts.collect()
    assert frame.select("start_s", "region").rows() == [(10.5, "R4"), (20.0, "R1"), (864001.0, "R1")]
    assert (log.notes["files"], log.notes["rows_sorted"]) == (3, 1)


def test_a_total_that_is_no_sum_is_counted(tmp_path: Path) -> None:
    """Rounding to milliseconds is none; more is counted, and the row kept."""
    near = ROW.replace("1.5,0.25", "1.5015,0.25")
    off = ROW.replace("1.5,0.25", "1.6,0.25")
    log = read(log_file(tmp_path, ROW, near, off))
    assert log.notes["totals_off"] == 1
    assert log.cold_starts is not None
    assert log.cold_starts.collect().height == 3


def test_a_pod_without_pool_is_counted(tmp_path: Path) -> None:
    """Its limits are null, and its function is the name and the user."""
    log = read(log_file(tmp_path, ROW.replace("pool22-300-128-0000000001", "pod-9")))
    assert log.notes["pods_without_pool"] == 1
    assert log.cold_starts is not None
    row = log.cold_starts.collect().row(0, named=True)
    assert (row["pool"], row["cpu_limit_mcpu"], row["function"]) == (None, None, "7---8---pod-9") or row[
        "pool"
    ] is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW.replace("1.5,", "-1.5,"), r"row 2: totalCost_cold_start: unusable value \(got -1.5\)"),
        (ROW.replace("10.5", ""), "row 2: time: missing"),
        (
            ROW.replace("0.5,0.25,0.5", "0.5,oops,0.5"),
            "row 2: deployDependencyCost: not a number .got 'oops'",
        ),
        (ROW.replace("1.5,0.25", "inf,0.25"), "row 2: totalCost_cold_start: unusable value"),
        (ROW.replace("1.5,0.25", "NaN,0.25"), "row 2: totalCost_cold_start: missing"),
    ],
)
def test_bad_cells_are_named(row: str, message: str, tmp_path: Path) -> None:
    """File, row and column stand in the message."""
    with pytest.raises(TraceError, match=message) as error:
        read(log_file(tmp_path, ROW, row))
    assert "day_00.csv" in str(error.value)


def test_what_is_no_table(tmp_path: Path) -> None:
    """Archives, pointers of Git LFS, empty folders and missing columns have messages of their own."""
    archive = tmp_path / "R1.zip"
    archive.write_bytes(b"PK\x03\x04")
    with pytest.raises(TraceError, match="unpack it first"):
        read(archive)
    (tmp_path / "none").mkdir()
    with pytest.raises(TraceError, match="no CSV file in this folder"):
        read(tmp_path / "none")
    pointer = tmp_path / "day_00.csv"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", encoding="utf-8")
    with pytest.raises(TraceError, match="LFS"):
        read(pointer)
    path = log_file(tmp_path, ROW)
    path.write_text(path.read_text().replace("schedulingCost", "scheduling"), encoding="utf-8")
    with pytest.raises(TraceError, match="missing column 'schedulingCost'"):
        read(path)


def test_crlf_and_a_byte_order_mark(tmp_path: Path) -> None:
    """As from another system: the same table."""
    path = log_file(tmp_path, ROW)
    plain = read(path).cold_starts
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n").rstrip())
    again = read(path).cold_starts
    assert plain is not None
    assert again is not None
    assert plain.collect().equals(again.collect())


def test_series_become_long(tmp_path: Path) -> None:
    """A cell that is a number is a row; NaN and empty cells are none; requests are invocations too."""
    path = tmp_path / "requests.csv"
    path.write_text("day,time,1---2---pool22-300-128,3---4---pool\n0,0,2.0,NaN\n1,60,,5\n", encoding="utf-8")
    log = read(path)
    assert log.series is not None
    assert log.invocations is not None
    series = log.series.collect()
    assert series.select("start_s", "function", "metric", "value").rows() == [
        (0.0, "1---2---pool22-300-128", "requests", 2.0),
        (86460.0, "3---4---pool", "requests", 5.0),
    ]
    assert log.invocations.collect().select("window_s", "invocations").rows() == [(60.0, 2), (60.0, 5)]


def test_series_are_named_by_their_files(tmp_path: Path) -> None:
    """Metric and statistic are those of the name, unless told; times from the start stay as they are."""
    path = tmp_path / "totalCost_cold_start_q99.csv"
    path.write_text("day,time,1---2---p\n0,0,2.0\n1,86400,3.5\n", encoding="utf-8")
    series = read(path).series
    assert series is not None
    assert series.collect().select("metric", "statistic", "start_s").rows() == [
        ("totalCost_cold_start", "q99", 0.0),
        ("totalCost_cold_start", "q99", 86400.0),
    ]
    told = read(path, metric="cost", statistic="avg").series
    assert told is not None
    assert set(told.collect().select("metric", "statistic").rows()) == {("cost", "avg")}


def test_a_negative_value_of_a_series_is_refused(tmp_path: Path) -> None:
    """With its row."""
    path = tmp_path / "requests.csv"
    path.write_text("day,time,1---2---p\n0,0,2.0\n0,60,-1\n", encoding="utf-8")
    with pytest.raises(TraceError, match="row 2: requests: unusable value"):
        read(path)
