"""A strict check of a Chrome trace: the Trace Event Format's rules for the phases that servesim writes.

After "Trace Event Format" (Google), whose rules are stricter here: times are whole microseconds and sorted, and
everything that has a number has a name.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import jsonschema

COUNT = {"type": "integer", "minimum": 0}
NAMED = {
    "ph": {},
    "name": {"type": "string", "minLength": 1},
    "pid": {"type": "integer", "minimum": 1},
    "ts": COUNT,
}


def event(phase: str, required: list[str], **fields: Any) -> dict[str, Any]:
    """Return the schema of the events of one phase."""
    properties = {**NAMED, **fields, "ph": {"const": phase}}
    return {
        "type": "object",
        "properties": properties,
        "required": ["ph", "name", "pid", "ts", *required],
        "additionalProperties": False,
    }


LABEL = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "maxProperties": 1,
}
ORDER = {
    "type": "object",
    "properties": {"sort_index": COUNT},
    "required": ["sort_index"],
    "maxProperties": 1,
}
ARGS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean", "null"]}}
VALUES = {"type": "object", "minProperties": 1, "additionalProperties": {"type": "number"}}
METADATA = {"enum": ["process_name", "thread_name", "process_sort_index"]}

SCHEMA = {
    "type": "object",
    "properties": {
        "traceEvents": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"ph": {"enum": ["X", "C", "i", "M"]}},
                "required": ["ph"],
                "allOf": [
                    {"if": {"properties": {"ph": {"const": phase}}}, "then": schema}
                    for phase, schema in {
                        "X": event("X", ["tid", "dur"], tid=COUNT, dur=COUNT, args=ARGS),
                        "C": event("C", ["args"], args=VALUES),
                        "i": event("i", ["tid", "s"], tid=COUNT, s={"enum": ["g", "p", "t"]}, args=ARGS),
                        "M": event("M", ["args"], name=METADATA, tid=COUNT, args={"anyOf": [LABEL, ORDER]}),
                    }.items()
                ],
            },
        },
        "displayTimeUnit": {"enum": ["ms", "ns"]},
        "otherData": {"type": "object"},
    },
    "required": ["traceEvents"],
    "additionalProperties": False,
}


def shape(value: Any, key: str = "") -> Any:
    """Return all that the schema can tell two events apart by: keys, types, signs, and the values of a few."""
    if isinstance(value, dict):
        return {name: shape(each, name) for name, each in value.items()}
    if isinstance(value, str):
        return value if key in ("ph", "s") or value in METADATA["enum"] else value == ""
    return type(value), isinstance(value, int | float) and value < 0, key == "pid" and value < 1


def check_trace(document: Any) -> list[dict[str, Any]]:
    """Check a trace and return its events: schema, order, names, and that the slices of a thread nest."""
    events: list[dict[str, Any]] = document["traceEvents"]
    shapes = {repr(shape(each)): each for each in events}  # one of each shape: the schema takes its time
    jsonschema.Draft202012Validator(SCHEMA).validate({**document, "traceEvents": list(shapes.values())})
    phases = [each["ph"] for each in events]
    metadata = phases.count("M")
    assert phases[:metadata] == ["M"] * metadata, "names come first"
    times = [each["ts"] for each in events[metadata:]]
    assert times == sorted(times), "events are in order of time"
    processes = {each["pid"] for each in events if each["name"] == "process_name"}
    threads = [(each["pid"], each["tid"]) for each in events if each["name"] == "thread_name"]
    assert len(set(threads)) == len(threads), "a thread has one name"
    assert len({tid for _, tid in threads}) == len(threads), "ids of threads are unique over all processes"
    assert {each["pid"] for each in events} <= processes, "every process has a name"
    stacks: dict[tuple[int, int], list[int]] = defaultdict(list)
    for each in events:
        if each["ph"] in ("X", "i"):
            thread = (each["pid"], each["tid"])
            assert thread in threads, f"no name for the thread of {each}"
            end = each["ts"] + each.get("dur", 0)
            open_ends = stacks[thread]
            while open_ends and open_ends[-1] <= each["ts"]:
                open_ends.pop()
            assert not open_ends or end <= open_ends[-1], f"{each} does not nest"
            if each["ph"] == "X":
                open_ends.append(end)
    return events
