"""Every file in scenarios/ runs, and every generator that ships has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import servesim
from servesim.scenario import load_scenario
from servesim.workload.registries import GENERATORS

SCENARIOS = sorted((Path(__file__).resolve().parents[2] / "scenarios").glob("*.yaml"))
BEYOND_WARM_UPS = "run.horizon_s=90"


def data(path: Path) -> Any:
    """Return what a scenario file says, without defaults."""
    return YAML(typ="safe", pure=True).load(path)


def generators(node: Any) -> Iterator[str]:
    """Yield the names of the generators in *node*, whatever the depth: a scenario has one or several sources."""
    if isinstance(node, dict):
        if isinstance(node.get("generator"), dict):
            yield node["generator"]["name"]
        for value in node.values():
            yield from generators(value)
    elif isinstance(node, list):
        for value in node:
            yield from generators(value)


@pytest.fixture(params=SCENARIOS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    """Return the path of each scenario in turn."""
    return request.param  # type: ignore[no-any-return]


def test_it_runs(path: Path, shared: Callable[[str], Path]) -> None:
    """Its first 90 s, to the end of the requests that arrive in them; a trace of others may be missing."""
    source = data(path)["workload"].get("source", {})
    if "/shared/" in source.get("path", ""):
        shared(source["path"].split("/shared/")[1])
    summary = servesim.run(path, overrides=[BEYOND_WARM_UPS]).summary
    assert summary["requests_completed"] > 0
    assert summary["requests_completed"] + summary["requests_rejected"] == summary["requests_arrived"]


def test_it_begins_with_what_it_is_for(path: Path) -> None:
    """A comment stands on top, and the scenario is called as its file."""
    assert path.read_text(encoding="utf-8").startswith("# ")
    assert load_scenario(path).name == path.stem


def test_every_generator_has_a_scenario() -> None:
    """A generator that is registered brings a scenario that shows what it is for."""
    shown = {name for path in SCENARIOS for name in generators(data(path))}
    assert set(GENERATORS.builtin) - shown == set(), "write a scenario in scenarios/ for them"
