"""What docs/model/front-end.md says was fitted is what scripts/fit_front_end.py found and the catalog has."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from servesim.catalog import engine_version as version_of
from servesim.catalog import engine_versions, gpu
from servesim.latency.coefficients import sustained_share

ROOT = Path(__file__).resolve().parents[2]
PAGE = (
    (ROOT / "docs" / "model" / "front-end.md").read_text(encoding="utf-8").partition("| number | fitted |")[2]
)
FITTED = json.loads((ROOT / "scripts" / "front_end.json").read_text(encoding="utf-8"))["parameters"]
ROWS = {
    "`stream_s`": ("engine.front_end.stream_s", 1e3),
    "`eager_experts_s`": ("engine.host.eager_experts_s", 1e6),
    "lasting share of Blackwell's computing rate": ("latency.sustained_share", 1.0),
}


@pytest.mark.parametrize("name", ROWS)
def test_the_page_tells_what_was_fitted(name: str) -> None:
    """Value and interval of each row, in the unit that the page has."""
    key, unit = ROWS[name]
    row = re.search(rf"^\| {re.escape(name)} \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
    assert row is not None
    told = [float(number) for cell in row.groups() for number in re.findall(r"[\d.]+", cell)]
    assert told == pytest.approx([unit * FITTED[key][part] for part in ("value", "low", "high")])


def test_the_catalog_has_what_was_fitted() -> None:
    """All versions share it; the lasting share is Blackwell's."""
    for name in engine_versions():
        version = version_of(name)
        assert version.front_end.stream_s == FITTED["engine.front_end.stream_s"]["value"]
        assert version.host.eager_experts_s == FITTED["engine.host.eager_experts_s"]["value"]
    assert sustained_share(gpu("b200-sxm")) == FITTED["latency.sustained_share"]["value"]
