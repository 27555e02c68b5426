"""The roofline: its sum, against physical bounds, with the host, and against measurements."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesim.catalog import HostCosts, ModelArchitecture, engine_version, gpu, model
from servesim.errors import ScenarioError
from servesim.latency.api import NO_HOST, UNLIMITED_STEPS, BatchShape, LatencyContext
from servesim.latency.efficiency import expected_experts
from servesim.latency.roofline import SCALES, Roofline

HOST = engine_version("vllm-0.10").host
FASTEST = dict.fromkeys(SCALES, 1e-9)
"""Every kernel at its peak, and no start takes time: what hardware could do at best."""


def ready(
    architecture: ModelArchitecture,
    gpu_name: str,
    *,
    ranks: int = 1,
    overlapped: bool = False,
    host: HostCosts = NO_HOST,
    **parameters: float,
) -> Roofline:
    """Return a roofline for a replica; *overlapped*: its host's scheduling is hidden behind the GPU."""
    built = Roofline(**parameters)
    built.reset(
        LatencyContext(
            model=architecture,
            gpu=gpu(gpu_name),
            tensor_parallel=ranks,
            max_num_seqs=1024,
            max_num_batched_tokens=8192,
            async_scheduling=overlapped,
            graph_tokens_max=512,
            host=host,
        )
    )
    return built


@cache
def _cached(name: str, gpu_name: str, ranks: int, parameters: tuple[tuple[str, float], ...]) -> Roofline:
    return ready(model(name), gpu_name, ranks=ranks, **dict(parameters))


def test_decode_step_at_the_peaks() -> None:
    """Llama-3.1-8B at the peaks of an H100: weights, activations of products and KV cache over 3.35 TB/s."""
    first_s, growth_s, steps = ready(model("llama-3.1-8b"), "h100-sxm", **FASTEST).price(BatchShape(2, 1000))
    layer = 4096 * 128 * 2 * (32 + 8) + 3 * 4096 * 14336
    weights = 2 * (32 * layer + 128_256 * 4096)
    edges = 32 * (2 * 4096 + 6144 + 4096 + 4096 + 2 * 14336 + 14336 + 4096) + 4096 + 128_256
    lower_s = (weights + 2 * 2 * edges + 1000 * 131_072) / 3.35e12
    assert lower_s < first_s < 1.02 * lower_s
    assert growth_s == pytest.approx(2 * 131_072 / 3.35e12)
    assert steps == UNLIMITED_STEPS


def test_few_tokens_read_few_experts() -> None:
    """One token of Mixtral reads two experts of eight per layer: 12.7 of 46.7 B parameters."""
    first_s = ready(model("mixtral-8x7b"), "h200-sxm", **FASTEST).price(BatchShape(1, 1))[0]
    assert first_s == pytest.approx(2 * model("mixtral-8x7b").active_parameters / 4.8e12, rel=0.02)


def test_tensor_parallel_divides_the_work_and_adds_collectives() -> None:
    """Four GPUs take more than a quarter of the time of one; slower links show, and only with several GPUs."""
    batch = BatchShape(8, 8000, [(512, 3000)])
    one = ready(model("llama-3.1-70b"), "h200-sxm").price(batch)[0]
    four = ready(model("llama-3.1-70b"), "h200-sxm", ranks=4).price(batch)[0]
    assert one / 4 < four < one / 2
    assert ready(model("llama-3.1-70b"), "h200-sxm", collective_scale=9.0).price(batch)[0] == one
    assert ready(model("llama-3.1-70b"), "h200-sxm", ranks=4, collective_scale=9.0).price(batch)[0] > four


@pytest.mark.parametrize("name", SCALES)
def test_each_scale_slows_its_kernels(name: str) -> None:
    """Twice the times of one class of kernels makes a step longer, of all classes twice as long."""
    batch = BatchShape(8, 8000, [(512, 3000)])
    measured = ready(model("qwen3-30b-a3b"), "h100-sxm", ranks=2).price(batch)[0]
    slower = ready(model("qwen3-30b-a3b"), "h100-sxm", ranks=2, **{name: 2.0}).price(batch)[0]
    assert measured < slower < 2 * measured
    all_slower = ready(model("qwen3-30b-a3b"), "h100-sxm", ranks=2, **dict.fromkeys(SCALES, 2.0))
    assert all_slower.price(batch)[0] == pytest.approx(2 * measured)


def test_sources_tell_whose_measurements_were_used() -> None:
    """A GPU with tables says so itself, one without names its relative for every operator in use."""
    assert set(ready(model("llama-3.1-8b"), "h100-sxm").sources.values()) == {"h100-sxm"}
    assert ready(model("llama-3.1-8b"), "mi300x", ranks=2).sources == dict.fromkeys(
        ["gemm.bf16", "decode.bf16", "prefill.bf16", "elementwise", "all_reduce"], "h100-sxm"
    )


def test_expert_parallelism_has_a_busiest_gpu() -> None:
    """Whole experts on 8 GPUs are uneven for few tokens; for many, each pair is sorted on one GPU and not on all."""
    few_s, many_s = {}, {}
    for expert in (False, True):
        built = Roofline()
        built.reset(
            LatencyContext(
                model=model("qwen3-235b-a22b"),
                gpu=gpu("h200-sxm"),
                tensor_parallel=8,
                expert_parallel=expert,
                max_num_seqs=512,
                max_num_batched_tokens=8192,
                async_scheduling=False,
            )
        )
        few_s[expert], many_s[expert] = built.tokens_s(8), built.tokens_s(8192)
    assert few_s[False] < few_s[True] < 2 * few_s[False]
    assert many_s[True] < many_s[False]


def test_synchronous_host_adds_to_the_step() -> None:
    """Without overlap the GPU waits for the host's work on every sequence."""
    without = ready(model("llama-3.1-8b"), "h100-sxm")
    with_host = ready(
        model("llama-3.1-8b"),
        "h100-sxm",
        host=HostCosts(launch_s=1e-3, schedule_s=1e-3, schedule_per_sequence_s=1e-4),
    )
    batch = BatchShape(10, 5000, [(100, 0)])
    assert with_host.price(batch)[0] - without.price(batch)[0] == pytest.approx(2e-3 + 11e-4)
    assert with_host.price(batch)[1] == without.price(batch)[1]


def test_overlapped_host_hides_until_the_gpu_is_slower() -> None:
    """The step takes the slower side; the price ends where the growing GPU time passes the host's."""
    gpu_only = ready(model("llama-3.1-8b"), "h100-sxm")
    overlapped = ready(model("llama-3.1-8b"), "h100-sxm", overlapped=True, host=HostCosts(schedule_s=0.01))
    batch = BatchShape(64, 64 * 800)
    gpu_s, growth_s, _ = gpu_only.price(batch)
    first_s, flat, steps = overlapped.price(batch)
    assert (first_s, flat) == (0.01, 0.0)
    assert gpu_s + growth_s * (steps - 1) <= 0.01 < gpu_s + growth_s * steps
    later = BatchShape(64, 64 * (800 + steps))
    assert overlapped.price(later) == gpu_only.price(later)


NAMES = ("llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v3", "gpt-oss-20b", "kimi-k2.5")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("parameters", [FASTEST, {}], ids=["fastest", "default"])
@given(
    sequences=st.integers(1, 1000),
    mean=st.integers(1, 20_000),
    chunk=st.none() | st.tuples(st.integers(1, 4096), st.integers(0, 20_000)),
)
def test_never_faster_than_the_hardware(
    name: str, parameters: dict[str, float], sequences: int, mean: int, chunk: tuple[int, int] | None
) -> None:
    """No step beats peak FLOP/s on its operations, or peak bandwidth on the bytes that it must read."""
    found, device, ranks = model(name), gpu("b200-sxm"), 8
    batch = BatchShape(sequences, sequences * mean, [chunk] if chunk else [])
    step_s = _cached(name, device.name, ranks, tuple(parameters.items())).price(batch)[0]

    tokens = sequences + (chunk[0] if chunk else 0)
    head = found.embedding_parameters
    flops = 2 * (found.active_parameters - head) * tokens + 2 * head * (sequences + bool(chunk))
    window = found.sliding_window_tokens or 10**9
    full_layers = found.layers - found.sliding_layers
    attended = sequences * (full_layers * mean + found.sliding_layers * min(mean, window))
    flops += found.attention_flops_per_pair * attended
    if chunk:
        pairs = chunk[0] * chunk[1] + chunk[0] * (chunk[0] + 1) / 2
        flops += found.attention_flops_per_pair * full_layers * pairs
    assert step_s >= flops / ranks / device.peak_flops_per_s("fp8") * (1 - 1e-9)

    visited = expected_experts(found.moe.experts, found.moe.experts_per_token, tokens) if found.moe else 0
    share = visited / found.moe.experts if found.moe else 0
    read = found.weight_bytes - head * found.embedding_element_bytes * (not found.tied_embeddings)
    if found.moe:
        whole = found.routed_parameters * {"bf16": 2, "fp8": 1, "int4": 0.5, "mxfp4": 0.5}[found.expert_dtype]
        read -= whole * (1 - share) * 1.2  # scales of the 4-bit formats, generously
    read += attended * found.kv_bytes_per_token_layer
    assert step_s >= read / ranks / device.memory_bandwidth_bytes_per_s * (1 - 1e-9)


@pytest.mark.parametrize("name", SCALES)
def test_object_with_an_impossible_scale_is_refused(name: str) -> None:
    """An object built by hand, past the registry's checks, is stopped before a run."""
    with pytest.raises(ScenarioError, match=rf"roofline: {name}: .*\(got -1\.5\)"):
        ready(model("llama-3.1-8b"), "h100-sxm", **{name: -1.5})


def test_magnitudes_that_practitioners_know() -> None:
    """Llama-3.1-8B bf16 on an H100: 6-7.5 ms alone, 10-12 ms at 64 x 500, 38-60 ms for a prompt of 2,048."""
    roofline = ready(model("llama-3.1-8b"), "h100-sxm", host=HOST)
    assert 6e-3 < roofline.price(BatchShape(1, 500))[0] < 7.5e-3
    assert 10e-3 < roofline.price(BatchShape(64, 32_000))[0] < 12e-3
    assert 38e-3 < roofline.price(BatchShape(0, 0, [(2048, 0)]))[0] < 60e-3


MEASURED = {
    ("meta-llama/Llama-3.1-8B-Instruct", 1): ("llama-3.1-8b", 0.05),
    ("Qwen/Qwen3-8B", 1): ("qwen3-8b", 0.12),
    ("Qwen/Qwen3-32B", 2): ("qwen3-32b", 0.10),
    ("meta-llama/Llama-3.3-70B-Instruct", 4): ("llama-3.3-70b", 0.10),
}


@pytest.mark.parametrize(("key", "expected"), MEASURED.items(), ids=str)
def test_dense_models_on_h100_against_ml_energy(
    key: tuple[str, int], expected: tuple[str, float], shared: Callable[[str], Path]
) -> None:
    """Mean error of the median inter-token latency up to batch 256; only the first model was fitted."""
    points = pl.read_parquet(shared("calibration/power/ml_energy_llm_points.parquet")).filter(
        (pl.col("model") == key[0]) & (pl.col("tp") == key[1]) & (pl.col("gpu") == "H100"),
        (pl.col("task") == "lm-arena-chat") & (pl.col("avg_batch") <= 256),
    )
    name, tolerance = expected
    roofline = ready(model(name), "h100-sxm", ranks=key[1], host=HOST)
    errors = [
        1e3 * roofline.price(BatchShape(round(batch), round(batch * (100 + output))))[0] / itl_ms - 1
        for batch, output, itl_ms in points.select("avg_batch", "avg_out", "itl_p50").iter_rows()
    ]
    assert len(errors) >= 6
    assert sum(map(abs, errors)) / len(errors) < tolerance


KV_GIB = {"opt-1.3b": 54.48, "opt-2.7b": 51.97, "llama-2-7b": 44.36, "llama-2-13b": 32.61}


PROMPT_TOKENS = 161
"""Mean prompt of that sweep: prompt over output tokens, times the mean output."""

TOLERANCE = {"opt-1.3b": 0.13, "opt-2.7b": 0.13, "llama-2-7b": 0.05, "llama-2-13b": 0.05}
"""OPT's older attention kernels (64 elements per head, 16-bit floats of V0) are slower than the tables' ones."""


@pytest.mark.parametrize("name", KV_GIB)
def test_batch_sweep_on_h100_64gb(name: str, shared: Callable[[str], Path]) -> None:
    """Another card, other models, nothing fitted: decode plus its share of arriving prompts, against mean latencies."""
    sweep = pl.read_parquet(shared("calibration/batch_curves/vllm_h100_64gb_batch_sweep.parquet")).filter(
        pl.col("path").str.starts_with(f"background/{name}")
    )
    architecture = model(name)
    roofline = ready(architecture, "h100-sxm-64gb", host=HOST)
    tokens = KV_GIB[name] * 2**30 / architecture.kv_bytes_per_token
    errors = []
    for row in sweep.iter_rows(named=True):
        sequences = max(1, round(row["run_mean"]))
        decode_s = roofline.price(BatchShape(sequences, round(row["kv_mean"] * tokens)))[0]
        prompts = sequences * (row["tot_tput"] / row["out_tput"] - 1) / PROMPT_TOKENS  # that arrive in a step
        together = max(1, round(prompts))
        prompts_s = roofline.price(BatchShape(0, 0, [(PROMPT_TOKENS, 0)] * together))[0] * prompts / together
        predicted_s = decode_s + prompts_s  # V0: prompts have steps of their own
        errors.append(1e3 * predicted_s / row["itl"] - 1)
    assert len(errors) >= 12
    assert sum(map(abs, errors)) / len(errors) < TOLERANCE[name]
