"""Profiling a false GPU: what is written, how it goes on, and what the table model makes of it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from false_gpu import FalseGpu, Law, law_s, stepped_law_s

from servesim import simulate
from servesim.catalog import Parallelism, gpu, model
from servesim.errors import ServesimError
from servesim.latency.api import BatchShape, LatencyContext
from servesim.latency.operators import operators
from servesim.latency.table import Table
from servesim.profiler import DeviceState, Limits, Plan, ProfileResult, Stopping, plan_of, profile
from servesim.profiler.kernels import AllReduce, Attention, Elementwise, Experts, Gemm, Local
from servesim.profiler.loads import loads
from servesim.profiles import read_layer_profile
from servesim.rng import stream
from servesim.scenario import Scenario

H100 = gpu("h100-sxm")
LLAMA = model("llama-3.1-8b")
SMALL = Limits(tokens=512, sequences=16, context_tokens=4096)
TINY = Limits(tokens=32, sequences=2, context_tokens=64)
EXACT = Stopping(fewest=5)
NO_HOST = {"launch_s": 0.0, "launch_per_sequence_s": 0.0, "schedule_s": 0.0, "schedule_per_sequence_s": 0.0}


def planned(limits: Limits = SMALL, name: str = "llama-3.1-8b", **changed: object) -> Plan:
    options = {"ranks": [1], "gpus": 1, "joint_attention": True, **changed}
    return plan_of(model(name), H100, limits=limits, **options)  # type: ignore[arg-type]


def profiled(path: Path, plan: Plan, device: FalseGpu | None = None) -> ProfileResult:
    return profile(plan, device or FalseGpu(), path, stopping=EXACT)


def table(path: Path, name: str = "llama-3.1-8b", *, ranks: int = 1, **limits: int) -> Table:
    """Return the table model on the profile at *path*."""
    ready = Table(path=path)
    ready.reset(
        LatencyContext(
            model=model(name),
            gpu=H100,
            tensor_parallel=ranks,
            async_scheduling=False,
            **{"max_num_seqs": 16, "max_num_batched_tokens": 512, **limits},  # type: ignore[arg-type]
        )
    )
    return ready


def dense_law_s(tokens: int, ranks: int = 1, law: Law = law_s) -> float:
    """Return Llama-3.1-8B's layers on *tokens* tokens by the law, written out from its config.json."""
    shapes = [
        (6144 // ranks, 4096),
        (4096, 4096 // ranks),
        (28672 // ranks, 4096),
        (4096, 14336 // ranks),
    ]
    kernels: list[tuple[int, Local]] = [(32, Gemm(tokens=tokens, n=n, k=k, dtype="bf16")) for n, k in shapes]
    kernels += [
        (1, Elementwise(kind="embedding", tokens=tokens, width=4096)),
        (65, Elementwise(kind="norm", tokens=tokens, width=4096)),
        (32, Elementwise(kind="rotation", tokens=tokens, width=(32 + 8) * 128 // ranks)),
        (32, Elementwise(kind="cache_write", tokens=tokens, width=2 * 8 * 128 // ranks)),
        (32, Elementwise(kind="gated_activation", tokens=tokens, width=28672 // ranks)),
    ]
    return sum(calls * law(kernel, H100) for calls, kernel in kernels)


def head_law_s(sequences: int, law: Law = law_s) -> float:
    head = Gemm(tokens=sequences, n=128256, k=4096, dtype="bf16")
    return law(head, H100) + law(Elementwise(kind="sampling", tokens=sequences, width=128256), H100)


def attention_law_s(*, law: Law = law_s, **shape: int) -> float:
    return 32 * law(Attention(heads=32, kv_heads=8, head_dim=128, **shape), H100)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a profile of Llama-3.1-8B on the false GPU."""
    path = tmp_path_factory.mktemp("profiles") / "llama"
    profiled(path, planned())
    return path


@pytest.mark.parametrize(("sequences", "mean"), [(1, 16), (3, 700), (7, 1500), (16, 4096), (11, 90)])
def test_decode_steps_follow_the_law(llama: Path, sequences: int, mean: int) -> None:
    """Decodes between the points of the grid are within 0.5 % of what the GPU takes."""
    law = dense_law_s(sequences) + head_law_s(sequences)
    law += attention_law_s(sequences=sequences, context=mean)
    assert table(llama).price(BatchShape(sequences, sequences * mean))[0] == pytest.approx(law, rel=0.005)


@pytest.mark.parametrize(("chunk", "start"), [(16, 0), (100, 0), (333, 1000), (512, 3000), (450, 77)])
def test_prompt_steps_follow_the_law(llama: Path, chunk: int, start: int) -> None:
    """Chunks between the points of the grid are within 0.5 %."""
    law = dense_law_s(chunk) + head_law_s(1) + attention_law_s(chunk=chunk, start=start)
    assert table(llama).price(BatchShape(0, 0, [(chunk, start)]))[0] == pytest.approx(law, rel=0.005)


def test_mixed_steps_follow_the_law(llama: Path) -> None:
    """Both in one step are one kernel, with one launch for both."""
    law = dense_law_s(205) + head_law_s(6)
    law += attention_law_s(chunk=200, start=600, sequences=5, context=900)
    got = table(llama).price(BatchShape(5, 5 * 900, [(200, 600)]))[0]
    assert got == pytest.approx(law, rel=0.005)
    assert read_layer_profile(llama, tensor_parallel=1).attention.mixed is not None


def test_steps_of_a_gpu_with_waves_and_knees(tmp_path: Path) -> None:
    """Whole waves of tiles, bounds that hide one another: half of the steps within 1.5 %, nine of ten within 4 %."""
    path, law, random = tmp_path / "p", stepped_law_s, stream(0, "batches")
    limits = Limits(tokens=2048, sequences=64, context_tokens=8192)
    profiled(path, planned(limits, joint_attention=False), FalseGpu(law=law, joint=False))
    ready = table(path, max_num_seqs=64, max_num_batched_tokens=2048)
    errors: dict[str, list[float]] = {"decodes": [], "chunks": []}
    for sequences, mean, chunk, start in random.integers(
        (1, 16, 16, 0), (65, 8193, 2049, 4097), (300, 4)
    ).tolist():
        taken = dense_law_s(sequences, law=law) + head_law_s(sequences, law)
        taken += attention_law_s(law=law, sequences=sequences, context=mean)
        got = ready.price(BatchShape(sequences, sequences * mean))[0]
        errors["decodes"].append(abs(got / taken - 1))
        taken = dense_law_s(chunk, law=law) + head_law_s(1, law)
        taken += attention_law_s(law=law, chunk=chunk, start=start)
        got = ready.price(BatchShape(0, 0, [(chunk, start)]))[0]
        errors["chunks"].append(abs(got / taken - 1))
    for each in errors.values():
        middle, ninth = np.quantile(each, (0.5, 0.9))
        assert middle < 0.015
        assert ninth < 0.04


def test_noise_does_not_bend_the_law(tmp_path: Path) -> None:
    """Timings that are 10 % too long on average, skewed, give medians that are 7 % (a tenth of ln 2) too long."""
    result = profiled(tmp_path / "p", planned(), FalseGpu(noise_ratio=0.1))
    assert result.imprecise_rows == 0
    law = 1.0693 * (dense_law_s(8) + head_law_s(8) + attention_law_s(sequences=8, context=1000))
    assert table(tmp_path / "p").price(BatchShape(8, 8000))[0] == pytest.approx(law, rel=0.02)


def test_scenario_on_the_profile_takes_what_the_law_says(llama: Path) -> None:
    """One request alone: its time is that of its prompt's step and of every decode step, to 0.5 %."""
    generator = {
        "name": "constant",
        "rate_per_s": 1.0,
        "requests": 1,
        "prompt_tokens": {"distribution": "constant", "value": 200},
        "output_tokens": {"distribution": "constant", "value": 100},
    }
    pool = {
        "name": "main",
        "model": "llama-3.1-8b",
        "gpu": "h100-sxm",
        "engine": {"max_num_seqs": 16, "max_num_batched_tokens": 512, "host": NO_HOST},
        "latency": {"name": "table", "path": str(llama)},
    }
    scenario = {"workload": {"generator": generator}, "cluster": {"pools": [pool]}}
    result = simulate(Scenario.model_validate(scenario))
    law = dense_law_s(200) + head_law_s(1) + attention_law_s(chunk=200)
    law += sum(
        dense_law_s(1) + head_law_s(1) + attention_law_s(sequences=1, context=200 + step)
        for step in range(1, 100)
    )
    row = result.requests.row(0, named=True)
    assert row["finished_s"] - row["arrival_s"] == pytest.approx(law, rel=0.005)
    assert result.provenance["pools"][0]["latency_extrapolated"] == {}


def test_splitting_and_sums_follow_the_law(tmp_path: Path) -> None:
    """On two GPUs every matrix has half of its weights, and two sums of 4,096 numbers a token follow each layer."""
    profiled(tmp_path / "p", planned(ranks=[1, 2], gpus=2), FalseGpu(gpus=2))
    tokens = 300
    sums = 64 * law_s(AllReduce(ranks=2, tokens=tokens, width=4096), H100)
    got = table(tmp_path / "p", ranks=2).tokens_s(tokens)
    assert got == pytest.approx(dense_law_s(tokens, 2) + sums, rel=0.005)


def test_experts_follow_the_law(tmp_path: Path) -> None:
    """Qwen3-30B-A3B: 20 tokens visit 128 (1 - (1 - 8/128)^20) experts on average, between the points of the grid."""
    path = tmp_path / "p"
    profiled(path, planned(Limits(tokens=64, sequences=16, context_tokens=256), "qwen3-30b-a3b"))
    profile_read = read_layer_profile(path, tensor_parallel=1)
    assert profile_read.experts is not None
    kernel = Experts(tokens=24, per_token=8, visited=64, hidden=2048, width=768, gated=True)
    assert profile_read.experts(24, 64) == pytest.approx(law_s(kernel, H100))
    visited = 128 * (1 - (1 - 8 / 128) ** 20)
    between = law_s(kernel, H100) + (law_s(replace(kernel, tokens=20), H100) - law_s(kernel, H100))
    weights_s = (visited - 64) * 3 * 2048 * 768 * 2 / (0.6 * H100.memory_bandwidth_bytes_per_s)
    assert profile_read.experts(20, visited) == pytest.approx(between + weights_s, rel=0.001)
    assert table(path, "qwen3-30b-a3b").tokens_s(20) > 48 * profile_read.experts(20, visited)


def test_windows_are_measured_apart(tmp_path: Path) -> None:
    """gpt-oss-20b has 12 layers that see 128 tokens, and 12 that see all; in 16 bits, as MXFP4 has no kernels here."""
    path, shape = tmp_path / "p", model("gpt-oss-20b", dtype="bf16")
    limits = Limits(tokens=32, sequences=2, context_tokens=512)
    plan = plan_of(shape, H100, ranks=[1], limits=limits, gpus=1, joint_attention=True)
    profiled(path, plan)
    found = read_layer_profile(path, tensor_parallel=1)
    assert found.window is not None
    assert found.window.decode(2, 512) == pytest.approx(found.window.decode(2, 128))
    assert found.attention.decode(2, 512) > found.window.decode(2, 512)


def test_ctrl_c_loses_nothing(tmp_path: Path) -> None:
    """A run that is interrupted twice measures every row once, and ends with the tables of one that was not."""
    plan, whole, parts = planned(TINY), tmp_path / "whole", tmp_path / "parts"
    profiled(whole, plan)
    seen = []
    for stop in (7, 20, None):
        device = FalseGpu(interrupted_at=stop)
        if stop is None:
            result = profiled(parts, plan, device)
            assert (result.kept_rows, result.rows) == (27, len(plan.cases) - 27)
        else:
            with pytest.raises(KeyboardInterrupt):
                profiled(parts, plan, device)
            with pytest.raises(ServesimError, match="a profile that is not finished"):
                read_layer_profile(parts, tensor_parallel=1)
        seen += device.prepared_kernels
    of_loads = sum(len(kernels) for kernels in loads(plan).values())
    assert len(seen) == len(plan.cases) + of_loads
    for file in sorted(whole.rglob("*.csv")):
        again = parts / file.relative_to(whole)
        assert sorted(again.read_text().splitlines()) == sorted(file.read_text().splitlines())


def test_torn_row_is_measured_again(tmp_path: Path) -> None:
    """Half a line at the end of a table, as of a machine that lost power, is cut off."""
    path, plan = tmp_path / "p", planned(TINY)
    profiled(path, plan)
    file = path / "tp1" / "dense.csv"
    text = file.read_text()
    file.write_text(text[:-9])
    device = FalseGpu()
    assert profiled(path, plan, device).rows == len(device.prepared_kernels) == 1
    assert file.read_text() == text


def test_more_gpus_are_added_to_a_profile(tmp_path: Path) -> None:
    """The rows of one GPU stay, those of two come; what either lacks is remembered."""
    path = tmp_path / "p"
    first = profiled(path, planned(TINY, ranks=[2]))
    assert list(first.left_out) == ["all-reduces over 2 GPUs (there is 1)"]
    second = profiled(path, planned(TINY, ranks=[1]))
    assert (second.kept_rows, list(second.left_out)) == (0, [])
    facts = json.loads((path / "profile.json").read_text())
    assert (facts["tensor_parallel"], facts["left_out"]) == ([1, 2], list(first.left_out))
    assert table(path, ranks=2).sources["fitted"] == "all-reduces over 2 GPUs (there is 1)"


def test_facts_and_columns(tmp_path: Path) -> None:
    """What the profile tells of GPU, driver, versions, model and method; the columns of a row."""
    path = tmp_path / "p"
    profiled(path, planned(TINY))
    facts = json.loads((path / "profile.json").read_text())
    assert facts["format"] == "servesim profile 1"
    assert (facts["gpu"], facts["device"], facts["driver"]) == ("h100-sxm", "NVIDIA H100 80GB HBM3", "1.2.3")
    assert (facts["versions"], facts["attention"]) == ({"torch": "9.9"}, "law 1.0")
    assert facts["model"]["dtype"] == facts["model"]["kv_dtype"] == "bf16"
    assert facts["limits"] == {"tokens": 32, "sequences": 2, "context_tokens": 64}
    assert facts["complete"] is True
    with (path / "tp1" / "attention.csv").open() as file:
        row = next(iter(csv.DictReader(file)))
    assert list(row)[:5] == ["window", "chunk", "start", "sequences", "context"]
    assert list(row)[5:] == ["time_s", "error_ratio", "repeats", "sm_clock_mhz", "throttled"]
    assert (row["sm_clock_mhz"], row["throttled"], row["repeats"]) == ("1980.0", "", "8")


def test_three_loads(tmp_path: Path) -> None:
    """Medians of the power, with their range; speed that lasts; a profile that is whole is not measured again."""
    path = tmp_path / "p"
    result = profiled(path, planned(TINY))
    assert list(result.power_w) == ["idle", "prefill", "decode"]
    found = pl.read_csv(path / "loads.csv")
    assert found["state"].to_list() == ["idle", "prefill", "decode"]
    assert found.row(0) == ("idle", 70.0, 70.0, 900.0, 3, 300.0, None, None)
    assert result.lasting_share == pytest.approx({"prefill": 0.8, "decode": 0.8})
    shares = found["alone_s"] / found["lasting_s"]
    assert shares.to_list() == [None, pytest.approx(0.8), pytest.approx(0.8)]
    assert 200 < result.power_w["decode"] < result.power_w["prefill"] < 900
    again = profiled(path, planned(TINY))
    assert (again.rows, again.power_w) == (0, {})
    none = profiled(tmp_path / "none", planned(TINY), FalseGpu(power=False))
    assert none.left_out == ("power (no NVML, or no power meter)",)
    without = pl.read_csv(tmp_path / "none" / "loads.csv")
    assert without["power_w"].to_list() == [None] * 3
    assert without["lasting_s"].is_not_null().to_list() == [False, True, True]


def test_unsteady_clocks_and_heat_are_told(tmp_path: Path) -> None:
    """1,980 MHz now and 1,500 MHz then, held down by heat, and no clock at all."""
    states = [DeviceState(sm_clock_mhz=1980.0), DeviceState(sm_clock_mhz=1500.0, throttled="heat")]
    plan = planned(TINY)
    result = profiled(tmp_path / "a", plan, FalseGpu(states=states))
    clocks, heat = result.warnings
    assert clocks.startswith("clocks were not locked: 1,500 to 1,980 MHz. nvidia-smi --lock-gpu-clocks")
    assert heat == f"heat or power held the clock down in {len(plan.cases) // 2} rows"
    blind = profiled(tmp_path / "b", plan, FalseGpu(states=[DeviceState()]))
    assert blind.warnings[0].startswith("clocks were not read")
    assert profiled(tmp_path / "c", plan).warnings == []


def test_rows_out_of_time_are_told(tmp_path: Path) -> None:
    """Noise that 1 ms does not average out: rows are there, and counted as imprecise."""
    device = FalseGpu(noise_ratio=1.0)
    result = profile(planned(TINY), device, tmp_path / "p", stopping=Stopping(budget_s=1e-3))
    assert result.imprecise_rows == result.rows > 0
    assert result.warnings[0].startswith(f"the precision was not reached in time in {result.rows} rows")


def test_order_is_shuffled_by_the_seed(tmp_path: Path) -> None:
    """Two seeds measure the same kernels in different orders; sums over GPUs come last of them."""
    plan, orders = planned(TINY, ranks=[2], gpus=2), []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        device = FalseGpu(gpus=2)
        profile(plan, device, tmp_path / name, stopping=EXACT, seed=seed)
        orders.append(device.prepared_kernels)
    assert orders[0] == orders[1] != orders[2]
    assert set(orders[0]) == set(orders[2])
    measured = orders[0][: len(plan.cases)]  # loads come after
    sums = sum(isinstance(kernel, AllReduce) for kernel in measured)
    assert all(isinstance(kernel, AllReduce) for kernel in measured[-sums:])


def test_what_is_refused(tmp_path: Path) -> None:
    """Another GPU, another folder, another model or method in the same folder."""
    plan, path = planned(TINY), tmp_path / "p"
    with pytest.raises(ServesimError, match=r"another GPU \(got 'NVIDIA H100 NVL', h100-sxm"):
        profiled(path, replace(plan, gpu=gpu("h100-pcie")), FalseGpu(name="NVIDIA H100 NVL"))
    with pytest.raises(ServesimError, match=r"not in the catalog \(got 'Quadro', 80 GiB\)"):
        profiled(path, plan, FalseGpu(name="Quadro"))
    assert not path.exists()
    profiled(path, plan)
    with pytest.raises(ServesimError, match="a profile of another model"):
        profiled(path, planned(TINY, "qwen3-8b"))
    with pytest.raises(ServesimError, match="a profile of another limits"):
        profiled(path, planned())
    with pytest.raises(ServesimError, match="a profile of another seed"):
        profile(plan, FalseGpu(), path, stopping=EXACT, seed=1)
    with pytest.raises(ServesimError, match=r"something else is there\. expected a new folder"):
        profiled(path / "tp1", plan)


def test_table_refuses_another_model_of_the_same_heads(llama: Path) -> None:
    """Mistral 7B has Llama's layers and heads, and another vocabulary."""
    with pytest.raises(ServesimError, match=r"a profile of another model \(got vocab_size 128256\)"):
        table(llama, "mistral-7b")


def test_table_refuses_what_is_broken(tmp_path: Path) -> None:
    """No such degree, another version of the form, a shape that is missing from the mixed grid."""
    path = tmp_path / "p"
    profiled(path, planned())
    with pytest.raises(ServesimError, match=r"no profile of 2 GPUs \(got tp1\)"):
        table(path, ranks=2)
    file = path / "tp1" / "attention.csv"
    rows = pl.read_csv(file)
    both = (pl.col("chunk") == 48) & (pl.col("sequences") == 8) & (pl.col("context") == 128)
    rows.filter(~(both & (pl.col("start") == 512))).write_csv(file)
    with pytest.raises(
        ServesimError, match=r"attention\.csv: window 0: 1 of .* missing, the first at chunk=48, start=512"
    ):
        table(path)
    (path / "profile.json").write_text('{"format": "servesim profile 2"}')
    with pytest.raises(ServesimError, match=r"another format \(got 'servesim profile 2'\)"):
        table(path)


def test_law_counts_what_the_simulator_counts() -> None:
    """The written-out matrices are those of the latency models: the law above forgets none."""
    shapes = {(matrix.n, matrix.k, matrix.count) for matrix in operators(LLAMA, Parallelism()).matrices}
    assert shapes == {(6144, 4096, 32), (4096, 4096, 32), (28672, 4096, 32), (4096, 14336, 32)}
