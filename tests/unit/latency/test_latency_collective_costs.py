"""What GPUs exchange, from operator tables: sums, gathers and scatters, DeepEP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from profile_format import operator_rows, write

from servesim.catalog import gpu, model
from servesim.errors import ScenarioError
from servesim.latency.api import LatencyContext
from servesim.latency.collective_costs import Exchange, collectives
from servesim.latency.table import Table
from servesim.profiles.aiconfigurator import operator_tables

REDUCES = "comm/vllm/0.9.0/custom_allreduce_perf"
ELEMENTS = (1 << 8, 1 << 20, 1 << 28)
EXPERTS = LatencyContext(
    model=model("qwen3-30b-a3b"),
    gpu=gpu("h200-sxm"),
    tensor_parallel=1,
    data_parallel=8,
    expert_parallel=True,
    max_num_seqs=64,
    max_num_batched_tokens=2048,
    async_scheduling=False,
)
LAYERS = 48


def nccl_ms(name: str, ranks: int, elements: int, *, number_bytes: int = 2) -> float:
    """Return what the known table says a message takes: a start, and a rate."""
    start_ms = {"all_reduce": 0.03, "all_gather": 0.01, "reduce_scatter": 0.02}[name]
    return start_ms * ranks + number_bytes * elements / 1e8


def sent_us(phase: str, tokens: int, hidden: int) -> float:
    """Return what the known table of DeepEP says, in us."""
    return {"dispatch": 40.0, "combine": 60.0}[phase] + 0.5 * tokens * hidden / 2048


def known(folder: Path) -> Path:
    """Write operator tables with NCCL's and DeepEP's."""
    nccl = [
        (name, dtype, ranks, elements, nccl_ms(name, ranks, elements, number_bytes=number_bytes))
        for name in ("all_reduce", "all_gather", "reduce_scatter")
        for dtype, number_bytes in (("half", 2), ("int8", 1))
        for ranks in (2, 8)
        for elements in ELEMENTS
    ]
    sent = [
        ("deepep_ll", phase, 8, 1, hidden, 8, 128, tokens, sent_us(phase, tokens, hidden))
        for phase in ("dispatch", "combine")
        for hidden in (2048, 7168)
        for tokens in (1, 64, 256)
    ]
    shape = ["ep_size", "node_num", "hidden_size", "topk", "num_experts", "num_tokens", "latency"]
    more = {
        "comm/nccl/2.29.2/nccl_perf": _frame(
            nccl, ["op_name", "nccl_dtype", "num_gpus", "message_size", "latency"]
        ),
        "comm/vllm/0.24.0/moe_a2a_perf": _frame(sent, ["comm_backend", "phase", *shape]),
    }
    rows = {name: frame for name, frame in operator_rows().items() if name != REDUCES}
    return write(folder, {**rows, **more}, meta=None)


def _frame(rows: list[Any], names: list[str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=names, orient="row")


def priced(folder: Path, context: LatencyContext, exchange: Exchange = "allgather_reducescatter") -> Any:
    """Return the exchanges of a step."""
    tables = operator_tables(folder, context.gpu.name)
    assert tables is not None
    grid, fitted = collectives(tables, context, exchange)
    assert grid is not None
    assert fitted == []
    return grid


def test_groups_gather_their_tokens_and_scatter_the_sums(tmp_path: Path) -> None:
    """8 groups of one GPU: the messages hold the tokens of all, and the table counts 16-bit elements."""
    grid = priced(known(tmp_path), EXPERTS)
    tokens = (1 << 20) / (8 * 2048)
    gather_ms, scatter_ms = (nccl_ms(name, 8, 1 << 20) for name in ("all_gather", "reduce_scatter"))
    assert grid(tokens) == pytest.approx(LAYERS * (gather_ms + scatter_ms) * 1e-3)


def test_sums_are_nccls_where_the_engines_were_not_measured(tmp_path: Path) -> None:
    """Two sums in each layer; with the engine's own table that one counts."""
    context = replace(EXPERTS, tensor_parallel=2, data_parallel=1, expert_parallel=False)
    tokens = (1 << 20) / 2048
    grid = priced(known(tmp_path), context)
    assert grid(tokens) == pytest.approx(2 * LAYERS * nccl_ms("all_reduce", 2, 1 << 20) * 1e-3)
    write(tmp_path, {REDUCES: operator_rows()[REDUCES]}, meta=None)
    assert priced(tmp_path, context)(tokens) < 0.9 * grid(tokens)


def test_deepep_sends_tokens_to_their_experts_and_back(tmp_path: Path) -> None:
    """Times in us by the tokens of one GPU, of the nearest shape; a wider model sends more."""
    folder = known(tmp_path)
    grid = priced(folder, EXPERTS, "deepep_low_latency")
    there_us, back_us = (sent_us(phase, 64, 2048) for phase in ("dispatch", "combine"))
    assert grid(64) == pytest.approx(LAYERS * (there_us + back_us) * 1e-6)
    wider = replace(EXPERTS.model, hidden_size=2560)
    grid = priced(folder, replace(EXPERTS, model=wider), "deepep_low_latency")
    assert grid(64 * 2048 / 2560) == pytest.approx(LAYERS * (there_us + back_us) * 1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"expert_parallel": False}, "nothing to exchange"),
        ({"data_parallel": 1}, "nothing to exchange"),
        ({"model": model("llama-3.1-8b")}, "nothing to exchange"),
        ({"data_parallel": 4}, r"no deepep_low_latency of 4 GPUs \(got 8\)"),
    ],
)
def test_deepep_without_use_or_measurements_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    """One group, dense, sliced experts; a number of GPUs that was not measured."""
    with pytest.raises(ScenarioError, match=message):
        priced(known(tmp_path), replace(EXPERTS, **changed), "deepep_low_latency")


def test_layer_profiles_hold_no_exchange(shared: Callable[[str], Path]) -> None:
    """DeepEP with a profile of layers."""
    path = shared("calibration/operator_tables/layer_profiles/profile_v1/RTXPRO6000/Qwen/Qwen3-32B/bf16")
    context = replace(EXPERTS, model=model("qwen3-32b"), gpu=gpu("rtx-pro-6000"), data_parallel=1)
    with pytest.raises(ScenarioError, match="expected operator tables"):
        Table(path=path, all2all_backend="deepep_low_latency").reset(replace(context, expert_parallel=False))


@pytest.mark.parametrize("folder", ["a100_sxm", "h100_sxm", "h200_sxm", "b200_sxm", "l40s"])
def test_nccl_counts_elements(shared: Callable[[str], Path], folder: str) -> None:
    """In 8 bits twice as many elements take as long, within 5 %."""
    (path, *_) = sorted(
        shared(f"calibration/operator_tables/aiconfigurator/{folder}").glob("comm/nccl/*/*.parquet")
    )[::-1]
    rows = pl.read_parquet(path).filter(op_name="all_gather", num_gpus=2)
    times = {
        (dtype, size): ms
        for dtype, size, ms in rows.select("nccl_dtype", "message_size", "latency").iter_rows()
    }
    assert times["half", 1 << 28] == pytest.approx(times["int8", 1 << 29], rel=0.05)
    assert times["half", 1 << 28] > 1.8 * times["int8", 1 << 28]
