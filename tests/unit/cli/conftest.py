"""Running the command line without simulating anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import servesim.simulation
from servesim.cli import main

SCENARIO = """\
name: small
seed: 3
workload:
  generator:
    name: constant
    rate_per_s: 1
    requests: 3
    prompt_tokens: {distribution: constant, value: 100}
    output_tokens: {distribution: constant, value: 2}
cluster:
  pools:
    - {name: main, model: llama-3.1-8b, gpu: h100-sxm, latency: {name: constant, step_s: 0.01}}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """Return the path of a scenario of three requests that do not meet."""
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


@pytest.fixture
def servesim_main(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command line and returns exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def instead_of_simulating(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Any]]:
    """Return a function that replaces the simulation: by an outcome, or by an error that it raises."""

    def replace(outcome: Any) -> list[Any]:
        calls: list[Any] = []

        def simulate(scenario: Any, *, out: Any = None, progress: Any = None) -> Any:
            calls.append(SimpleNamespace(scenario=scenario, out=out, progress=progress))
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        monkeypatch.setattr(servesim.simulation, "simulate", simulate)
        return calls

    return replace
