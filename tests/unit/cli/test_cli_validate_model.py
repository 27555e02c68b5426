"""servesim validate-model: what it prints, its gate, and what it says to mistakes."""

from __future__ import annotations

import json

import pytest
from benchmark_files import LOG, vllm_bench_data, write_json, write_log

from servesim.cli import main

STEPS = (
    *("--set", "cluster.pools.main.gpu=h100-sxm", "--set", "cluster.pools.main.model=llama-3.1-8b"),
    *("--set", "cluster.pools.main.latency={name: constant, step_s: 0.02}"),
)


@pytest.fixture
def bench(tmp_path):
    """Return the results of a closed loop whose TPOT of 20 ms a constant step of 20 ms meets."""
    return write_json(tmp_path / "bench.json", vllm_bench_data())


def test_a_run_is_shown_metric_by_metric(bench, capsys):
    """Measured, simulated, error, saturation, and what the reader assumed."""
    assert main(["validate-model", str(bench), *STEPS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "bench  (10 requests, held out; meta-llama/Llama-3.1-8B)"
    row = next(line.split() for line in lines if "tpot_s_mean" in line)
    assert row == ["tpot_s_mean", "20.0", "20.0", "ms", "+0.0%"]
    assert "  saturated: measured no, simulated no" in lines
    assert any(line.startswith("note: lengths of single requests are not in the file") for line in lines)


@pytest.mark.parametrize(("limit", "code"), (("tpot_s_mean=0.01", 0), ("ttft_s_mean=0.5", 1)))
def test_the_gate(bench, capsys, limit, code):
    """TPOT is met; TTFT is 20 ms where 100 ms were measured."""
    assert main(["validate-model", str(bench), *STEPS, "--fail-above", limit]) == code
    assert ("failed: ttft_s_mean: mean error 80.0%" in capsys.readouterr().err) == bool(code)


def test_json_has_everything(bench, capsys):
    """Runs, metrics, errors, notes, and which limits were exceeded."""
    assert main(["validate-model", str(bench), *STEPS, "--json", "--fail-above", "ttft_s_mean=0.5"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["exceeded"] == ["ttft_s_mean"]
    assert data["runs"][0]["max_concurrency"] == 2
    assert {row["metric"] for row in data["metrics"]} >= {"ttft_s_mean", "tpot_s_mean"}


def test_many_runs_are_shown_as_distributions_and_drawn(tmp_path, capsys):
    """Fitted ones by themselves; figures of every run and of all together."""
    for name in "abcd":
        write_log(tmp_path / "logs" / name / "requests.jsonl", rows=LOG)
    arguments = ["validate-model", str(tmp_path / "logs"), *STEPS, "--fitted", "a"]
    arguments += ["--plot", str(tmp_path / "figures"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "held out" in out and "fitted" in out and "p90" in out
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names >= {"cdf_a.png", "cdf_d.png", "scatter_tpot_s_mean.png", "scatter_ttft_s_mean.png"}
    assert (tmp_path / "out" / "validation.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    (
        (["none.json"], "no such file"),
        (["{bench}"], "hint: --set cluster.pools.main.gpu=NAME"),
        (["{bench}", "none.yaml"], "none.yaml: no such file. expected a scenario file"),
        (["{bench}", *STEPS, "--fail-above", "tpot=0.1"], "--fail-above: not a limit (got 'tpot=0.1')"),
        (["{bench}", *STEPS, "--fail-above", "tpot_s_mean=-1"], "expected METRIC=RATIO"),
        (["{bench}", *STEPS, "--fail-above", "itl_s_p99=0.1"], "no held-out run has this metric"),
        (["{bench}", *STEPS, "--fitted", "nobody"], "fitted: no run of this name"),
        (["{bench}", "--set", "cluster.pools.main.gpu=h1000"], "--set cluster.pools.main.gpu=h1000: "),
    ),
)
def test_mistakes_are_told(bench, capsys, arguments, message):
    """Exit code 2, and a message that says what is expected."""
    assert (
        main(
            [
                "validate-model",
                *(text.format(bench=bench) if text == "{bench}" else text for text in arguments),
            ]
        )
        == 2
    )
    assert message in capsys.readouterr().err
