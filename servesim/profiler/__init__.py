"""Measuring kernels on the GPU that is there, into a profile that the latency model `table` reads.

What is measured is a plan (`servesim.profiler.plan`), where is a device (`servesim.profiler.device`), how often is
`servesim.profiler.sampling`. Only modules whose names begin with ``torch_`` import
PyTorch, inside functions.
"""

from __future__ import annotations

from servesim.profiler.device import Device, DeviceFacts, DeviceState, LoadReading
from servesim.profiler.plan import Limits, Plan, plan_of
from servesim.profiler.run import ProfileResult, profile
from servesim.profiler.sampling import Stopping

__all__ = [
    "Device",
    "DeviceFacts",
    "DeviceState",
    "Limits",
    "LoadReading",
    "Plan",
    "ProfileResult",
    "Stopping",
    "plan_of",
    "profile",
]
