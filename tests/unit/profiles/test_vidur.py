"""Profiles in the forms of Vidur and of the older LLMServingSim."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from profile_format import write

from servesim.errors import ServesimError
from servesim.profiles import read_layer_profile
from servesim.profiles.vidur import OPERATORS

OLD = "calibration/operator_tables/layer_profiles/profile_v0"


def _time(name: str) -> str:
    return f"time_stats.{name}.median"


def _tables() -> dict[str, pl.DataFrame]:
    """Return Vidur's tables in ms: operator i takes (i + 1) (1 + tokens / 1000); attention as below."""
    counts = [1, 8, 512]
    mlp = {"num_tokens": counts * 2, "num_tensor_parallel_workers": [1] * 3 + [2] * 3}
    mlp |= {"n_head": [32] * 6, "n_kv_head": [8] * 6}
    times = {
        _time(name): [(i + 1) * (1 + tokens / 1000) / ranks for ranks in (1, 2) for tokens in counts]
        for i, name in enumerate(("emb", *OPERATORS))
    }
    prefill = [(True, 1, t, s, 0.1 + t * (s + t) * 1e-6, None) for t in (32, 512) for s in (0, 64, 1024)]
    decode = [
        (False, n, 0, c, None, 0.05 + n * c * 1e-6) for n in (1, 16) for c in (32, 1024) if n * c < 9000
    ]
    names = ["is_prefill", "batch_size", "prefill_chunk_size", "kv_cache_size", _time("attn_prefill")]
    attention = pl.DataFrame(prefill + decode, schema=[*names, _time("attn_decode")], orient="row")
    saved = attention.with_columns(pl.lit(0.01).alias(_time("attn_kv_cache_save")))
    both = [saved.with_columns(num_tensor_parallel_workers=pl.lit(ranks)) for ranks in (1, 2)]
    return {"mlp": pl.DataFrame(mlp | times), "attention": pl.concat(both)}


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_vidur_is_read_whole(tmp_path: Path, suffix: str) -> None:
    """All operators of a layer, the embedding once, ms as s, the output head told as missing."""
    profile = read_layer_profile(write(tmp_path, _tables(), suffix=suffix, meta=None), tensor_parallel=2)
    assert (profile.heads, profile.kv_heads, profile.fitted) == (32, 8, ("output head",))
    assert set(profile.per_layer) == {*OPERATORS, "kv_cache_save"}
    assert profile.per_step["emb"](8) == pytest.approx(0.5e-3 * 1.008)
    assert profile.per_layer["input_layernorm"](512) == pytest.approx(1e-3 * 1.512)
    assert profile.per_layer["kv_cache_save"](100) == pytest.approx(1e-5)
    assert profile.attention.mixed is None
    assert profile.attention.prefill(512, 1024) == pytest.approx((0.1 + 512 * 1536 * 1e-6) * 1e-3)
    assert profile.attention.decode(16, 32) == pytest.approx((0.05 + 512e-6) * 1e-3)


def test_batch_that_did_not_fit_goes_on_as_its_line_did(tmp_path: Path) -> None:
    """16 sequences of 1,024 tokens were not measured; with one point of the line, that one stands."""
    decode = read_layer_profile(write(tmp_path, _tables(), meta=None), tensor_parallel=1).attention.decode
    assert decode(16, 1024) == decode(16, 32)
    assert decode(1, 1024) == pytest.approx((0.05 + 1024e-6) * 1e-3)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("mlp", lambda t: t.drop(_time("mlp_act")), r"no column 'time_stats\.mlp_act\.median'"),
        ("mlp", lambda t: t.drop("num_tensor_parallel_workers"), "no column 'num_tensor_parallel_workers'"),
        ("mlp", lambda t: t.with_columns(pl.lit(-1.0).alias(_time("add"))), r"no time \(got -1\.0\)"),
        ("attention", lambda t: t.drop("is_prefill"), "no column 'is_prefill'"),
        ("attention", lambda t: t.filter(pl.col("is_prefill")), "no rows of decode"),
        (
            "attention",
            lambda t: t.filter(pl.col("num_tensor_parallel_workers") == 2),
            r"no rows of 1 GPUs \(got 2\)",
        ),
        (
            "attention",
            lambda t: t.with_columns(pl.lit(None).alias(_time("attn_decode"))),
            "no numbers|no time",
        ),
    ],
)
def test_broken_tables_are_refused(
    tmp_path: Path, name: str, change: Callable[[pl.DataFrame], pl.DataFrame], message: str
) -> None:
    """What is missing is named with its file."""
    known = _tables()
    known[name] = change(known[name])
    with pytest.raises(ServesimError, match=rf"{name}\.parquet: .*({message})"):
        read_layer_profile(write(tmp_path, known, meta=None), tensor_parallel=1)


def test_no_attention_table_is_refused(tmp_path: Path) -> None:
    """Vidur's mlp.csv alone."""
    with pytest.raises(ServesimError, match="no attention table"):
        read_layer_profile(write(tmp_path, {"mlp": _tables()["mlp"]}, meta=None), tensor_parallel=1)


@pytest.mark.parametrize(
    ("folder", "ranks", "heads"),
    [
        ("H100/meta-llama/Llama-3.1-70B", 4, (64, 8)),
        ("A6000/meta-llama/Llama-3.1-8B", 2, (32, 8)),
        ("TPU-v6e-1/meta-llama/Llama-3.1-8B", 1, (None, None)),
    ],
)
def test_older_profiles_are_read(
    shared: Callable[[str], Path], folder: str, ranks: int, heads: tuple[int | None, int | None]
) -> None:
    """Both forms of LLMServingSim 1, against rows of the files: ns, ms; a chunk counted among its cached tokens."""
    path = shared(OLD) / folder
    profile = read_layer_profile(path, tensor_parallel=ranks)
    assert (profile.heads, profile.kv_heads) == heads
    layers = pl.read_parquet(path / f"tp{ranks}" / "layers.parquet")
    row = layers.filter(pl.col("layer_name") == "o_proj", pl.col("input") == 100)["latency(ns)"].median()
    assert profile.per_layer["o_proj"](100) == pytest.approx(row * 1e-9)
    assert "attn" not in profile.per_layer
    assert set(profile.per_sequence) == {"lm_head"}
    attention = pl.read_parquet(path / f"tp{ranks}" / "attention.parquet")
    time, unit_s = ("p50_ns", 1e-9) if heads[0] is None else (_time("attn_prefill"), 1e-3)
    row = attention.filter(pl.col("prefill_chunk_size") == 64, pl.col("kv_cache_size") == 64)[time].median()
    assert profile.attention.prefill(64, 64 if heads[0] is None else 0) == pytest.approx(
        row * unit_s, rel=0.05
    )


def test_experts_one_by_one_are_refused(shared: Callable[[str], Path]) -> None:
    """The older form's experts need to know how tokens are routed."""
    path = shared(OLD) / "A6000" / "microsoft" / "Phi-mini-MoE-instruct"
    with pytest.raises(ServesimError, match=r"experts one by one \(got .*expert\.w1"):
        read_layer_profile(path, tensor_parallel=1)
    with pytest.raises(ServesimError, match=r"no profile of 8 GPUs \(got tp1, tp2\)"):
        read_layer_profile(path, tensor_parallel=8)
