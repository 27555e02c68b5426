"""Sweeps: rows, resuming, failures, and the same file from every backend."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

import servesim
from servesim.cli import main
from servesim.errors import ServesimError
from servesim.experiments.backends import InProcess, Processes
from servesim.experiments.sweep import sweep

SCENARIO = """
name: small
workload:
  generator: {name: poisson, rate_per_s: 20, requests: 40,
    prompt_tokens: {distribution: exponential, mean: 300},
    output_tokens: {distribution: exponential, mean: 40}}
cluster:
  pools:
    - {name: main, model: llama-3.1-8b, gpu: h100-sxm, replicas: 2,
       latency: {name: linear, base_s: 0.01, per_sequence_s: 0.002}}
"""
SWEEP = """
scenario: small.yaml
seeds: 2
grid:
  cluster.pools.main.replicas: [1, 2]
  policies.router.name: [round_robin, random]
points:
  - {workload.rate_scale: 0.5}
"""


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(SCENARIO, encoding="utf-8")
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP, encoding="utf-8")
    return path


def test_rows_are_the_runs(sweep_file: Path) -> None:
    """Five points of two seeds, in the order of the file, each with the numbers of a run of its own."""
    rows = sweep(sweep_file, out=sweep_file.with_name("o.parquet"), backend=InProcess()).rows
    assert rows["point"].to_list() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert rows["seed"].to_list() == [0, 1] * 5
    assert rows["cluster.pools.main.replicas"].to_list() == [1, 1, 1, 1, 2, 2, 2, 2, None, None]
    assert pl.read_parquet(sweep_file.with_name("o.parquet")).equals(rows)
    scenario = servesim.load_scenario(
        sweep_file.with_name("small.yaml"), overrides=["cluster.pools.main.replicas=1", "seed=1"]
    )
    summary = servesim.run(scenario).summary
    assert rows["ttft_s_p99"][1] == summary["ttft_s_p99"]
    assert rows["requests_completed"][1] == summary["requests_completed"]
    assert rows["error"].is_null().all()


def test_every_backend_writes_the_same_bytes(sweep_file: Path) -> None:
    """In this process and in two others."""
    outs = [sweep_file.with_name(f"{index}.parquet") for index in range(2)]
    sweep(sweep_file, out=outs[0], backend=InProcess())
    sweep(sweep_file, out=outs[1], backend=Processes(2))
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_what_is_done_is_not_run_again(sweep_file: Path) -> None:
    """A journal cut in the middle of a line loses that line only; more points add to what is there."""
    out = sweep_file.with_name("o.parquet")
    whole = sweep(sweep_file, out=out, backend=InProcess())
    expected = out.read_bytes()
    assert whole.reused == 0
    journal = out.with_name("o.parquet.journal")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:5]) + lines[5][:20])
    again = sweep(sweep_file, out=out, backend=InProcess())
    assert again.reused == 4
    assert out.read_bytes() == expected
    sweep_file.write_text(SWEEP.replace("seeds: 2", "seeds: 3"), encoding="utf-8")
    assert sweep(sweep_file, out=out, backend=InProcess()).reused == 10


def test_a_failed_point_is_a_row_with_its_error(sweep_file: Path) -> None:
    """A model that does not fit its GPU; the rest goes on, and the failed one is tried again."""
    text = SWEEP + "  - {cluster.pools.main.model: llama-3.1-70b}\n"
    sweep_file.write_text(text, encoding="utf-8")
    result = sweep(sweep_file, out=sweep_file.with_name("o.parquet"), backend=InProcess())
    assert result.rows.height == 11
    assert result.failed["point"].to_list() == [5]
    assert "llama-3.1-70b" in result.failed["error"][0] or "memory" in result.failed["error"][0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("grid:", "gird:", "did you mean 'grid'"),
        ("small.yaml", "none.yaml", "no such file"),
        ("[1, 2]", "[]", "no value"),
        ("[1, 2]", "[1, 1]", "stands twice"),
        ("seeds: 2", "seeds: 0", "seeds"),
    ],
)
def test_bad_sweep_files(
    sweep_file: Path, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and nothing is run."""
    sweep_file.write_text(SWEEP.replace(old, new), encoding="utf-8")
    out = sweep_file.with_name("o.parquet")
    assert main(["sweep", str(sweep_file), "--out", str(out), "--workers", "1"]) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err
    assert not out.exists()


def test_a_key_that_is_no_key_is_refused(sweep_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every point fails for it, so nothing is run."""
    text = SWEEP.replace("policies.router.name", "policies.rooter.name").replace(
        "workload.rate", "workload.rat"
    )
    sweep_file.write_text(text, encoding="utf-8")
    assert main(["sweep", str(sweep_file), "--out", str(sweep_file.with_name("o.parquet"))]) == 2
    assert "did you mean 'router'" in capsys.readouterr().err


def test_other_files_are_not_taken_for_a_journal(sweep_file: Path) -> None:
    """A text of somebody's beside the output is left alone."""
    other = sweep_file.with_name("o.parquet.journal")
    other.write_text("notes\n", encoding="utf-8")
    with pytest.raises(ServesimError, match="not a journal"):
        sweep(sweep_file, out=sweep_file.with_name("o.parquet"), backend=InProcess())
    assert other.read_text(encoding="utf-8") == "notes\n"


def test_a_disk_that_fills_up(sweep_file: Path) -> None:
    """Exit code 2 and no traceback; with room again, the same command goes on after the runs that were noted."""
    command = [
        sys.executable,
        "-m",
        "servesim",
        "sweep",
        str(sweep_file),
        "--workers",
        "1",
        "--out",
        "o.parquet",
    ]
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from servesim.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    full = subprocess.run(
        [sys.executable, "-c", code, *command[3:]],
        cwd=sweep_file.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert full.returncode == 2, full.stderr
    assert "o.parquet.journal: the result cannot be written" in full.stderr and "Traceback" not in full.stderr
    done = sweep_file.with_name("o.parquet.journal").read_bytes().count(b"\n") - 1
    assert 0 < done < 10
    result = sweep(sweep_file, out=sweep_file.with_name("o.parquet"), backend=InProcess())
    assert (result.reused, result.rows.height, result.failed.height) == (done, 10, 0)


def running_in_group(group: int) -> list[str]:
    """Return the processes of a process group that still run; a zombie only waits to be reaped by init."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text(encoding="utf-8")
        except OSError:  # it has ended
            continue
        state, _, process_group = text.rpartition(")")[2].split()[:3]
        if int(process_group) == group and state not in "ZX":
            found.append(text)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_ctrl_c_keeps_what_is_done(sweep_file: Path) -> None:
    """Exit code 130, a message that tells how to go on, no workers left, and the journal has the done runs."""
    text = SWEEP.replace("seeds: 2", "seeds: 400").replace("requests: 40", "requests: 400")
    sweep_file.write_text(text, encoding="utf-8")
    journal = sweep_file.with_name("o.parquet.journal")
    command = [
        sys.executable,
        "-m",
        "servesim",
        "sweep",
        str(sweep_file),
        "--out",
        "o.parquet",
        "--workers",
        "2",
    ]
    process = subprocess.Popen(
        command, cwd=sweep_file.parent, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for _ in range(600):
        if journal.exists() and journal.read_bytes().count(b"\n") > 3:
            break
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command goes on from there" in err and "Traceback" not in err
    assert journal.read_bytes().count(b"\n") > 3
    deadline_s = time.monotonic() + 30
    while (left := running_in_group(process.pid)) and time.monotonic() < deadline_s:
        time.sleep(0.05)  # loky's resource tracker ends once it notices that its parent has
    assert left == []
