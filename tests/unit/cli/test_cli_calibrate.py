"""servesim calibrate: what it prints and writes, and what it says to mistakes."""

from __future__ import annotations

import json

import pytest
from simulated_measurements import simulate

import servesim
from servesim.cli import main
from servesim.report.vllm_bench import vllm_bench_json

ON = (
    *("--set", "cluster.pools.main.gpu=h100-sxm", "--set", "cluster.pools.main.model=llama-3.1-8b"),
    *("--set", "cluster.pools.main.latency={name: constant, step_s: 0.01}", "--workers", "1"),
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Return the detailed results of a benchmark of an engine whose steps take 20 ms."""
    path = tmp_path_factory.mktemp("measured") / "bench.json"
    result = simulate({"name": "constant", "step_s": 0.02}, concurrency=8, requests=40)
    path.write_text("".join(vllm_bench_json(result, detailed=True)), encoding="utf-8")
    return path


def test_the_page_and_the_file(bench, tmp_path, capsys):
    """20 ms are found, errors vanish, and a scenario takes the file."""
    out = tmp_path / "calibration.yaml"
    assert main(["calibrate", str(bench), *ON, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line.split() for line in lines if line.startswith("latency.step_s"))
    assert float(row[1]) == 0.01
    assert float(row[2]) == pytest.approx(0.02, rel=1e-3)
    errors = next(line.split() for line in lines if line.startswith("tpot_s_mean") and "held out" in line)
    assert errors[-2] == "50.0%"
    assert float(errors[-1].rstrip("%")) <= 0.1
    result = servesim.run(
        "scenarios/quickstart.yaml",
        overrides=["workload.max_requests=20", f"cluster.pools.main.latency={{calibration: {out}}}"],
    )
    assert result.provenance["pools"][0]["latency_model"]["step_s"] == pytest.approx(0.02, rel=1e-3)
    assert result.provenance["pools"][0]["latency_error"]["basis"] == "calibration"


def test_json(bench, capsys):
    """Plain data, with every row."""
    assert main(["calibrate", str(bench), *ON, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["calibration"]["parameters"][0]["key"] == "latency.step_s"
    assert {row["split"] for row in told["rows"]} == {"fitted", "held out"}


@pytest.mark.parametrize(
    ("options", "message"),
    (
        (["--fit", "stepp_s"], "no such parameter (got 'stepp_s')"),
        (["--fit", "step_s,step_s"], "named twice"),
        (["--only", "nothing"], "--only: no run of this name (got 'nothing'). expected one of bench"),
        (["--hold-out", "2"], "no share"),
        (["--fit", "launch_s"], "launch_s does not show in these runs"),
    ),
)
def test_mistakes_are_told_with_2(bench, capsys, options, message):
    """One line, and a hint."""
    assert main(["calibrate", str(bench), *ON, *options]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_given_twice(bench, capsys):
    """Would count twice."""
    assert main(["calibrate", str(bench), str(bench), *ON]) == 2
    assert "given twice" in capsys.readouterr().err
