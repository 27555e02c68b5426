"""Scenarios to start from, and a way to put them into files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from servesim.errors import ScenarioError
from servesim.scenario import Scenario, load_scenario

MINIMAL = """\
name: minimal
workload:
  generator:
    name: poisson
    rate_per_s: 2
    requests: 10
    prompt_tokens: {distribution: constant, value: 100}
    output_tokens: {distribution: lognormal, mean: 20, sigma: 0.5}
cluster:
  pools:
    - {name: main, model: llama-3.1-8b, gpu: h100-sxm}
    - {name: spare, model: llama-3.1-8b, gpu: h100-sxm, replicas: 2}
policies:
  router: {name: round_robin}
"""


@pytest.fixture
def minimal() -> str:
    """Return a scenario of 14 lines that is right."""
    return MINIMAL


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a text to ``s.yaml`` in a new folder."""

    def write(text: str) -> Path:
        path = tmp_path / "s.yaml"
        path.write_text(dedent(text), encoding="utf-8")
        return path

    return write


@pytest.fixture
def load(file: Callable[[str], Path]) -> Callable[..., Scenario]:
    """Return a function that loads a text as a scenario file."""

    def load_text(text: str, *overrides: str) -> Scenario:
        return load_scenario(file(text), overrides=overrides)

    return load_text


@pytest.fixture
def errors(file: Callable[[str], Path]) -> Callable[..., list[str]]:
    """Return a function that loads a wrong text and returns its messages, the file's folder left out."""

    def messages(text: str, *overrides: str) -> list[str]:
        path = file(text)
        with pytest.raises(ScenarioError) as caught:
            load_scenario(path, overrides=overrides)
        return str(caught.value).replace(f"{path.parent}/", "").splitlines()

    return messages
