"""Fitted coefficients: every GPU finds some, the files are in range, their errors are true and fits come out again."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from servesim.catalog import gpu, gpu_names
from servesim.catalog.dtypes import BYTES_PER_ELEMENT, KV_DTYPES
from servesim.latency.coefficients import MEASURED, KernelCoefficients, compute_dtype, fitted, relative

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


@pytest.mark.parametrize("name", gpu_names())
def test_every_gpu_prices_every_format(name: str) -> None:
    """No GPU of the catalog lacks an operator, whatever the formats of weights and KV cache."""
    found = KernelCoefficients(gpu=gpu(name))
    for dtype in BYTES_PER_ELEMENT:
        assert found.gemm(dtype).launch_s > 0
        assert found.experts(dtype).launch_s > 0
    for dtype in KV_DTYPES:
        for latent in (False, True):
            assert found.decode(dtype, latent=latent).launch_s > 0
            assert found.prefill(dtype, latent=latent).launch_s > 0
    assert found.all_reduce().launch_s > 0
    assert found.elementwise().launch_s > 0
    assert found.mixed().reread_share >= 0
    assert set(found.sources.values()) <= set(MEASURED)


def test_sources_name_the_relative() -> None:
    """A measured GPU is its own source; others say whose coefficients they have, operator by operator."""
    own = KernelCoefficients(gpu=gpu("h200-sxm"))
    own.gemm("bf16")
    assert own.sources == {"gemm.bf16": "h200-sxm"}
    other = KernelCoefficients(gpu=gpu("h100-pcie"))
    other.gemm("fp8")
    other.all_reduce()
    assert other.sources == {"gemm.fp8": "h100-sxm", "all_reduce": "l40s"}
    assert relative(gpu("v100-sxm-16gb")) == "a100-80gb-sxm"


def test_matrices_of_32_bits_are_those_of_the_gpu_they_were_measured_on() -> None:
    """Any GPU has the H200's shares of its own peaks: full precision without tensor cores, rounded at half of bf16."""
    found = KernelCoefficients(gpu=gpu("b200-sxm"))
    for dtype in ("fp32", "tf32"):
        found.gemm(dtype)
        assert fitted("h200-sxm")[f"gemm.{dtype}"]["error_median"] < 0.1
    assert found.sources == {"gemm.fp32": "h200-sxm", "gemm.tf32": "h200-sxm"}
    assert gpu("h200-sxm").peak_flops_per_s("tf32") == gpu("h200-sxm").peak_flops_per_s("bf16") / 2
    assert gpu("v100-sxm-16gb").peak_flops_per_s("tf32") == 15.7e12


def test_formats_that_the_hardware_lacks_multiply_in_16_bits() -> None:
    """fp8 on an A100 and 4-bit weights anywhere but Blackwell's nvfp4 are unpacked first."""
    assert compute_dtype(gpu("a100-80gb-sxm"), "fp8") == "fp16"
    assert compute_dtype(gpu("b200-sxm"), "nvfp4") == "fp4"
    assert compute_dtype(gpu("h100-sxm"), "nvfp4") == "fp16"
    assert compute_dtype(gpu("h100-sxm"), "int4") == "bf16"


def test_files_hold_shares_of_peaks() -> None:
    """No share exceeds the peak, no time is negative, and every set says its rows and its error."""
    for name in MEASURED:
        for section, entry in fitted(name).items():
            where = f"{name} {section}"
            for key, value in entry.items():
                if key.endswith("_share") and key not in ("cache_share", "critical_share"):
                    assert 0 <= value <= 1, where
                if key.endswith("_s") and not key.startswith("range"):
                    assert 0 <= value < 1e-3, where
            assert entry["rows"] >= 19, where
            assert 0 < entry["error_median"] < entry["error_p90"], where


@pytest.fixture(scope="module")
def fits() -> Iterator[ModuleType]:
    """The script that fits, as a module."""
    sys.path.insert(0, str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("fit_coefficients", SCRIPTS / "fit_coefficients.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fit_coefficients"] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(SCRIPTS))


def shipped(fits: ModuleType, name: str) -> dict[str, Any]:
    """Return the coefficients of a file, as objects."""
    kinds = {
        "gemm": fits.e.Gemm,
        "experts": fits.e.Experts,
        "decode": fits.e.Decode,
        "prefill": fits.e.Prefill,
        "latent_decode": fits.e.Decode,
        "latent_prefill": fits.e.Prefill,
        "mixed": fits.e.Mixed,
        "all_reduce": fits.e.AllReduce,
        "elementwise": fits.e.Elementwise,
    }
    found = {}
    for section, entry in fitted(name).items():
        kind = kinds[section.split(".")[0]]
        found[section] = kind(**{f.name: entry[f.name] for f in fits.fields(kind)})
    return found


@pytest.mark.parametrize("name", ["h100-sxm", "l40s", "rtx-pro-6000"])
def test_errors_in_the_files_are_true(name: str, fits: ModuleType, shared: Callable[[str], Path]) -> None:
    """The printed rows and errors are those of the shipped coefficients on the measured tables."""
    tables = fits.Tables(shared("calibration"))
    coefficients = shipped(fits, name)
    listed = fits.sections(tables, name, coefficients)
    assert {section.name for section in listed} == set(coefficients)
    for section in listed:
        entry = fitted(name)[section.name]
        bias, median, p90 = fits.relative_errors(section, coefficients[section.name])
        assert len(section.table) == entry["rows"]
        assert (bias, median, p90) == pytest.approx(
            (entry["bias"], entry["error_median"], entry["error_p90"]), abs=6e-4
        )


def test_fitting_again_gives_what_is_shipped(fits: ModuleType, shared: Callable[[str], Path]) -> None:
    """A few sets of the H100, fitted anew: the same times within 2 % on nearly all rows."""
    import numpy as np

    tables = fits.Tables(shared("calibration"))
    coefficients = shipped(fits, "h100-sxm")
    again = {"gemm.bf16", "experts.fp8", "decode.bf16", "all_reduce"}
    for section in fits.sections(tables, "h100-sxm", {}):
        if section.name in again:
            new = section.predict(fits.fit(section), section.table)
            old = section.predict(coefficients[section.name], section.table)
            assert np.quantile(np.abs(new / old - 1), 0.95) < 0.02
