"""A scenario outside of a process: its resolved YAML text, and the hash that names it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml.error import YAMLError

from servesim.errors import ScenarioError
from servesim.scenario.components import model_data, path_text
from servesim.scenario.document import document_text

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
    try:
        return document_text(model_data(scenario))
    except YAMLError as error:
        raise ScenarioError(
            f"scenario {scenario.name}: cannot be written ({str(error).splitlines()[0]}). expected plain "
            "parameters.",
            hint="name components by their registered name instead of passing objects",
        ) from error


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
