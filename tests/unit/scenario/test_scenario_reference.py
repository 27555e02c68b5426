"""The generated reference page of scenarios."""

from __future__ import annotations

import re

from servesim.scenario.reference import scenario_page
from servesim.scenario.schema import EngineSpec, Scenario
from servesim.scenario.slots import REGISTRIES


def test_the_page_names_every_key_and_plugin():
    """Nothing that a scenario can say is missing from the page."""
    page = scenario_page()
    for name in (*Scenario.model_fields, *EngineSpec.model_fields):
        assert f"| `{name}` |" in page, name
    for registry in REGISTRIES:
        for name in registry.names():
            assert f"**`{name}`**" in page, name


def test_tables_are_regular():
    """Every row of a table has as many cells as its head."""
    cells = 0
    for line in scenario_page().splitlines():
        count = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert count == cells or cells == 0 or count == 0, line
        cells = count
