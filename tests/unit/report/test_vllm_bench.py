"""Tests of the export to vLLM's result file: keys, hand-computed values, and its definitions written out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import servesim
from servesim.errors import ServesimError
from servesim.report.vllm_bench import vllm_bench, vllm_bench_json
from servesim.results.run_result import SavedScenario

ROOT = Path(__file__).resolve().parents[3]

SETUP = "date endpoint_type backend label model_id tokenizer_id num_prompts request_rate burstiness max_concurrency"
TOTALS = (
    "duration completed failed total_input_tokens total_output_tokens request_throughput request_goodput "
    "output_throughput total_token_throughput max_output_tokens_per_s max_concurrent_requests rtfx"
)
LISTS = "input_lens output_lens ttfts itls latencies start_times queue_times generated_texts errors"
STATISTICS = ("mean", "median", "std", "p90", "p95", "p99")


def exported(result, *, detailed=False):
    """Return the file's content."""
    return json.loads("".join(vllm_bench_json(result, detailed=detailed)))


def test_keys(run):
    """The keys are those of vLLM's file, in its order; the lists are there only when asked for."""
    latencies = [
        f"{statistic}_{name}_ms" for name in ("ttft", "tpot", "itl", "e2el") for statistic in STATISTICS
    ]
    singles = [*SETUP.split(), *TOTALS.split(), *latencies]
    assert list(exported(run())) == singles
    assert list(exported(run(), detailed=True)) == [*singles, *LISTS.split()]


def test_the_example_of_how_it_works(run):
    """The two requests of docs/how-it-works.md: TTFT 10 and 17 ms, every gap 10 ms, the end after 100 and 47 ms."""
    values = exported(run())
    expected = {
        "backend": "servesim", "label": "example", "model_id": "llama-3.1-8b", "tokenizer_id": None,
        "num_prompts": 2, "completed": 2, "failed": 0, "request_rate": 1 / 0.033, "duration": 0.1,
        "total_input_tokens": 150, "total_output_tokens": 14,
        "request_throughput": 20.0, "request_goodput": None, "output_throughput": 140.0,
        "total_token_throughput": 1640.0, "max_output_tokens_per_s": 14.0, "max_concurrent_requests": 2,
        "mean_ttft_ms": 13.5, "median_ttft_ms": 13.5, "std_ttft_ms": 3.5, "p90_ttft_ms": 16.3,
        "mean_tpot_ms": 10.0, "median_tpot_ms": 10.0, "p99_tpot_ms": 10.0,
        "mean_itl_ms": 10.0, "median_itl_ms": 10.0, "p99_itl_ms": 10.0,
        "mean_e2el_ms": 73.5, "median_e2el_ms": 73.5, "std_e2el_ms": 26.5, "p99_e2el_ms": 99.47,
    }  # fmt: skip
    for key, value in expected.items():
        assert values[key] == (value if not isinstance(value, float) else pytest.approx(value, rel=1e-9)), key
    assert values["std_itl_ms"] == pytest.approx(0.0, abs=1e-9)
    assert len(values["date"]) == len("20260101-120000")


def test_lists_of_single_requests(run):
    """With --detailed every request has its numbers, in seconds; a rejected one has zeros and its reason."""
    result = run(
        [(0.0, 100, 3), (0.02, 5000, 4)],
        engine="{async_scheduling: false, kv_blocks: 100, kv_block_tokens: 16}",
    )
    values = exported(result, detailed=True)
    assert (values["completed"], values["failed"], values["num_prompts"]) == (1, 1, 2)
    assert values["input_lens"] == [100, 5000]
    assert values["output_lens"] == [3, 0]
    assert values["ttfts"] == [pytest.approx(0.01), 0.0]
    assert values["itls"] == [[pytest.approx(0.01), pytest.approx(0.01)], []]
    assert values["latencies"] == [pytest.approx(0.03), 0.0]
    assert values["start_times"] == [0.0, 0.02]
    assert values["queue_times"] == [0.0, 0.0]
    assert values["generated_texts"] == ["", ""]
    assert values["errors"] == ["", "prompt_too_long"]


@pytest.mark.parametrize("warm_up_s", [0, 4])
def test_definitions_of_vllm_written_out(warm_up_s):
    """Statistics equal those of vLLM's formulas over plain lists, from the times of every token."""
    result = servesim.run(
        ROOT / "tests" / "golden" / "preemptions.yaml",
        overrides=[
            "workload.generator.requests=120",
            "cluster.pools.main.engine.kv_blocks=150",
            "cluster.pools.main.engine.front_end=none",  # token times are the engine's
            f"run.warm_up_s={warm_up_s}",
            "slo.ttft_s=0.5",
        ],
    )
    ttfts, tpots, itls, e2els, spans, tokens, good = [], [], [], [], [], [], 0
    for request in result.requests.iter_rows(named=True):
        if request["state"] != "completed" or request["arrival_s"] < warm_up_s:
            continue
        times = result.token_times(request["request_id"])
        ttfts.append(times[0] - request["arrival_s"])
        e2els.append(times[-1] - request["arrival_s"])
        itls += np.diff(times).tolist()
        if len(times) > 1:
            tpots.append((e2els[-1] - ttfts[-1]) / (len(times) - 1))
        spans += [(request["arrival_s"], 1), (times[-1], -1)]
        tokens += times.tolist()
        good += ttfts[-1] <= 0.5
    values = vllm_bench(result)
    duration_s = result.summary["duration_s"] - warm_up_s
    assert result.summary["preemptions"] > 10 and result.summary["requests_rejected"] > 0
    assert values["completed"] == len(ttfts) < values["num_prompts"] == values["completed"] + values["failed"]
    assert values["request_throughput"] == pytest.approx(len(ttfts) / duration_s)
    assert values["request_goodput"] == pytest.approx(good / duration_s)
    assert values["total_output_tokens"] == len(tokens)
    for name, numbers in (("ttft", ttfts), ("tpot", tpots), ("itl", itls), ("e2el", e2els)):
        found = [values[f"{statistic}_{name}_ms"] for statistic in STATISTICS]
        expected = [
            np.mean(numbers),
            np.median(numbers),
            np.std(numbers),
            *np.percentile(numbers, (90, 95, 99)),
        ]
        assert found == pytest.approx([1000 * value for value in expected], rel=1e-9), name
    first_s = min(time_s for time_s, change in spans if change == 1)
    per_second = np.bincount((np.array(tokens) - first_s).astype(int))
    assert values["max_output_tokens_per_s"] == per_second.max()
    assert values["max_concurrent_requests"] == max(np.cumsum([change for _, change in sorted(spans)]))


def test_agrees_with_the_summary(run):
    """What both have, both have to the last bit."""
    result = run([(0.01 * number, 50 + number, 3 + number % 7) for number in range(60)], replicas=2)
    values = vllm_bench(result)
    for ours, theirs in (("ttft_s", "ttft"), ("tpot_s", "tpot"), ("e2e_s", "e2el")):
        assert values[f"mean_{theirs}_ms"] == result.summary[f"{ours}_mean"] * 1000
        assert values[f"p99_{theirs}_ms"] == pytest.approx(result.summary[f"{ours}_p99"] * 1000, rel=1e-12)
    assert values["request_throughput"] == result.summary["requests_per_s"]
    assert values["output_throughput"] == result.summary["output_tokens_per_s"]


def test_unfinished_requests_are_left_out(run):
    """A client would have waited for them: they are neither completed nor failed, and have no statistics."""
    result = run([(0.0, 100, 1000)], run="{horizon_s: 0.5, drain: false}")
    values = exported(result, detailed=True)
    assert (values["num_prompts"], values["completed"], values["failed"]) == (0, 0, 0)
    assert values["request_rate"] is None
    assert values["mean_ttft_ms"] is None and values["p99_itl_ms"] is None
    assert values["max_concurrent_requests"] == 0
    assert values["itls"] == []


def test_requests_that_come_all_at_once(run):
    """Where every request arrives at the same time, the rate is "inf", as vLLM calls it."""
    assert exported(run([(0.0, 10, 2), (0.0, 10, 2)]))["request_rate"] == "inf"


def test_a_saved_result_gives_the_same_file(run, tmp_path):
    """The result in memory and the one on disk agree, and the date is that of the run."""
    out = tmp_path / "saved"
    result = run(out=out)
    loaded = servesim.RunResult.load(out)
    assert "".join(vllm_bench_json(loaded, detailed=True)) == "".join(vllm_bench_json(result, detailed=True))
    started = json.loads((out / "run.json").read_text())["started_at"]
    assert exported(loaded)["date"] == started[:19].replace("-", "").replace(":", "").replace("T", "-")


def test_a_warm_up_that_is_not_that_of_the_run(run):
    """A damaged scenario.yaml is refused, where it would change every number without a word."""
    result = run([(0.0, 100, 3), (1.0, 100, 3)], run="{warm_up_s: 0.5}")
    assert vllm_bench(result)["completed"] == 1
    lost = replace(result, scenario=SavedScenario("name: example\n"))
    with pytest.raises(ServesimError, match=r"run.warm_up_s is not that of the run \(got 0, .* 2 requests"):
        vllm_bench(lost)
