"""``servesim plugins``: what can be named in a scenario."""

from __future__ import annotations

import json
from typing import Any

from servesim.cli.exits import OK
from servesim.cli.output import write, write_json


def list_plugins(*, as_json: bool) -> int:
    """Print every plugin with what it does and takes; one that does not import is listed with its error."""
    listing = _listing()
    if as_json:
        write_json(listing)
        return OK
    lines = []
    for kind, entries in listing.items():
        lines.append(f"{kind}s")
        width = max(len(entry["name"]) for entry in entries)
        for entry in entries:
            lines.append(f"  {entry['name']:{width}}  {entry.get('error') or entry['summary']}")
            lines += [f"  {'':{width}}    {_signature(item)}" for item in entry.get("parameters", [])]
        lines.append("")
    write("\n".join(lines))
    return OK


def _listing() -> dict[str, list[dict[str, Any]]]:
    from servesim.errors import PluginError
    from servesim.scenario.plugins import plugin_info
    from servesim.scenario.slots import REGISTRIES

    listing: dict[str, list[dict[str, Any]]] = {}
    for registry in REGISTRIES:
        entries = listing.setdefault(registry.kind, [])
        for name in registry.names():
            try:
                info = plugin_info(registry, name)
            except PluginError as error:
                entries.append({"name": name, "error": str(error)})
                continue
            parameters = [
                {
                    "name": item.name,
                    "type": item.type,
                    "required": item.required,
                    "default": item.default,
                    "description": item.description,
                }
                for item in info.parameters
            ]
            entries.append({"name": name, "summary": info.summary, "parameters": parameters})
    return listing


def _signature(parameter: dict[str, Any]) -> str:
    if parameter["required"]:
        return f"{parameter['name']}: {parameter['type']}, required"
    return f"{parameter['name']}: {parameter['type']} = {json.dumps(parameter['default'])}"
