"""Small runs, some of them worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import servesim
from servesim.results import RunResult

SCENARIO = """\
name: example
seed: 4
workload:
  source: {{reader: table, path: requests.csv, start_at_zero: false}}
cluster:
  pools:
    - name: main
      model: llama-3.1-8b
      gpu: h100-sxm
      replicas: {replicas}
      engine: {engine}
      latency: {{name: constant, step_s: 0.01}}
run: {run}
"""

EXAMPLE = [(0.0, 100, 10), (0.033, 50, 4)]
"""The two requests of docs/how-it-works.md, "An example": arrival, prompt and output; every step takes 10 ms."""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., RunResult]:
    """Return a function that serves (arrival_s, prompt_tokens, output_tokens) in steps of 10 ms."""

    def simulate(
        requests=EXAMPLE, *, replicas=1, engine="{async_scheduling: false}", run="{}", out=None
    ) -> RunResult:
        rows = "".join(f"{arrival_s},{prompt},{output}\n" for arrival_s, prompt, output in requests)
        (tmp_path / "requests.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
        path = tmp_path / "scenario.yaml"
        path.write_text(SCENARIO.format(replicas=replicas, engine=engine, run=run))
        return servesim.run(path, out=out)

    return simulate
