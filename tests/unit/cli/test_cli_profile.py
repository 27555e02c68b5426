"""``servesim profile``: plans without a GPU, a false GPU, what is said where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from false_gpu import FalseGpu

import servesim.profiler.torch_device
from servesim.cli.profile import result_text
from servesim.profiler import ProfileResult

Main = Callable[..., tuple[int, str, str]]
SMALL = ("--max-tokens", "16", "--max-seqs", "2", "--max-context", "64", "--quiet")


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[FalseGpu], None]:
    """Return a function that puts a false GPU where the real one is."""

    def put(device: FalseGpu) -> None:
        @contextmanager
        def opened(**_: Any) -> Iterator[FalseGpu]:
            yield device

        monkeypatch.setattr(servesim.profiler.torch_device, "open_device", opened)

    return put


def test_dry_run_needs_no_gpu(servesim_main: Main) -> None:
    """Tables, rows, ranges and minutes; what a method leaves out."""
    code, out, err = servesim_main(
        "profile",
        "llama-3.1-8b",
        "--dry-run",
        "--gpu",
        "h100-sxm",
        "--tensor-parallel",
        "1,2",
    )
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("llama-3.1-8b in bf16 on h100-sxm: ")
    assert any(
        line.split()[:4] == ["dense", "1", "351", "38"] and line.endswith("tokens 1 to 8,192")
        for line in lines
    )
    assert any(line.startswith("all_reduce ") for line in lines)
    assert lines[-2] == "and power, clock and lasting speed when idle, in prefill and in decode, 10 s each"
    assert lines[-1].startswith("not measured: attention of mixed steps")


def test_dry_run_as_json(servesim_main: Main) -> None:
    """The same for programs."""
    code, out, _ = servesim_main("profile", "llama-3.1-8b", "--dry-run", "--gpu", "h200-sxm", "--json")
    found = json.loads(out)
    assert code == 0
    assert sum(table["rows"] for table in found["tables"]) == found["rows"]
    tables_s = sum(table["seconds"] for table in found["tables"])
    assert found["seconds"] == pytest.approx(tables_s + 36.0)


def test_windows_are_planned_on_the_newest_gpus_too(servesim_main: Main) -> None:
    """What comes first on Hopper has none, so gpt-oss gets another attention, of one kernel for mixed steps."""
    code, out, _ = servesim_main(
        "profile", "gpt-oss-20b", "--dry-run", "--gpu", "h200-sxm", "--dtype", "bf16"
    )
    assert code == 0
    assert "attention: both" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dry-run"], "--gpu: missing. expected the catalog's name"),
        (["--dry-run", "--gpu", "h200"], "gpu: not in the catalog (got 'h200')"),
        (
            ["--dry-run", "--gpu", "h200-sxm", "--tensor-parallel", "1,x"],
            "--tensor-parallel: no degrees (got '1,x')",
        ),
        (
            ["--dry-run", "--gpu", "h200-sxm", "--tensor-parallel", "0"],
            "--tensor-parallel: no degrees (got '0')",
        ),
        (["--dry-run", "--gpu", "h200-sxm", "--dtype", "int4"], "no kernels for this dtype (got int4)"),
        (["--dry-run", "--gpu", "h200-sxm", "--dtype", "bf17"], "dtype: unknown number format (got 'bf17')"),
        (["--dry-run", "--gpu", "h200-sxm", "--precision", "2"], "precision: out of range (got 2.0)"),
        (["--dry-run", "--gpu", "h200-sxm", "--budget", "0"], "budget: out of range (got 0.0)"),
        ([], "--out: missing. expected a folder for the tables, or --dry-run"),
    ],
)
def test_bad_options(servesim_main: Main, arguments: list[str], message: str) -> None:
    """Each is named, and ends with 2."""
    code, out, err = servesim_main("profile", "llama-3.1-8b", *arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_unknown_model(servesim_main: Main) -> None:
    """As everywhere."""
    code, _, err = servesim_main("profile", "lama", "--out", "x")
    assert code == 2
    assert "model: neither in the catalog nor a file (got 'lama')" in err


@pytest.mark.skipif(find_spec("torch") is not None, reason="PyTorch is here")
def test_without_pytorch(servesim_main: Main, tmp_path: Path) -> None:
    """Says what to install, ends with 2, and writes nothing."""
    code, out, err = servesim_main("profile", "llama-3.1-8b", "--out", tmp_path / "p")
    assert (code, out) == (2, "")
    assert err == (
        "error: profile: PyTorch is not installed. expected it, and an NVIDIA GPU\n"
        "  hint: pip install 'servesim[profile]'; --dry-run needs neither\n"
    )
    assert not (tmp_path / "p").exists()


def test_profile_of_a_false_gpu(servesim_main: Main, tmp_path: Path, on: Callable[[FalseGpu], None]) -> None:
    """What was measured, where it is, how to use it; the second time nothing is left to do."""
    out_dir = tmp_path / "p"
    on(FalseGpu())
    code, out, err = servesim_main("profile", "llama-3.1-8b", "--out", out_dir, *SMALL)
    assert (code, err) == (0, "")
    first, clock, power, lasting, last = out.splitlines()
    rows = int(first.split()[0])
    assert first == f"{rows} rows measured, 0 were there"
    assert clock == "SM clock 1,980 to 1,980 MHz"
    assert power.startswith("power: idle 70 W, prefill ")
    assert lasting.endswith("of that of its kernels alone: prefill 0.80, decode 0.80")
    assert last == f"written to {out_dir}: latency: {{name: table, path: {out_dir}}} takes it"
    code, out, _ = servesim_main("profile", "llama-3.1-8b", "--out", out_dir, "--json", *SMALL)
    found = json.loads(out)
    assert (code, found["rows"], found["kept_rows"], found["warnings"]) == (0, 0, rows, [])


def test_ctrl_c(servesim_main: Main, tmp_path: Path, on: Callable[[FalseGpu], None]) -> None:
    """Ends with 130, and says that nothing is lost."""
    on(FalseGpu(interrupted_at=3))
    code, out, err = servesim_main("profile", "llama-3.1-8b", "--out", tmp_path / "p", *SMALL)
    assert (code, out) == (130, "")
    assert err == f"interrupted: what is measured is in {tmp_path / 'p'}; the same command goes on\n"


def test_another_gpu_than_said(servesim_main: Main, tmp_path: Path, on: Callable[[FalseGpu], None]) -> None:
    """--gpu is checked against the driver."""
    on(FalseGpu())
    arguments = ("profile", "llama-3.1-8b", "--gpu", "h200-sxm", "--out", tmp_path / "p", *SMALL)
    code, _, err = servesim_main(*arguments)
    assert code == 2
    assert "another GPU (got 'NVIDIA H100 80GB HBM3', h100-sxm). expected h200-sxm" in err


def test_warnings_are_printed() -> None:
    """Below what was measured, above where it is."""
    result = ProfileResult(path=Path("p"), rows=2, throttled_rows=1, clocks_mhz=(1000.0, 1980.0))
    assert result_text(result).splitlines() == [
        "2 rows measured, 0 were there",
        "SM clock 1,000 to 1,980 MHz",
        "warning: clocks were not locked: 1,000 to 1,980 MHz. nvidia-smi --lock-gpu-clocks=MHZ locks them",
        "warning: heat or power held the clock down in 1 rows",
        "written to p: latency: {name: table, path: p} takes it",
    ]
