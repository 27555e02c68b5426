"""What qualifies the numbers of a run, in words: for the terminal, for notebooks and for reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from servesim.results.error_bands import NOT_VALIDATED, error_text
from servesim.results.pool_load import NEAR_KNEE_RATIO
from servesim.results.readable import load_text
from servesim.results.units import count_text, number_text, seconds_text

SATURATED = "latencies depend on the length of the run"


def run_notes(summary: Mapping[str, Any], provenance: Mapping[str, Any]) -> list[str]:
    """Return what a reader should know before trusting the numbers: a line each, ``note: ...`` or ``warning: ...``.

    Parameters
    ----------
    summary
        ``RunResult.summary``.
    provenance
        ``RunResult.provenance``; an empty one leaves out what it would tell.
    """
    notes = [*_workload_notes(summary.get("workload") or {}), *_oracle_notes(provenance)]
    if summary.get("cost_usd"):
        notes += _price_notes(provenance)
    if summary.get("requests_completed") and summary.get("requests_measured") == 0:
        notes.append("warning: nothing was measured: every completed request arrived before run.warm_up_s")
    for reason, count in (summary.get("requests_rejected_by_reason") or {}).items():
        limit = _context_limits(provenance) if reason == "prompt_too_long" else ""
        notes.append(f"warning: {count_text(count)} requests rejected: {reason}{limit}")
    if summary.get("requests_cut"):
        notes.append(f"note: {count_text(summary['requests_cut'])} outputs were cut at the context limit")
    notes += _load_notes(summary.get("pools") or [])
    if summary.get("backlog_growing") and not any(note.endswith(SATURATED) for note in notes):
        notes.append(
            f"warning: the backlog grew with the arrivals: the cluster is likely saturated, and {SATURATED}"
        )
    notes += _calibration_notes(provenance)
    if summary.get("interrupted"):
        notes.append("warning: interrupted: partial results")
    return notes


def _load_notes(pools: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which pools are at what they can serve, or near it, and where run and latency model disagree on that."""
    notes = []
    for pool in pools:
        state, ratio = pool.get("load_state"), pool.get("load_ratio")
        if state not in ("saturated", "near_knee"):
            continue
        load = load_text(pool) and f" (load {load_text(pool)})"
        if state == "near_knee":
            notes.append(
                f"note: pool {pool['pool']} is near its knee{load}: small errors of step times move latencies a lot"
            )
            continue
        below = ratio is not None and ratio < NEAR_KNEE_RATIO
        reason = (
            "; what it can serve by its step times is more: bursts, preemptions, routing?" if below else ""
        )
        notes.append(f"warning: pool {pool['pool']} is saturated{load}{reason}: {SATURATED}")
    return notes


def _workload_notes(counts: Mapping[str, Any]) -> list[str]:
    counted = [
        f"{key} {_counted(value)}" for key, value in counts.items() if value and key != "first_arrival_s"
    ]
    notes = [f"note: workload: {', '.join(counted)}"] if counted else []
    if (first_s := counts.get("first_arrival_s")) is not None:
        notes.append(
            f"warning: the first request arrives at {seconds_text(first_s)}, long after time 0: the cluster "
            "idles until then, at its full cost, and the duration counts from 0"
        )
    return notes


def _oracle_notes(provenance: Mapping[str, Any]) -> list[str]:
    notes = []
    for place in provenance.get("oracle_policies", []):
        policy = provenance["policies"][place]
        name = policy.get("name") or policy["class"]  # an object that was passed has no name
        notes.append(f"note: oracle: {place} {name} sees true output lengths")
    return notes


def _calibration_notes(provenance: Mapping[str, Any]) -> list[str]:
    """Return in what a run left the loads that a calibration was fitted to: its errors do not hold there."""
    return [
        f"warning: pool {pool['pool']} leaves the loads that were calibrated: {'; '.join(pool['outside_calibration'])}"
        for pool in provenance.get("pools", [])
        if pool.get("outside_calibration")
    ]


def _price_notes(provenance: Mapping[str, Any]) -> list[str]:
    sources = {pool.get("gpu"): pool.get("gpu_price_source") for pool in provenance.get("pools", [])}
    return [
        f"note: price of {gpu}: {source}"
        for gpu, source in sources.items()
        if source not in (None, "", "scenario")
    ]


def _context_limits(provenance: Mapping[str, Any]) -> str:
    """Return what sequences were limited to, for the end of a line; nothing if that is not known."""
    limits = {pool["pool"]: count_text(pool["context_limit_tokens"]) for pool in provenance.get("pools", [])}
    if len(set(limits.values())) > 1:
        return f"; the context limit in tokens is {', '.join(f'{pool} {n}' for pool, n in limits.items())}"
    return f"; the context limit is {next(iter(limits.values()))} tokens" if limits else ""


def _counted(value: Any) -> str:
    if isinstance(value, float):
        return number_text(value)
    return count_text(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)


def validation_note(provenance: Mapping[str, Any]) -> str | None:
    """Return how far latencies are expected to be off, or that this is not known; None where nothing is told."""
    pools = provenance.get("pools", [])
    errors = {pool["pool"]: pool["latency_error"] for pool in pools if "latency_error" in pool}
    if not errors:
        return None
    if NOT_VALIDATED in errors.values():
        return (
            "note: the latency model is not validated: compare scenarios, and do not take absolute latencies for "
            "measurements"
        )
    texts = {name: error_text(error) for name, error in errors.items()}
    if len(set(texts.values())) == 1:
        return f"note: expected error of latencies: {next(iter(texts.values()))}"
    return f"note: expected error of latencies: {'; '.join(f'{name} {text}' for name, text in texts.items())}"
