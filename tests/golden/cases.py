"""The golden scenarios, what is kept of their results, and where: for the tests and for `scripts/golden`.

A golden number is no proof that a result is right; it tells that a change of the code has changed results.
What is right is asserted beside it, in `test_golden.py`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import servesim
from servesim.results import RunResult
from servesim.results.schema import LATENCY_METRICS, STATISTICS

HERE = Path(__file__).resolve().parent
SCENARIOS = HERE.parents[1] / "scenarios"

CASES: dict[str, tuple[Path, tuple[str, ...]]] = {
    "quickstart": (SCENARIOS / "quickstart.yaml", ()),
    "preemptions": (HERE / "preemptions.yaml", ()),
    "whole_prompts": (HERE / "whole_prompts.yaml", ()),
    "priority": (HERE / "priority.yaml", ()),
    "two_models": (SCENARIOS / "two_models.yaml", ("workload.max_requests=2000",)),
    "azure_conv": (SCENARIOS / "azure_conv.yaml", ()),
}
"""Name to a scenario file and overrides."""

TRACES = {"azure_conv": "traces/azure_llm/AzureLLMInferenceTrace_conv.csv"}
"""Name of a case to the third-party file below ``../shared`` that it reads."""

HEADLINE = (
    *("requests_arrived", "requests_completed", "requests_rejected", "requests_unfinished", "requests_cut"),
    *("preemptions", "duration_s", "requests_per_s", "output_tokens_per_s"),
    *(f"{metric.name}_{statistic}" for metric in LATENCY_METRICS for statistic in STATISTICS),
    *("kv_used_ratio_max", "utilization_ratio"),
)
"""Keys of the summary that are kept."""

RTOL = 1e-9
"""How much a headline number may differ: another machine's mathematical functions round differently."""


def run(name: str) -> RunResult:
    """Return a new result of the golden scenario *name*."""
    path, overrides = CASES[name]
    return servesim.run(path, overrides=overrides)


def record(result: RunResult) -> dict[str, Any]:
    """Return what is kept of *result*."""
    return {
        "scenario_hash": result.provenance["scenario_hash"],
        "fingerprint": result.fingerprint(),
        "segments": result.segments.height,
        "events": result.events.height,
        "summary": {key: result.summary[key] for key in HEADLINE},
    }


def path_of(name: str) -> Path:
    """Return where the golden result *name* is kept."""
    return HERE / f"{name}.json"


def read(name: str) -> dict[str, Any]:
    """Return the golden result *name*."""
    golden: dict[str, Any] = json.loads(path_of(name).read_text(encoding="utf-8"))
    return golden


def moved(golden: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return what differs, a line each, numbers within `RTOL` and the fingerprint left out."""
    old_values, new_values = ({**each, **each["summary"]} for each in (golden, new))
    names = [*golden["summary"], *(key for key in golden if key not in ("summary", "fingerprint"))]
    return [
        f"{name}: {old_values[name]!r} -> {new_values.get(name)!r}"
        for name in names
        if not _same(old_values[name], new_values.get(name))
    ]


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, float) and isinstance(new, float):
        return math.isclose(old, new, rel_tol=RTOL)
    return bool(old == new)
