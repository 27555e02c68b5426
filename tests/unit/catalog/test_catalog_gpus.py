"""GPUs: the catalog against datasheets and against an independent table of device facts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from servesim.catalog import gpu, gpu_names
from servesim.errors import ScenarioError

EXPECTED = [
    "a100-40gb-sxm",
    "a100-80gb-sxm",
    "a100-80gb-pcie",
    "h100-sxm",
    "h100-sxm-64gb",
    "h100-pcie",
    "h200-sxm",
    "b200-sxm",
    "l40s",
    "rtx-4090",
    "rtx-pro-6000",
    "v100-sxm-16gb",
    "v100-sxm-32gb",
    "mi300x",
]

DEVICE_FACTS = {
    "a100-80gb-sxm": "a100_sxm",
    "h100-sxm": "h100_sxm",
    "h200-sxm": "h200_sxm",
    "b200-sxm": "b200_sxm",
    "l40s": "l40s",
}


def test_names_are_the_promised_ones() -> None:
    """Scenarios rely on these names."""
    assert set(gpu_names()) == set(EXPECTED)


def test_unknown_name_suggests_the_nearest_and_lists_all() -> None:
    """A typo is answered with what was meant."""
    with pytest.raises(ScenarioError, match=r"got 'h100-smx'") as caught:
        gpu("h100-smx")
    assert "did you mean 'h100-sxm'?" in str(caught.value)
    assert "mi300x" in str(caught.value)


@pytest.mark.parametrize("name", EXPECTED)
def test_entry_is_plausible_and_has_sources(name: str) -> None:
    """Every entry names its source, every price its own, and ratios between formats are physical."""
    entry = gpu(name)
    assert entry.source
    assert (entry.usd_per_h is None) == (not entry.price_source)
    assert 1 < entry.memory_bandwidth_bytes_per_s / 1e11 < 100
    assert 15 * 2**30 < entry.memory_bytes < 200 * 2**30
    assert entry.fp32_flops_per_s < entry.fp16_flops_per_s
    for wide, narrow in (("fp16", "fp8"), ("fp8", "fp4")):
        rate = getattr(entry, f"{narrow}_flops_per_s")
        if rate is not None:  # half the width, twice the rate; datasheets round
            assert rate / getattr(entry, f"{wide}_flops_per_s") == pytest.approx(2, rel=0.02)
    assert entry.link.bandwidth_bytes_per_s >= entry.pcie.bandwidth_bytes_per_s


def test_datasheet_values_of_h100_sxm() -> None:
    """The datasheet: 3.35 TB/s, 989 TFLOP/s bf16 and 1979 fp8 dense, 700 W, 900 GB/s NVLink."""
    h100 = gpu("h100-sxm")
    assert h100.memory_bandwidth_bytes_per_s == 3.35e12
    assert h100.bf16_flops_per_s == 989e12
    assert h100.fp8_flops_per_s == 1979e12
    assert h100.tdp_w == 700
    assert h100.link.bandwidth_bytes_per_s * 2 == 900e9


def test_format_that_the_hardware_lacks_runs_as_fp16() -> None:
    """No fp8 units on an A100, no bf16 on a V100: both multiply as fp16."""
    assert gpu("a100-80gb-sxm").peak_flops_per_s("fp8") == 312e12
    assert gpu("v100-sxm-16gb").peak_flops_per_s("bf16") == 125e12
    assert gpu("h100-sxm").peak_flops_per_s("fp8") == 1979e12


@pytest.mark.parametrize(("name", "device"), DEVICE_FACTS.items())
def test_agrees_with_aiconfigurator(name: str, device: str, shared: Callable[[str], Path]) -> None:
    """Rates, power and links agree within 1 % with NVIDIA aiconfigurator's device files."""
    text = shared(f"calibration/operator_tables/aiconfigurator/{device}.yaml").read_text(encoding="utf-8")
    facts = {
        key: float(value) for key, value in re.findall(r"^ +(\w+): ([0-9.]+)\b", text, flags=re.MULTILINE)
    }
    entry = gpu(name)
    assert entry.memory_bandwidth_bytes_per_s == pytest.approx(facts["mem_bw"], rel=0.01)
    assert entry.bf16_flops_per_s == pytest.approx(facts["bfloat16_tc_flops"], rel=0.01)
    assert entry.int8_flops_per_s == pytest.approx(facts["int8_tc_flops"], rel=0.01)
    assert entry.tdp_w == facts["power"]
    assert entry.link.bandwidth_bytes_per_s == facts["intra_node_bw"]
    if "fp8_tc_flops" in facts:
        assert entry.fp8_flops_per_s == pytest.approx(facts["fp8_tc_flops"], rel=0.01)
