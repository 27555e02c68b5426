"""Results of vllm bench serve, AIPerf and inference-perf, and what is wrong with some of them."""

from __future__ import annotations

import json

import pytest
from benchmark_files import (
    aiperf_record,
    aiperf_summary,
    inference_perf_stage,
    vllm_bench_data,
    write_json,
    write_lines,
)

from servesim.errors import TraceError
from servesim.measurements import read_measured


def test_vllm_statistics_are_read_with_a_closed_loop_of_mean_lengths(tmp_path):
    """Ten requests of the mean lengths, two at a time; milliseconds become seconds."""
    (run,) = read_measured(write_json(tmp_path / "bench.json", vllm_bench_data()))
    assert run.metrics["tpot_s_mean"] == pytest.approx(0.02)
    assert run.metrics["e2e_s_mean"] == pytest.approx(1.1)
    assert run.requests.select("prompt_tokens", "output_tokens").unique().rows() == [(100, 51)]
    assert (run.requests.height, run.max_concurrency, run.deployment.model) == (
        10,
        2,
        "meta-llama/Llama-3.1-8B",
    )
    assert any("mean" in note for note in run.notes)


def test_vllm_details_give_every_request_and_every_gap(tmp_path):
    """Two requests whose gaps are known; the third failed."""
    data = vllm_bench_data(
        input_lens=[10, 20, 30],
        output_lens=[3, 2, 0],
        ttfts=[0.1, 0.2, 0.0],
        itls=[[0.03, 0.05], [0.04], []],
        errors=["", "", "Timeout"],
        start_times=[5.0, 5.5, 6.0],
    )
    (run,) = read_measured(write_json(tmp_path / "bench.json", data))
    assert run.requests["e2e_s"].to_list() == pytest.approx([0.18, 0.24])
    assert run.requests["tpot_s"].to_list() == pytest.approx([0.04, 0.04])
    assert run.metrics["itl_s_mean"] == pytest.approx(0.04)
    assert run.metrics["itl_s_p50"] == pytest.approx(0.04)
    assert run.metrics["requests_per_s"] == pytest.approx(2 / 0.74)
    assert any("1 requests that failed" in note for note in run.notes)


def test_gaps_of_chunks_are_not_taken_for_gaps_of_tokens(tmp_path):
    """Half as many gaps as tokens: two tokens came in each chunk."""
    data = vllm_bench_data(
        input_lens=[10, 10], output_lens=[11, 11], ttfts=[0.1, 0.1], itls=[[0.1] * 5, [0.1] * 5]
    )
    (run,) = read_measured(write_json(tmp_path / "bench.json", data))
    assert "itl_s_mean" not in run.metrics
    assert run.metrics["tpot_s_mean"] == pytest.approx(0.05)
    assert any("chunks are not tokens" in note for note in run.notes)


def test_a_rate_gives_drawn_arrivals_that_are_the_same_each_time(tmp_path):
    """The file does not tell them; the seed is fixed, the mean is that of the rate."""
    data = vllm_bench_data(request_rate=4.0, max_concurrency=None, num_prompts=2000, completed=2000)
    path = write_json(tmp_path / "bench.json", data)
    one, two = read_measured(path)[0].requests, read_measured(path)[0].requests
    assert one.equals(two)
    assert one["arrival_s"].diff().mean() == pytest.approx(0.25, rel=0.1)


@pytest.mark.parametrize("factor", (0.5, 2.0))
def test_a_tpot_that_contradicts_the_end_to_end_latency_is_not_used(tmp_path, factor):
    """(1100 - 100) / 50 = 20 ms; a client that counts chunks twice reports 10 ms."""
    data = vllm_bench_data(mean_tpot_ms=20.0 * factor, p99_tpot_ms=99.0)
    (run,) = read_measured(write_json(tmp_path / "bench.json", data))
    assert run.metrics["tpot_s_mean"] == pytest.approx(0.02)
    assert "tpot_s_p99" not in run.metrics and "itl_s_mean" not in run.metrics
    assert any("contradicts" in note for note in run.notes)


@pytest.mark.parametrize(
    ("changed", "message"),
    (
        ({"total_output_tokens": 0}, "a run of no length"),
        ({"duration": 0.0}, "a run of no length"),
        ({"mean_ttft_ms": None}, "no ttft_s_mean"),
        ({"mean_ttft_ms": "fast"}, "mean_ttft_ms: not a number"),
        ({"completed": 0}, "no completed request"),
        (
            {"ttfts": [0.1], "itls": [[0.1], [0.1]], "input_lens": [1], "output_lens": [2]},
            "different lengths",
        ),
        (
            {"ttfts": [0.1], "itls": [[-5.0]], "input_lens": [1], "output_lens": [2]},
            "row 1: itls: before ttfts",
        ),
    ),
)
def test_unusable_results_of_vllm_are_refused(tmp_path, changed, message):
    """Naming the file and what is wrong."""
    path = write_json(tmp_path / "bench.json", vllm_bench_data(**changed))
    with pytest.raises(TraceError, match=f"bench.json: .*{message}"):
        read_measured(path)


def test_aiperf_records_are_read_as_they_were_sent(tmp_path):
    """Warm-up and cancelled requests are left out; the summary beside the records tells model and concurrency."""
    failed = aiperf_record(0.7) | {"error": {"code": 499, "type": "RequestCancellationError"}}
    warm_up = aiperf_record(-5.0)
    warm_up["metadata"]["benchmark_phase"] = "warmup"
    records = [warm_up, aiperf_record(0.0), failed, aiperf_record(0.5, request_latency=2100.0)]
    log = write_lines(tmp_path / "run" / "profile_export.jsonl", records)
    write_json(log.with_name("profile_export_aiperf.json"), aiperf_summary())
    (run,) = read_measured(log)
    # A closed loop: both are due from the start, and the recorded times tell the rate.
    assert run.requests["arrival_s"].to_list() == [0.0, 0.0]
    assert run.metrics["requests_per_s"] == pytest.approx(2 / 2.6)
    assert run.requests["tpot_s"].to_list() == pytest.approx([0.02, 0.04], abs=1e-6)
    assert (run.max_concurrency, run.deployment.model) == (2, "meta-llama/Llama-3.1-8B")
    assert run.notes == ("1 requests that failed are left out",)


def test_aiperf_statistics_call_tpot_inter_token_latency(tmp_path):
    """One number per request: what other tools call TPOT."""
    (run,) = read_measured(write_json(tmp_path / "run" / "profile_export_aiperf.json", aiperf_summary()))
    assert run.metrics["tpot_s_mean"] == pytest.approx(0.02)
    assert run.metrics["tpot_s_p50"] == pytest.approx(0.019)
    assert run.metrics["ttft_s_p99"] == pytest.approx(0.13)
    assert "itl_s_mean" not in run.metrics
    assert (run.requests.height, run.max_concurrency) == (4, 2)


def test_an_unknown_unit_of_aiperf_is_refused(tmp_path):
    """Minutes are not guessed."""
    record = aiperf_record(0.0)
    record["metrics"]["request_latency"]["unit"] = "min"
    with pytest.raises(TraceError, match=r"row 1: request_latency: unknown unit \(got 'min'\)"):
        read_measured(write_lines(tmp_path / "profile_export.jsonl", [record]))


def test_inference_perf_statistics_lose_a_tpot_of_chunks(tmp_path):
    """As in its published examples: the reported TPOT is half of what latency and output length imply."""
    (run,) = read_measured(write_json(tmp_path / "stage_0_lifecycle_metrics.json", inference_perf_stage()))
    assert run.metrics["tpot_s_mean"] == pytest.approx(0.02)
    assert run.metrics["ttft_s_p90"] == pytest.approx(0.12)
    assert run.requests["arrival_s"].to_list() == pytest.approx([0.0, 0.5, 1.0, 1.5])
    assert any("contradicts" in note for note in run.notes)
    assert any("1 requests that failed" in note for note in run.notes)


@pytest.mark.parametrize("nested", (False, True))
def test_inference_perf_requests_are_read_in_both_forms(tmp_path, nested):
    """Lengths and token times moved one level down in a later version."""
    times_s = [100.1, 100.2, 100.3]
    info = {"input_tokens": 7, "output_tokens": 3, "output_token_times": times_s}
    if nested:
        info = {
            "request_metrics": {"text": {"input_tokens": 7}},
            "response_metrics": {"output_tokens": 3, "output_token_times": times_s},
        }
    good = {"start_time": 100.0, "end_time": 100.31, "info": info, "error": None}
    bad = good | {"error": {"error_type": "Timeout"}}
    (run,) = read_measured(write_json(tmp_path / "per_request_lifecycle_metrics.json", [good, bad]))
    assert run.requests.row(0, named=True)["ttft_s"] == pytest.approx(0.1)
    assert run.requests.row(0, named=True)["tpot_s"] == pytest.approx(0.1)
    assert run.requests.height == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    (
        ("a.json", "{", "not readable as JSON"),
        ("a.json", "{}", "JSON of unknown form"),
        ("a.json", "[]", "JSON of unknown form"),
        ("a.jsonl", "[1]\n", "row 1: not a JSON object"),
        ("a.jsonl", '{"arrival_time": 1}\n', "missing column 'prompt_tokens'"),
        ("a.txt", "x", "unknown kind of file"),
        ("a.parquet", "x", "not readable as Parquet"),
    ),
)
def test_files_of_no_known_kind_are_refused(tmp_path, name, text, message):
    """Saying what is known."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TraceError, match=message):
        read_measured(path)


def test_a_missing_file_and_an_empty_folder_are_told(tmp_path):
    """Neither is a measurement."""
    with pytest.raises(TraceError, match="no such file"):
        read_measured(tmp_path / "none.json")
    with pytest.raises(TraceError, match="no logs"):
        read_measured(tmp_path)


def test_a_detailed_export_of_servesim_is_read_back(tmp_path):
    """What `servesim export` writes is what this reader takes: TTFT and TPOT come back."""
    import servesim
    from servesim.report.vllm_bench import vllm_bench_json

    result = servesim.run("scenarios/quickstart.yaml", overrides=["workload.max_requests=50"])
    path = tmp_path / "bench.json"
    path.write_text("".join(vllm_bench_json(result, detailed=True)), encoding="utf-8")
    (run,) = read_measured(path)
    for metric in ("ttft_s_mean", "tpot_s_mean", "e2e_s_p99"):
        assert run.metrics[metric] == pytest.approx(result.summary[metric], rel=1e-9)
    assert run.metrics["itl_s_mean"] == pytest.approx(result.itl_statistics().mean_s, rel=1e-9)
    assert json.loads(path.read_text())["completed"] == run.requests.height
