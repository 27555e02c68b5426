"""A GPU whose kernels take what a law says: what comes out of a profile of it can be worked out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from servesim.catalog import Gpu, gpu
from servesim.profiler import DeviceFacts, DeviceState, LoadReading
from servesim.profiler.kernels import AllReduce, Gemm, Kernel, Local, least_s
from servesim.rng import stream

Law = Callable[[Kernel, Gpu], float]
"""Seconds of a kernel."""

LAUNCH_S = 2e-6
FLOPS_SHARE, BYTES_SHARE, LINK_SHARE = 0.5, 0.6, 0.4

LASTING_SHARE = 0.8
"""Of its speed, under a load that lasts."""

H100_NAME = "NVIDIA H100 80GB HBM3"


def law_s(kernel: Kernel, on: Gpu) -> float:
    """Return what *kernel* takes: a launch, its operations at half of the peak, and its bytes at 0.6 of it."""
    if isinstance(kernel, AllReduce):
        sent_bytes = 2 * (kernel.ranks - 1) / kernel.ranks * kernel.message_bytes
        return 10e-6 + sent_bytes / (LINK_SHARE * on.link.bandwidth_bytes_per_s)
    compute_s = kernel.flops / (FLOPS_SHARE * on.peak_flops_per_s(kernel.dtype))
    return LAUNCH_S + compute_s + kernel.moved_bytes / (BYTES_SHARE * on.memory_bandwidth_bytes_per_s)


def stepped_law_s(kernel: Kernel, on: Gpu) -> float:
    """Return what *kernel* takes where GEMMs run whole waves of tiles of 128 x 128, and one bound hides the other."""
    if not isinstance(kernel, Gemm):
        return LAUNCH_S + least_s(kernel, on) / 0.7
    rows = 128 if kernel.tokens > 64 else max(16, 1 << (kernel.tokens - 1).bit_length())
    waves = -(-(-(-kernel.tokens // rows) * -(-kernel.n // 128)) // on.multiprocessors)
    flops = 2.0 * waves * on.multiprocessors * rows * 128 * kernel.k
    read_s = kernel.moved_bytes / on.memory_bandwidth_bytes_per_s
    return LAUNCH_S + max(flops / on.peak_flops_per_s(kernel.dtype), read_s) / 0.7


class FalseGpu:
    """An H100 by that law, with noise of *noise_ratio*, whose clock runs while kernels do.

    Attributes
    ----------
    prepared_kernels
        What was asked for, in order.
    interrupted_at
        Ctrl-C comes when so many kernels have been prepared.
    """

    def __init__(
        self,
        *,
        gpus: int = 1,
        joint: bool = True,
        noise_ratio: float = 0.0,
        states: Sequence[DeviceState] = (DeviceState(sm_clock_mhz=1980.0),),
        interrupted_at: int | None = None,
        power: bool = True,
        name: str = H100_NAME,
        law: Law = law_s,
    ) -> None:
        self.gpu = gpu("h100-sxm")
        self.prepared_kernels: list[Kernel] = []
        self.interrupted_at = interrupted_at
        self._gpus, self._joint, self._name, self._power = gpus, joint, name, power
        self._law = law
        self._noise_ratio, self._random = noise_ratio, stream(0, "false gpu")
        self._states, self._now_s, self._asked = states, 0.0, 0

    def facts(self) -> DeviceFacts:
        return DeviceFacts(
            name=self._name,
            gpus=self._gpus,
            memory_bytes=self.gpu.memory_bytes,
            attention="law 1.0",
            joint_attention=self._joint,
            windows=self._joint,
            driver="1.2.3",
            sm_clock_max_mhz=1980.0,
            power_limit_w=700.0,
            versions={"torch": "9.9"},
        )

    def state(self) -> DeviceState:
        self._asked += 1
        return self._states[self._asked % len(self._states)]

    def now_s(self) -> float:
        return self._now_s

    @contextmanager
    def prepared(self, kernel: Kernel) -> Iterator[Callable[[], float]]:
        if len(self.prepared_kernels) == self.interrupted_at:
            raise KeyboardInterrupt
        self.prepared_kernels.append(kernel)
        seconds = self._law(kernel, self.gpu)

        def run() -> float:
            took_s = seconds * (1 + self._noise_ratio * float(self._random.exponential()))
            self._now_s += took_s
            return took_s

        yield run

    def loaded(self, load: Sequence[Local], seconds: float) -> LoadReading:
        self._now_s += seconds
        flops = sum(kernel.flops for kernel in load)
        busy_s = sum(law_s(kernel, self.gpu) for kernel in load)
        share = flops / busy_s / self.gpu.peak_flops_per_s("bf16") if load else 0.0
        power_w = [70.0, 70.0 + 600.0 * share + 130.0 * bool(load), 900.0]
        return LoadReading(
            power_w=power_w if self._power else [],
            sm_clock_mhz=1500.0 if load else 300.0,
            pass_s=busy_s / LASTING_SHARE if load else None,
        )
