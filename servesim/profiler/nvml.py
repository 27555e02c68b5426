"""Clock, throttling and power of a GPU, as NVIDIA's management library (NVML) tells them."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from servesim.profiler.device import DeviceState

REASONS = {"power": 0x4 | 0x80, "heat": 0x20 | 0x40, "hardware": 0x8}
"""Why clocks are held down, to the bits of ``nvmlClocksEventReason``: caps and brakes, temperatures, slowdown."""


class Nvml:
    """The GPU *handle* of the library *pynvml*, some of whose questions some GPUs do not answer."""

    def __init__(self, pynvml: Any, handle: Any) -> None:
        self._pynvml, self._handle = pynvml, handle

    @classmethod
    def of(cls, torch: Any) -> Nvml | None:
        """Return PyTorch's first GPU, or None where the library or the driver's part is not there."""
        if find_spec("pynvml") is None:
            return None
        import pynvml

        try:
            pynvml.nvmlInit()
            uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid))
        except pynvml.NVMLError:
            return None

    def facts(self) -> dict[str, Any]:
        """Return driver, highest clock and power limit, as `servesim.profiler.device.DeviceFacts` names them."""
        nvml = self._pynvml
        limit_mw = self._asked(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(self._handle))
        clock = self._asked(lambda: nvml.nvmlDeviceGetMaxClockInfo(self._handle, nvml.NVML_CLOCK_SM))
        return {
            "driver": self._asked(nvml.nvmlSystemGetDriverVersion),
            "sm_clock_max_mhz": clock,
            "power_limit_w": None if limit_mw is None else limit_mw * 1e-3,
        }

    def state(self) -> DeviceState:
        """Return clock and throttling now."""
        nvml = self._pynvml
        bits = self._asked(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)) or 0
        return DeviceState(
            sm_clock_mhz=self._asked(lambda: nvml.nvmlDeviceGetClockInfo(self._handle, nvml.NVML_CLOCK_SM)),
            throttled="+".join(name for name, mask in REASONS.items() if bits & mask),
        )

    def power_w(self) -> float | None:
        """Return the power of the board."""
        power_mw = self._asked(lambda: self._pynvml.nvmlDeviceGetPowerUsage(self._handle))
        return None if power_mw is None else power_mw * 1e-3

    def _asked(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except self._pynvml.NVMLError:
            return None
