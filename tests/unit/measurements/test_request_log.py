"""Request logs: hand-computed latencies, the real logs, and clocks that cannot be."""

from __future__ import annotations

import json

import polars as pl
import pytest
from benchmark_files import LOG, write_log

from servesim.errors import TraceError
from servesim.measurements import read_measured


def test_latencies_are_those_of_the_time_stamps(tmp_path):
    """TTFT and E2E count from the arrival, TPOT from the first token over output - 1; one token has none."""
    (run,) = read_measured(write_log(tmp_path / "requests.jsonl"))
    assert run.requests["arrival_s"].to_list() == pytest.approx([0.0, 0.5, 1.0])
    assert run.requests["ttft_s"].to_list() == pytest.approx([0.2, 0.5, 0.4])
    assert run.requests["e2e_s"].to_list() == pytest.approx([1.2, 1.5, 0.4])
    assert run.requests["tpot_s"][0] == pytest.approx(0.1)
    assert run.requests["tpot_s"][1] == pytest.approx(0.05)
    assert run.requests["tpot_s"][2] is None
    assert run.metrics["tpot_s_mean"] == pytest.approx(0.075)
    assert run.metrics["output_tokens_per_s"] == pytest.approx(
        33 / 2.0
    )  # last token at 12.0, first arrival at 10.0
    assert run.metrics["ttft_s_p50"] == pytest.approx(0.4)


def test_rows_are_put_in_order_of_arrival(tmp_path):
    """A log is written when requests end; the replay needs them as they came."""
    (run,) = read_measured(write_log(tmp_path / "requests.jsonl", rows=LOG[::-1]))
    assert run.requests["prompt_tokens"].to_list() == [100, 200, 300]


def test_the_files_beside_a_log_tell_who_served(tmp_path):
    """Model, engine and settings from meta.json, the GPU from config.json, what ran and waited from timeseries.csv."""
    log = write_log(tmp_path / "a" / "requests.jsonl", queued_ts=[10.1, 10.6, 11.1])
    meta = {"model": "Qwen/Qwen3-32B", "vllm_version": "0.19.0", "started_at": "1970-01-01T00:00:09Z"}
    meta["engine_kwargs"] = {
        "tensor_parallel_size": 2,
        "max_num_seqs": 128,
        "max_model_len": None,
        "dtype": "bfloat16",
    }
    log.with_name("meta.json").write_text(json.dumps(meta))
    log.with_name("config.json").write_text(
        json.dumps({"nodes": [{"instances": [{"hardware": "RTXPRO6000"}]}]})
    )
    log.with_name("timeseries.csv").write_text("t,running,waiting\n1.0,1,0\n2.0,2,1\n")
    (run,) = read_measured(tmp_path)
    served = run.deployment
    assert (run.name, served.model, served.gpu, served.tensor_parallel) == (
        "a",
        "Qwen/Qwen3-32B",
        "RTXPRO6000",
        2,
    )
    assert (served.dtype, served.engine_version, dict(served.settings)) == (
        "bf16",
        "0.19.0",
        {"max_num_seqs": 128},
    )
    assert run.series["time_s"].to_list() == pytest.approx(
        [0.0, 1.0]
    )  # started one second before the first arrival
    assert run.series["waiting_requests"].to_list() == [0.0, 1.0]


@pytest.mark.parametrize(
    "changed", ({"last_token_ts": [11.2, 10.9, 11.4]}, {"first_token_ts": [10.2, 10.4, 11.4]})
)
def test_a_clock_that_goes_back_is_refused_with_row_and_column(tmp_path, changed):
    """The second row ends before it begins."""
    log = write_log(tmp_path / "requests.jsonl", **changed)
    with pytest.raises(TraceError, match=rf"row 2: {next(iter(changed))}: before .*in 1 rows.*goes forward"):
        read_measured(log)


def test_two_clocks_are_tied_by_the_queue(tmp_path):
    """Arrivals on a wall clock, tokens on a monotonic one: the fastest way to the queue counts as none."""
    log = write_log(
        tmp_path / "requests.jsonl",
        arrival_time=[1e9, 1e9 + 0.5, 1e9 + 1.0],
        queued_ts=[10.1, 10.5, 11.0],
    )
    (run,) = read_measured(log)
    assert run.requests["ttft_s"].to_list() == pytest.approx([0.2, 0.5, 0.4], abs=1e-6)
    assert "moved to the clock of the tokens" in run.notes[0]


def test_two_clocks_without_a_queue_are_refused(tmp_path):
    """Nothing ties them."""
    log = write_log(tmp_path / "requests.jsonl", arrival_time=[1e9, 1e9 + 0.5, 1e9 + 1.0])
    with pytest.raises(TraceError, match=r"different clocks.*no queued_ts"):
        read_measured(log)


def test_logs_of_one_machine_share_the_offset(tmp_path):
    """The faster log tells it: the other's least delay to the queue is then a delay, not nothing."""
    for name, delay in (("fast", 0.0), ("slow", 0.05)):
        write_log(
            tmp_path / name / "requests.jsonl",
            arrival_time=[1e9, 1e9 + 0.5, 1e9 + 1.0],
            queued_ts=[10.0 + delay, 10.5 + delay, 11.0 + delay],
            first_token_ts=[10.2, 11.0, 11.4],
        )
    fast, slow = read_measured(tmp_path)
    assert slow.requests["ttft_s"].to_list() == pytest.approx(fast.requests["ttft_s"].to_list())


def test_requests_without_output_are_left_out_and_counted(tmp_path):
    """They failed: their times mean nothing."""
    (run,) = read_measured(write_log(tmp_path / "requests.jsonl", output_toks=[11, 0, 1]))
    assert run.requests.height == 2
    assert any("1 requests without output tokens" in note for note in run.notes)


@pytest.mark.parametrize(
    ("changed", "message"),
    (
        ({"output_toks": [0, 0, 0]}, "no completed request"),
        ({"last_token_ts": None}, "missing column 'finished_s'"),
        ({"input_toks": [100, 2.5, 3]}, "row 2: input_toks"),
        ({"first_token_ts": [10.2, None, 11.4]}, "row 2: first_token_ts"),
        (
            {"arrival_time": [1.0] * 3, "first_token_ts": [1.0] * 3, "last_token_ts": [1.0] * 3},
            "a run of no length",
        ),
    ),
)
def test_unusable_logs_are_refused(tmp_path, changed, message):
    """With the file, and where it helps the row and the column."""
    log = write_log(tmp_path / "requests.jsonl", **changed)
    with pytest.raises(TraceError, match=message):
        read_measured(log)


def test_a_series_that_stands_still_is_refused(tmp_path):
    """Two rows of the same second."""
    log = write_log(tmp_path / "requests.jsonl")
    log.with_name("timeseries.csv").write_text("t,running,waiting\n1.0,1,0\n1.0,2,1\n")
    with pytest.raises(TraceError, match=r"timeseries.csv: row 2: t: not after the row before"):
        read_measured(log)


def test_the_real_logs_have_their_published_facts(shared):
    """300 requests each, up to 104 and 172 waiting, 23 and 133 ms from arrival to queue by the shared offset."""
    folder = shared("calibration/vllm_requests/RTXPRO6000")
    runs = {run.name: run for run in read_measured(folder)}
    assert {name: run.requests.height for name, run in runs.items()} == {
        "Llama-3.1-8B": 300,
        "Qwen3-32B": 300,
    }
    assert runs["Llama-3.1-8B"].series["waiting_requests"].max() == 104
    assert runs["Qwen3-32B"].series["waiting_requests"].max() == 172
    assert runs["Qwen3-32B"].deployment.tensor_parallel == 2
    for name, delay_s in (("Llama-3.1-8B", 0.023), ("Qwen3-32B", 0.133)):
        log = pl.read_ndjson(folder / name / "requests.jsonl")
        offset_s = float(runs[name].notes[0].split(" by ")[1].split()[0])
        assert (log["queued_ts"] - log["arrival_time"] - offset_s).mean() == pytest.approx(delay_s, abs=0.002)
