"""The device that is there: kernels of PyTorch on one NVIDIA GPU, timed by CUDA events; for tests, on the CPU.

Between two timings a buffer larger than any cache is read, so that weights come from memory as they do in a model. It
is not written: caches would write that back while the next kernel runs, which on an H200 made matrices of one to 256
tokens a fifth slower than one after the other in a CUDA graph; read, they are 3 % slower. What kernels between the
matrices read was written just before, and is in the cache; and they are so short that a launch and the clock's
resolution count: several are timed in one CUDA graph. The kernel is queued behind the flush, so that its launch is
hidden; a launch that outlasts a flush gets more of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from statistics import median
from types import TracebackType
from typing import Any

from servesim.errors import ServesimError
from servesim.profiler.device import DeviceFacts, DeviceState, LoadReading
from servesim.profiler.estimate import FLUSH_BYTES, SETTLE_S, WARM_UPS
from servesim.profiler.kernels import AllReduce, Elementwise, Kernel, Local
from servesim.profiler.nvml import Nvml
from servesim.profiler.torch_attention import Attentions, attentions
from servesim.profiler.torch_kernels import TorchKernels, compiling
from servesim.profiler.torch_ranks import Ranks

SHORT_RUNS = 20
"""How often a kernel between matrices runs in one timing."""

BURST_S = 0.05
"""Of a load between two readings of power and clock."""


def open_device(*, seed: int = 0, attention: str | None = None, windows: bool = False) -> TorchDevice:
    """Return the first GPU that PyTorch sees.

    Parameters
    ----------
    seed
        Of the kernels' inputs.
    attention
        Whose attention is measured: ``flash-attn``, ``varlen`` (of PyTorch), ``sdpa`` (of PyTorch, chunks and decodes
        apart); None: the first of them that is there.
    windows
        Whether the model has sliding windows, which not every attention has.

    Raises
    ------
    ServesimError
        If there is no PyTorch, no GPU, or no such attention.
    """
    if find_spec("torch") is None:
        raise ServesimError(
            "profile: PyTorch is not installed. expected it, and an NVIDIA GPU",
            hint="pip install 'servesim[profile]'; --dry-run needs neither",
        )
    import torch

    if not torch.cuda.is_available():
        raise ServesimError(
            f"profile: PyTorch sees no GPU (torch {torch.__version__}). expected an NVIDIA GPU",
            hint="nvidia-smi shows what the driver sees; --dry-run needs no GPU",
        )
    return TorchDevice("cuda", seed=seed, attention=attention, windows=windows)


class TorchDevice:
    """Kernels of PyTorch on *kind*, ``cuda`` or ``cpu``; a context, which ends the processes that sums need.

    Parameters
    ----------
    kind
        Where they run.
    seed, attention, windows
        As of `open_device`.
    flush_bytes
        What is read between timings.
    """

    def __init__(
        self,
        kind: str,
        *,
        seed: int = 0,
        attention: str | None = None,
        windows: bool = False,
        flush_bytes: int = FLUSH_BYTES,
    ) -> None:
        import torch

        self._torch: Any = torch
        self._kind = kind
        self._attention: Attentions = attentions(torch, kind, attention, windows=windows)
        self._kernels = TorchKernels(torch, kind, seed=seed, attention=self._attention)
        self._nvml = Nvml.of(torch) if kind == "cuda" else None
        buffer = torch.zeros(flush_bytes // 4, dtype=torch.float32, device=kind)
        self._flush: Callable[[], object] = buffer.sum
        self._ranks: Ranks | None = None

    def __enter__(self) -> TorchDevice:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_ranks()

    def facts(self) -> DeviceFacts:
        """Return what the GPU is; see `servesim.profiler.device.Device`."""
        torch = self._torch
        versions = {"torch": str(torch.__version__), **self._attention.versions}
        if self._kind == "cpu":
            return DeviceFacts(name="cpu", gpus=1, memory_bytes=1, versions=versions, **self._attention.facts)
        known = torch.cuda.get_device_properties(0)
        nvml = self._nvml.facts() if self._nvml else {}
        return DeviceFacts(
            name=str(known.name),
            gpus=int(torch.cuda.device_count()),
            memory_bytes=int(known.total_memory),
            versions={**versions, "cuda": str(torch.version.cuda)},
            **self._attention.facts,
            **nvml,
        )

    def state(self) -> DeviceState:
        """Return clock and throttling now."""
        return self._nvml.state() if self._nvml else DeviceState()

    def now_s(self) -> float:
        """Return a clock that only runs forward."""
        return time.monotonic()

    @contextmanager
    def prepared(self, kernel: Kernel) -> Iterator[Callable[[], float]]:
        """Give a function that times *kernel* once; see `servesim.profiler.device.Device`."""
        with self._named(kernel):
            call: Callable[[], object]
            before: Callable[[], object] = _nothing
            if isinstance(kernel, AllReduce):
                ranks = self._ranks_of(kernel.ranks)
                ranks.prepare(kernel)
                call, before = ranks.reduce, ranks.begin
            else:
                call = self._kernels.call(kernel)
            with compiling():
                for _ in range(WARM_UPS):
                    before()
                    call()
            if isinstance(kernel, Elementwise) and kernel.reads_cache:
                several = self._back_to_back([call] * SHORT_RUNS)
                yield lambda: self._timed_s(several, _nothing, 1) / SHORT_RUNS
            else:
                flushes = 1 if isinstance(kernel, AllReduce) else self._flushes(call)
                yield lambda: self._timed_s(call, before, flushes)

    def loaded(self, load: Sequence[Local], seconds: float) -> LoadReading:
        """Return what is read under *load*; see `servesim.profiler.device.Device`."""
        run = self._back_to_back([self._kernels.call(kernel) for kernel in load]) if load else None
        passes = 1 if run is None else max(1, round(BURST_S / self._timed_s(run, _nothing, 0)))
        begun = time.monotonic()
        power_w, clocks_mhz, times_s = list[float](), list[float](), list[float]()
        while (passed := time.monotonic() - begun) < SETTLE_S + seconds or not times_s:
            if run is None:
                time.sleep(BURST_S)
                time_s = 0.0
            else:
                time_s = self._timed_s(lambda: [run() for _ in range(passes)], _nothing, 0) / passes
            power, clock = (
                (self._nvml.power_w(), self._nvml.state().sm_clock_mhz) if self._nvml else (None, None)
            )
            if passed >= SETTLE_S:
                times_s.append(time_s)
                power_w += [] if power is None else [power]
                clocks_mhz += [] if clock is None else [clock]
        return LoadReading(
            power_w=power_w,
            sm_clock_mhz=median(clocks_mhz) if clocks_mhz else None,
            pass_s=median(times_s) if load else None,
        )

    def _back_to_back(self, calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
        """Return a call that runs all *calls*: on a GPU as one graph, so that no launch leaves a gap."""

        def run() -> None:
            for call in calls:
                call()

        run()
        self._synchronize()
        if self._kind == "cpu":
            return run
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.graph(graph):
            run()
        replay: Callable[[], object] = graph.replay
        return replay

    def _timed_s(self, call: Callable[[], object], before: Callable[[], object], flushes: int) -> float:
        for _ in range(flushes):
            self._flush()
        if self._kind == "cpu":
            before()
            begun = time.perf_counter()
            call()
            return time.perf_counter() - begun
        events = self._torch.cuda.Event
        start, end = events(enable_timing=True), events(enable_timing=True)
        before()
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e-3

    def _flushes(self, call: Callable[[], object]) -> int:
        """Return how many flushes outlast the launch of *call*, which is warm."""
        if self._kind == "cpu":
            return 1
        self._synchronize()
        begun = time.perf_counter()
        call()
        launch_s = time.perf_counter() - begun
        self._synchronize()
        flush_s = self._timed_s(self._flush, _nothing, 1)
        return 1 + int(2 * launch_s / flush_s)

    @contextmanager
    def _named(self, kernel: Kernel) -> Iterator[None]:
        """Say which kernel does not fit, or does not run on this GPU."""
        try:
            yield
        except self._torch.OutOfMemoryError as error:
            raise ServesimError(
                f"profile: {kernel}: the GPU's memory is full. expected room for it",
                hint="what is measured is kept. end other programs on the GPU, or lower --max-context or --max-seqs",
            ) from error
        except (RuntimeError, ValueError) as error:
            raise ServesimError(
                f"profile: {kernel}: PyTorch does not run it here (got {str(error).splitlines()[0]!r}). "
                "expected a GPU that has such kernels",
                hint="--dtype and --attention choose others",
            ) from error

    def _synchronize(self) -> None:
        if self._kind == "cuda":
            self._torch.cuda.synchronize()

    def _ranks_of(self, count: int) -> Ranks:
        if self._ranks is None or self._ranks.count != count:
            self._end_ranks()
            self._ranks = Ranks(self._torch, self._kind, count)
        return self._ranks

    def _end_ranks(self) -> None:
        if self._ranks is not None:
            self._ranks.end()
            self._ranks = None


def _nothing() -> None:
    """Do nothing before a kernel."""
