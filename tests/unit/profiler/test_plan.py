"""Which shapes are measured, what is in them, how long it takes, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from servesim.catalog import gpu, model
from servesim.errors import ServesimError
from servesim.profiler import DeviceFacts, Limits, Plan, Stopping, plan_of
from servesim.profiler.estimate import FLUSH_BYTES, case_s, estimates, loads_s
from servesim.profiler.identify import gpu_of
from servesim.profiler.kernels import AllReduce, Attention, Elementwise, Experts, Gemm, least_s
from servesim.profiler.loads import loads

H100 = gpu("h100-sxm")
LIMITS = Limits(tokens=80, sequences=16, context_tokens=1024)


def planned(name: str = "llama-3.1-8b", limits: Limits = LIMITS, **changed: object) -> Plan:
    options = {"ranks": [1], "gpus": 1, "joint_attention": True, **changed}
    return plan_of(model(name), H100, limits=limits, **options)  # type: ignore[arg-type]


def shapes(plan: Plan, table: str, ranks: int = 1) -> list[tuple[str | int, ...]]:
    return [case.shape for case in plan.cases if (case.table, case.ranks) == (table, ranks)]


def test_grid_of_tokens() -> None:
    """Powers of two, what lies half way, 8 beyond a tile; for four matrices and five other operators."""
    found = shapes(planned(), "dense")
    tokens = sorted({shape[-1] for shape in found})
    assert tokens == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 72, 80]
    names = {shape[:2] for shape in found}
    assert ("matrix 6144 x 4096 bf16", 32) in names
    assert ("norm", 65) in names
    assert len(names) == 9
    assert len(found) == 9 * 14


def test_equal_matrices_are_measured_once() -> None:
    """Of a Llama-2-7B with one KV head and half of the MLP's width, two matrices are 4,096 x 4,096."""
    square = replace(model("llama-2-7b"), kv_heads=1, heads=32, head_dim=128, intermediate_size=2048)
    plan = plan_of(square, H100, ranks=[1], limits=LIMITS, gpus=1, joint_attention=True)
    calls = {shape[0]: shape[1] for shape in shapes(plan, "dense")}
    assert calls["matrix 4096 x 4096 fp16"] == 2 * 32  # output of the attention; gate and up


def test_grid_of_attention() -> None:
    """Decodes, chunks, and both on the points of the chunks."""
    found = shapes(planned(), "attention")
    decodes = {shape for shape in found if shape[1] == 0}
    chunks = {shape for shape in found if shape[3] == 0}
    both = set(found) - decodes - chunks
    assert {shape[3] for shape in decodes} == {1, 2, 4, 8, 16}
    assert {shape[4] for shape in decodes} == {16, 32, 64, 128, 256, 512, 1024}
    assert {shape[1] for shape in chunks} == {16, 24, 32, 48, 64, 80}
    assert {shape[2] for shape in chunks} == {0, 512, 1024}
    assert {shape[1:3] for shape in both} == {shape[1:3] for shape in chunks}
    assert {shape[3:] for shape in both} == {(n, c) for n in (1, 8, 16) for c in (128, 1024)}
    assert not [shape for shape in shapes(planned(joint_attention=False), "attention") if all(shape[1:])]


def test_what_does_not_fit_is_left_out() -> None:
    """64 sequences of 131,072 tokens of 4 KiB are 34.4 GB, more than 0.4 of 85.5 GB: half as many are measured."""
    found = shapes(planned(limits=Limits()), "attention")
    decodes = [shape for shape in found if shape[1] == 0]
    assert max(n * c for _, _, _, n, c in decodes) == 32 * 131072
    assert len({shape[1:3] for shape in found if shape[3] == 0}) == 19 * 6


def test_experts_visit_no_more_than_tokens_reach() -> None:
    """One token of Qwen3-30B-A3B reaches 8 of 128, 4 reach 32."""
    found = shapes(planned("qwen3-30b-a3b"), "experts")
    assert [visited for tokens, visited in found if tokens == 1] == [8]
    assert [visited for tokens, visited in found if tokens == 4] == [8, 16, 32]
    assert max(found) == (80, 128)


def test_sums_need_their_gpus() -> None:
    """Two after every layer, over as many GPUs as share a matrix."""
    plan = planned(ranks=[1, 2, 4], gpus=2)
    assert shapes(plan, "all_reduce") == []
    assert [calls for calls, _ in shapes(plan, "all_reduce", 2)] == [64] * 14
    assert shapes(plan, "all_reduce", 4) == []
    assert plan.left_out == ("all-reduces over 4 GPUs (there are 2)",)
    sums = [case.kernel for case in plan.cases if isinstance(case.kernel, AllReduce)]
    assert sums[-1].message_bytes == 80 * 4096 * 2


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("deepseek-v3", {}, "latent attention is not measured"),
        ("gpt-oss-20b", {}, r"no kernels for this expert_dtype \(got mxfp4\)\. expected one of bf16, fp16"),
        ("llama-3.1-8b", {"ranks": [3]}, r"heads cannot be split \(got tensor_parallel 3\)"),
    ],
)
def test_what_cannot_be_measured(name: str, changed: dict[str, object], message: str) -> None:
    """Models with parts that there are no kernels for, and impossible splits, are refused by name."""
    with pytest.raises(ServesimError, match=message):
        planned(name, **changed)


def test_windows_need_kernels_for_them() -> None:
    """PyTorch's scaled_dot_product_attention has none."""
    with pytest.raises(ServesimError, match="no sliding windows"):
        plan_of(
            model("gpt-oss-20b", dtype="bf16"),
            H100,
            ranks=[1],
            limits=LIMITS,
            gpus=1,
            joint_attention=False,
            windows=False,
        )


def test_work_of_kernels_by_hand() -> None:
    """Operations and bytes of each kind."""
    gemm = Gemm(tokens=2, n=30, k=10, dtype="fp8")
    assert (gemm.flops, gemm.moved_bytes) == (1200.0, 300.0 + 20.0 + 120.0)
    chunk = Attention(heads=4, kv_heads=2, head_dim=8, chunk=3, start=5)
    assert chunk.flops == 4 * 4 * 8 * (6 + 7 + 8)  # each token sees those before it and itself
    assert chunk.moved_bytes == 2 * 8 * (2 * 2 * 8 + 2 * 4 * 3)
    decodes = Attention(heads=4, kv_heads=2, head_dim=8, sequences=2, context=10)
    assert decodes.flops == 4 * 4 * 8 * 2 * 10
    both = replace(chunk, sequences=2, context=10)
    assert both.flops == chunk.flops + decodes.flops
    assert both.lengths == [(1, 10), (1, 10), (3, 8)]
    experts = Experts(tokens=6, per_token=2, visited=5, hidden=10, width=4, gated=True)
    assert experts.flops == 2 * 12 * 10 * 12
    assert experts.moved_bytes == 2 * (5 * 10 * 12 + 12 * (2 * 10 + 2 * 8))
    assert Elementwise(kind="norm", tokens=3, width=5).moved_bytes == 4 * 3 * 5 * 2


def test_windows_hide_keys() -> None:
    """A window of 4: no query sees more than 4 keys, and a chunk needs 3 of those before it."""
    decodes = Attention(heads=1, kv_heads=1, head_dim=1, window=4, sequences=3, context=100)
    assert (decodes.lengths, decodes.flops) == ([(1, 4)] * 3, 4 * 12)
    chunk = Attention(heads=1, kv_heads=1, head_dim=1, window=4, chunk=8, start=100)
    assert (chunk.lengths, chunk.flops) == ([(8, 11)], 4 * 8 * 4)


def test_least_times() -> None:
    """A matrix is read, or multiplied with many rows; a sum over two GPUs is sent once over NVLink."""
    one = Gemm(tokens=1, n=4096, k=4096, dtype="bf16")
    assert least_s(one, H100) == pytest.approx(2 * 4096 * (4096 + 2) / 3.35e12)
    assert least_s(replace(one, tokens=8192), H100) == pytest.approx(2 * 8192 * 4096**2 / 989e12)
    assert least_s(AllReduce(ranks=2, tokens=10, width=4096), H100) == pytest.approx(81920 / 450e9)


def test_estimates_add_up() -> None:
    """Rows and seconds of all tables are those of the plan; a row is bounded by its budget and its fewest timings."""
    plan, stopping = planned(ranks=[1, 2], gpus=2), Stopping(budget_s=0.5)
    found = estimates(plan, stopping)
    assert sum(each.rows for each in found) == len(plan.cases)
    assert sum(each.seconds for each in found) == pytest.approx(
        sum(case_s(case.kernel, H100, stopping) for case in plan.cases)
    )
    attention = [each for each in found if each.table.startswith("attention") and each.ranks == 1]
    assert [each.table for each in attention] == [
        "attention: decodes",
        "attention: chunks",
        "attention: both",
    ]
    assert attention[0].ranges == {"sequences": (1, 16), "context": (16, 1024)}
    flush_s = FLUSH_BYTES / 3.35e12
    slow = Gemm(tokens=10**6, n=8192, k=8192, dtype="bf16")
    once_s = least_s(slow, H100) / 0.6 + flush_s + 1e-4
    assert case_s(slow, H100, stopping) == pytest.approx(0.1 + 4 * once_s + 5 * once_s)
    assert (loads_s(10.0), loads_s(0.0)) == (36.0, 0.0)


def test_loads_of_power() -> None:
    """A layer's matrices with its attention, at 2,048 tokens and at 64 sequences, or the plan's largest."""
    found = loads(planned(limits=Limits(tokens=4096, sequences=256, context_tokens=8192)))
    assert found["idle"] == []
    *matrices, attention = found["prefill"]
    assert {kernel.tokens for kernel in matrices if isinstance(kernel, Gemm)} == {2048}
    assert len(matrices) == 4
    assert attention == Attention(heads=32, kv_heads=8, head_dim=128, chunk=2048)
    assert found["decode"][-1] == Attention(heads=32, kv_heads=8, head_dim=128, sequences=64, context=2048)
    assert loads(planned())["decode"][-1] == Attention(
        heads=32, kv_heads=8, head_dim=128, sequences=16, context=1024
    )


@pytest.mark.parametrize(
    ("name", "gib", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 79.1, "h100-sxm"),
        ("NVIDIA H100 PCIe", 79.1, "h100-pcie"),
        ("NVIDIA H100", 63.4, "h100-sxm-64gb"),
        ("NVIDIA H200", 139.8, "h200-sxm"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "a100-40gb-sxm"),
        ("NVIDIA A100-SXM4-80GB", 79.2, "a100-80gb-sxm"),
        ("NVIDIA A100 80GB PCIe", 79.2, "a100-80gb-pcie"),
        ("NVIDIA GeForce RTX 4090", 23.5, "rtx-4090"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", 94.9, "rtx-pro-6000"),
        ("Tesla V100-SXM2-32GB", 31.7, "v100-sxm-32gb"),
        ("NVIDIA L40S", 44.4, "l40s"),
        ("NVIDIA B200", 178.4, "b200-sxm"),
        ("NVIDIA GH200 480GB", 94.5, None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9.8, None),
    ],
)
def test_devices_are_known_by_name_and_memory(name: str, gib: float, expected: str | None) -> None:
    """Names as drivers print them, and what PyTorch says of the memory; parts of a GPU are none."""
    facts = DeviceFacts(
        name=name,
        gpus=1,
        memory_bytes=round(gib * 2**30),
        attention="",
        joint_attention=True,
        windows=True,
    )
    if expected is not None:
        assert gpu_of(facts).name == expected
    else:
        with pytest.raises(ServesimError, match="not in the catalog"):
            gpu_of(facts)
