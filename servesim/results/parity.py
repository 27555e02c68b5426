"""What other benchmarks call a metric of servesim, and how their definition differs: declared once, for the docs.

Looked up in the sources that `SOURCES` names, at the commits that their addresses have.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCES = {
    "vLLM bench": (
        (
            "`vllm/benchmarks/serve.py`",
            "https://github.com/vllm-project/vllm/blob/009e6d4a1cd6ba3fb2a9fc00f4ec06f5297232a1/vllm/benchmarks/serve.py",
        ),
        (
            "`vllm/benchmarks/lib/endpoint_request_func.py`",
            "https://github.com/vllm-project/vllm/blob/02cfb534df5674737558730b10f23d1b7aef9b7c/vllm/benchmarks/lib/endpoint_request_func.py",
        ),
    ),
    "AIPerf": (
        (
            "`docs/metrics-reference.md`",
            "https://github.com/ai-dynamo/aiperf/blob/0176f59496e02dbbe070b3903a8ded29c08f1cc9/docs/metrics-reference.md",
        ),
        (
            "`docs/server-metrics/server-metrics-reference.md`",
            "https://github.com/ai-dynamo/aiperf/blob/13992dbd96879c76e9584f2e8dc05db49bee6cf2/docs/server-metrics/server-metrics-reference.md",
        ),
        (
            "`src/aiperf/metrics/metric_dicts.py`",
            "https://github.com/ai-dynamo/aiperf/blob/0fec57a67268df14c2988dcd73df7d28c675e1f4/src/aiperf/metrics/metric_dicts.py",
        ),
        (
            "`src/aiperf/metrics/list_metric_aggregation.py`",
            "https://github.com/ai-dynamo/aiperf/blob/2d76a5e5414dad7beb3df68b00051d3d5388a8f5/src/aiperf/metrics/list_metric_aggregation.py",
        ),
        (
            "`src/aiperf/metrics/types/input_token_throughput_metric.py`",
            "https://github.com/ai-dynamo/aiperf/blob/423ebd39a376213131e404030963520e836f0d79/src/aiperf/metrics/types/input_token_throughput_metric.py",
        ),
    ),
    "inference-perf": (
        (
            "`docs/metrics.md`",
            "https://github.com/kubernetes-sigs/inference-perf/blob/010d12fb62cc3157b6bd228ef93dd865c7a05194/docs/metrics.md",
        ),
        (
            "`inference_perf/reportgen/base.py`",
            "https://github.com/kubernetes-sigs/inference-perf/blob/010d12fb62cc3157b6bd228ef93dd865c7a05194/inference_perf/reportgen/base.py",
        ),
    ),
}
"""Where the definitions of each benchmark are: the name of the file and its address."""


@dataclass(frozen=True, slots=True)
class Parity:
    """One metric in four places.

    Attributes
    ----------
    metrics
        Names in servesim: a latency, keys of the summary, or a call.
    vllm_bench, aiperf, inference_perf
        Names there; None where there is no such metric.
    difference
        What differs in the definitions, or what to know of it.
    """

    metrics: tuple[str, ...]
    vllm_bench: str | None
    aiperf: str | None
    inference_perf: str | None
    difference: str


PARITY = (
    Parity(
        ("ttft_s",),
        "ttft",
        "time_to_first_token",
        "time_to_first_token",
        "Theirs begins when the client sends and ends with the first chunk that it receives: network and front end "
        "are in it. AIPerf and inference-perf take the first chunk with content. inference-perf has none for a "
        "response of one token",
    ),
    Parity(
        ("tpot_s",),
        "tpot",
        "inter_token_latency",
        "time_per_output_token",
        "The same formula, (e2e - ttft) / (output tokens - 1), one value per request, requests of one token left "
        "out: AIPerf calls it inter token latency. They count output tokens with the server's usage or a tokenizer",
    ),
    Parity(
        ("RunResult.itl_s", "RunResult.itl_statistics"),
        "itl",
        "inter_chunk_latency",
        "inter_token_latency",
        "One value per gap, over the gaps of all requests: long outputs weigh more than in tpot_s. vLLM bench and "
        "AIPerf measure between chunks, which hold several tokens under speculative decoding or load; inference-perf "
        "gives the tokens of a chunk its time, so gaps of 0 occur. Not in summary.json; in the export",
    ),
    Parity(
        ("e2e_s",),
        "e2el",
        "request_latency",
        "request_latency",
        "Theirs runs from sending to the last chunk with a token, inference-perf's to the completion of the request",
    ),
    Parity(
        ("e2e_s / output_tokens",),
        None,
        None,
        "normalized_time_per_output_token",
        "Not reported; from the columns of requests. AIPerf has its inverse, e2e_output_token_throughput",
    ),
    Parity(
        ("queue_s",),
        None,
        "vllm:request_queue_time_seconds",
        "request_queue_time",
        "A client cannot see it: AIPerf and inference-perf read it from the server's Prometheus metrics (names as of a "
        "vLLM server). client_queue_time of vLLM bench is another thing, the wait for --max-concurrency in the client",
    ),
    Parity(
        ("requests_arrived",),
        "num_prompts",
        "request_count + error_request_count",
        "load_summary.count",
        "Theirs are requests sent, without those of their warm-up",
    ),
    Parity(
        ("requests_completed",),
        "completed",
        "request_count",
        "successes.count",
        "The export counts from warm_up_s on",
    ),
    Parity(
        ("requests_rejected", "requests_rejected_by_reason"),
        "failed",
        "error_request_count",
        "failures.count",
        "Theirs have errors of network and server in them. Requests that are unfinished at the end of a run "
        "(requests_unfinished) are neither: their clients wait for every response",
    ),
    Parity(
        ("duration_s",),
        "duration",
        "benchmark_duration",
        "benchmark_time_seconds",
        "Theirs runs from the first request sent to the last response, servesim's from time 0, when the first "
        "request may be yet to come; the export subtracts warm_up_s",
    ),
    Parity(
        ("requests_per_s",),
        "request_throughput",
        "request_throughput",
        "requests_per_sec",
        "Over durations that differ as above",
    ),
    Parity(
        ("prompt_tokens_per_s",),
        None,
        "input_token_throughput",
        "input_tokens_per_sec",
        "Theirs counts completed requests only, servesim every request that got a first token. vLLM bench has the sum "
        "of prompt and output only: total_token_throughput",
    ),
    Parity(
        ("output_tokens_per_s",),
        "output_throughput",
        "output_token_throughput",
        "output_tokens_per_sec",
        "Theirs counts completed requests only (the export, too), servesim every token emitted",
    ),
    Parity(
        ("slo_met_ratio",),
        None,
        "good_request_fraction",
        "goodput_percentage",
        "AIPerf counts failed requests as missed, as servesim does rejected ones; inference-perf divides by "
        "successful requests only, and a request of one token fails its tpot",
    ),
    Parity(
        ("goodput_requests_per_s",),
        "request_goodput",
        "goodput",
        "request_goodput",
        "A request of one token meets any tpot in vLLM bench and servesim. vLLM bench has one set of targets for all "
        "requests; in servesim classes may have their own",
    ),
    Parity(
        ("preemptions",),
        None,
        "vllm:num_preemptions",
        "num_preemptions_total",
        "From the server's Prometheus metrics",
    ),
    Parity(
        ("kv_used_ratio_max",),
        None,
        "vllm:kv_cache_usage_perc",
        "kv_cache_usage_percentage",
        "From the server's Prometheus metrics: statistics over samples, where servesim has the true maximum",
    ),
    Parity(
        ("usd_per_million_output_tokens",),
        None,
        None,
        "$ per million output tokens",
        "Defined there as a formula: accelerator price over output token throughput",
    ),
)
"""Every metric that another benchmark has, too."""

SERVESIM_ONLY = (
    *("requests_unfinished", "requests_measured", "requests_cut", "engine_steps", "utilization_ratio"),
    *("slo_classes", "gpu_hours", "cost_usd", "backlog_growing", "interrupted"),
    *("models", "tenants", "pools", "replicas", "workload"),
)
"""Keys of the summary that these benchmarks have no counterpart of."""

STATISTICS_NOTE = (
    "All four interpolate percentiles linearly between order statistics (`numpy.percentile`), over successful requests "
    "only; AIPerf can take those of inter_chunk_latency from a t-digest, which is approximate. Standard deviations "
    "are those of the population; inference-perf has none. vLLM bench and AIPerf report milliseconds."
)
"""What holds for the statistics of all latencies."""
