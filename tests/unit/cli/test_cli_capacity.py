"""``servesim capacity``: what it prints, what it refuses, and that it can be stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from servesim.cli import main

ROOT = Path(__file__).parents[3]
QUICKSTART = str(ROOT / "scenarios/quickstart.yaml")
FEW = ("--set", "workload.max_requests=300", "--set", "workload.resample.block_s=2", "--seeds", "4")
LONG = ("--seeds", "60", "--set", "workload.resample.block_s=10", "--set", "workload.repeat=20")
COMMAND = (sys.executable, "-m", "servesim", "capacity")
SLO = ("--slo", "ttft_s_p99<=0.3")


def test_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    """Results on stdout, what is done on stderr; a row per load, the unloaded cluster first; then the answer."""
    assert main(["capacity", QUICKSTART, *SLO, *FEW]) == 0
    out, err = capsys.readouterr()
    assert err == "max-rate for ttft_s_p99<=0.3, 4 seeds\n"
    lines = out.splitlines()
    assert lines[0].split() == ["ttft_s_p99", "output", "goodput"]
    assert lines[1].split()[:4] == ["requests/s", "(ms)", "95%", "interval"]
    assert lines[2].split()[0] == "unloaded"
    assert any(line.endswith("met *") for line in lines)
    (answer,) = [line for line in lines if line.endswith("<- answer")]
    assert f"max rate: {answer.split()[0]} requests/s" in out
    assert any(line.startswith("max rate: ") and "workload.rate_scale=" in line for line in lines)
    assert any(line.startswith("knee: ") for line in lines)
    assert any(line.startswith("objectives: ttft_s_p99<=0.3") for line in lines)


def test_json_and_quiet(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The same as in the saved file, and nothing on stderr."""
    out = tmp_path / "found"
    arguments = ["--find", "min-replicas", "--json", "--quiet", "--out", str(out)]
    assert main(["capacity", QUICKSTART, *SLO, *FEW, *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    data = json.loads(printed.out)
    assert data == json.loads((out / "capacity.json").read_text(encoding="utf-8"))
    assert data["find"] == "min-replicas" and data["unit"] == "replicas" and data["curve"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--slo", "ttft_s_p99<=0.001"), "an unloaded cluster misses it already (got "),
        (("--slo", "ttft_p99<=1"), "did you mean 'ttft_s_p99'?"),
        (
            ("--slo", "slo_classes.chat.slo_met_ratio>=0.9"),
            "--slo 'slo_classes.chat.slo_met_ratio>=0.9': unknown",
        ),
        (("--slo", "slo_met_ratio>=99"), "divide percent by 100: 0.99"),
        (("--slo", "slo_met_ratio>=-0.5"), "expected a number from 0 to 1"),
        (("--slo", "ttft_s_p99<=-1"), "expected 0 or more"),
        (("--slo", "ttft_s_p99"), "expected METRIC<=NUMBER"),
        ((*SLO, "--find", "maxrate"), "did you mean 'max-rate'?"),
        ((*SLO, "--pool", "main"), "only for min-replicas"),
        ((*SLO, "--find", "min-replicas", "--pool", "mian"), "did you mean 'main'?"),
        (("--set", "slo.ttft_s=null", "--set", "slo.tpot_s=null"), "the scenario sets no slo"),
        ((*SLO, "--out", str(ROOT / "tests")), "a capacity cannot be saved here"),
        ((*SLO, "--seeds", "0"), "--seeds"),
        ((*SLO, "--set", "workload.max_requests=1"), "all requests arrive at the same time"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and one message that says what was expected."""
    assert main(["capacity", QUICKSTART, "--set", "workload.max_requests=100", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


def test_a_full_disk_does_not_cost_the_answer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is printed before it is saved; nothing is left behind."""

    def full(path: Path, frame: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("servesim.experiments.saved.write_parquet", full)
    out = tmp_path / "found"
    assert main(["capacity", QUICKSTART, *SLO, *FEW, "--quiet", "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert "max rate: " in printed.out
    assert printed.err.startswith(
        f"error: {out}: the result cannot be written (got 'No space left on device')"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_it(workers: str) -> None:
    """At once, with exit code 130 and a sentence, in one process or several."""
    process = subprocess.Popen(
        [*COMMAND, QUICKSTART, *SLO, *LONG, "--workers", workers],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("max-rate for")
    time.sleep(2.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and out == ""
    assert err.startswith("interrupted after ") and "Traceback" not in err
