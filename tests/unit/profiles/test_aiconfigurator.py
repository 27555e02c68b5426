"""Operator tables in AIConfigurator's form: what is read, from where, and what is refused."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

import polars as pl
import pytest
from profile_format import operator_rows, write

from servesim.errors import ServesimError
from servesim.profiles import aiconfigurator
from servesim.profiles.aiconfigurator import operator_tables

GEMM = "gemm/vllm/0.24.0/gemm_perf"
HEADS = "attention/vllm/0.24.0/generation_attention_perf"


def _write(folder: Path, **changed: pl.DataFrame) -> Path:
    return write(folder, {**operator_rows(), **changed}, meta=None)


def test_tables_tell_gpu_and_engine(tmp_path: Path) -> None:
    """The device's name becomes the catalog's; the version is that of the folder."""
    tables = operator_tables(_write(tmp_path), "h200-sxm")
    assert tables is not None
    assert (tables.gpu, tables.engine) == ("h200-sxm", "vllm 0.24.0 (AIConfigurator)")
    other = write(tmp_path / "a", operator_rows("NVIDIA A100-SXM4-80GB"), meta=None)
    known = operator_tables(other, "h200-sxm")
    assert known is not None
    assert known.gpu == "a100-80gb-sxm"
    assert operator_tables(tmp_path / "nothing", "h200-sxm") is None


def test_rows_are_seconds_by_shape(tmp_path: Path) -> None:
    """Ms become s; of two kernels the faster counts; other formats and missing tables have no rows."""
    rows = operator_rows()[GEMM]
    slow = rows.with_columns(pl.col("latency") * 3)
    tables = operator_tables(_write(tmp_path, **{GEMM: pl.concat([slow, rows])}), "h200-sxm")
    assert tables is not None
    assert len(tables.gemm("bf16")) == 20
    assert (4096.0, 4096.0, 1.0, 4096**2 / 2e9 * 1e-3) in tables.gemm("bf16")
    assert tables.gemm("fp8") == tables.gemm("int4") == []
    assert tables.experts("bf16") == tables.latent("bf16", "context") == []
    assert tables.decode("bf16")[0] == (32, 8, 128, 0, 1, 15, pytest.approx((0.004 + 16 * 2e-6) * 1e-3))
    assert tables.all_reduce()[0] == (2, 2048, pytest.approx((0.02 + 1024 / 1e8) * 1e-3))


def test_newest_version_with_the_table_counts(tmp_path: Path) -> None:
    """0.24.0 is newer than 0.9.0, which sorts behind it as text."""
    old = operator_rows()[GEMM].with_columns(pl.col("latency") * 100)
    tables = operator_tables(_write(tmp_path, **{"gemm/vllm/0.9.0/gemm_perf": old}), "h200-sxm")
    assert tables is not None
    assert tables.engine.startswith("vllm 0.24.0")
    assert max(row[-1] for row in tables.gemm("bf16")) < 0.1


@pytest.mark.parametrize("value", [-1.0, 0.0, float("nan"), None])
def test_what_is_no_time_is_refused(tmp_path: Path, value: float | None) -> None:
    """Negative, not a number, missing."""
    rows = operator_rows()[GEMM].with_columns(latency=pl.lit(value, dtype=pl.Float64))
    tables = operator_tables(_write(tmp_path, **{GEMM: rows}), "h200-sxm")
    assert tables is not None
    with pytest.raises(
        ServesimError,
        match=r"gemm_perf\.parquet: row 1: latency: no time \(got .*\)\. expected milliseconds > 0",
    ):
        tables.gemm("bf16")


def test_broken_tables_are_refused(tmp_path: Path) -> None:
    """A missing column is named; a file that is no Parquet is unreadable."""
    tables = operator_tables(_write(tmp_path, **{HEADS: operator_rows()[HEADS].drop("step")}), "h200-sxm")
    assert tables is not None
    with pytest.raises(ServesimError, match=r"generation_attention_perf\.parquet: no column 'step' \(got "):
        tables.decode("bf16")
    (tmp_path / f"{HEADS}.parquet").write_bytes(b"nothing")
    with pytest.raises(ServesimError, match="unreadable"):
        tables.decode("bf16")
    (tmp_path / f"{GEMM}.parquet").write_bytes(b"nothing")
    with pytest.raises(ServesimError, match="unreadable"):
        operator_tables(tmp_path, "h200-sxm")


def test_installed_package_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The word stands for the package's folder of the GPU; without package or GPU it is refused."""
    word = tmp_path / "scenarios" / "aiconfigurator"
    monkeypatch.setattr(aiconfigurator, "find_spec", lambda name: None)
    with pytest.raises(ServesimError, match=r"aiconfigurator-core is not installed.*\n  hint: pip install"):
        operator_tables(word, "h200-sxm")
    _write(tmp_path / "systems" / "data" / "h200_sxm")
    spec = ModuleSpec("aiconfigurator_core", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(aiconfigurator, "find_spec", lambda name: spec)
    tables = operator_tables(word, "h200-sxm")
    assert tables is not None
    assert tables.gpu == "h200-sxm"
    with pytest.raises(ServesimError, match=r"no tables of this GPU \(got mi300x\)\. expected one of a100"):
        operator_tables(word, "mi300x")
