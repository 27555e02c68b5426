"""Bad input, from the file to the terminal: each mistake ends with exit code 2 and a message that says it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
FIRST = "2023-11-16 18:17:03.9799600,374,44\n"
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4bb3\nsize 52283111\n"

SCENARIO = """\
name: served
workload:
  source: {reader: azure, path: trace.csv}
cluster:
  pools:
    - {name: main, model: llama-3.1-8b, gpu: h100-sxm, replicas: 1}
policies:
  router: {name: round_robin}
"""


@pytest.fixture
def served(tmp_path):
    """Return the path of a scenario that is right, beside its trace of two requests."""
    path = tmp_path / "served.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    (tmp_path / "trace.csv").write_text(HEADER + FIRST + "2023-11-16 18:17:04.0319600,396,109\n")
    return path


def complaint(error):
    """Return what stderr says beside the line that names the scenario."""
    return [line for line in error.splitlines() if not line.startswith("scenario ")]


def test_the_scenario_is_right_before_it_is_spoiled(servesim_main, served):
    """What the other tests break runs as it stands."""
    code, out, err = servesim_main("run", served, "--json")
    assert (code, complaint(err)) == (0, [])
    assert json.loads(out)["requests_completed"] == 2


@pytest.mark.parametrize(
    ("old", "new", "first", "hint"),
    [
        pytest.param(
            "replicas: 1", "replica: 1",
            ":6:56: cluster.pools.0.replica: unknown key (got 1). expected one of name, model, ",
            "did you mean 'replicas'?",
            id="unknown key",
        ),
        pytest.param(
            "replicas: 1", "replicas: two",
            ":6:66: cluster.pools.0.replicas: not a whole number (got 'two'). expected a whole number.",
            None,
            id="wrong type",
        ),
        pytest.param(
            "replicas: 1", "replicas: 1, engine: {gpu_memory_utilization: 90}",
            "cluster.pools.0.engine.gpu_memory_utilization: too large (got 90). expected at most 1.0.",
            None,
            id="percent for a ratio",
        ),
        pytest.param(
            "policies:", "run: {horizon_s: 10 min}\npolicies:",
            ":7:18: run.horizon_s: not a number (got '10 min'). expected a number.",
            None,
            id="a unit beside the number",
        ),
        pytest.param(
            "replicas: 1", "replicas: 0",
            ":6:66: cluster.pools.0.replicas: too small (got 0). expected at least 1.",
            None,
            id="zero replicas",
        ),
        pytest.param(
            "llama-3.1-8b", "llama-3.3-70b",
            "llama-3.3-70b does not fit 1 x h100-sxm: 60.88 GiB per GPU are missing (got 131.41 GiB weights ",
            "it fits with tensor_parallel: 2; one GPU that holds it: ",
            id="model that does not fit",
        ),
        pytest.param(
            "h100-sxm", "h100",
            "cluster.pools.0.gpu: ",
            "did you mean 'h100-",
            id="unknown GPU",
        ),
        pytest.param(
            "round_robin", "round_robbin",
            ":8:18: policies.router.name: unknown router (got 'round_robbin'). expected one of round_robin, ",
            "did you mean 'round_robin'?",
            id="unknown policy",
        ),
        pytest.param(
            "round_robin", "round_robin, nam: random",
            ":8:31: policies.router.nam: unknown key (got 'random'). expected one of name.",
            "did you mean 'name'?",
            id="unknown parameter of a policy",
        ),
        pytest.param(
            "replicas: 1", "replicas: 1, engine: {prefix_caching: true}",
            "cluster.pools.0.engine.prefix_caching: not yet supported (got True). expected false.",
            None,
            id="feature to come",
        ),
        pytest.param(
            "trace.csv", "nowhere.csv",
            ":3:33: workload.source.path: no such file (got '",
            "a relative path starts from the scenario file's folder",
            id="missing trace",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_the_scenario(servesim_main, served, old, new, first, hint):
    """The first line says file, line and column, key, what is wrong, what was found and what is expected."""
    served.write_text(SCENARIO.replace(old, new))
    code, out, err = servesim_main("run", served)
    lines = complaint(err)
    assert (code, out) == (2, "")
    assert lines[0].startswith(f"error: {served.parent}") and first in lines[0]
    assert hint is None or lines[1].startswith(f"  hint: {hint}")


@pytest.mark.parametrize(
    ("content", "first"),
    [
        pytest.param("", "empty (got no data). expected a trace", id="empty"),
        pytest.param(
            HEADER, "no requests (got a header and 0 rows). expected at least one", id="header alone"
        ),
        pytest.param(LFS_POINTER, "a Git LFS pointer. expected the data it points to", id="Git LFS pointer"),
        pytest.param(
            f"{HEADER}{FIRST}2023-11-16 18:17:04.0319600,-5,109\n",
            "row 2: ContextTokens: unusable value (got -5). expected a whole number of tokens >= 1",
            id="negative tokens",
        ),
        pytest.param(
            f"{HEADER}{FIRST}2023-11-16 18:17:04.0319600,396,NaN\n",
            "row 2: GeneratedTokens: unusable value (got nan). expected a number",
            id="NaN tokens",
        ),
        pytest.param(
            f"{HEADER}{FIRST}2023-11-16 18:17:04.0319600,3.5,9\n",
            "row 2: ContextTokens: unusable value (got 3.5). expected a whole number of tokens >= 1",
            id="half a token",
        ),
    ],
)
def test_a_trace_that_cannot_be_used(servesim_main, served, content, first):
    """The message names the file, and the row and column where there is one; nothing is saved."""
    trace, out = served.parent / "trace.csv", served.parent / "out"
    trace.write_text(content)
    code, text, err = servesim_main("run", served, "--out", out)
    assert (code, text) == (2, "")
    assert complaint(err)[0] == f"error: {trace}: {first}"
    assert {path.name for path in served.parent.iterdir()} == {"served.yaml", "trace.csv"}


def test_unsorted_times_are_sorted_and_counted(servesim_main, served):
    """They are no error: the requests arrive in order, and the summary says how many rows were moved."""
    trace = served.parent / "trace.csv"
    trace.write_text(f"{HEADER}2023-11-16 18:17:05.5,7,2\n{FIRST}2023-11-16 18:17:04.5,8,2\n")
    code, out, _ = servesim_main("run", served, "--json")
    assert code == 0
    counted = json.loads(out)["workload"]
    assert (counted["rows_read"], counted["rows_sorted"], counted["requests"]) == (3, 2, 3)
    code, out, _ = servesim_main("run", served)
    assert "note: workload: rows_sorted 2" in out


PLUGINS = """
class Lost:
    '''Choose a replica that is not there, from the second request on.'''

    def reset(self, context):
        self.asked = 0

    def route(self, request, replicas):
        self.asked += 1
        return 0 if self.asked == 1 else len(replicas)
"""


@pytest.fixture
def with_plugins(tmp_path, served):
    """Return the command line as a function; routers that fail are installed for it as entry points."""
    site = tmp_path / "site"
    (site / "lost-1.0.dist-info").mkdir(parents=True)
    (site / "lost-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: lost\nVersion: 1.0\n")
    (site / "lost-1.0.dist-info" / "entry_points.txt").write_text(
        "[servesim.routers]\nlost = lost:Lost\nbroken = broken_module:Router\nabsent = lost:Absent\n"
    )
    (site / "lost.py").write_text(PLUGINS)
    (site / "broken_module.py").write_text("import a_library_that_is_not_installed\n")

    def call(router, *arguments):
        served.write_text(SCENARIO.replace("round_robin", router))
        return subprocess.run(
            [sys.executable, "-m", "servesim", "run", str(served), *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(site)])},
            capture_output=True,
            text=True,
            check=False,
        )

    return call


@pytest.mark.parametrize(
    ("router", "reason"),
    [
        (
            "broken",
            "router 'broken' (broken_module:Router) failed to import: ModuleNotFoundError: "
            "No module named 'a_library_that_is_not_installed'",
        ),
        ("absent", "router 'absent' (lost:Absent) failed to import: AttributeError: "),
    ],
)
def test_a_plugin_that_fails_to_import(with_plugins, served, router, reason):
    """The message names it, where it comes from, and why, at the line that asks for it."""
    done = with_plugins(router)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {served}:8:18: policies.router.name: {reason}")
    assert "Traceback" not in done.stderr


def test_a_policy_that_returns_an_invalid_replica(with_plugins, served):
    """The message names the router, the request, its answer and what it may answer; an older result stays."""
    out = served.parent / "out"
    assert with_plugins("round_robin", "--out", out).returncode == 0
    older = (out / "summary.json").read_bytes()
    done = with_plugins("lost", "--out", out)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint(done.stderr)[0] == (
        "error: router Lost: chose a replica that does not exist for request 1 (got 1). "
        "expected an integer from 0 to 0"
    )
    assert (out / "summary.json").read_bytes() == older
    assert {path.name for path in served.parent.iterdir()} == {"out", "served.yaml", "site", "trace.csv"}
