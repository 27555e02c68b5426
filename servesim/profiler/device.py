"""What a profiler needs of the machine that it measures: timing, clocks, power. No GPU library is imported here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from servesim.profiler.kernels import Kernel, Local


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What a device is, and what runs on it.

    Attributes
    ----------
    name, gpus, memory_bytes
        As the driver names it, how many there are, and memory of one.
    driver, sm_clock_max_mhz, power_limit_w
        From the driver; None where it does not tell.
    versions
        Library to version.
    attention
        Whose attention is measured.
    joint_attention
        Whether chunks and decodes of a step are one kernel.
    windows
        Whether sliding windows are measured as such.
    """

    name: str
    gpus: int
    memory_bytes: int
    attention: str
    joint_attention: bool
    windows: bool
    driver: str | None = None
    sm_clock_max_mhz: float | None = None
    power_limit_w: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceState:
    """What the GPU does at this moment; None where the driver does not tell.

    Attributes
    ----------
    sm_clock_mhz
        Of the multiprocessors.
    throttled
        Why the clock is held down (heat, power), joined by ``+``; empty: it is not.
    """

    sm_clock_mhz: float | None = None
    throttled: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReading:
    """What a GPU did under a load that lasts.

    Attributes
    ----------
    power_w
        Readings of the board's power; none where there is no meter.
    sm_clock_mhz
        Median of the clock; None where the driver does not tell.
    pass_s
        Time of all kernels of the load, one after the other without a gap; None when idle.
    """

    power_w: Sequence[float] = ()
    sm_clock_mhz: float | None = None
    pass_s: float | None = None


class Device(Protocol):
    """A machine with kernels to time. `servesim.profiler.torch_device` is the real one; tests have a false one."""

    def facts(self) -> DeviceFacts:
        """Return what it is."""

    def state(self) -> DeviceState:
        """Return what it does now."""

    def now_s(self) -> float:
        """Return a clock that only runs forward."""

    def prepared(self, kernel: Kernel) -> AbstractContextManager[Callable[[], float]]:
        """Give a function that runs *kernel* once, with cold caches, and returns its seconds on the device.

        Inputs are made, and the kernel is warm, when it is given; memory is free again after the block.
        """

    def loaded(self, load: Sequence[Local], seconds: float) -> LoadReading:
        """Run *load* over and over for so long, or idle, and return what was read.

        What comes before power and clock have settled is left out.
        """
