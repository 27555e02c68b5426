"""Reader of the results of ``vllm bench serve`` (formerly ``benchmark_serving.py``): ``--save-result`` files.

With ``--save-detailed`` the file has every request and every gap between tokens; else lengths are known by their
totals only, and arrivals by their rate.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from servesim.errors import TraceError
from servesim.measurements.checks import believed, check_measured, failed_left_out, settled
from servesim.measurements.json_files import load, number, number_or_none, numbers
from servesim.measurements.workload import STATISTICS, Deployment, MeasuredRun, all_due, request_metrics
from servesim.rng import stream
from servesim.workload.checks import ROW

_LATENCIES = {"ttft_s": "ttft", "tpot_s": "tpot", "itl_s": "itl", "e2e_s": "e2el"}
_STATISTICS = {"mean": "mean", "p50": "median", "p90": "p90", "p99": "p99"}
_RATES = {"requests_per_s": "request_throughput", "output_tokens_per_s": "output_throughput"}
_COLUMNS = {"arrival_s": "start_times", "first_token_s": "ttfts", "finished_s": "itls"}


def is_vllm_bench(data: Any) -> bool:
    """Return whether *data* are the results of ``vllm bench serve``."""
    return isinstance(data, dict) and {"num_prompts", "total_output_tokens", "request_throughput"} <= set(
        data
    )


def read_vllm_bench(path: Path, data: dict[str, Any]) -> MeasuredRun:
    """Return the run whose results are *data*, the content of *path*.

    Raises
    ------
    TraceError
        If they cannot be taken as they are.
    """
    if number(data["total_output_tokens"], f"{path}: total_output_tokens") <= 0 or not data.get(
        "duration", 1
    ):
        raise TraceError(
            f"{path}: a run of no length (got {data['total_output_tokens']!r} output tokens in "
            f"{data.get('duration')!r} s). expected completed requests"
        )
    concurrency = number_or_none(data.get("max_concurrency"), f"{path}: max_concurrency")
    detailed = isinstance(data.get("ttfts"), list) and isinstance(data.get("itls"), list)
    notes: list[str] = []
    if detailed:
        requests, gaps_s = _requests(path, data, notes)
        metrics = request_metrics(requests, gaps_s)
        if concurrency is not None and _at_once(data):
            requests = all_due(requests)
    else:
        requests = _assumed_load(path, data, notes)
        output = float(data["total_output_tokens"]) / requests.height
        metrics = believed(_metrics(path, data), output, notes)
    check_measured(metrics, path, ("ttft_s_mean",))
    return MeasuredRun(
        name=path.stem,
        source=path,
        deployment=Deployment(model=data.get("model_id"), engine=data.get("backend")),
        requests=requests,
        metrics=metrics,
        max_concurrency=None if concurrency is None else int(concurrency),
        notes=tuple(notes),
    )


def _metrics(path: Path, data: dict[str, Any]) -> dict[str, float]:
    metrics = {}
    for name, stem in _LATENCIES.items():
        for statistic in STATISTICS:
            key = f"{_STATISTICS[statistic]}_{stem}_ms"
            value = number_or_none(data.get(key), f"{path}: {key}")
            if value is not None and value > 0:
                metrics[f"{name}_{statistic}"] = value / 1e3
    for name, key in _RATES.items():
        metrics[name] = number(data.get(key), f"{path}: {key}")
    return metrics


def _requests(
    path: Path, data: dict[str, Any], notes: list[str]
) -> tuple[pl.DataFrame, NDArray[np.float64] | None]:
    """Return the requests that succeeded, with latencies, and all their gaps between tokens."""
    lists = {name: data.get(name) for name in ("input_lens", "output_lens", "ttfts", "itls")}
    sizes = {name: len(values) if isinstance(values, list) else None for name, values in lists.items()}
    if len(set(sizes.values())) > 1:
        raise TraceError(f"{path}: lists of different lengths (got {sizes}). expected one item per request")
    gaps = [numbers(items, f"{path}: itls: row {row}") for row, items in enumerate(data["itls"], 1)]
    frame = pl.DataFrame(
        {
            ROW: range(1, len(gaps) + 1),
            "prompt_tokens": numbers(data["input_lens"], f"{path}: input_lens"),
            "output_tokens": numbers(data["output_lens"], f"{path}: output_lens"),
            "arrival_s": _arrivals_s(path, data, len(gaps), notes),
            "ttft_s": numbers(data["ttfts"], f"{path}: ttfts"),
            "decode_s": [sum(items) for items in gaps],
            "failed": [bool(error) for error in data.get("errors") or [""] * len(gaps)],
        }
    ).with_columns(first_token_s=pl.col("arrival_s") + pl.col("ttft_s"))
    frame = frame.with_columns(finished_s=pl.col("first_token_s") + pl.col("decode_s"))
    notes += failed_left_out(int(frame["failed"].sum()))
    done = frame.filter(~pl.col("failed"))
    requests, more = settled(done, path, _COLUMNS)
    notes += more
    kept = [items for items, failed in zip(gaps, frame["failed"], strict=True) if not failed]
    all_gaps = np.concatenate([np.asarray(items) for items in kept]) if kept else np.empty(0)
    expected = int((done["output_tokens"] - 1).clip(0).sum())
    if abs(len(all_gaps) - expected) > 0.02 * expected:
        notes.append(
            f"{len(all_gaps)} gaps for {expected} tokens after the first: chunks are not tokens, ITL is not compared"
        )
        return requests, None
    return requests, all_gaps


def _arrivals_s(path: Path, data: dict[str, Any], count: int, notes: list[str]) -> list[float]:
    """Return when requests were sent: as recorded, or as the client was asked to."""
    if isinstance(data.get("start_times"), list):
        return numbers(data["start_times"], f"{path}: start_times")
    if _at_once(data):
        return [0.0] * count
    rate = data["request_rate"]
    rate_per_s, shape = number(rate, f"{path}: request_rate"), float(data.get("burstiness") or 1.0)
    notes.append(
        f"times of arrival are not in the file: drawn at {rate_per_s:g} requests/s, burstiness {shape:g}"
    )
    gaps_s = stream(0, "vllm_bench.arrivals").gamma(shape, 1 / (rate_per_s * shape), count)
    return [float(time_s) for time_s in np.cumsum(gaps_s)]


def _at_once(data: dict[str, Any]) -> bool:
    """Return whether the client sends as fast as it may."""
    return data.get("request_rate") in (None, "inf", float("inf"))


def _assumed_load(path: Path, data: dict[str, Any], notes: list[str]) -> pl.DataFrame:
    count = int(number(data.get("completed", data["num_prompts"]), f"{path}: completed"))
    if count < 1:
        raise TraceError(f"{path}: no completed request (got {count}). expected at least one")
    notes.append("lengths of single requests are not in the file: every one has the mean")
    prompt = number(data.get("total_input_tokens"), f"{path}: total_input_tokens") / count
    arrivals_s = _arrivals_s(path, data, count, notes)
    return load(count, prompt, float(data["total_output_tokens"]) / count, sorted(arrivals_s))
