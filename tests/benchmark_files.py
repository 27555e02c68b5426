"""Files as benchmark tools write them, made by hand: the forms are public, the numbers are ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LOG = (
    # arrival, prompt, output, first token, last token
    (10.0, 100, 11, 10.2, 11.2),
    (10.5, 200, 21, 11.0, 12.0),
    (11.0, 300, 1, 11.4, 11.4),
)


def write_log(path: Path, rows: Any = LOG, **changed: Any) -> Path:
    """Write a request log; *changed* keys of its rows are replaced or, with None, left out."""
    lines = []
    for index, (arrival, prompt, output, first, last) in enumerate(rows):
        line = {
            "request_id": f"r{index}",
            "arrival_time": arrival,
            "input_toks": prompt,
            "output_toks": output,
            "first_token_ts": first,
            "last_token_ts": last,
        }
        line |= {key: value[index] for key, value in changed.items() if value is not None}
        lines.append(
            json.dumps({key: value for key, value in line.items() if changed.get(key, 0) is not None})
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def vllm_bench_data(**changed: Any) -> dict[str, Any]:
    """Return results of ``vllm bench serve``: ten requests of 100 and 51 tokens, TPOT 20 ms, TTFT 100 ms."""
    return {
        "backend": "vllm",
        "model_id": "meta-llama/Llama-3.1-8B",
        "num_prompts": 10,
        "request_rate": "inf",
        "max_concurrency": 2,
        "duration": 5.5,
        "completed": 10,
        "total_input_tokens": 1000,
        "total_output_tokens": 510,
        "request_throughput": 10 / 5.5,
        "output_throughput": 510 / 5.5,
        "mean_ttft_ms": 100.0,
        "median_ttft_ms": 100.0,
        "mean_tpot_ms": 20.0,
        "mean_itl_ms": 20.0,
        "mean_e2el_ms": 1100.0,
    } | changed


def aiperf_record(start_s: float, **metrics: float) -> dict[str, Any]:
    """Return a line of AIPerf's ``profile_export.jsonl``."""
    values = {
        "input_sequence_length": (100, "tokens"),
        "output_sequence_length": (51, "tokens"),
        "time_to_first_token": (100.0, "ms"),
        "request_latency": (1100.0, "ms"),
        "inter_token_latency": (20.0, "ms"),
    }
    values |= {name: (value, values[name][1]) for name, value in metrics.items()}
    return {
        "metadata": {
            "session_num": 0,
            "request_start_ns": 1_700_000_000_000_000_000 + round(start_s * 1e9),
            "benchmark_phase": "profiling",
            "was_cancelled": False,
        },
        "metrics": {name: {"value": value, "unit": unit} for name, (value, unit) in values.items()},
        "error": None,
    }


def aiperf_summary(**changed: Any) -> dict[str, Any]:
    """Return AIPerf's ``profile_export_aiperf.json`` of four such requests, two at a time."""
    return {
        "request_throughput": {"unit": "requests/sec", "avg": 1.8},
        "output_token_throughput": {"unit": "tokens/sec", "avg": 92.0},
        "request_count": {"unit": "requests", "avg": 4.0},
        "input_sequence_length": {"unit": "tokens", "avg": 100.0},
        "output_sequence_length": {"unit": "tokens", "avg": 51.0},
        "time_to_first_token": {"unit": "ms", "avg": 100.0, "p50": 99.0, "p90": 120.0, "p99": 130.0},
        "inter_token_latency": {"unit": "ms", "avg": 20.0, "p50": 19.0},
        "request_latency": {"unit": "ms", "avg": 1100.0},
        "input_config": {
            "endpoint": {"model_names": ["meta-llama/Llama-3.1-8B"]},
            "loadgen": {"concurrency": 2},
        },
    } | changed


def inference_perf_stage(**changed: Any) -> dict[str, Any]:
    """Return a ``stage_0_lifecycle_metrics.json`` of inference-perf: times in s, TPOT half of what it is."""
    latency = {
        "request_latency": {"mean": 1.1, "median": 1.1},
        "time_per_output_token": {"mean": 0.01, "median": 0.01},
        "time_to_first_token": {"mean": 0.1, "median": 0.1, "p90": 0.12},
        "inter_token_latency": {"mean": 0.01, "median": 0.0001},
    }
    done = {
        "count": 4,
        "latency": latency | changed,
        "throughput": {"requests_per_sec": 2.0, "output_tokens_per_sec": 102.0},
        "prompt_len": {"mean": 100.0},
        "output_len": {"mean": 51.0},
    }
    return {
        "load_summary": {"count": 4, "requested_rate": 2.0, "achieved_rate": 2.0},
        "successes": done,
        "failures": {"count": 1},
    }


def write_json(path: Path, data: Any) -> Path:
    """Write *data* as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def write_lines(path: Path, records: list[dict[str, Any]]) -> Path:
    """Write *records* as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path
