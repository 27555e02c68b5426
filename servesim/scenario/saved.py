"""A scenario outside of a process: its resolved YAML text, and the hash that names it."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from servesim.errors import ScenarioError
from servesim.scenario.components import model_data, path_text

if TYPE_CHECKING:
    from servesim.scenario.schema import Scenario

HASH_DIGITS = 16
"""Hexadecimal digits of a scenario's hash: enough that two scenarios of one project never share it."""


def scenario_yaml(scenario: Scenario) -> str:
    """Return *scenario* as YAML with every default written out and paths absolute.

    Raises
    ------
    ScenarioError
        If a parameter is an object that has no form in YAML.
    """
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 1000  # long paths stay on one line
    yaml.allow_unicode = False  # written plainly, U+0085 and its like would be read as line breaks
    text = io.StringIO()
    try:
        yaml.dump(model_data(scenario), text)
    except YAMLError as error:
        raise ScenarioError(
            f"scenario {scenario.name}: cannot be written ({str(error).splitlines()[0]}). expected plain "
            "parameters.",
            hint="name components by their registered name instead of passing objects",
        ) from error
    return text.getvalue()


def saved_warm_up_s(text: str) -> float:
    """Return ``run.warm_up_s`` of a scenario's resolved YAML text, without building the scenario.

    A result must be readable where its plugins and traces are not.

    Raises
    ------
    ScenarioError
        If the text is no scenario.
    """
    try:
        data = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ScenarioError(
            f"saved scenario: not YAML ({str(error).splitlines()[0]}). expected what servesim wrote"
        ) from error
    run = data.get("run", {}) if isinstance(data, dict) else None
    value = run.get("warm_up_s", 0.0) if isinstance(run, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScenarioError(f"saved scenario: no run.warm_up_s (got {value!r}). expected a number of seconds")
    return float(value)


def scenario_data(scenario: Scenario) -> dict[str, Any]:
    """Return what *scenario* says as plain data: what differs from the defaults, paths by their file names."""
    data = model_data(scenario, differing=True)
    for pool in data["cluster"]["pools"]:
        model = Path(pool["model"])
        if model.is_absolute():
            pool["model"] = path_text(model, differing=True)
    return data


def scenario_hash(scenario: Scenario) -> str:
    """Return the name of what *scenario* says: equal for equal values, wherever its files lie.

    It is the beginning of a SHA-256 over the values that differ from their defaults, so that a key which a
    later version adds changes no hash. Paths count by their file name alone (a ``config.json`` by its
    folder's, too). The content of files does not count, nor does the version of servesim.
    """
    text = json.dumps(
        scenario_data(scenario), sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=repr
    )
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]
