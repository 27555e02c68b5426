"""The real device's code, on the CPU: kernels compute what their shapes say, and a profile comes out of it."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from servesim.catalog import gpu, model
from servesim.errors import ServesimError
from servesim.latency.api import BatchShape, LatencyContext
from servesim.latency.table import Table
from servesim.profiler import Limits, Stopping, plan_of, run
from servesim.profiler.kernels import AllReduce, Attention, Elementwise, Experts, Gemm, Kernel
from servesim.profiler.torch_attention import attentions, joint
from servesim.profiler.torch_device import TorchDevice, open_device
from servesim.profiler.torch_kernels import _functions

torch = pytest.importorskip("torch")

DEVICE = TorchDevice("cpu", flush_bytes=1 << 20)
HEADS = {"heads": 4, "kv_heads": 2, "head_dim": 16}


@pytest.mark.parametrize(
    "kernel",
    [
        *(Gemm(tokens=3, n=32, k=16, dtype=dtype) for dtype in ("bf16", "fp16", "fp32", "fp8")),
        Experts(tokens=5, per_token=2, visited=4, hidden=16, width=8, gated=True),
        Experts(tokens=1, per_token=2, visited=2, hidden=16, width=8, gated=False),
        *(
            Elementwise(kind=kind, tokens=3, width=16)
            for kind in (
                "embedding",
                "norm",
                "rotation",
                "cache_write",
                "gated_activation",
                "activation",
                "sampling",
            )
        ),
        Attention(**HEADS, sequences=3, context=20),
        Attention(**HEADS, chunk=4),
        Attention(**HEADS, chunk=4, start=9, sequences=2, context=7),
    ],
    ids=str,
)
def test_every_kernel_runs(kernel: Kernel) -> None:
    """Each kind and format is prepared, warmed up and timed."""
    with DEVICE.prepared(kernel) as once:
        assert 0 < once() < 10


def test_shapes_of_results() -> None:
    """A matrix gives n columns, experts give their tokens back, chunks and decodes one row per query."""
    call = DEVICE._kernels.call
    assert call(Gemm(tokens=3, n=32, k=16, dtype="fp8"))().shape == (3, 32)  # type: ignore[attr-defined]
    experts = Experts(tokens=5, per_token=2, visited=4, hidden=16, width=8, gated=True)
    assert call(experts)().shape == (5, 16)  # type: ignore[attr-defined]
    parts: Any = call(Attention(**HEADS, chunk=4, start=9, sequences=2, context=7))()
    assert [part.shape for part in parts] == [(2, 4, 1, 16), (1, 4, 4, 16), (1, 4, 4, 16)]


def test_kernels_are_compiled_for_their_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of tokens takes one kernel (a single one another), any width its own."""
    kernels = DEVICE._kernels
    monkeypatch.setattr(kernels, "_kind", "cuda")
    widths: list[Any] = []

    def backend(graph: Any, _: object) -> Any:
        inputs = [node.meta["example_value"] for node in graph.graph.nodes if node.op == "placeholder"]
        widths.extend(each.shape[1] for each in inputs if isinstance(each, torch.Tensor))
        return graph.forward

    activate = torch.compile(_functions(torch)["gated_activation"], backend=backend)
    for width in (64, 32, 128):
        for tokens in (1, 2, 8, 100):
            activate(kernels._by_tokens(torch.ones(tokens, width)))
    assert widths == [64, 64, 32, 32, 128, 128]


def test_inputs_come_from_the_seed() -> None:
    """Two devices of a seed multiply the same numbers."""
    kernel = Gemm(tokens=3, n=4, k=5, dtype="bf16")
    results = [TorchDevice("cpu", seed=seed, flush_bytes=1)._kernels.call(kernel)() for seed in (1, 1, 2)]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def reference(queries: Any, keys: Any, values: Any, window: int | None) -> Any:
    """Return causal attention of one sequence, its queries the last of its tokens, in the plainest way."""
    count, total = queries.shape[0], keys.shape[0]
    group = queries.shape[1] // keys.shape[1]
    keys, values = (each.repeat_interleave(group, dim=1).double() for each in (keys, values))
    scores = torch.einsum("qhd,khd->hqk", queries.double(), keys) / queries.shape[2] ** 0.5
    place = torch.arange(total - count, total)[:, None] - torch.arange(total)[None, :]
    hidden = (place < 0) if window is None else (place < 0) | (place >= window)
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(hidden, float("-inf")).softmax(-1), values)


def varlen_by_hand(**options: Any) -> Any:
    """Return attention of packed sequences after the plain one, called as flash-attn's or PyTorch's is."""

    def attend(
        queries: Any, keys: Any, values: Any, query_ends: Any, key_ends: Any, *most: Any, **given: Any
    ) -> Any:
        left, right = given.pop("window_size")
        assert given == options
        assert right == 0
        window = None if left < 0 else left + 1
        parts = []
        for place in range(len(query_ends) - 1):
            own, seen = (slice(ends[place], ends[place + 1]) for ends in (query_ends, key_ends))
            parts.append(reference(queries[own], keys[seen], values[seen], window))
            assert parts[-1].shape[0] <= most[0]
        return torch.cat(parts)

    return attend


@pytest.mark.parametrize("window", [None, 6])
@pytest.mark.parametrize("name", ["flash-attn", "varlen"])
def test_joint_attention_is_called_as_the_libraries_say(
    monkeypatch: pytest.MonkeyPatch, name: str, window: int | None
) -> None:
    """Chunks and decodes are packed; without the keys that a window hides, results are those with all of them."""
    if name == "flash-attn":
        function = varlen_by_hand(causal=True)
        monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_varlen_func=function))
        from servesim.profiler.torch_attention import _flash_attn as found
    else:
        module = SimpleNamespace(varlen_attn=varlen_by_hand(enable_gqa=True))
        monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", module)
        from servesim.profiler.torch_attention import _torch_varlen as found
    made: list[Any] = []

    def normal(*shape: int) -> Any:
        made.append(torch.randn(*shape, generator=torch.Generator().manual_seed(len(made))))
        return made[-1]

    kernel = Attention(**HEADS, window=window, chunk=5, start=20, sequences=3, context=9)
    result = joint(torch, found(), kernel, normal)()
    assert result.shape == (3 + 5, 4, 16)  # type: ignore[attr-defined]
    queries, keys, values = made
    kept = 9 if window is None else 6
    before = 20 if window is None else 5
    assert keys.shape[0] == 3 * kept + before + 5
    last = reference(queries[3:], keys[3 * kept :], values[3 * kept :], window)
    assert torch.allclose(result[3:], last)  # type: ignore[index]


def test_sdpa_sees_what_the_mask_leaves() -> None:
    """A decode sees all of its context, a chunk's tokens all before the chunk, and in it those up to themselves."""
    made: list[Any] = []

    def normal(*shape: int) -> Any:
        made.append(torch.randn(*shape, generator=torch.Generator().manual_seed(len(made))))
        return made[-1]

    chosen = attentions(torch, "cpu", None)
    assert chosen.facts["attention"].startswith("sdpa of torch ")
    parts: Any = chosen.call(Attention(**HEADS, chunk=5, start=8, sequences=1, context=9), normal)()
    inputs = [[each[0].transpose(0, 1) for each in made[at : at + 3]] for at in (0, 3, 6)]
    before = [reference(query[None], *inputs[1][1:], None) for query in inputs[1][0]]
    expected = [reference(*inputs[0], None), torch.cat(before), reference(*inputs[2], None)]
    for result, wanted in zip(parts, expected, strict=True):
        assert torch.allclose(result[0].transpose(0, 1).double(), wanted, atol=1e-5)


def test_attention_that_is_not_there() -> None:
    """Unknown names get the nearest, known ones what is there."""
    with pytest.raises(
        ServesimError, match=r"unknown \(got 'flash_attn'\)\. expected one of flash-attn, varlen"
    ):
        attentions(torch, "cpu", "flash_attn")
    with pytest.raises(ServesimError, match=r"varlen is not there \(got sdpa\)"):
        attentions(torch, "cpu", "varlen")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("tried to allocate"), r"the GPU's memory is full\. expected room for it"),
        (RuntimeError("needs sm_89\nat line 1"), r"does not run it here \(got 'needs sm_89'\)"),
    ],
)
def test_kernels_that_fail_are_named(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    """Memory that is full, and kernels that a GPU has not."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(torch, "matmul", fail)
    kernel = Gemm(tokens=3, n=4, k=5, dtype="bf16")
    with pytest.raises(ServesimError, match=rf"Gemm\(tokens=3, .*{message}"), DEVICE.prepared(kernel):
        pass


def test_sums_over_processes() -> None:
    """Two processes meet, sum, and end."""
    with TorchDevice("cpu", flush_bytes=1) as device:
        for tokens in (1, 4):
            with device.prepared(AllReduce(ranks=2, tokens=tokens, width=64)) as once:
                assert 0 < once() < 10
        ranks = device._ranks
        assert ranks is not None
    assert [process.exitcode for process in ranks._processes] == [0]


def test_profile_of_the_cpu_prices_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny model, all the way: measured by PyTorch, written, read, priced."""
    tiny = replace(
        model("llama-3.1-8b"),
        layers=2,
        hidden_size=64,
        intermediate_size=128,
        heads=4,
        kv_heads=2,
        head_dim=16,
        vocab_size=256,
        context_tokens=64,
    )
    h100 = gpu("h100-sxm")
    monkeypatch.setattr(run, "check_gpu", lambda *_: None)  # a CPU is no GPU of the catalog
    plan = plan_of(
        tiny, h100, ranks=[1], limits=Limits(tokens=16, sequences=2), gpus=1, joint_attention=False
    )
    result = run.profile(plan, DEVICE, tmp_path / "p", stopping=Stopping(budget_s=1e-3))
    assert result.rows == len(plan.cases)
    assert any("power" in each for each in result.left_out)
    ready = Table(path=tmp_path / "p")
    ready.reset(
        LatencyContext(
            model=tiny,
            gpu=h100,
            tensor_parallel=1,
            max_num_seqs=2,
            max_num_batched_tokens=16,
            async_scheduling=False,
        )
    )
    assert 0 < ready.price(BatchShape(1, 25))[0] < ready.price(BatchShape(1, 25, [(14, 20)]))[0] < 10


def test_order_of_a_timing_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushes, start, kernel, end, wait; a launch of 5 ms needs more than one flush of 2 ms to hide behind."""
    done: list[str] = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            done.append("event")

        def synchronize(self) -> None:
            done.append("wait")

        def elapsed_time(self, _: Event) -> float:
            return 2.0

    device = TorchDevice("cpu", flush_bytes=1)
    cuda = SimpleNamespace(Event=Event, synchronize=lambda: None)
    flush = lambda: done.append("flush")  # noqa: E731
    for name, value in (("_kind", "cuda"), ("_torch", SimpleNamespace(cuda=cuda)), ("_flush", flush)):
        monkeypatch.setattr(device, name, value)
    assert device._timed_s(lambda: done.append("kernel"), lambda: done.append("before"), 2) == 2e-3
    assert done == ["flush", "flush", "before", "event", "kernel", "event", "wait"]
    assert device._flushes(lambda: time.sleep(5e-3)) >= 6
    assert device._flushes(lambda: None) == 1


def test_no_gpu_is_told() -> None:
    """PyTorch without a GPU: the version, and where to look."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ServesimError, match=r"PyTorch sees no GPU \(torch .*\)\. expected an NVIDIA GPU"):
        open_device()
