"""Reference pages of the columns and metrics of a result, generated from their declarations in `schema`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from servesim.results.parity import PARITY, SERVESIM_ONLY, SOURCES, STATISTICS_NOTE
from servesim.results.schema import (
    EXTRA_METRICS,
    EXTRA_SUMMARY,
    EXTRAS,
    FRAMES,
    LATENCY_METRICS,
    POOL_LOAD,
    STATISTICS,
    SUMMARY,
    Column,
)

_FRAME_NOTES = {
    "requests": "One row per request that arrived, in order of `request_id`.",
    "segments": "One row per run of identical engine steps of a replica, in order of their end. "
    "Step k (from 1) ends at `start_s + (k*step_s + growth_s*(k*(k-1)*0.5))`; there every "
    "decoding request gets one token.",
    "replicas": "State of every replica at the sampling times, in order of time, then replica.",
    "events": "Rare happenings, in order of time.",
}


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _dtype(dtype: object) -> str:
    name = str(dtype)
    return "Enum" if name.startswith("Enum") else name


def columns_page() -> str:
    """Return ``docs/reference/columns.md``: every column of every frame."""
    parts = [
        "# Columns of a result\n\n"
        "A result has four frames, saved as one Parquet file each. Times are seconds since the start of the "
        "run. A value that does not exist, or has not happened, is null: never 0, never NaN.\n"
    ]
    for name, columns in FRAMES.items():
        table = _columns_table(columns)
        parts.append(f"## {name}\n\n{_FRAME_NOTES[name]}\n\n{table}")
        if name == "requests":
            parts.append(f"Only where the workload or a pool has them:\n\n{_columns_table(EXTRAS.values())}")
    return "\n".join(parts)


def _columns_table(columns: Iterable[Column]) -> str:
    rows = [(f"`{c.name}`", _dtype(c.dtype), c.unit, f"{c.description}.") for c in columns]
    return _table(("column", "type", "unit", "meaning"), rows)


def metrics_page() -> str:
    """Return ``docs/reference/metrics.md``: start and end of every latency, and every key of the summary."""
    metrics = (*LATENCY_METRICS, *EXTRA_METRICS)
    latencies = [(f"`{m.name}`", f"{m.description}.", m.start, m.end) for m in metrics]
    keys = [(f"`{key.name}`", key.unit, f"{key.description}.") for key in (*SUMMARY, *EXTRA_SUMMARY)]
    load = [(f"`{key.name}`", key.unit, f"{key.description}.") for key in POOL_LOAD]
    statistics = ", ".join(f"`_{statistic}`" for statistic in STATISTICS)
    return (
        "# Metrics\n\n"
        "## Latencies of a request\n\n"
        "Each is the time between two events. All start at the arrival except `tpot_s`: the moment in which "
        "the client sends. A request is routed and reaches its replica in that moment, so neither has a time of its "
        "own; it then passes the front end, where the pool has one.\n\n"
        f"{_table(('metric', 'meaning', 'start', 'end'), latencies)}\n"
        f"The summary has four statistics of each ({statistics}) over the completed requests that arrived at "
        "or after `warm_up_s`; quantiles interpolate linearly between order statistics.\n\n"
        "## Keys of summary.json\n\n"
        "A value that cannot be told, such as a latency when nothing completed, is null.\n\n"
        f"{_table(('key', 'unit', 'meaning'), keys)}\n"
        "Each pool in `pools` also has, named `pools.NAME.KEY` where a metric is asked for:\n\n"
        f"{_table(('key', 'unit', 'meaning'), load)}\n"
        f"{_parity_section()}"
    )


def _parity_section() -> str:
    """Return the section that maps the metrics to those of other benchmarks."""
    rows = [
        (
            ", ".join(f"`{metric}`" for metric in row.metrics),
            *(_code(name) for name in (row.vllm_bench, row.aiperf, row.inference_perf)),
            f"{row.difference}.",
        )
        for row in PARITY
    ]
    sources = "".join(
        f"- {name}: {', '.join(f'[{label}]({address})' for label, address in files)}\n"
        for name, files in SOURCES.items()
    )
    only = ", ".join(f"`{key}`" for key in SERVESIM_ONLY)
    return (
        "## Metrics of other benchmarks\n\n"
        "What vLLM's `vllm bench serve`, AIPerf and inference-perf call a metric, and what differs in the "
        "definition. `servesim export --format vllm-bench` writes the first column of names "
        "([how](../how-to/export-to-vllm-bench.md)).\n\n"
        f"{_table(('servesim', 'vLLM bench', 'AIPerf', 'inference-perf', 'difference'), rows)}\n"
        f"{STATISTICS_NOTE} None of them has {only}.\n\n"
        f"The definitions are from:\n\n{sources}"
    )


def _code(name: str | None) -> str:
    return "-" if name is None else f"`{name}`"
