"""Coefficients of one's own: the shipped profile of an H200, what a file may hold, and what it changes."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import polars as pl
import pytest

from servesim import simulate
from servesim.catalog import gpu, model
from servesim.errors import ScenarioError
from servesim.latency import efficiency
from servesim.latency.api import BatchShape, LatencyContext
from servesim.latency.coefficients import KernelCoefficients, sustained_share
from servesim.latency.coefficients_file import SHIPPED, read_coefficients
from servesim.latency.efficiency import Peaks
from servesim.latency.roofline import Roofline
from servesim.scenario.load import load_scenario

H200 = gpu("h200-sxm")
ROOT = Path(__file__).resolve().parents[3]
PROFILES, QUICKSTART = ROOT / "benchmarks" / "profiles", ROOT / "scenarios" / "quickstart.yaml"
SHIPPED_TEXT = (files("servesim.latency") / "fitted" / f"{SHIPPED[0]}.toml").read_text(encoding="utf-8")


def measured_gemms(dtype: str) -> pl.DataFrame:
    """Return tokens, n, k and seconds of every matrix that was measured on the H200."""
    tables = [pl.read_csv(path) for path in sorted(PROFILES.glob("h200-*/tp*/dense.csv"))]
    rows = pl.concat(tables).filter(pl.col("operator").str.ends_with(f" {dtype}"))
    shape = rows["operator"].str.extract_groups(r"matrix (?<n>\d+) x (?<k>\d+)").struct.unnest()
    return rows.select("tokens", "time_s").hstack(shape.cast(pl.Float64))


def errors(coefficients: efficiency.Gemm, dtype: str) -> pl.Series:
    """Return predicted / measured - 1 of every such matrix."""
    rows = measured_gemms(dtype)
    peaks = Peaks(
        flops_per_s=H200.peak_flops_per_s(dtype),
        bytes_per_s=H200.memory_bandwidth_bytes_per_s,
        multiprocessors=H200.multiprocessors,
        cache_bytes=H200.cache_bytes,
    )
    predicted = efficiency.gemm_s(
        coefficients,
        peaks,
        rows["tokens"].to_numpy(),
        n=rows["n"].to_numpy(),
        k=rows["k"].to_numpy(),
        element_bytes={"bf16": 2.0, "fp8": 1.0}[dtype],
    )
    return pl.Series(predicted) / rows["time_s"] - 1.0


@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_shipped_profile_fits_what_was_measured(dtype: str) -> None:
    """Half of the matrices of four models are within 4 %, and the file tells that error."""
    own = read_coefficients(Path(SHIPPED[0]), H200)
    found = errors(KernelCoefficients(gpu=H200, own=own).gemm(dtype), dtype).abs().median()
    assert isinstance(found, float)
    assert found < 0.04
    assert found == pytest.approx(own[f"gemm.{dtype}"]["error_median"], abs=0.005)


@pytest.mark.parametrize(("dtype", "bias", "median"), [("bf16", 0.05, 0.08), ("fp8", 0.05, 0.10)])
def test_tables_of_others_agree_with_what_was_measured(dtype: str, bias: float, median: float) -> None:
    """Coefficients from the operator tables, which never saw these rows: another H200, vLLM's kernels."""
    found = errors(KernelCoefficients(gpu=H200).gemm(dtype), dtype).filter(measured_gemms(dtype)["n"] >= 1024)
    middle, size = found.median(), found.abs().median()
    assert isinstance(middle, float)
    assert isinstance(size, float)
    assert abs(middle) < bias
    assert size < median


def test_lasting_share_of_hopper_is_what_was_measured() -> None:
    """The dense models' prefill: seconds back to back over those of each kernel alone."""
    shares = []
    for path in sorted(PROFILES.glob("h200-llama*/loads.csv")):
        row = pl.read_csv(path).filter(pl.col("state") == "prefill").row(0, named=True)
        shares.append(row["alone_s"] / row["lasting_s"])
    assert len(shares) == 3
    assert sustained_share(H200) == pytest.approx(sorted(shares)[1], abs=0.005)
    assert max(shares) - min(shares) < 0.03


def priced(latency: Roofline) -> float:
    """Return the seconds of 2,048 prompt tokens of Llama-3.1-8B in fp8."""
    latency.reset(
        LatencyContext(
            gpu=H200,
            model=model("llama-3.1-8b", dtype="fp8"),
            tensor_parallel=1,
            max_num_seqs=8,
            max_num_batched_tokens=2048,
            async_scheduling=False,
        )
    )
    return latency.price(BatchShape(0, 0, [(2048, 0)]))[0]


def test_own_coefficients_come_first(tmp_path: Path) -> None:
    """A file that halves the matrices' rate makes a prefill slower; what it lacks stays the GPU's."""
    lines = SHIPPED_TEXT.split('[coefficients."experts.bf16"]')[0]
    path = tmp_path / "own.toml"
    path.write_text(lines, encoding="utf-8")
    same = Roofline(coefficients=path)
    first = priced(same)
    assert same.sources["gemm.fp8"] == "own coefficients"
    assert same.sources["decode.bf16"] == "h200-sxm"
    path.write_text(lines.replace("flops_share = 0.7556", "flops_share = 0.3778"), encoding="utf-8")
    assert 1.5 * first < priced(Roofline(coefficients=path)) < 2 * first
    assert priced(Roofline(coefficients=Path(SHIPPED[0]))) != priced(Roofline())


def changed(before: str, after: str) -> str:
    """Return the shipped file with one thing changed."""
    assert before in SHIPPED_TEXT
    return SHIPPED_TEXT.replace(before, after, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", r"unreadable \("),
        ("a = 1", "no coefficients. expected a file of scripts/fit_profile.py"),
        (changed('gpu = "h200-sxm"', 'gpu = "h20"'), r"another GPU \(got 'h20'\). expected 'h200-sxm'"),
        (changed("gemm.bf16", "gem.bf16"), "gem.bf16: unknown. expected one of gemm.bf16, gemm.fp8"),
        (changed("gemm.bf16", "gemm.bf61"), r"(?s)gemm.bf61: unknown.*gemm\.bf16"),
        (changed("launch_s = 5.799e-06\n", ""), r"gemm.bf16: launch_s: no coefficient \(got None\)"),
        (
            changed("launch_s = 5.799e-06", "launch_s = -1e-6"),
            r"no coefficient \(got -1e-06\). expected a number from 0 on",
        ),
        (changed("launch_s = 5.799e-06", "launch_s = nan"), r"no coefficient \(got nan\)"),
        (changed("launch_s = 5.799e-06", "launch_s = true"), r"no coefficient \(got True\)"),
        (changed("flops_share = 0.8297", "flops_share = 1.2"), r"flops_share: beats the peak \(got 1.2\)"),
        (
            changed("overlap = 4.458", "overlap = 0.5"),
            r"overlap: slower than one after the other \(got 0.5\)",
        ),
        (changed("flops_share = 0.8297", "flops_share = 0"), r"flops_share: no rate \(got 0\)"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    """Each is refused by file, section and name."""
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError, match=message):
        read_coefficients(path, H200)


def test_no_such_file(tmp_path: Path) -> None:
    """The shipped one is offered."""
    with pytest.raises(ScenarioError, match="no such file") as caught:
        read_coefficients(tmp_path / "h200-sxm-profil", H200)
    assert "did you mean 'h200-sxm-profile'?" in str(caught.value)


def test_scenario_takes_the_word() -> None:
    """As the name in a scenario, whose paths start from its folder; the result tells whose coefficients it had."""
    pool = {"gpu": "h200-sxm", "latency": {"name": "roofline", "coefficients": SHIPPED[0]}}
    overrides = [f"cluster.pools.main.{key}={json.dumps(value)}" for key, value in pool.items()]
    scenario = load_scenario(QUICKSTART, overrides=[*overrides, "workload.max_requests=20"])
    (found,) = simulate(scenario).provenance["pools"]
    assert found["latency_sources"]["decode.bf16"] == "own coefficients"
