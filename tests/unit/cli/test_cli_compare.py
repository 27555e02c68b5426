"""``servesim compare`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from servesim.cli import main

ROOT = Path(__file__).resolve().parents[3]
QUICKSTART = str(ROOT / "scenarios/quickstart.yaml")
ROUTERS = ("--vary", "policies.router.name=round_robin,random", "--workers", "1", "--quiet")
FEW = ("--set", "workload.max_requests=60", "--set", "workload.resample.block_s=5")


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Each metric with its unit, the baseline, the interval, and what the methods are."""
    assert main(["compare", QUICKSTART, *ROUTERS, *FEW, "--seeds", "3"]) == 0
    out = capsys.readouterr().out
    for text in ("ttft_s_p99 (ms)", "baseline", "95% interval", "random: ", "Holm", "warm-up: "):
        assert text in out


def test_json_has_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """Table, values, methods; nothing else on stdout."""
    assert main(["compare", QUICKSTART, *ROUTERS, *FEW, "--seeds", "3", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["seeds"] == [0, 1, 2] and len(data["values"]) == 6


def test_two_runs_print_the_same_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    """However many workers there are."""
    pages = []
    for workers in ("1", "2"):
        assert main(["compare", QUICKSTART, *ROUTERS[:2], *FEW, "--seeds", "3", "--workers", workers]) == 0
        pages.append(capsys.readouterr().out)
    assert pages[0] == pages[1]


def test_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--out makes a directory; one with other files is refused before anything is run."""
    assert main(["compare", QUICKSTART, *ROUTERS, *FEW, "--seeds", "2", "--out", str(tmp_path / "c")]) == 0
    assert (tmp_path / "c/comparison.json").is_file()
    assert main(["compare", QUICKSTART, *ROUTERS, "--out", str(tmp_path)]) == 2
    assert "cannot be saved here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((QUICKSTART,), "a single variant"),
        ((QUICKSTART, "--vary", "policies.rooter.name=a,b"), "did you mean 'router'?"),
        ((QUICKSTART, "--vary", "nonsense"), "not an axis"),
        ((QUICKSTART, *ROUTERS, "--metric", "ttft_p99"), "did you mean 'ttft_s_p99'?"),
        ((QUICKSTART, *ROUTERS, "--baseline", "randon"), "did you mean 'random'?"),
        ((QUICKSTART, *ROUTERS, "--interval", "z"), "expected t or bootstrap"),
        ((QUICKSTART, *ROUTERS, "--warm-up", "-3"), "expected scenario, auto or a time"),
        ((QUICKSTART, QUICKSTART), "two variants are called 'quickstart'"),
        (("missing.yaml", *ROUTERS), "no such file"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and one message that says what was expected."""
    assert main(["compare", *arguments, "--set", "workload.max_requests=20"]) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err
