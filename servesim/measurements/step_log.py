"""Reader of engine step logs: what every step worked on, and how long it took.

Two forms: JSON lines of our own (docs/how-to/calibrate.md), and the lines that vLLM writes with
``--enable-logging-iteration-details``, whose attended tokens are known only where a line tells the use of the KV cache.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servesim.errors import TraceError
from servesim.measurements.json_files import number, read_json_lines
from servesim.measurements.workload import Deployment

KEYS = ("sequences", "context_tokens", "duration_s")
"""Keys that every line of our form has; ``chunks`` may be left out."""

_ITERATION = re.compile(
    r"Iteration\(\d+\): (?P<context_requests>\d+) context requests, (?P<context_tokens>\d+) context tokens, "
    r"(?P<sequences>\d+) generation requests, \d+ generation tokens, "
    r"iteration elapsed time: (?P<elapsed_ms>[\d.]+) ?ms(?:, GPU KV cache usage: (?P<kv_percent>[\d.]+) ?%)?"
)

LEAST_STEP_S = 1e-4
"""A shorter step is none: with asynchronous scheduling vLLM logs the time to start a step, not that of the step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of an engine.

    Attributes
    ----------
    sequences, chunks
        As in `servesim.latency.api.BatchShape`.
    context_tokens
        Attended tokens of the decodes; None: told by *kv_used_ratio*, the share of the KV cache that is taken.
    duration_s
        What it took.
    """

    sequences: int
    context_tokens: int | None
    chunks: tuple[tuple[int, int], ...]
    duration_s: float
    kv_used_ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLog:
    """The steps of one engine, in order."""

    name: str
    source: Path
    steps: tuple[Step, ...]
    deployment: Deployment = field(default_factory=Deployment)
    notes: tuple[str, ...] = ()


def is_step_log(path: Path) -> bool:
    """Return whether the beginning of the file at *path* looks like a step log of either form."""
    if not path.is_file() or path.suffix.lower() not in (".jsonl", ".ndjson", ".log", ".txt"):
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        head = file.read(1 << 16)
    return bool(_ITERATION.search(head)) or all(f'"{key}"' in head for key in KEYS)


def read_step_log(path: Path) -> StepLog:
    """Return the steps of the log at *path*.

    Raises
    ------
    TraceError
        If it has no steps, or at the first one that cannot be.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    steps, notes = _iterations(text, path) if _ITERATION.search(text) else (_lines(path), ())
    return StepLog(name=path.stem, source=path, steps=steps, notes=notes)


def _lines(path: Path) -> tuple[Step, ...]:
    return tuple(_step(record, f"{path}: row {row}") for row, record in read_json_lines(path))


def _step(record: dict[str, Any], where: str) -> Step:
    missing = [key for key in KEYS if key not in record]
    if missing:
        raise TraceError(
            f"{where}: no {', '.join(missing)} (got {', '.join(record)}). expected {', '.join(KEYS)}"
        )
    sequences, context = (_count(record[key], f"{where}: {key}") for key in KEYS[:2])
    chunks = record.get("chunks", [])
    if not isinstance(chunks, list) or not all(
        isinstance(chunk, list) and len(chunk) == 2 for chunk in chunks
    ):
        raise TraceError(
            f"{where}: chunks: no chunks (got {chunks!r}). expected [[tokens, tokens before], ...]"
        )
    pairs = tuple(
        (_count(tokens, f"{where}: chunks"), _count(start, f"{where}: chunks")) for tokens, start in chunks
    )
    if (
        (not sequences and not pairs)
        or any(tokens == 0 for tokens, _ in pairs)
        or (context < sequences or (context and not sequences))
    ):
        raise TraceError(
            f"{where}: no step (got {sequences} sequences, {context} context tokens, chunks {chunks!r}). "
            "expected a sequence or a chunk, and at least one attended token per sequence"
        )
    return Step(
        sequences=sequences,
        context_tokens=context,
        chunks=pairs,
        duration_s=_duration_s(number(record["duration_s"], f"{where}: duration_s"), where),
    )


def _count(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TraceError(f"{where}: not a count (got {value!r}). expected a whole number >= 0")
    return value


def _duration_s(value: float, where: str) -> float:
    if value <= 0:
        raise TraceError(f"{where}: duration_s: a step of no length (got {value!r}). expected seconds > 0")
    return value


def _iterations(text: str, path: Path) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """Return the steps of vLLM's own log: chunks of a step are known by their sum, and taken for equal."""
    found = list(_ITERATION.finditer(text))
    without = sum(match["kv_percent"] is None for match in found)
    if without:
        raise TraceError(
            f"{path}: {without} of {len(found)} steps do not tell what they attend to (got no GPU KV cache usage). "
            "expected vLLM with --enable-logging-iteration-details and --kv-cache-metrics",
            hint="or write the log yourself: docs/how-to/calibrate.md",
        )
    steps = [_iteration(match) for match in found]
    short = sum(step.duration_s < LEAST_STEP_S for step in steps)
    if short > 0.05 * len(steps):
        raise TraceError(
            f"{path}: {short} of {len(steps)} steps took less than {LEAST_STEP_S * 1e3:g} ms (got the time to start "
            "them). expected steps that the engine waited for",
            hint="log with --no-async-scheduling",
        )
    kept = [step for step in steps if step.duration_s >= LEAST_STEP_S and (step.sequences or step.chunks)]
    notes = (
        f"{len(steps) - len(kept)} of {len(steps)} steps are left out: empty, or shorter than any step",
        "attended tokens are told by the use of the KV cache; prompts of one step are taken for equal and whole",
    )
    return tuple(kept), notes if len(kept) < len(steps) else notes[1:]


def _iteration(match: re.Match[str]) -> Step:
    prompts, tokens = int(match["context_requests"]), int(match["context_tokens"])
    share, more = divmod(tokens, prompts) if prompts else (0, 0)
    return Step(
        sequences=int(match["sequences"]),
        context_tokens=None,
        chunks=tuple((share + (index < more), 0) for index in range(prompts) if share + (index < more)),
        duration_s=float(match["elapsed_ms"]) / 1e3,
        kv_used_ratio=float(match["kv_percent"]) / 100,
    )
