"""The table of measured decode steps in docs/model/latency.md is what scripts/step_errors.py makes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_table_is_current(shared: Callable[[str], Path]) -> None:
    """Every point is priced anew."""
    shared("calibration/power/ml_energy_llm_points.parquet")
    spec = importlib.util.spec_from_file_location("step_errors", ROOT / "scripts" / "step_errors.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = script.PAGE.read_text(encoding="utf-8")
    assert script.with_table(page) == page, "out of date. expected: python scripts/step_errors.py"
