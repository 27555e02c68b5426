"""Baselines: the numbers of an earlier run of a check, with what they are numbers of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError

from servesim._version import __version__
from servesim.errors import ServesimError
from servesim.experiments.files import Section
from servesim.results.provenance import input_facts
from servesim.results.saving import replacing_file
from servesim.scenario import Scenario, scenario_data, scenario_hash
from servesim.scenario.files import input_files

MOST_DIFFERENCES = 5
"""So many differing keys are named in a message."""


class StoredVariant(Section):
    """What a variant was, and what it gave."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenario_hash: str
    scenario: dict[str, Any]
    inputs: dict[str, str | None]
    values: dict[str, list[float]]


class Baseline(Section):
    """A baseline file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    servesim_version: str
    seeds: list[int]
    variants: dict[str, StoredVariant]


def stored_variant(scenario: Scenario, values: Mapping[str, Sequence[float]]) -> StoredVariant:
    """Return what to store of a variant: its scenario without the seed, its inputs, its numbers by metric."""
    scenario = scenario.model_copy(update={"seed": 0})
    return StoredVariant(
        scenario_hash=scenario_hash(scenario),
        scenario=json.loads(json.dumps(scenario_data(scenario), default=repr)),
        inputs={fact["name"]: fact["sha256"] for fact in input_facts(input_files(scenario))},
        values={metric: list(numbers) for metric, numbers in values.items()},
    )


def write_baseline(path: Path, seeds: Sequence[int], variants: Mapping[str, StoredVariant]) -> None:
    """Write a baseline file; an older one is replaced once the new one is complete.

    Raises
    ------
    ServesimError
        If it cannot be written.
    """
    baseline = Baseline(servesim_version=__version__, seeds=list(seeds), variants=dict(variants))
    write_text(path, json.dumps(baseline.model_dump(), indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write *text* to a file that is there whole or not at all.

    Raises
    ------
    ServesimError
        If it cannot be written.
    """
    with replacing_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def read_baseline(path: Path) -> Baseline:
    """Return the baseline file at *path*.

    Raises
    ------
    ServesimError
        If there is none, or it is not one.
    """
    try:
        return Baseline.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ServesimError(
            f"{path}: no such file. expected a baseline", hint="--update-baseline writes it"
        ) from None
    except (ValidationError, UnicodeDecodeError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "not a text in UTF-8"
        raise ServesimError(
            f"{path}: not a baseline ({first[:1].lower()}{first[1:]}). expected what --update-baseline wrote",
            hint="--update-baseline writes it anew",
        ) from error
    except OSError as error:
        raise ServesimError(f"{path}: cannot be read ({error.strerror}). expected a baseline") from error


def check_baseline(
    path: Path, baseline: Baseline, seeds: Sequence[int], variants: Mapping[str, StoredVariant]
) -> None:
    """Refuse a baseline that is not of the same scenarios, seeds and metrics.

    Raises
    ------
    ServesimError
        Names what differs.
    """
    problems = []
    if baseline.seeds != list(seeds):
        problems.append(f"other seeds (got {baseline.seeds}). expected {list(seeds)}")
    for name, wanted in variants.items():
        stored = baseline.variants.get(name)
        if stored is None:
            problems.append(f"no variant {name!r} (got {', '.join(baseline.variants) or 'none'})")
            continue
        if stored.scenario_hash != wanted.scenario_hash:
            differences = list(_differences(stored.scenario, wanted.scenario))
            shown = "; ".join(differences[:MOST_DIFFERENCES]) or "a default of servesim"
            more = len(differences) - MOST_DIFFERENCES
            problems.append(
                f"variant {name!r} is of another scenario (got hash {stored.scenario_hash}, expected "
                f"{wanted.scenario_hash}): {shown}" + (f"; and {more} more" if more > 0 else "")
            )
        for file, digest in wanted.inputs.items():
            if stored.inputs.get(file, digest) != digest:
                problems.append(f"variant {name!r} was made with another content of {file}")
        missing = [metric for metric in wanted.values if len(stored.values.get(metric, [])) != len(seeds)]
        problems += [f"variant {name!r} has no numbers of {metric}" for metric in missing]
    if problems:
        lines = "\n".join(f"{path}: {problem}" for problem in problems)
        raise ServesimError(lines, hint="--update-baseline stores the numbers of the check as it is now")


_MISSING = object()


def _differences(stored: Any, wanted: Any, key: str = "") -> Iterator[str]:
    """Yield ``key: old -> new`` for everything that differs."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for name in {**stored, **wanted}:
            below = f"{key}.{name}" if key else name
            yield from _differences(stored.get(name, _MISSING), wanted.get(name, _MISSING), below)
    elif isinstance(stored, list) and isinstance(wanted, list) and len(stored) == len(wanted):
        for index, (old, new) in enumerate(zip(stored, wanted, strict=True)):
            yield from _differences(old, new, f"{key}.{index}")
    elif stored != wanted:
        yield f"{key}: {_shown(stored)} -> {_shown(wanted)}"


def _shown(value: Any) -> str:
    return "default" if value is _MISSING else json.dumps(value, ensure_ascii=False)
