"""Readers of the Azure Functions traces and of Alibaba's GenTD26."""

from __future__ import annotations

from pathlib import Path

import pytest

from servesim.errors import TraceError
from servesim.serverless import read, summary

MINUTES = ",".join(map(str, range(1, 1441)))


def day(folder: Path, name: str, **cells: float | str) -> Path:
    """Write a day's counts of 2019: two functions, all counts 0 but the given minutes of the second one."""
    counts: list[object] = [0] * 1440
    for minute, count in cells.items():
        counts[int(minute[1:]) - 1] = count
    idle = ",".join(["o", "a", "f0", "timer", *["0"] * 1440])
    busy = ",".join(["o", "a", "f1", "http", *map(str, counts)])
    path = folder / name
    path.write_text(f"HashOwner,HashApp,HashFunction,Trigger,{MINUTES}\n{idle}\n{busy}\n", encoding="utf-8")
    return path


def test_days_of_2019_follow_each_other(tmp_path: Path) -> None:
    """A row for each minute with invocations, on the day that the file is named after."""
    day(tmp_path, "invocations_per_function_md.anon.d01.csv", m1=3, m1440=1)
    day(tmp_path, "invocations_per_function_md.anon.d02.csv", m2=5)
    log = read(tmp_path)
    assert log.invocations is not None
    assert log.functions is not None
    assert log.invocations.collect().select("arrival_s", "window_s", "invocations", "function").rows() == [
        (0.0, 60.0, 3, "a/f1"),
        (1439 * 60.0, 60.0, 1, "a/f1"),
        (1441 * 60.0, 60.0, 5, "a/f1"),
    ]
    assert (log.notes["files"], log.notes["rows_read"], log.notes["invocations"]) == (2, 4, 9)
    assert log.functions.collect().select("function", "trigger", "invocations").rows() == [
        ("a/f1", "http", 9)
    ]


@pytest.mark.parametrize("count", [-1, 2.5])
def test_counts_of_2019_are_whole(count: float, tmp_path: Path) -> None:
    """Negative and fractional ones are refused with their row."""
    with pytest.raises(
        TraceError, match=r"row 2: counts of minutes: unusable value .*expected a whole number >= 0"
    ):
        read(day(tmp_path, "x.csv", m7=count))


def test_durations_and_memory_of_2019(tmp_path: Path) -> None:
    """Milliseconds become seconds; memory is of applications, so it has no function."""
    durations = tmp_path / "function_durations_percentiles.anon.d01.csv"
    durations.write_text(
        "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum,percentile_Average_0,percentile_Average_1,"
        "percentile_Average_25,percentile_Average_50,percentile_Average_75,percentile_Average_99,"
        "percentile_Average_100\no,a,f,1500,4,0,4000,1,2,3,250,5,3500,7\n",
        encoding="utf-8",
    )
    functions = read(durations).functions
    assert functions is not None
    row = functions.collect().row(0, named=True)
    assert (row["function"], row["executions"]) == ("a/f", 4)
    assert [row[f"duration_s_{name}"] for name in ("mean", "min", "p50", "p99", "max")] == [
        1.5,
        0,
        0.25,
        3.5,
        4,
    ]
    memory = tmp_path / "app_memory_percentiles.anon.d01.csv"
    names = ",".join(f"AverageAllocatedMb_pct{p}" for p in (1, 5, 25, 50, 75, 95, 99, 100))
    memory.write_text(
        f"HashOwner,HashApp,SampleCount,AverageAllocatedMb,{names}\no,a,10,120,1,5,25,50,75,95,99,100\n",
        encoding="utf-8",
    )
    apps = read(memory).functions
    assert apps is not None
    row = apps.collect().row(0, named=True)
    assert (row["function"], row["app"], row["memory_mb_mean"], row["memory_mb_p99"]) == (
        None,
        "a",
        120.0,
        99.0,
    )


def test_arrivals_of_2021_are_ends_less_durations(tmp_path: Path) -> None:
    """Rows stand in order of ends: arrivals are sorted, counted, and start at 0."""
    path = tmp_path / "AzureFunctionsInvocationTraceForTwoWeeksJan2021.txt"
    path.write_text(
        "app,func,end_timestamp,duration\na,f,105.5,0.5\na,g,106.0,6.0\nb,f,107.0,1.0\n", encoding="utf-8"
    )
    log = read(path)
    assert log.invocations is not None
    frame = log.invocations.collect()
    assert frame.select("arrival_s", "duration_s", "function").rows() == [
        (0.0, 6.0, "a/g"),
        (5.0, 0.5, "a/f"),
        (6.0, 1.0, "b/f"),
    ]
    assert (log.notes["rows_sorted"], log.notes["first_arrival_s"]) == (1, 100.0)


def test_a_negative_duration_is_refused(tmp_path: Path) -> None:
    """It would arrive after its end."""
    path = tmp_path / "x.txt"
    path.write_text("app,func,end_timestamp,duration\na,f,105.5,-0.5\n", encoding="utf-8")
    with pytest.raises(TraceError, match="row 1: duration: unusable value"):
        read(path)


def test_loads_are_milliseconds_of_containers(tmp_path: Path) -> None:
    """NULL, None and nothing are no container; 0 ms is a load; what is off the grid is counted."""
    path = tmp_path / "lora_update_latency_anon.csv"
    rows = ["57,4400,abc", "114,0,NULL", "0,6800,", "190,1000,None"]
    path.write_text("timestamp_anon,value,container_ip\n" + "\n".join(rows) + "\n", encoding="utf-8")
    log = read(path)
    assert log.cold_starts is not None
    frame = log.cold_starts.collect()
    assert frame.select("start_s", "total_s", "pod", "load").rows() == [
        (0.0, 6.8, None, "lora"),
        (57.0, 4.4, "abc", "lora"),
        (114.0, 0.0, None, "lora"),
        (190.0, 1.0, None, "lora"),
    ]
    wanted = {"without_container": 3, "zero_loads": 1, "off_grid": 1, "rows_sorted": 1}
    assert {name: log.notes[name] for name in wanted} == wanted


def test_a_folder_has_all_kinds_of_loads(tmp_path: Path) -> None:
    """Tables that are no loads are passed over; a table that does not tell what it is of is refused."""
    header = "timestamp_anon,value,container_ip\n"
    for name in ("base_model_update_latency_anon", "controlnet_latency_data_anon", "queue_size_raw_anon"):
        (tmp_path / f"{name}.csv").write_text(f"{header}57,1000,a\n", encoding="utf-8")
    log = read(tmp_path)
    assert log.cold_starts is not None
    assert log.cold_starts.collect()["load"].to_list() == ["base_model", "controlnet"]
    with pytest.raises(TraceError, match="does not tell what was loaded"):
        read(tmp_path / "queue_size_raw_anon.csv")
    told = read(tmp_path / "queue_size_raw_anon.csv", load="pipeline").cold_starts
    assert told is not None


def test_the_sample_of_loads_has_two_humps(root: Path) -> None:
    """A third below 5 s, nothing between 5 and 15 s."""
    log = read(root / "traces" / "genai_base_model_update_latency_sample.csv")
    assert log.cold_starts is not None
    total_s = log.cold_starts.collect()["total_s"]
    assert 0.25 < (total_s < 5).mean() < 0.45  # type: ignore[operator]  # a mean of Booleans
    assert total_s.is_between(5, 15, closed="none").sum() == 0
    assert set(summary(log).tables) == {"by_load"}


def test_requests_that_failed_are_counted(root: Path) -> None:
    """They keep their state; arrivals are put into order."""
    log = read(root / "traces" / "genai_lora_request_trace_sample.csv")
    assert log.invocations is not None
    frame = log.invocations.collect()
    assert log.notes["not_succeeded"] == (frame["status"] == "FAILED").sum() > 0
    assert log.notes["rows_sorted"] > 50  # type: ignore[operator]  # a count
    assert frame["arrival_s"].is_sorted()
    assert frame["arrival_s"][0] == 0


def test_states_are_kept_whatever_they_are(root: Path, tmp_path: Path) -> None:
    """Pending and failed requests are data: read, counted, and told by their state."""
    header, *lines = (root / "traces" / "genai_lora_request_trace_sample.csv").read_text().splitlines()
    done = [line for line in lines if "SUCCEED" in line][:3]
    states = [
        line.replace("SUCCEED", state)
        for line, state in zip(done, ("PENDING", "FAILED", "SUCCEED"), strict=True)
    ]
    path = tmp_path / "lora_request_trace.csv"
    path.write_text("\n".join([header, *states]) + "\n", encoding="utf-8")
    log = read(path)
    assert log.invocations is not None
    assert sorted(log.invocations.collect()["status"]) == ["FAILED", "PENDING", "SUCCEED"]
    assert log.notes["not_succeeded"] == 2


def test_a_request_without_state_or_time_is_refused(root: Path, tmp_path: Path) -> None:
    """By row and column."""
    lines = (root / "traces" / "genai_lora_request_trace_sample.csv").read_text().splitlines()
    path = tmp_path / "lora_request_trace.csv"
    path.write_text("\n".join([*lines[:2], lines[2].replace("SUCCEED", "")]) + "\n", encoding="utf-8")
    with pytest.raises(TraceError, match="row 2: predict_status: missing"):
        read(path)
    path.write_text("\n".join([*lines[:2], "yesterday" + lines[2][19:]]) + "\n", encoding="utf-8")
    with pytest.raises(TraceError, match="row 2: gmt_create: not a time"):
        read(path)
