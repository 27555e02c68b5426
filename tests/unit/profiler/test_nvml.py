"""What NVIDIA's management library tells, and what becomes of questions that a GPU does not answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from servesim.profiler import DeviceState
from servesim.profiler.nvml import Nvml


class NVMLError(Exception):
    """The library's error."""


def library(reasons: int = 0, *, answers: bool = True) -> Any:
    """Return a library whose GPU says the same to everyone, or nothing."""

    def answer(value: object) -> Any:
        def asked(*_: object) -> object:
            if not answers:
                raise NVMLError
            return value

        return asked

    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_SM=1,
        nvmlSystemGetDriverVersion=answer("580.1"),
        nvmlDeviceGetEnforcedPowerLimit=answer(700_000),
        nvmlDeviceGetMaxClockInfo=answer(1980),
        nvmlDeviceGetClockInfo=answer(1755),
        nvmlDeviceGetCurrentClocksThrottleReasons=answer(reasons),
        nvmlDeviceGetPowerUsage=answer(123_456),
    )


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (0x0, ""),
        (0x1, ""),
        (0x2, ""),
        (0x4, "power"),
        (0x20, "heat"),
        (0x8 | 0x40 | 0x80, "power+heat+hardware"),
    ],
)
def test_reasons_of_slow_clocks(reasons: int, expected: str) -> None:
    """An idle GPU (1) and clocks set by the user (2) are no throttling."""
    state = Nvml(library(reasons), None).state()
    assert state == DeviceState(sm_clock_mhz=1755, throttled=expected)


def test_units() -> None:
    """The library counts in mW."""
    found = Nvml(library(), None)
    assert found.power_w() == pytest.approx(123.456)
    assert found.facts() == {"driver": "580.1", "sm_clock_max_mhz": 1980, "power_limit_w": 700.0}


def test_what_is_not_answered_is_none() -> None:
    """Boards without a meter, containers without rights."""
    found = Nvml(library(answers=False), None)
    assert found.power_w() is None
    assert found.state() == DeviceState()
    assert set(found.facts().values()) == {None}
