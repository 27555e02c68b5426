"""The roofline: by hand, against physical bounds, its knots, and against measurements."""

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
from servesim.latency.kernels import all_reduce_s, expected_experts, kv_bytes_per_token_layer
from servesim.latency.roofline import EFFICIENCIES, Roofline

HOST = engine_version("vllm-0.10").host
PERFECT = dict.fromkeys(EFFICIENCIES, 1.0) | {"kernel_s": 0.0}


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
            host=host,
        )
    )
    return built


@cache
def _cached(name: str, gpu_name: str, ranks: int, parameters: tuple[tuple[str, float], ...]) -> Roofline:
    return ready(model(name), gpu_name, ranks=ranks, **dict(parameters))


def test_decode_step_by_hand() -> None:
    """Llama-3.1-8B at the peaks of an H100: weights, KV cache and activations over 3.35 TB/s."""
    first_s, growth_s, steps = ready(model("llama-3.1-8b"), "h100-sxm", **PERFECT).price(BatchShape(2, 1000))
    layer = 4096 * 128 * 2 * (32 + 8) + 3 * 4096 * 14336
    weights = 2 * (32 * layer + 128_256 * 4096)
    activations = 2 * 2 * 32 * (8 * 4096 + 2 * (32 + 16) * 128 + 3 * 14336)
    assert first_s == pytest.approx((weights + activations + 1000 * 131_072) / 3.35e12)
    assert growth_s == pytest.approx(2 * 131_072 / 3.35e12)
    assert steps == UNLIMITED_STEPS


def test_prefill_step_by_hand() -> None:
    """4,096 tokens of Llama-3.1-8B are bound by computing, their one row of logits by reading the head."""
    roofline = ready(model("llama-3.1-8b"), "h100-sxm", **PERFECT)
    first_s, growth_s, _ = roofline.price(BatchShape(0, 0, [(4096, 0)]))
    layer = 4096 * 128 * 2 * (32 + 8) + 3 * 4096 * 14336
    gemm_s = 2 * 32 * layer * 4096 / 989e12
    attention_s = 4 * 32 * 128 * 32 * (4096 * 4097 / 2) / 989e12
    moved = 2 * 4096 * 32 * (8 * 4096 + 2 * (32 + 16) * 128 + 3 * 14336) + 2 * 128_256 * 4096
    assert first_s == pytest.approx(gemm_s + attention_s + moved / 3.35e12)
    assert growth_s == pytest.approx(4 * 32 * 128 * 32 * 4096**2 / 989e12)


def test_short_chunk_is_bound_by_reading_its_prefix() -> None:
    """A one-token chunk costs what one decoding sequence with the same context costs."""
    roofline = ready(model("llama-3.1-8b"), "h100-sxm")
    chunk, decode = roofline.price(BatchShape(0, 0, [(1, 9_999)])), roofline.price(BatchShape(1, 10_000))
    assert chunk == pytest.approx(decode)


def test_expected_experts() -> None:
    """Two tokens that choose 2 of 8 share half an expert on average; many tokens visit all."""
    assert expected_experts(8, 2, 2) == pytest.approx(3.5)
    assert expected_experts(128, 8, 100_000) == pytest.approx(128)
    assert expected_experts(4, 4, 1) == 4


def test_few_tokens_read_few_experts() -> None:
    """One token of Mixtral reads two experts of eight per layer: 12.7 of 46.7 B parameters."""
    first_s = ready(model("mixtral-8x7b"), "h200-sxm", **PERFECT).price(BatchShape(1, 1))[0]
    assert first_s == pytest.approx(2 * model("mixtral-8x7b").active_parameters / 4.8e12, rel=0.01)


def test_ring_all_reduce() -> None:
    """Each of 8 GPUs sends 7/8 of the message twice; one GPU sends nothing."""
    assert all_reduce_s(8e6, 8, 100e9) == pytest.approx(14e6 / 100e9)
    assert all_reduce_s(8e6, 1, 100e9) == 0.0


@pytest.mark.parametrize(
    ("name", "ranks", "count"),
    [("llama-3.1-8b", 1, 32 * 9), ("llama-3.1-8b", 2, 32 * (9 + 6)), ("deepseek-v3", 1, 3 * 9 + 58 * 14)],
)
def test_each_kernel_adds_its_start(name: str, ranks: int, count: int) -> None:
    """Nine kernels per dense layer, fourteen with experts, three more per all-reduce; async hides none."""
    batch = BatchShape(4, 4000)
    quick = ready(model(name), "b200-sxm", ranks=ranks, overlapped=True, **PERFECT)
    slow = ready(model(name), "b200-sxm", ranks=ranks, overlapped=True, **PERFECT | {"kernel_s": 1e-3})
    assert slow.price(batch)[0] - quick.price(batch)[0] == pytest.approx(count * 1e-3)


@pytest.mark.parametrize(("ranks", "share"), [(1, 1), (4, 1 / 4), (8, 1 / 8), (16, 1 / 8)])
def test_kv_heads_are_replicated_beyond_their_number(ranks: int, share: float) -> None:
    """A GPU reads at least one of Llama's eight KV heads, and always DeepSeek's whole latent vector."""
    assert kv_bytes_per_token_layer(model("llama-3.1-8b"), ranks) == 4096 * share
    assert kv_bytes_per_token_layer(model("deepseek-v3"), ranks) == 1152


def test_tensor_parallel_divides_the_work_and_adds_collectives() -> None:
    """At the peaks, 4 GPUs take a quarter of the time of one plus 2 all-reduces per layer."""
    no_link = PERFECT | {"link_efficiency": 1e-3}
    batch = BatchShape(8, 8000, [(512, 3000)])
    one = ready(model("llama-3.1-70b"), "h200-sxm", **PERFECT).price(batch)[0]
    four = ready(model("llama-3.1-70b"), "h200-sxm", ranks=4, **PERFECT).price(batch)[0]
    slow = ready(model("llama-3.1-70b"), "h200-sxm", ranks=4, **no_link).price(batch)[0]
    reduced_s = 2 * 80 * 1.5 * 520 * 8192 * 2 / 450e9
    norms_s = 8 * 80 * 520 * 8192 * 2 / 4.8e12  # norms are not split
    assert four - one / 4 == pytest.approx(reduced_s + norms_s * 3 / 4)
    assert slow - four == pytest.approx(999 * reduced_s)


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
    batch = BatchShape(64, 64)
    gpu_s, growth_s, _ = gpu_only.price(batch)
    first_s, flat, steps = overlapped.price(batch)
    assert (first_s, flat) == (0.01, 0.0)
    assert gpu_s + growth_s * (steps - 1) <= 0.01 < gpu_s + growth_s * steps
    later = BatchShape(64, 64 + 64 * steps)
    assert overlapped.price(later) == gpu_only.price(later)


def test_window_fills_and_then_stops_growing() -> None:
    """gpt-oss-20b at a mean context of 100: 29 steps until 128, then half of the layers grow."""
    roofline = ready(model("gpt-oss-20b"), "h100-sxm", **PERFECT)
    first_s, growth_s, steps = roofline.price(BatchShape(10, 1000))
    assert steps == 29
    assert growth_s == pytest.approx(10 * 24 * 2048 / 3.35e12)
    full_s, full_growth_s, full_steps = roofline.price(BatchShape(10, 1280))
    assert full_s == pytest.approx(first_s + 28 * growth_s)
    assert (full_growth_s, full_steps) == (pytest.approx(10 * 12 * 2048 / 3.35e12), UNLIMITED_STEPS)


@given(tokens=st.integers(1, 300), start=st.integers(0, 300))
def test_chunk_within_a_window_attends_what_counting_says(tokens: int, start: int) -> None:
    """The window layers' share of a chunk's time is proportional to the sum of min(position, window)."""
    oss = model("gpt-oss-20b")
    roofline = _cached(oss.name, "h100-sxm", 1, tuple(PERFECT.items()))
    first_s = roofline.price(BatchShape(0, 0, [(tokens, start)]))[0]
    base_s = roofline.price(BatchShape(0, 0, [(tokens, 0)]))[0]

    def attention_s(at: int) -> float:
        positions = range(at + 1, at + tokens + 1)
        pairs = sum(positions) + sum(min(position, 128) for position in positions)
        return 12 * max(4 * 64 * 64 / 989e12, 2048 / 3.35e12 / tokens) * pairs

    assert first_s - base_s == pytest.approx(attention_s(start) - attention_s(0), rel=1e-6, abs=1e-12)


NAMES = ("llama-3.1-8b", "qwen3-30b-a3b", "deepseek-v3", "gpt-oss-20b", "kimi-k2.5")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("parameters", [PERFECT, {}], ids=["perfect", "default"])
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


@pytest.mark.parametrize("name", EFFICIENCIES)
def test_object_with_an_impossible_efficiency_is_refused(name: str) -> None:
    """An object built by hand, past the registry's checks, is stopped before a run."""
    with pytest.raises(ScenarioError, match=rf"roofline: {name}: .*\(got 1\.5\)"):
        ready(model("llama-3.1-8b"), "h100-sxm", **{name: 1.5})


def test_magnitudes_that_practitioners_know() -> None:
    """Llama-3.1-8B bf16 on an H100: 6-7.5 ms alone, 10-12 ms at 64 x 500, 50-75 ms for a prompt of 2,048."""
    roofline = ready(model("llama-3.1-8b"), "h100-sxm", host=HOST)
    assert 6e-3 < roofline.price(BatchShape(1, 500))[0] < 7.5e-3
    assert 10e-3 < roofline.price(BatchShape(64, 32_000))[0] < 12e-3
    assert 50e-3 < roofline.price(BatchShape(0, 0, [(2048, 0)]))[0] < 75e-3


MEASURED = {
    ("meta-llama/Llama-3.1-8B-Instruct", 1): ("llama-3.1-8b", 0.05),
    ("Qwen/Qwen3-8B", 1): ("qwen3-8b", 0.10),
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


@pytest.mark.parametrize("name", KV_GIB)
def test_batch_sweep_on_h100_64gb(name: str, shared: Callable[[str], Path]) -> None:
    """Another card, other models, nothing fitted: mean error of the inter-token latency below 10 %."""
    sweep = pl.read_parquet(shared("calibration/batch_curves/vllm_h100_64gb_batch_sweep.parquet")).filter(
        pl.col("path").str.starts_with(f"background/{name}")
    )
    architecture = model(name)
    roofline = ready(architecture, "h100-sxm-64gb", host=HOST)
    tokens = KV_GIB[name] * 2**30 / architecture.kv_bytes_per_token
    errors = [
        1e3 * roofline.price(BatchShape(max(1, round(running)), round(kv_ratio * tokens)))[0] / itl_ms - 1
        for running, kv_ratio, itl_ms in sweep.select("run_mean", "kv_mean", "itl").iter_rows()
    ]
    assert len(errors) >= 12
    assert sum(map(abs, errors)) / len(errors) < 0.10
