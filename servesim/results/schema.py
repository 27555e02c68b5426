"""Every column and every summary key of a result, declared once: name, type, unit and meaning.

The frames are built from these declarations and the reference pages are generated from them (`reference`).
How the values come about is in `columns` (frames) and `summary`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from servesim.cluster.records import EVENT_KINDS, FINISH_REASONS, STATES


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a frame.

    Attributes
    ----------
    name, dtype
        As in the frame. A value that does not exist is null, never NaN.
    unit
        ``s``, ``tokens``, ``requests``, ... or ``-`` for names and numbers of things.
    description
        What a value means.
    """

    name: str
    dtype: pl.DataType
    unit: str
    description: str


@dataclass(frozen=True, slots=True)
class LatencyMetric:
    """A latency of one request: a column of ``requests``, and four keys of the summary.

    Attributes
    ----------
    name
        Column, and stem of the keys ``NAME_mean``, ``NAME_p50``, ``NAME_p90`` and ``NAME_p99``.
    description
        What it is, as a noun phrase.
    start, end
        The two events whose distance it is.
    """

    name: str
    description: str
    start: str
    end: str


@dataclass(frozen=True, slots=True)
class SummaryKey:
    """One key of ``summary.json``: its name, unit and meaning."""

    name: str
    unit: str
    description: str


STATISTICS = ("mean", "p50", "p90", "p99")
"""Statistics of every latency metric; quantiles interpolate linearly between order statistics."""

LATENCY_METRICS = (
    LatencyMetric(
        "ttft_s",
        "Time to first token, queueing included",
        "arrival of the request (arrival_s)",
        "end of the step that emits its first token (first_token_s), and its way to the client (stream_s)",
    ),
    LatencyMetric(
        "tpot_s",
        "Time per output token after the first, gaps by preemption included: the distance divided by "
        "output_tokens - 1; null for a request of one token",
        "end of the step that emits its first token (first_token_s)",
        "end of the step that emits its last token (finished_s)",
    ),
    LatencyMetric(
        "e2e_s",
        "End-to-end latency (the sojourn time of queueing theory)",
        "arrival of the request (arrival_s)",
        "end of the step that emits its last token (finished_s), and its way to the client (stream_s)",
    ),
    LatencyMetric(
        "queue_s",
        "Queueing delay: how long a request waits before the engine works on it, its time in the front end "
        "(front_end_s) included",
        "arrival of the request (arrival_s)",
        "start of the step that computes its first prompt tokens (scheduled_s)",
    ),
)

VISIBLE_METRIC = LatencyMetric(
    "ttft_visible_s",
    "Time to the first token that the user sees, after the reasoning",
    "arrival of the request (arrival_s)",
    "end of the step that emits the token after its reasoning_tokens",
)
"""Of requests that reason: in results whose workload has ``reasoning_tokens`` only."""

FRONT_END_METRIC = LatencyMetric(
    "front_end_s",
    "Time in the front end before the engine's queue: waiting for a worker, and its work",
    "arrival of the request (arrival_s)",
    "its front end hands it to the engine's queue (enqueued_s)",
)
"""Of requests of pools with a front end: only in results that have such a pool."""

_INT32, _INT64, _FLOAT64, _STRING = pl.Int32(), pl.Int64(), pl.Float64(), pl.String()
_LATENCY = {metric.name: metric.description for metric in LATENCY_METRICS}

REQUESTS = (
    Column("request_id", _INT64, "-", "Position in order of arrival, from 0; the frame is in this order"),
    Column("model", _STRING, "-", "Model that the request asks for"),
    Column("tenant", _STRING, "-", "Who sent it; null where the workload does not say"),
    Column("priority", _INT32, "-", "Scheduling priority; a lower number is served first"),
    Column("session", _STRING, "-", "Conversation it belongs to; null where the workload does not say"),
    Column("slo_class", _STRING, "-", "Class whose latency targets apply to it; null where it has none"),
    Column("replica", _INT32, "-", "Number of the replica it was routed to; null when it reached none"),
    Column("arrival_s", _FLOAT64, "s", "Time of arrival, since the start of the run"),
    Column("scheduled_s", _FLOAT64, "s", "Start of the step that computes its first prompt tokens"),
    Column("first_token_s", _FLOAT64, "s", "End of the step that emits its first token"),
    Column(
        "finished_s", _FLOAT64, "s", "End of the step that emits its last token; null unless it completed"
    ),
    Column("prompt_tokens", _INT32, "tokens", "Length of its prompt"),
    Column("output_tokens", _INT32, "tokens", "Tokens emitted for it by the end of the run"),
    Column("output_tokens_target", _INT32, "tokens", "Output length that the workload asks for"),
    *(Column(name, _FLOAT64, "s", _LATENCY[name]) for name in ("queue_s", "ttft_s", "tpot_s", "e2e_s")),
    Column("preemptions", _INT32, "times", "How often it lost its KV cache and went back to the queue"),
    Column(
        "state",
        pl.Enum(STATES),
        "-",
        "What became of it: completed, rejected, or unfinished at the end of the run",
    ),
    Column(
        "finish_reason",
        pl.Enum(FINISH_REASONS),
        "-",
        "Why it ended: stop (all tokens asked for), length (cut at the context limit), or the reason of its "
        "rejection; null while unfinished",
    ),
)
"""One row per request that arrived, in order of request_id."""

EXTRAS = {
    "image_tokens": Column("image_tokens", _INT32, "tokens", "Tokens of its prompt that come from images"),
    "audio_tokens": Column("audio_tokens", _INT32, "tokens", "Tokens of its prompt that come from audio"),
    "reasoning_tokens": Column(
        "reasoning_tokens",
        _INT32,
        "tokens",
        "Tokens of its output, from the first on, that the user does not see",
    ),
    "ttft_visible_s": Column(
        "ttft_visible_s", _FLOAT64, "s", f"{VISIBLE_METRIC.description}; null if none came"
    ),
    "enqueued_s": Column(
        "enqueued_s",
        _FLOAT64,
        "s",
        "When its front end handed it to the engine's queue; null without a front end",
    ),
    "stream_s": Column(
        "stream_s",
        _FLOAT64,
        "s",
        "How long its tokens take from the engine to the client; in ttft_s and e2e_s, not in first_token_s and "
        "finished_s",
    ),
    "front_end_s": Column("front_end_s", _FLOAT64, "s", FRONT_END_METRIC.description),
    "decode_steps": Column(
        "decode_steps",
        _INT32,
        "steps",
        "Speculative decoding: steps that emitted its tokens but for those at the ends of prefills; null without it",
    ),
    "decode_steps_drawn": Column(
        "decode_steps_drawn",
        _INT32,
        "steps",
        "Steps that were drawn for all its tokens but the first: decode_steps, unless preempted or unfinished",
    ),
    "decode_tokens_drawn": Column(
        "decode_tokens_drawn",
        _INT32,
        "tokens",
        "Tokens that they were drawn for, to be spread evenly over them",
    ),
}
"""Further columns of ``requests``, which a result has only where its workload or a pool has what they tell of."""

FRONT_END_COLUMNS = ("enqueued_s", "stream_s", "front_end_s")
"""Those of `EXTRAS` that a result has where a pool has a front end."""

SPECULATION_COLUMNS = ("decode_steps", "decode_steps_drawn", "decode_tokens_drawn")
"""Those of `EXTRAS` that a result has where a pool decodes speculatively."""

SEGMENTS = (
    Column("replica", _INT32, "-", "Number of the replica"),
    Column("start_s", _FLOAT64, "s", "Start of the first step, since the start of the run"),
    Column("step_s", _FLOAT64, "s", "Duration of the first step"),
    Column("growth_s", _FLOAT64, "s", "How much longer each following step is than the one before"),
    Column("steps", _INT32, "steps", "How many steps the segment has"),
    Column("sequences", _INT32, "requests", "Requests that decode one token in each step"),
    Column(
        "context_tokens", _INT64, "tokens", "Tokens they attend in the first step; each step adds `sequences`"
    ),
    Column("prefill_tokens", _INT32, "tokens", "Prompt tokens computed in each step"),
    Column("prefill_sequences", _INT32, "requests", "Requests whose prompt is worked on in each step"),
)
"""One row per run of identical engine steps of a replica, in order of their end (time order per replica)."""

REPLICAS = (
    Column("time_s", _FLOAT64, "s", "Sampling time, since the start of the run"),
    Column("replica", _INT32, "-", "Number of the replica"),
    Column("waiting_requests", _INT32, "requests", "Requests in its queue"),
    Column("running_requests", _INT32, "requests", "Requests in its batch"),
    Column("running_tokens", _INT64, "tokens", "Prompt and emitted tokens of the requests in its batch"),
    Column("kv_blocks_used", _INT32, "blocks", "KV-cache blocks taken"),
    Column(
        "busy_s",
        _FLOAT64,
        "s",
        "Time it has worked since the start of the run",
    ),
)
"""State of every replica at the sampling times, in order of time, then replica."""

EVENTS = (
    Column("time_s", _FLOAT64, "s", "When it happened, since the start of the run"),
    Column(
        "kind",
        pl.Enum(EVENT_KINDS),
        "-",
        "preempted (out of the batch, KV cache lost), readmitted (back in the batch), resumed (emitted a "
        "token again) or rejected",
    ),
    Column("request_id", _INT64, "-", "The request it happened to"),
    Column("replica", _INT32, "-", "The replica where it happened; null when it was at none"),
    Column(
        "output_tokens",
        _INT32,
        "tokens",
        "Tokens the request had emitted by then; for resumed, including the one emitted at this time",
    ),
)
"""Rare happenings, in order of time."""

FRAMES: dict[str, tuple[Column, ...]] = {
    "requests": REQUESTS,
    "segments": SEGMENTS,
    "replicas": REPLICAS,
    "events": EVENTS,
}
"""The frames of a result by name."""


def frame_schema(name: str, extras: Collection[str] = ()) -> pl.Schema:
    """Return the polars schema of the frame *name*, a key of `FRAMES`; *extras* are those of `EXTRAS` that it has."""
    columns = [*FRAMES[name], *(EXTRAS[key] for key in EXTRAS if key in extras and name == "requests")]
    return pl.Schema({column.name: column.dtype for column in columns})


def result_extras(
    workload_extras: Collection[str], *, front_end: bool = False, speculation: bool = False
) -> tuple[str, ...]:
    """Return those of `EXTRAS` that a result has.

    Parameters
    ----------
    workload_extras
        Columns that the workload has.
    front_end
        Whether a pool has a front end.
    speculation
        Whether a pool decodes speculatively.
    """
    visible = {VISIBLE_METRIC.name} if "reasoning_tokens" in workload_extras else set()
    others = {*workload_extras, *visible, *(FRONT_END_COLUMNS if front_end else ())}
    others |= {*SPECULATION_COLUMNS} if speculation else set()
    return tuple(name for name in EXTRAS if name in others)


def _latency_keys(metrics: Sequence[LatencyMetric]) -> list[SummaryKey]:
    words = {"mean": "Mean", "p50": "Median", "p90": "90 % quantile", "p99": "99 % quantile"}
    return [
        SummaryKey(
            f"{metric.name}_{statistic}", "s", f"{words[statistic]} of {metric.name} over measured requests"
        )
        for metric in metrics
        for statistic in STATISTICS
    ]


SUMMARY = (
    SummaryKey("requests_arrived", "requests", "Requests that entered the system"),
    SummaryKey("requests_completed", "requests", "Requests that emitted all their tokens"),
    SummaryKey("requests_rejected", "requests", "Requests that were refused"),
    SummaryKey("requests_unfinished", "requests", "Requests in the system when the run ended"),
    SummaryKey(
        "requests_measured",
        "requests",
        "Completed requests that arrived at or after warm_up_s: the ones that latency statistics are over",
    ),
    SummaryKey("requests_cut", "requests", "Completed requests whose output was cut at the context limit"),
    SummaryKey("requests_rejected_by_reason", "requests", "Rejected requests for each reason that occurred"),
    SummaryKey(
        "preemptions", "times", "Times that a running request lost its KV cache and went back to the queue"
    ),
    SummaryKey("duration_s", "s", "Simulated time from the start of the run (0) to its end"),
    SummaryKey(
        "requests_per_s",
        "1/s",
        "requests_completed / duration_s. Like all rates of the cluster's work it is over the whole run, the "
        "warm-up included",
    ),
    SummaryKey(
        "prompt_tokens_per_s",
        "tokens/s",
        "Prompt tokens of requests that got a first token / duration_s, the warm-up included",
    ),
    SummaryKey(
        "output_tokens_per_s",
        "tokens/s",
        "Tokens emitted, for unfinished requests too / duration_s, the warm-up included",
    ),
    *_latency_keys(LATENCY_METRICS),
    SummaryKey(
        "kv_used_ratio_max", "0-1", "Largest share of a replica's KV-cache blocks taken at once, any replica"
    ),
    SummaryKey("engine_steps", "steps", "Engine steps of all replicas"),
    SummaryKey("utilization_ratio", "0-1", "Share of duration_s that a replica computes, mean over replicas"),
    SummaryKey(
        "slo_met_ratio",
        "0-1",
        "Share of the requests with latency targets, arrived at or after warm_up_s, that completed within "
        "all of them. A request of one token meets any tpot_s; a rejected one meets none; one that is "
        "unfinished at the end of the run is left out of both counts, unless it is too late for a target "
        "already (say, no first token within ttft_s), which is a miss",
    ),
    SummaryKey(
        "goodput_requests_per_s",
        "1/s",
        "Requests that arrived at or after warm_up_s and met their targets / (duration_s - warm_up_s). It "
        "leaves the warm-up out, requests_per_s does not: compare the two in runs without one",
    ),
    SummaryKey(
        "slo_classes",
        "-",
        "Per class: all its requests, targets, slo_met_ratio, goodput_requests_per_s, and median and p99 latencies",
    ),
    SummaryKey("gpu_hours", "h", "GPUs of all replicas times duration_s"),
    SummaryKey("cost_usd", "USD", "gpu_hours at each pool's price; null where a price is unknown"),
    SummaryKey("usd_per_million_output_tokens", "USD", "cost_usd per million emitted tokens"),
    SummaryKey(
        "backlog_growing",
        "-",
        "Whether the number of requests waiting to be scheduled grew, beyond the noise of arrivals, until three "
        "quarters of the arrivals' span and until its end: then latencies depend on the length of the run, and "
        "the cluster is likely saturated",
    ),
    SummaryKey("interrupted", "-", "Whether the user stopped the run before its end"),
    SummaryKey("models", "-", "Per model: requests and latencies; null unless the workload names several"),
    SummaryKey("tenants", "-", "Per tenant: requests and latencies; null unless the workload names tenants"),
    SummaryKey(
        "pools",
        "-",
        "Per pool: replicas, requests, tokens, utilization, KV use, and how close it is to what it can serve",
    ),
    SummaryKey("replicas", "-", "Per replica: requests, tokens, utilization and KV use"),
    SummaryKey("workload", "-", "What the reader or generator of the workload counted"),
)
"""Keys of ``summary.json``, in its order. A value that cannot be told is null."""

POOL_LOAD = (
    SummaryKey(
        "load_state",
        "-",
        "Whether the pool kept up: `saturated` (the backlog of its requests grew as in backlog_growing; or load_ratio "
        "is 1 or more; or arrivals wait for answers, or all came at once, and half of them found no room in the "
        "batch), `near_knee` (load_ratio is 0.8 or more) or `stable`",
    ),
    SummaryKey(
        "load_ratio",
        "0-1",
        "Requests that arrived per second, from the first arrival to the last one, over capacity_requests_per_s: "
        "more than 1 under overload; null if all came at once",
    ),
    SummaryKey(
        "capacity_requests_per_s",
        "1/s",
        "Most requests per second that the pool can serve in the long run, of the lengths that it got "
        "(docs/model/capacity.md)",
    ),
)
"""Keys of each pool in ``pools``, beside those that each replica has."""

EXTRA_METRICS = (VISIBLE_METRIC, FRONT_END_METRIC)
"""Latencies that a result has where its frame ``requests`` has their columns."""

EXTRA_SUMMARY = (
    *_latency_keys(EXTRA_METRICS),
    SummaryKey(
        "sessions",
        "-",
        "Only where requests have sessions: how many (sessions), requests in them, prompt_tokens_mean of those, "
        "session_s_mean from the arrival of a session's first request to the end of its last, and active_mean, the "
        "mean number of sessions under way over duration_s",
    ),
    SummaryKey(
        "speculation",
        "-",
        "Only where a pool decodes speculatively: decode_steps of all requests, and acceptance_length_mean, the tokens "
        "that such a step emitted for a request",
    ),
)
"""Keys that follow where a result has `EXTRA_METRICS`, or sessions."""
