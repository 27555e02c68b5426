"""The table model: steps by hand from known profiles, physics, edges, operator tables, and two real logs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profile_format import META, decode_us, operator_rows, prefill_us, profile, tables, write, write_profile

from servesim import simulate
from servesim.catalog import gpu, model
from servesim.errors import ScenarioError, ServesimError
from servesim.latency.api import UNLIMITED_STEPS, BatchShape, LatencyContext
from servesim.latency.roofline import Roofline
from servesim.latency.table import Table
from servesim.scenario import Scenario
from servesim.testing import assert_results_equal, step_by_step

CONTEXT = LatencyContext(
    model=model("llama-3.1-8b"),
    gpu=gpu("h100-sxm"),
    tensor_parallel=1,
    max_num_seqs=64,
    max_num_batched_tokens=2048,
    async_scheduling=False,
)
LAYERS = 32
EMPTY_US = prefill_us(16, 0)
"""The least chunk that was measured stands for an empty one."""


def table(path: Path, context: LatencyContext = CONTEXT) -> Table:
    """Return a table model that is ready to price."""
    ready = Table(path=path)
    ready.reset(context)
    return ready


def tokens_us(tokens: float) -> float:
    """Return what the known profile takes for tokens: a layer's matrix and two norms, and the embedding."""
    return LAYERS * (400.0 + 2.0 * tokens + 2 * (2.0 + 0.01 * tokens)) + 4.0 + 0.1 * tokens


def heads_us(sequences: float) -> float:
    """Return output head and sampler of the known profile."""
    return 310.0 + 1.5 * sequences


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_decode_step_by_hand(tmp_path: Path, suffix: str) -> None:
    """8 sequences of 1,000 tokens: all operators of all layers; exact up to the point at 4,096 and growing evenly."""
    first_s, growth_s, steps = table(write_profile(tmp_path, suffix=suffix)).price(BatchShape(8, 8000))
    expected_us = tokens_us(8) + heads_us(8) + LAYERS * decode_us(8, 1000)
    assert first_s == pytest.approx(expected_us * 1e-6)
    assert growth_s == pytest.approx(LAYERS * 4e-3 * 8 * 1e-6)
    assert steps == 4096 - 1000 + 1  # the one on the point included


def test_last_step_before_a_point_stands_alone() -> None:
    """On a point a new line begins; a step that passes it without touching it is the last of its price."""
    ready = table(profile())
    assert ready.price(BatchShape(8, 8 * 4096 - 7))[1:] == (0.0, 1)
    assert ready.price(BatchShape(8, 8 * 4096 - 8))[2] == 2
    assert ready.price(BatchShape(8, 8 * 4096))[2] == 16384 - 4096 + 1
    assert ready.price(BatchShape(8, 8 * 140_000))[2] == UNLIMITED_STEPS  # longer than the model's context


def test_prompt_step_by_hand() -> None:
    """One chunk of 128 tokens after 512."""
    price = table(profile()).price(BatchShape(0, 0, [(128, 512)]))
    assert price == (
        pytest.approx((tokens_us(128) + heads_us(1) + LAYERS * prefill_us(128, 512)) * 1e-6),
        0.0,
        1,
    )


def test_mixed_step_by_hand() -> None:
    """Decodes beside one chunk take what both took together; a second chunk adds what it takes beyond an empty one."""
    ready = table(profile())
    both_us = prefill_us(128, 512) + decode_us(8, 512) - 3.0
    one_us = tokens_us(136) + heads_us(9) + LAYERS * both_us
    assert ready.price(BatchShape(8, 8 * 512, [(128, 512)]))[0] == pytest.approx(one_us * 1e-6)
    two_us = tokens_us(136 + 64) + heads_us(10) + LAYERS * (both_us + prefill_us(64, 0) - EMPTY_US)
    assert ready.price(BatchShape(8, 8 * 512, [(128, 512), (64, 0)]))[0] == pytest.approx(two_us * 1e-6)


def test_mixed_steps_that_were_not_measured_are_sums(tmp_path: Path) -> None:
    """Without a table of both, a chunk and the decodes take what each takes alone."""
    ready = table(write_profile(tmp_path, mixed=False))
    expected_us = tokens_us(136) + heads_us(9) + LAYERS * (prefill_us(128, 512) + decode_us(8, 512))
    assert ready.price(BatchShape(8, 8 * 512, [(128, 512)]))[0] == pytest.approx(expected_us * 1e-6)


def test_all_reduces_that_were_not_measured_are_assumed(tmp_path: Path) -> None:
    """Two per layer, each a start of 20 us and a ring at a quarter of the link's 450 GB/s."""
    path = write_profile(tmp_path, ranks=(1, 2))
    one, two = table(path), table(path, replace(CONTEXT, tensor_parallel=2))
    ring_s = 100 * 4096 * 2 / (0.25 * 450e9)
    assert two.tokens_s(100) - one.tokens_s(100) == pytest.approx(2 * LAYERS * (20e-6 + ring_s))


def test_experts_by_hand(tmp_path: Path) -> None:
    """16 tokens of Qwen3-30B-A3B visit 128 (1 - (1 - 8/128)^16) experts on average."""
    context = replace(CONTEXT, model=model("qwen3-30b-a3b"))
    with_experts = table(write_profile(tmp_path / "a", experts=True), context)
    visited = 128 * (1 - (1 - 8 / 128) ** 16)
    rest_us = 48 * (400.0 + 2.0 * 16 + 2 * (2.0 + 0.16)) + 4.0 + 1.6
    expected_us = rest_us + 48 * (20.0 + 3.0 * visited + 8.0)
    assert with_experts.tokens_s(16) == pytest.approx(expected_us * 1e-6)
    with pytest.raises(ScenarioError, match=r"no experts\. expected a profile with those of qwen3-30b-a3b"):
        table(write_profile(tmp_path / "b"), context)
    with pytest.raises(ScenarioError, match=r"got data_parallel 2, expert_parallel true\)"):
        table(tmp_path / "a", replace(context, data_parallel=2, expert_parallel=True))


@given(
    sequences=st.integers(1, 64),
    mean=st.integers(1, 60_000),
    chunk=st.integers(1, 2048),
    start=st.integers(0, 60_000),
)
def test_no_price_beats_the_peaks(sequences: int, mean: int, chunk: int, start: int) -> None:
    """Tables of a seventh of the time, below the peaks, do not make a GPU faster than it is."""
    ready, device, shape = FAST, CONTEXT.gpu, CONTEXT.model
    weights_bytes = 2.0 * (shape.active_parameters - 2 * shape.vocab_size * shape.hidden_size)
    kv_bytes = sequences * mean * LAYERS * shape.kv_bytes_per_token_layer
    decode_s = ready.price(BatchShape(sequences, sequences * mean))[0]
    assert decode_s >= 0.999 * (weights_bytes + kv_bytes) / device.memory_bandwidth_bytes_per_s
    pairs = chunk * (start + chunk / 2)
    flops = weights_bytes * chunk + LAYERS * shape.attention_flops_per_pair * pairs
    assert ready.price(BatchShape(0, 0, [(chunk, start)]))[0] >= 0.999 * flops / device.bf16_flops_per_s


def _fast() -> Table:
    known = {f"tp1/{name}": frame.with_columns(pl.col("time_us") * 0.15) for name, frame in tables().items()}

    with tempfile.TemporaryDirectory() as folder:
        return table(write(Path(folder), known))


FAST = _fast()


def test_times_of_another_unit_are_refused(tmp_path: Path) -> None:
    """A thousandth of the times: ms that were written as us."""
    known = {f"tp1/{name}": frame.with_columns(pl.col("time_us") * 1e-3) for name, frame in tables().items()}
    with pytest.raises(
        ScenarioError,
        match=r"times that beat the GPU's peak \(got 0\.000146 s for the matrices of 2048 tokens\)",
    ):
        table(write(tmp_path, known))


def test_single_disturbed_row_moves_no_price(tmp_path: Path) -> None:
    """A row of 256 tokens, and one of decodes, took thirty times: told in the sources, and prices stay as they were."""
    known, quiet = tables(), table(profile())
    spike = pl.col("time_us") * 30
    known["dense"] = known["dense"].with_columns(
        pl.when((pl.col("tokens") == 256) & (pl.col("layer") == "qkv_proj"))
        .then(spike)
        .otherwise("time_us")
        .alias("time_us")
    )
    here = (pl.col("prefill_chunk") == 0) & (pl.col("n_decode") == 8) & (pl.col("kv_decode") == 4096)
    known["attention"] = known["attention"].with_columns(
        pl.when(here).then(spike).otherwise("time_us").alias("time_us")
    )
    ready = table(write(tmp_path, {f"tp1/{name}": frame for name, frame in known.items()}))
    assert ready.sources["smoothed"] == "qkv_proj at tokens 256; decode at sequences 8, context 4096"
    for batch in (BatchShape(8, 8 * 4096), BatchShape(50, 50 * 9000), BatchShape(0, 0, [(256, 0)])):
        assert ready.price(batch)[0] == pytest.approx(quiet.price(batch)[0], rel=1e-6)
    assert "smoothed" not in quiet.sources


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ("hardware: RTXPRO6000\n", r"tables of another GPU \(got RTXPRO6000\)\. expected h100-sxm"),
        (
            "engine_effective: {hf_overrides: {num_attention_heads: 64}}\n",
            r"another model \(got heads 64\)\. expected 32",
        ),
        (
            "engine_effective: {hf_overrides: {num_key_value_heads: 4}}\n",
            r"got kv_heads 4\)\. expected 8 of llama",
        ),
    ],
)
def test_profile_of_something_else_is_refused(tmp_path: Path, meta: str, message: str) -> None:
    """Another GPU or another model, as far as the file tells."""
    path = write_profile(tmp_path, meta=META.replace("attention_grid", "grid") + meta)
    with pytest.raises(ScenarioError, match=message):
        table(path)
    assert table(write_profile(tmp_path, meta="hardware: H100\n")).sources["measured"] == "vllm ?"


def test_shapes_beyond_the_tables_are_told() -> None:
    """Which axis, to where it was measured, how far it was used, and how many prices were worked out there."""
    ready = table(profile(), replace(CONTEXT, max_num_batched_tokens=8192))
    ready.price(BatchShape(8, 8 * 2000, [(512, 0)]))
    assert ready.extrapolated == {}
    ready.price(BatchShape(8, 8 * 20_000))
    ready.price(BatchShape(8, 8 * 30_000))
    ready.price(BatchShape(0, 0, [(4000, 20_000)]))
    ready.price(BatchShape(0, 0, [(4000, 20_000)]))  # known by now
    assert ready.extrapolated == {
        "context": {"measured_to": 16384, "used_to": 30_000, "prices": 2},
        "chunk": {"measured_to": 2048, "used_to": 4000, "prices": 1},
        "start": {"measured_to": 16384, "used_to": 20_000, "prices": 1},
        "tokens": {"measured_to": 2048, "used_to": 4000, "prices": 1},
    }


def test_chunks_beyond_the_table_grow_as_the_roofline_does() -> None:
    """At twice the largest chunk, attention is that of the edge times the roofline's ratio."""
    context = replace(CONTEXT, max_num_batched_tokens=4096)
    ready, roofline = table(profile(), context), Roofline()
    roofline.reset(context)
    edge, beyond = (BatchShape(0, 0, [(chunk, 512)]) for chunk in (2048, 4096))
    ratio = roofline.attention(beyond)[0] / roofline.attention(edge)[0]
    assert ready.attention(beyond)[0] == pytest.approx(ratio * ready.attention(edge)[0])
    ratio = roofline.tokens_s(4096) / roofline.tokens_s(2048)
    assert ready.tokens_s(4096) == pytest.approx(ratio * ready.tokens_s(2048))


def test_scenario_names_the_edges_in_its_provenance(tmp_path: Path) -> None:
    """A run with prompts of up to 40,000 tokens says so; sources name the profiler's engine."""
    write_profile(tmp_path, ranks=(1,))
    result = simulate(_scenario(tmp_path, prompt=40_000))
    (pool,) = result.provenance["pools"]
    assert pool["latency_sources"] == {"measured": "vllm 0.19.0"}
    assert pool["latency_extrapolated"]["start"]["measured_to"] == 16384
    assert simulate(_scenario(tmp_path, prompt=200)).provenance["pools"][0]["latency_extrapolated"] == {}


def _scenario(
    path: Path, *, prompt: int, output: int = 5, requests: int = 3, rate_per_s: float = 1.0
) -> Scenario:
    generator = {
        "name": "constant",
        "rate_per_s": rate_per_s,
        "requests": requests,
        "prompt_tokens": {"distribution": "uniform", "low": max(1, prompt // 2), "high": prompt},
        "output_tokens": {"distribution": "uniform", "low": 1, "high": output},
    }
    latency = {"name": "table", "path": str(path)}
    pool = {"name": "main", "model": "llama-3.1-8b", "gpu": "h100-sxm", "latency": latency}
    return Scenario.model_validate({"workload": {"generator": generator}, "cluster": {"pools": [pool]}})


@given(prompt=st.integers(1, 20_000), output=st.integers(1, 700), requests=st.integers(1, 12))
@settings(max_examples=25)
def test_leaps_equal_single_steps(prompt: int, output: int, requests: int) -> None:
    """A run that leaps over steps, from point to point of the table, is the run of single steps."""
    scenario = _scenario(profile(), prompt=prompt, output=output, requests=requests, rate_per_s=40.0)
    assert_results_equal(simulate(scenario), simulate(step_by_step(scenario)))


def _operators(folder: Path) -> Path:
    return write(folder, operator_rows(), meta=None)


H200 = replace(CONTEXT, gpu=gpu("h200-sxm"))


@pytest.fixture
def lasting_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let GPUs compute as fast under load as in a benchmark."""
    monkeypatch.setattr("servesim.latency.operator_costs.sustained_share", lambda _: 1.0)


@pytest.mark.usefixtures("lasting_clocks")
def test_operator_tables_are_exact_where_they_were_measured(tmp_path: Path) -> None:
    """Llama-3.1-8B on one H200: every matrix, the head, decode and prefill of 32 layers as measured."""
    ready = table(_operators(tmp_path), H200)
    matrices_ms = sum(
        2.0 * 256 * n * k / 6e11 for n, k in ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336))
    )
    matrices_s = LAYERS * max(0.0, matrices_ms) * 1e-3
    elementwise_s = ready.tokens_s(256) - matrices_s
    assert 0 < elementwise_s < 0.1 * matrices_s
    assert ready.sequences_s(16) == pytest.approx(128256 * 4096 / 2e9 * 1e-3)
    decode_s = LAYERS * (0.004 + 16 * 65536 * 2e-6) * 1e-3
    assert ready.attention(BatchShape(16, 16 * 65536))[0] == pytest.approx(decode_s)
    assert ready.attention(BatchShape(0, 0, [(1024, 0)]))[0] == pytest.approx(LAYERS * (0.01 + 0.1024) * 1e-3)
    assert ready.sources == {
        "measured": "vllm 0.24.0 (AIConfigurator)",
        "fitted": "norms, rotations, activations",
    }


def test_benchmarks_are_too_short_to_last(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """What computes takes longer under load, by Hopper's share; what reads does not."""
    path = _operators(tmp_path)
    under_load = table(path, H200)
    request.getfixturevalue("lasting_clocks")
    alone = table(path, H200)
    ratio = {tokens: under_load.tokens_s(tokens) / alone.tokens_s(tokens) for tokens in (1, 4096)}
    assert ratio[1] == pytest.approx(1.0, abs=0.005)
    assert ratio[4096] == pytest.approx(1 / 0.84, rel=0.03)
    prompt, decodes = BatchShape(0, 0, [(1024, 0)]), BatchShape(16, 16 * 65536)
    assert 1.05 < under_load.attention(prompt)[0] / alone.attention(prompt)[0] < 1 / 0.84
    assert under_load.attention(decodes)[0] == pytest.approx(alone.attention(decodes)[0])


def test_what_operator_tables_lack_is_fitted_and_named(tmp_path: Path) -> None:
    """Experts of gpt-oss in mxfp4, its attention in the nearest shape; without attention tables that too."""
    known = {
        name: rows for name, rows in operator_rows().items() if not name.startswith(("attention", "comm"))
    }
    context = replace(H200, model=model("gpt-oss-20b"), tensor_parallel=2)
    ready, roofline = table(write(tmp_path, known, meta=None), context), Roofline()
    roofline.reset(context)
    assert ready.sources["fitted"].split(", ") == [
        *("experts in mxfp4", "norms", "rotations", "activations"),
        *("decode attention", "prefill attention", "all-reduces"),
    ]
    for batch in (BatchShape(16, 16 * 1024), BatchShape(0, 0, [(1024, 0)]), BatchShape(0, 0, [(512, 8192)])):
        assert ready.attention(batch)[0] == pytest.approx(roofline.attention(batch)[0], rel=0.05)


@pytest.mark.usefixtures("lasting_clocks")
def test_experts_measured_evenly_are_priced_as_tokens_visit_them_at_random(tmp_path: Path) -> None:
    """Experts that take 3 us for each visited one: 16 tokens visit all 128 if spread evenly, 82 at random."""
    context = replace(H200, model=model("qwen3-30b-a3b"))
    columns = ["hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "num_tokens", "latency"]
    shape = (2048, 768, 8, 128, 1)
    rows = [(*shape, tokens, 0.02 + 0.003 * min(128, 8 * tokens)) for tokens in (1, 4, 16, 4096)]
    experts = pl.DataFrame(rows, schema=columns, orient="row").with_columns(
        moe_dtype=pl.lit("bfloat16"), distribution=pl.lit("balanced"), moe_ep_size=1
    )
    folder = write(tmp_path, {**operator_rows(), "moe/vllm/0.24.0/moe_perf": experts}, meta=None)
    ready = table(folder, context)
    one, some, most = (ready._profile.per_step["experts"](tokens) / 48 for tokens in (1, 16, 4096))
    assert one == pytest.approx(44e-6)
    assert most == pytest.approx(404e-6)
    assert some == pytest.approx((20 + 3 * 128 * (1 - (1 - 8 / 128) ** 16)) * 1e-6, rel=0.05)


def test_operator_tables_of_another_gpu_are_refused(tmp_path: Path) -> None:
    """Tables of an H200 for an H100."""
    with pytest.raises(ScenarioError, match=r"tables of another GPU \(got h200-sxm\)\. expected h100-sxm"):
        table(_operators(tmp_path))


def test_nothing_there_is_refused(tmp_path: Path) -> None:
    """A path without a folder."""
    with pytest.raises(ServesimError, match="no such folder"):
        table(tmp_path / "none")


AICONFIGURATOR = "calibration/operator_tables/aiconfigurator"


@pytest.mark.parametrize(
    ("folder", "device", "name", "ranks"),
    [
        ("h200_sxm", "h200-sxm", "llama-3.1-8b", 1),
        ("h100_sxm", "h100-sxm", "llama-3.1-70b", 4),
        ("b200_sxm", "b200-sxm", "qwen3-30b-a3b", 1),
        ("h200_sxm", "h200-sxm", "gpt-oss-120b", 1),
        ("h200_sxm", "h200-sxm", "deepseek-v3", 8),
        ("a100_sxm", "a100-80gb-sxm", "llama-3.1-8b", 2),
        ("l40s", "l40s", "qwen3-32b", 2),
    ],
)
def test_real_operator_tables_lie_around_what_was_fitted_to_them(
    shared: Callable[[str], Path], folder: str, device: str, name: str, ranks: int
) -> None:
    """Dense, experts, windows, latent attention: steps within a half of the roofline, whose fit errs by less."""
    context = replace(CONTEXT, model=model(name), gpu=gpu(device), tensor_parallel=ranks)
    ready, roofline = table(shared(AICONFIGURATOR) / folder, context), Roofline()
    roofline.reset(context)
    assert ready.sources["fitted"] == "norms, rotations, activations"
    for batch in (BatchShape(1, 1000), BatchShape(32, 32_000), BatchShape(32, 32_000, [(1000, 0)])):
        assert 1 / 1.5 < ready.price(batch)[0] / roofline.price(batch)[0] < 1.5


@pytest.mark.parametrize(
    ("name", "hub", "catalog", "ranks"),
    [
        ("Llama-3.1-8B", "meta-llama/Llama-3.1-8B", "llama-3.1-8b", 1),
        ("Qwen3-32B", "Qwen/Qwen3-32B", "qwen3-32b", 2),
    ],
)
def test_logs_of_vllm_are_met(
    shared: Callable[[str], Path], tmp_path: Path, name: str, hub: str, catalog: str, ranks: int
) -> None:
    """300 requests on RTX PRO 6000, through saturation: the host was fitted on Llama's log, nothing on Qwen's."""
    log = shared(f"calibration/vllm_requests/RTXPRO6000/{name}/requests.jsonl")
    rows = sorted(map(json.loads, log.read_text().splitlines()), key=lambda row: row["queued_ts"])
    result = simulate(_replay(rows, tmp_path, catalog, ranks, shared(REAL) / hub / "bf16")).requests
    result = result.sort("request_id")
    first = pl.Series([row["first_token_ts"] - row["queued_ts"] for row in rows])
    all_s = pl.Series([row["last_token_ts"] - row["queued_ts"] for row in rows])
    outputs = pl.Series([max(1, row["output_toks"] - 1) for row in rows])
    for column, measured, bar in (
        ("ttft_s", first, 0.06),
        ("tpot_s", (all_s - first) / outputs, 0.02),
        ("e2e_s", all_s, 0.02),
    ):
        assert result[column].mean() == pytest.approx(measured.mean(), rel=bar)


REAL = "calibration/operator_tables/layer_profiles/profile_v1/RTXPRO6000"


def _replay(rows: list[dict[str, Any]], folder: Path, catalog: str, ranks: int, path: Path) -> Scenario:
    columns = {"arrival_s": "queued_ts", "prompt_tokens": "input_toks", "output_tokens": "output_toks"}
    pl.DataFrame({key: [row[key] for row in rows] for key in columns.values()}).with_columns(
        pl.col("queued_ts") - rows[0]["queued_ts"]
    ).write_csv(folder / "log.csv")
    source = {"reader": "table", "path": str(folder / "log.csv"), "columns": columns}
    pool = {
        "name": "main",
        "model": catalog,
        "gpu": "rtx-pro-6000",
        "tensor_parallel": ranks,
        "engine": {"max_num_seqs": 128, "version": "vllm-0.19"},
        "latency": {"name": "table", "path": str(path)},
    }
    return Scenario.model_validate({"workload": {"source": source}, "cluster": {"pools": [pool]}})
