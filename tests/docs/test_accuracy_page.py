"""docs/accuracy.md and the expected errors say what the measurements say; the longest test there is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Return scripts/generate_accuracy.py as a module."""
    path = ROOT / "scripts" / "generate_accuracy.py"
    spec = importlib.util.spec_from_file_location("generate_accuracy", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys_modules = __import__("sys").modules
    sys_modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_page_and_bands_are_current(script, shared):
    """Every measured run is replayed anew: numbers agree but for their last digit."""
    shared("calibration/vllm_requests/RTXPRO6000")
    shared("calibration/batch_curves/silicon_e2e_h200_b200.parquet")
    stale = script.stale_files(script.validations())
    assert not stale, (
        f"out of date: {[path.name for path in stale]}. expected: python scripts/generate_accuracy.py"
    )


def test_texts_may_differ_in_the_last_digit_of_numbers_only(script):
    """Rounding is no change; words, signs and larger differences are."""
    assert script.alike("TPOT 8.5 %, 12 runs", "TPOT 8.6 %, 12 runs")
    assert not script.alike("TPOT 8.5 %", "TPOT 8.8 %")
    assert not script.alike("TPOT +8.5 %", "TPOT -8.5 %")
    assert not script.alike("TPOT 8.5 %", "TTFT 8.5 %")
    assert not script.alike("12 runs", "12 runs left")


def test_a_bar_is_met_up_to_its_value(script):
    """And said not to be met in bold above it."""
    bar = script.Bar(case="c", runs=3, quantity="q", most=0.06, got=0.06)
    assert bar.line == "| c | 3 | q | 6 % | 6.0 % | met |"
    above = script.Bar(case="c", runs=3, quantity="q", most=0.06, got=0.061)
    assert above.line.endswith("| **not met** |")
