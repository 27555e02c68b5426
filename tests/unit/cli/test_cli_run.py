"""``servesim run``: what is printed where, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import polars as pl
import pytest

from servesim import RunResult
from servesim.errors import InvariantError, PluginError, ServesimError
from servesim.scenario import load_scenario, scenario_hash


def test_the_summary_goes_to_stdout_and_the_hash_to_stderr(servesim_main, scenario):
    """A run says on stderr what it runs, first, and prints its numbers on stdout."""
    code, out, err = servesim_main("run", scenario)
    assert code == 0
    assert err.splitlines() == [f"scenario {scenario_hash(load_scenario(scenario))} seed 3"]
    assert "requests     3 arrived, 3 completed, 0 rejected, 0 unfinished" in out
    ttft = next(line for line in out.splitlines() if line.strip().startswith("ttft"))
    # One step of 10 ms computes the whole prompt and emits the first token; nobody else is there.
    assert ttft.split() == ["ttft", "10.0", "10.0", "10.0", "10.0", "ms"]


def test_json_is_the_summary_and_the_host_facts(servesim_main, scenario):
    """--json prints one object that a program can read, and --quiet nothing else."""
    code, out, err = servesim_main("run", scenario, "--json", "--quiet")
    data = json.loads(out)
    assert (code, err) == (0, "")
    assert data["requests_completed"] == 3
    # Arrivals at 0, 1, 2 s; prefill emits the first token, one decode step the second.
    assert data["e2e_s_mean"] == pytest.approx(0.02, rel=1e-9)
    assert data["wall_s"] > 0 and data["peak_memory_bytes"] > 2**20


def test_overrides_reach_the_run(servesim_main, scenario):
    """--set may be repeated, and changes the scenario that is simulated."""
    pool = "cluster.pools.main"
    code, out, _ = servesim_main(
        "run", scenario, "--json", "--set", "workload.generator.requests=5", "--set", f"{pool}.replicas=2"
    )
    data = json.loads(out)
    assert (code, data["requests_arrived"], len(data["replicas"])) == (0, 5, 2)


def test_a_result_is_saved_and_replaced(servesim_main, scenario, tmp_path):
    """--out writes a directory that a second run replaces, and whose scenario runs identically."""
    out = tmp_path / "result"
    assert servesim_main("run", scenario, "--out", out)[0] == 0
    first = (out / "summary.json").read_bytes()
    assert {"summary.json", "scenario.yaml", "run.json", "requests.parquet"} <= {
        p.name for p in out.iterdir()
    }
    assert servesim_main("run", out / "scenario.yaml", "--out", tmp_path / "again")[0] == 0
    assert (tmp_path / "again" / "summary.json").read_bytes() == first
    code, text, _ = servesim_main("run", scenario, "--out", out)
    assert code == 0 and text.splitlines()[-1] == f"saved in {out}"


def test_other_peoples_files_are_not_replaced(servesim_main, scenario, tmp_path, instead_of_simulating):
    """A directory with anything else in it is refused before the run begins."""
    calls = instead_of_simulating(AssertionError("must not run"))
    (tmp_path / "notes.txt").write_text("mine")
    code, out, err = servesim_main("run", scenario, "--out", tmp_path)
    assert (code, out, calls) == (2, "", [])
    assert err.startswith(f"error: {tmp_path}: ")
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Missing argument 'FILE'"),
        (["run", "a.yaml", "--sett", "x"], "No such option: --sett"),
        (["rum"], "No such command 'rum'"),
        (["run", "nowhere.yaml"], "error: nowhere.yaml: no such file. expected a scenario file."),
    ],
)
def test_user_errors_are_2(servesim_main, arguments, message):
    """What the user typed wrong is said on stderr, without a traceback."""
    code, out, err = servesim_main(*arguments)
    assert (code, out) == (2, "")
    assert message in err and "Traceback" not in err


@pytest.mark.parametrize("error", [ServesimError("a: b"), PluginError("plugin: broke", hint="look at it")])
def test_errors_of_the_library_are_2(servesim_main, scenario, instead_of_simulating, error):
    """Any error that servesim raises on purpose is the user's to mend; its hint is shown."""
    instead_of_simulating(error)
    code, _, err = servesim_main("run", scenario)
    assert code == 2
    assert err.partition("\n")[2] == f"error: {error}\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InvariantError("audit: tokens do not add up"), "internal error: audit: tokens do not add up"),
        (ZeroDivisionError("division by zero"), "internal error: ZeroDivisionError: division by zero"),
    ],
)
def test_internal_errors_are_3_and_tell_how_to_replay(
    servesim_main, scenario, instead_of_simulating, error, message
):
    """The last line is the command that repeats it, quoted for a shell."""
    instead_of_simulating(error)
    code, _, err = servesim_main("run", scenario, "--set", "name=a 'b'")
    assert code == 3
    assert err.splitlines()[-2:] == [
        message,
        f"""replay with: servesim run {scenario} --set 'name=a '"'"'b'"'"''""",
    ]
    assert ("Traceback" in err) == (not isinstance(error, InvariantError))


def test_an_interrupted_run_keeps_what_it_has(servesim_main, scenario, instead_of_simulating, tmp_path):
    """After Ctrl-C the partial summary is printed, marked, and the exit code is 130."""
    summary = {
        **{f"requests_{state}": 1 for state in ("arrived", "completed", "rejected", "unfinished")},
        "preemptions": 0,
        "duration_s": 1.0,
        "requests_per_s": 1.0,
        "output_tokens_per_s": None,
        "kv_used_ratio_max": None,
        "interrupted": True,
    }
    result = SimpleNamespace(summary=summary, host={}, provenance={}, interrupted=True)
    calls = instead_of_simulating(result)
    code, out, err = servesim_main("run", scenario, "--out", tmp_path / "new")
    assert code == 130
    assert "warning: interrupted: partial results" in out
    assert err.splitlines()[-1] == f"interrupted: partial results are in {tmp_path / 'new'}"
    assert calls[0].out == tmp_path / "new"


def test_ctrl_c_before_the_run_is_130(servesim_main, scenario, instead_of_simulating):
    """A second Ctrl-C, or one while the trace is read, ends at once."""
    instead_of_simulating(KeyboardInterrupt())
    code, out, err = servesim_main("run", scenario)
    assert (code, out) == (130, "") and "Traceback" not in err


def test_a_real_ctrl_c_saves_partial_results(root, tmp_path):
    """SIGINT in the middle of a long run: exit code 130, and a whole result that says it is partial."""
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "servesim", "run", "scenarios/poisson_64x.yaml", "--out", str(out), "--json",
         "--set", "workload.generator.requests=100000000", "--set", "workload.generator.rate_per_s=800"],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # rows go to disk, beside the result, while the run goes on
        if any(path.stat().st_size > 1000 for path in tmp_path.rglob("*.parquet")):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    text, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    first, last = errors.splitlines()
    assert first.startswith("scenario ") and last == f"interrupted: partial results are in {out}"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert_partial(RunResult.load(out), json.loads(text))


def assert_partial(result, printed):
    """Assert that *result* is of a run stopped midway, conserves requests and tokens, and was printed."""
    summary, requests = result.summary, result.requests
    assert summary["interrupted"] is True and result.interrupted
    assert {key: printed[key] for key in summary} == summary
    assert summary["requests_completed"] > 0 and summary["requests_unfinished"] > 0
    assert requests.height == summary["requests_arrived"] < 100_000_000
    states = dict(requests["state"].cast(pl.String).value_counts().iter_rows())
    assert states["completed"] == summary["requests_completed"]
    assert states["unfinished"] == summary["requests_unfinished"]
    for column in ("arrival_s", "scheduled_s", "first_token_s", "finished_s"):
        assert requests[column].max() <= summary["duration_s"]
    # Tokens in the requests' rows are those of the segments' steps, up to the moment of the interruption.
    decoded = result.segments.select(pl.col("steps").cast(pl.Int64) * pl.col("sequences")).sum().item()
    resumed = result.events.filter(pl.col("kind") == "resumed").height
    firsts = requests["first_token_s"].drop_nulls().len()
    assert requests["output_tokens"].sum() == decoded + firsts + resumed


def test_a_closed_pipe_is_no_error(root):
    """`servesim schema | head -1` ends quietly."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        run = subprocess.run(
            [sys.executable, "-m", "servesim", "schema"],
            cwd=root, stdout=closed, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (run.returncode, run.stderr) == (141, "")


def test_a_run_that_measured_nothing_says_so(servesim_main, scenario):
    """A warm-up that outlasts all arrivals leaves dashes, and the reason below them."""
    code, out, _ = servesim_main("run", scenario, "--set", "run.warm_up_s=400")
    assert code == 0
    assert "warning: nothing was measured: every completed request arrived before run.warm_up_s" in out
    assert "nothing was measured" not in servesim_main("run", scenario)[1]


def test_rejections_tell_the_limit_and_oracles_are_named(servesim_main, scenario):
    """Two blocks of 16 tokens hold 32, and one more token is never written; sjf with an oracle is an oracle."""
    pool = "cluster.pools.main"
    code, out, _ = servesim_main(
        "run", scenario, "--set", f"{pool}.engine.kv_blocks=2",
        "--set", "policies.scheduler={name: sjf, predictor: oracle}",
    )  # fmt: skip
    assert code == 0
    assert "warning: 3 requests rejected: prompt_too_long; the context limit is 33 tokens\n" in out
    assert "note: oracle: scheduler sjf sees true output lengths\n" in out
