"""A result as the file that ``vllm bench serve --save-result`` writes: the same keys, by the same definitions.

Keys and definitions are those of ``vllm/benchmarks/serve.py`` in vllm-project/vllm (commit 009e6d4);
docs/how-to/export-to-vllm-bench.md says how each key is filled here, and what has no counterpart. The lists of
single requests, which vLLM writes with ``--save-detailed``, are made piece by piece.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import numpy as np
import polars as pl

from servesim.results import RunResult
from servesim.results.latencies import measured
from servesim.results.steps import Floats
from servesim.results.token_gaps import RequestGaps, itl_statistics, tokens_per_second

PERCENTILES = (90, 95, 99)
"""Those of every latency; vLLM writes what ``--metric-percentiles`` asks for, by default 99."""

_LATENCIES = {"ttft": "ttft_s", "tpot": "tpot_s", "e2el": "e2e_s"}
_BACKEND = "servesim"
_ELEMENTS = 1000
"""Elements of a list that are written at once."""


def vllm_bench(result: RunResult) -> dict[str, Any]:
    """Return the keys of vLLM's result file that are single values, in its order.

    Requests that arrived before ``run.warm_up_s`` are left out, as vLLM's warm-up requests are, and the duration is
    counted from there; requests that are unfinished at the end of the run are left out too.

    Parameters
    ----------
    result
        The result of a run.

    Raises
    ------
    InvariantError
        If steps and requests disagree about the tokens.
    """
    warm_up_s = result.warm_up_s
    requests = _counted(result, warm_up_s)
    done = measured(result.frames.lazy("requests"), warm_up_s)
    totals = done.select(
        completed=pl.len(),
        prompt_tokens=pl.col("prompt_tokens").cast(pl.Int64).sum(),
        output_tokens=pl.col("output_tokens").cast(pl.Int64).sum(),
    )
    total = totals.collect(engine="streaming").row(0, named=True)
    count = requests.select(pl.len()).collect(engine="streaming").item()
    duration_s = max(result.summary["duration_s"] - warm_up_s, 0.0)
    prompt, output = total["prompt_tokens"], total["output_tokens"]
    return {
        **_setup(result, count, requests),
        "duration": duration_s,
        "completed": total["completed"],
        "failed": count - total["completed"],
        "total_input_tokens": prompt,
        "total_output_tokens": output,
        "request_throughput": _rate(total["completed"], duration_s),
        "request_goodput": result.summary["goodput_requests_per_s"],
        "output_throughput": _rate(output, duration_s),
        "total_token_throughput": _rate(prompt + output, duration_s),
        **_peaks(result, warm_up_s),
        "rtfx": 0.0,
        **_latencies(result, done, warm_up_s),
    }


def vllm_bench_json(result: RunResult, *, detailed: bool = False) -> Iterator[str]:
    """Yield vLLM's result file as pieces of one JSON object.

    Parameters
    ----------
    result
        The result of a run.
    detailed
        Add the lists of single requests, in order of arrival, as ``--save-detailed`` does.
    """
    text = json.dumps(vllm_bench(result), allow_nan=False)
    if not detailed:
        yield text + "\n"
        return
    yield text[:-1]
    for key, pieces in _lists(result):
        yield f', "{key}": ['
        separator = ""
        while batch := list(islice(pieces, _ELEMENTS)):
            yield separator + ", ".join(batch)
            separator = ", "
        yield "]"
    yield "}\n"


def _counted(result: RunResult, warm_up_s: float) -> pl.LazyFrame:
    """Return the requests that a benchmark would have sent and seen the end of."""
    requests = result.frames.lazy("requests")
    return requests.filter((pl.col("state") != "unfinished") & (pl.col("arrival_s") >= warm_up_s))


def _setup(result: RunResult, count: int, requests: pl.LazyFrame) -> dict[str, Any]:
    models = dict.fromkeys(pool["model"] for pool in result.provenance.get("pools", []))
    span = requests.select(first=pl.col("arrival_s").min(), last=pl.col("arrival_s").max())
    first_s, last_s = span.collect(engine="streaming").row(0)
    rate: float | str | None = None
    if count > 1:
        rate = (count - 1) / (last_s - first_s) if last_s > first_s else "inf"
    started = result.host.get("started_at")
    return {
        "date": None if started is None else datetime.fromisoformat(started).strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": _BACKEND,
        "backend": _BACKEND,
        "label": result.provenance.get("scenario"),
        "model_id": ",".join(models) or None,
        "tokenizer_id": None,
        "num_prompts": count,
        "request_rate": rate,
        "burstiness": None,
        "max_concurrency": result.settings.get("workload", {}).get("max_concurrency"),
    }


def _peaks(result: RunResult, warm_up_s: float) -> dict[str, Any]:
    """Return the most output tokens in a whole second since the first arrival, and the most requests at once."""
    done = measured(result.frames.lazy("requests"), warm_up_s)
    times = done.select("arrival_s", "finished_s").collect()
    if times.is_empty():
        return {"max_output_tokens_per_s": 0.0, "max_concurrent_requests": 0}
    arrivals_s, ends_s = (np.sort(times[name].to_numpy()) for name in ("arrival_s", "finished_s"))
    left = np.searchsorted(ends_s, arrivals_s, side="right")  # who leaves at a time leaves before who comes
    tokens = tokens_per_second(result.frames, origin_s=float(arrivals_s[0]), warm_up_s=warm_up_s)
    return {
        "max_output_tokens_per_s": float(tokens.max()),
        "max_concurrent_requests": int((np.arange(1, len(arrivals_s) + 1) - left).max()),
    }


def _latencies(result: RunResult, done: pl.LazyFrame, warm_up_s: float) -> dict[str, float | None]:
    """Return mean, median, standard deviation and percentiles of every latency, in ms; null where there is none."""
    keys: dict[str, float | None] = {}
    for name in ("ttft", "tpot", "itl", "e2el"):
        if name == "itl":
            gaps = itl_statistics(
                result.frames, [0.5, *(number / 100 for number in PERCENTILES)], warm_up_s=warm_up_s
            )
            values = [gaps.mean_s, gaps.quantiles_s[0.5], gaps.std_s]
            values += [gaps.quantiles_s[number / 100] for number in PERCENTILES]
        else:
            column = done.select(_LATENCIES[name]).collect(engine="streaming").to_series().drop_nulls()
            values = _statistics(column.sort().to_numpy())
        names = ["mean", "median", "std", *(f"p{number}" for number in PERCENTILES)]
        for statistic, value in zip(names, values, strict=True):
            keys[f"{statistic}_{name}_ms"] = None if value is None else value * 1000.0
    return keys


def _statistics(values: Floats) -> list[float | None]:
    if not len(values):
        return [None] * (3 + len(PERCENTILES))
    percentiles = np.percentile(values, PERCENTILES)
    return [float(values.mean()), float(np.median(values)), float(values.std()), *map(float, percentiles)]


def _lists(result: RunResult) -> Iterator[tuple[str, Iterator[str]]]:
    """Yield the name of every list with its elements as JSON; a failed request has zeros, as in vLLM."""
    warm_up_s = result.warm_up_s
    requests = _counted(result, warm_up_s).collect()
    completed = requests["state"] == "completed"
    columns: dict[str, pl.Series] = {
        "input_lens": requests["prompt_tokens"],
        "output_lens": requests["output_tokens"],
        "ttfts": requests["ttft_s"].fill_null(0.0),
        "latencies": requests["e2e_s"].fill_null(0.0),
        "start_times": requests["arrival_s"],
        "queue_times": pl.repeat(0.0, len(requests), eager=True),
        "generated_texts": pl.repeat("", len(requests), eager=True),
        "errors": requests["finish_reason"].cast(pl.String).set(completed, ""),
    }
    for key, column in columns.items():
        yield key, map(json.dumps, column)
        if key == "ttfts":
            yield "itls", _itls(RequestGaps(result.frames), requests)


def _itls(gaps: RequestGaps, requests: pl.DataFrame) -> Iterator[str]:
    for state, *facts in requests.select(
        pl.col("state").cast(pl.String), "request_id", "replica", "first_token_s", "output_tokens"
    ).iter_rows():
        yield json.dumps(gaps.of(*facts).tolist()) if state == "completed" else "[]"


def _rate(count: int, duration_s: float) -> float | None:
    return count / duration_s if duration_s > 0 else None
