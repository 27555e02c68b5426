"""The report of a saved comparison: its table, its intervals as a chart, its warnings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from servesim.cli import main

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a saved comparison of two routers."""
    out = tmp_path_factory.mktemp("comparison") / "routers"
    quickstart = str(ROOT / "scenarios/quickstart.yaml")
    options = [
        "--vary",
        "policies.router.name=round_robin,random",
        "--workers",
        "1",
        "--quiet",
        "--seeds",
        "3",
    ]
    few = ["--set", "workload.max_requests=60", "--set", "workload.resample.block_s=5"]
    assert main(["compare", quickstart, *options, *few, "--out", str(out)]) == 0
    return out


def test_differences_and_intervals(comparison, tmp_path):
    """Relative differences with the ends of their intervals, in percent of the baseline's mean."""
    path = tmp_path / "report.html"
    assert main(["report", str(comparison), "-o", str(path)]) == 0
    text = path.read_text(encoding="utf-8")
    found = json.loads((comparison / "comparison.json").read_text())
    base = next(row for row in found["table"] if row["metric"] == "e2e_s_p99" and row["difference"] is None)
    row = next(
        row for row in found["table"] if row["metric"] == "e2e_s_p99" and row["difference"] is not None
    )
    chart = json.loads(text.partition('id="charts">')[2].partition("</script>")[0])["chart-1"]
    shown = next(line for line in chart["spec"]["data"]["values"] if line["metric"] == "e2e_s_p99")
    assert shown["low"] == pytest.approx(row["difference_low"] / base["mean"] * 100)
    assert shown["value"] == pytest.approx(row["relative"] * 100)
    assert "95% intervals of paired differences." in text
    assert "adjusted by Holm" in text


def test_refused(comparison, tmp_path, capsys):
    """Beside other directories, or damaged."""
    assert main(["report", str(comparison), str(tmp_path), "-o", str(tmp_path / "r.html")]) == 2
    assert "a comparison goes into a report of its own" in capsys.readouterr().err
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "comparison.json").write_text('{"table": []}')
    assert main(["report", str(tmp_path / "c"), "-o", str(tmp_path / "r.html")]) == 2
    assert "not a comparison" in capsys.readouterr().err
