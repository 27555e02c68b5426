"""A result is a function of scenario, seed and version: bytes, not only numbers.

The scenario uses every consumer of random numbers at once, and has more requests than one frame holds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import servesim
from servesim import RunResult
from servesim.workload.schema import CHUNK_ROWS

SCENARIO = """\
name: everything_random
seed: 11
workload:
  sources:
    - generator:
        name: mmpp
        states: [{rate_per_s: 60, mean_s: 20}, {rate_per_s: 10, mean_s: 10}]
        requests: 66000
        prompt_tokens: {distribution: lognormal, mean: 30, sigma: 1.0, max: 500}
        output_tokens:
          distribution: mixture
          components:
            - {weight: 3, tokens: {distribution: zipf, a: 1.5, max: 40}}
            - {weight: 1, tokens: {distribution: exponential, mean: 8}}
      resample: {thin_ratio: 0.999}
      tenant: one
    - generator:
        name: weibull
        rate_per_s: 3
        cv: 3.0
        requests: 2000
        prompt_tokens: {distribution: uniform, low: 10, high: 300}
        output_tokens: {distribution: lognormal, mean: 60, sigma: 0.7, max: 400}
      tenant: two
      slo_class: slow
cluster:
  pools:
    - name: main
      model: llama-3.1-8b
      gpu: h100-sxm
      replicas: 3
      engine: {kv_blocks: 60, max_num_seqs: 32, max_num_batched_tokens: 256}
policies:
  router: {name: power_of_two}
  scheduler: {name: sjf, predictor: {name: noisy, sigma: 0.4}}
slo: {ttft_s: 0.5, classes: {slow: {e2e_s: 5}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with the scenario and the result of one run of it, saved in ``first``."""
    folder = tmp_path_factory.mktemp("determinism")
    (folder / "scenario.yaml").write_text(SCENARIO, encoding="utf-8")
    command_line(folder / "scenario.yaml", folder / "first", hash_seed="0")
    return folder


def command_line(scenario, out, *, hash_seed, **environment):
    """Run *scenario* in a process of its own and save the result in *out*."""
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-m", "servesim", "run", str(scenario), "--quiet", "--out", str(out)],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": hash_seed, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def bytes_of(directory):
    """Return the content of every file but that with the facts about the execution."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "run.json"}


@pytest.fixture(scope="module")
def in_memory(folder):
    """Return the same run made in this process, its frames in memory."""
    return servesim.run(folder / "scenario.yaml")


def test_the_scenario_tests_something(folder, in_memory):
    """It fills more than one frame, preempts, and draws from every stream."""
    assert in_memory.summary["requests_arrived"] > CHUNK_ROWS
    assert in_memory.summary["preemptions"] > 50
    assert in_memory.provenance["oracle_policies"] == ["scheduler"]
    assert len(bytes_of(folder / "first")) == 7


@pytest.mark.parametrize(
    "environment", [{}, {"POLARS_MAX_THREADS": "1"}], ids=["another hash seed", "one thread"]
)
def test_another_process_saves_the_same_bytes(folder, tmp_path, environment):
    """Neither the order of sets and dicts nor the number of threads leaves a trace in any file."""
    command_line(folder / "scenario.yaml", tmp_path / "again", hash_seed="4242", **environment)
    first, again = bytes_of(folder / "first"), bytes_of(tmp_path / "again")
    assert first.keys() == again.keys()
    assert [name for name in first if first[name] != again[name]] == []


def test_in_memory_equals_spilled(folder, in_memory, tmp_path):
    """Rows kept in memory and rows written during the run are the same, and are saved as the same bytes."""
    spilled = RunResult.load(folder / "first")
    assert in_memory.fingerprint() == spilled.fingerprint()
    assert in_memory.summary == spilled.summary
    in_memory.save(tmp_path / "saved")
    first, saved = bytes_of(folder / "first"), bytes_of(tmp_path / "saved")
    assert [name for name in first if first[name] != saved[name]] == []


def test_the_written_scenario_repeats_the_run(folder):
    """scenario.yaml of a result gives that result again, and the same scenario.yaml and provenance."""
    written = folder / "first" / "scenario.yaml"
    again = servesim.run(written)
    assert again.fingerprint() == RunResult.load(folder / "first").fingerprint()
    assert again.scenario.to_yaml() == written.read_text(encoding="utf-8")
    assert again.provenance == json.loads((folder / "first" / "provenance.json").read_text())


def test_the_seed_matters(folder, in_memory):
    """Another seed is another run: what is equal above is not equal by chance."""
    other = servesim.run(folder / "scenario.yaml", overrides=["seed=12"])
    assert other.fingerprint() != in_memory.fingerprint()
    assert other.provenance["scenario_hash"] != in_memory.provenance["scenario_hash"]


def test_a_run_leaves_no_trace_in_the_next(folder):
    """Two runs of one scenario object in one process are equal; so are those of one policy object."""
    scenario = servesim.load_scenario(folder / "scenario.yaml", overrides=["workload.max_requests=3000"])
    assert servesim.run(scenario).fingerprint() == servesim.run(scenario).fingerprint()

    class Counting:
        """Alternate between replicas, and keep counting after the run."""

        def __init__(self):
            self.count = 0

        def reset(self, context):
            pass

        def route(self, request, replicas):
            self.count += 1
            return self.count % 3

    router = Counting()
    first, second = (servesim.run(scenario, router=router) for _ in range(2))
    assert router.count == 0
    assert first.fingerprint() == second.fingerprint()
