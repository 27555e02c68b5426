"""The host of vLLM 0.19 fitted to one real log, judged on another of twice the GPUs and four times the model."""

from __future__ import annotations

import json

import polars as pl

from servesim.calibration import calibrate
from servesim.measurements import read_measured
from servesim.validation import validate

LOGS = "calibration/vllm_requests/RTXPRO6000"
PROFILES = "calibration/operator_tables/layer_profiles/profile_v1/RTXPRO6000"


def table(shared, model: str) -> str:
    """Return the override for the layer table of *model*."""
    return (
        f"cluster.pools.0.latency={{name: table, path: {json.dumps(str(shared(PROFILES) / model / 'bf16'))}}}"
    )


def test_the_host_of_one_log_predicts_the_other(shared):
    """Fitted: Llama-3.1-8B on one GPU. Judged: Qwen3-32B on two, within 2 % of TPOT and E2E, 6 % of TTFT."""
    llama, qwen = read_measured(shared(LOGS))
    found = calibrate(
        [llama],
        overrides=[table(shared, "meta-llama/Llama-3.1-8B")],
        parameters=["launch_s"],
        hold_out="0",
        workers=1,
    )
    launch_s = found.parameters[0].value
    assert 0.7e-3 < launch_s < 1.6e-3
    result = validate(
        [qwen],
        overrides=[table(shared, "Qwen/Qwen3-32B"), f"cluster.pools.0.engine.host.launch_s={launch_s!r}"],
    )
    errors = dict(result.metrics.with_columns(pl.col("error").abs()).select("metric", "error").iter_rows())
    assert errors["tpot_s_mean"] <= 0.02
    assert errors["e2e_s_mean"] <= 0.02
    assert errors["ttft_s_mean"] <= 0.06
    assert result.runs["running_requests_error"][0] <= 0.05
    assert result.runs["waiting_requests_error"][0] <= 0.05
