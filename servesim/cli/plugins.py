"""``servesim plugins`` and ``servesim schema``: what can be written in a scenario."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from servesim.cli.exits import OK
from servesim.cli.output import write, write_json
from servesim.registry import BUILT_IN

if TYPE_CHECKING:
    from servesim.scenario.plugins import PluginInfo


def list_plugins(*, as_json: bool) -> int:
    """Print every plugin with what it does and takes; one that cannot be used is listed with its error."""
    listing = _listing()
    if as_json:
        write_json(listing)
        return OK
    lines = []
    for kind, entries in listing.items():
        lines.append(f"{kind}s")
        width = max(len(entry["name"]) for entry in entries)
        for entry in entries:
            lines.append(f"  {entry['name']:{width}}  {_told(entry)}")
            lines += [f"  {'':{width}}    {_signature(item)}" for item in entry.get("parameters", [])]
        lines.append("")
    write("\n".join(lines))
    return OK


def print_schema() -> int:
    """Print the JSON Schema of scenarios, and on stderr which plugins are not in it, and why."""
    from servesim.scenario.json_schema import scenario_json_schema
    from servesim.scenario.plugins import usable_plugins

    write_json(scenario_json_schema())
    for error in usable_plugins()[1]:
        print(f"warning: left out: {error}", file=sys.stderr)
    return OK


def _listing() -> dict[str, list[dict[str, Any]]]:
    from servesim.errors import PluginError
    from servesim.scenario.plugins import distributions, plugin_info
    from servesim.scenario.slots import REGISTRIES

    listing: dict[str, list[dict[str, Any]]] = {}
    for registry in REGISTRIES:
        entries = listing.setdefault(registry.kind, [])
        for name in registry.names():
            try:
                entries.append(_entry(plugin_info(registry, name), registry.provider(name).origin))
            except PluginError as error:
                entries.append({"name": name, "error": str(error)})
    for info in distributions():
        listing.setdefault(info.kind, []).append(_entry(info, BUILT_IN))
    return listing


def _entry(info: PluginInfo, origin: str) -> dict[str, Any]:
    keys = ("name", "type", "required", "default", "description")
    parameters = [{key: getattr(item, key) for key in keys} for item in info.parameters]
    return {"name": info.name, "origin": origin, "summary": info.summary, "parameters": parameters}


def _told(entry: dict[str, Any]) -> str:
    if "error" in entry:
        return f"error: {entry['error']}"
    origin = "" if entry["origin"] == BUILT_IN else f" [{entry['origin']}]"
    return f"{entry['summary']}{origin}"


def _signature(parameter: dict[str, Any]) -> str:
    if parameter["required"]:
        return f"{parameter['name']}: {parameter['type']}, required"
    return f"{parameter['name']}: {parameter['type']} = {json.dumps(parameter['default'])}"
