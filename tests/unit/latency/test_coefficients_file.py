"""Coefficients of one's own: the shipped profiles of an H200 and an H100, what a file may hold, what it changes."""

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
from servesim.latency.coefficients import KernelCoefficients, fitted, sustained_share
from servesim.latency.coefficients_file import SHIPPED, read_coefficients
from servesim.latency.efficiency import Peaks
from servesim.latency.roofline import Roofline
from servesim.scenario.load import load_scenario

H200 = gpu("h200-sxm")
ROOT = Path(__file__).resolve().parents[3]
PROFILES, QUICKSTART = ROOT / "benchmarks" / "profiles", ROOT / "scenarios" / "quickstart.yaml"
SHIPPED_TEXT = (files("servesim.latency") / "fitted" / f"{SHIPPED[0]}.toml").read_text(encoding="utf-8")


def measured_gemms(name: str, dtype: str) -> pl.DataFrame:
    """Return tokens, n, k and seconds of every matrix that was measured on GPU *name*."""
    tables = [pl.read_csv(path) for path in sorted(PROFILES.glob(f"{name[:4]}-*/tp*/dense.csv"))]
    rows = pl.concat(tables).filter(pl.col("operator").str.ends_with(f" {dtype}"))
    shape = rows["operator"].str.extract_groups(r"matrix (?<n>\d+) x (?<k>\d+)").struct.unnest()
    return rows.select("tokens", "time_s").hstack(shape.cast(pl.Float64))


def errors(coefficients: efficiency.Gemm, name: str, dtype: str) -> pl.Series:
    """Return predicted / measured - 1 of every such matrix."""
    rows, of = measured_gemms(name, dtype), gpu(name)
    peaks = Peaks(
        flops_per_s=of.peak_flops_per_s(dtype),
        bytes_per_s=of.memory_bandwidth_bytes_per_s,
        multiprocessors=of.multiprocessors,
        cache_bytes=of.cache_bytes,
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
@pytest.mark.parametrize("name", ["h200-sxm", "h100-sxm"])
def test_shipped_profile_fits_what_was_measured(name: str, dtype: str) -> None:
    """Half of the matrices of four models are within 4 %, and the file tells that error."""
    own = read_coefficients(Path(f"{name}-profile"), gpu(name))
    found = errors(KernelCoefficients(gpu=gpu(name), own=own).gemm(dtype), name, dtype).abs().median()
    assert isinstance(found, float)
    assert found < 0.04
    assert found == pytest.approx(own[f"gemm.{dtype}"]["error_median"], abs=0.005)


@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
@pytest.mark.parametrize(("name", "other"), [("h200-sxm", "h100-sxm"), ("h100-sxm", "h200-sxm")])
def test_another_gpu_by_specification(name: str, other: str, dtype: str) -> None:
    """Coefficients of one GPU and the other's peaks price the other's matrices as well, within half a percent."""
    own = read_coefficients(Path(f"{other}-profile"), gpu(other))
    told = fitted(f"{name}-profile")[f"gemm.{dtype}"]
    found = errors(KernelCoefficients(gpu=gpu(other), own=own).gemm(dtype), name, dtype).abs().median()
    assert isinstance(found, float)
    assert found < told["error_median"] + 0.006
    assert found == pytest.approx(told["error_median_of"][f"{other}-profile"], abs=0.005)


@pytest.mark.parametrize("name", ["h200-sxm", "h100-sxm"])
def test_files_tell_what_never_saw_their_rows(name: str) -> None:
    """The default is farther off than what was fitted; experts aside, the other GPU is not."""
    (other,) = {"h200-sxm", "h100-sxm"} - {name}
    for section, entry in fitted(f"{name}-profile").items():
        foreign = entry["error_median_of"]
        if section == "elementwise":  # which the default takes from these rows
            assert "default" not in foreign
        else:
            assert entry["error_median"] < foreign["default"] < 0.3, section
        if not section.startswith("experts"):
            assert foreign[f"{other}-profile"] < entry["error_median"] + 0.02, section


@pytest.mark.parametrize(
    ("name", "dtype", "bias", "median"),
    [
        ("h200-sxm", "bf16", 0.05, 0.08),
        ("h200-sxm", "fp8", 0.05, 0.10),
        ("h100-sxm", "bf16", 0.05, 0.08),
        ("h100-sxm", "fp8", 0.10, 0.13),
    ],
)
def test_tables_of_others_agree_with_what_was_measured(
    name: str, dtype: str, bias: float, median: float
) -> None:
    """Coefficients from the operator tables, which never saw these rows: other boards, vLLM's kernels."""
    wide = measured_gemms(name, dtype)["n"] >= 1024
    found = errors(KernelCoefficients(gpu=gpu(name)).gemm(dtype), name, dtype).filter(wide)
    middle, size = found.median(), found.abs().median()
    assert isinstance(middle, float)
    assert isinstance(size, float)
    assert abs(middle) < bias
    assert size < median


def test_lasting_share_of_hopper_is_what_was_measured() -> None:
    """The dense models' prefill on both GPUs: seconds back to back over those of each kernel alone."""
    shares = []
    for path in sorted(PROFILES.glob("h?00-llama*/loads.csv")):
        row = pl.read_csv(path).filter(pl.col("state") == "prefill").row(0, named=True)
        shares.append(row["alone_s"] / row["lasting_s"])
    assert len(shares) == 5
    for name in ("h200-sxm", "h100-sxm"):
        assert sustained_share(gpu(name)) == pytest.approx(sorted(shares)[2], abs=0.005)
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
