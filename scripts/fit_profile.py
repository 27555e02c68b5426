"""Fit the coefficients of `servesim.latency.efficiency` to profiles of one GPU.

    python scripts/fit_profile.py OUT FOLDER...

FOLDERs are profiles that ``servesim profile`` wrote, of several models, so that shapes vary; OUT is the file that
``latency: {name: roofline, coefficients: OUT}`` takes. What is fitted: matrices, decode and prefill attention, and
experts, each where a profile has them; the method is that of ``scripts/fit_coefficients.py``. Kernels between the
matrices and sums over GPUs stay those of the GPU's own coefficients.

Without arguments it writes servesim/latency/fitted/h200-sxm-profile.toml from benchmarks/profiles.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from fit_coefficients import (
    DECODE_SEARCH,
    EXPERTS_SEARCH,
    GEMM_SEARCH,
    PREFILL_SEARCH,
    ROOT,
    Section,
    device,
    fit,
    predict_decode,
    predict_experts,
    predict_gemm,
    predict_prefill,
    ranges,
    relative_errors,
    rounded,
)
from operator_tables import WEIGHT_BYTES, Table

from servesim.catalog import model as catalog_model
from servesim.latency import efficiency as e
from servesim.profiles.native import read_facts

SHIPPED = ROOT / "servesim" / "latency" / "fitted" / "h200-sxm-profile.toml"
PROFILES = ROOT / "benchmarks" / "profiles"


@dataclass(frozen=True, slots=True)
class Share:
    """A folder of a profile with the tables of one degree of tensor parallelism, and its ``profile.json``."""

    path: Path
    facts: dict[str, Any]

    @property
    def ranks(self) -> int:
        """Degree of tensor parallelism."""
        return int(self.path.name.removeprefix("tp"))

    def rows(self, table: str) -> pl.DataFrame | None:
        """Return a table, or None if there is none."""
        file = self.path / f"{table}.csv"
        return pl.read_csv(file) if file.exists() else None


def main() -> None:
    """Fit, and write the file."""
    arguments = [Path(each) for each in sys.argv[1:]]
    out, folders = (arguments[0], arguments[1:]) if arguments else (SHIPPED, sorted(PROFILES.iterdir()))
    shares = [Share(path, read_facts(folder)) for folder in folders for path in sorted(folder.glob("tp*"))]
    gpus = {str(share.facts["gpu"]) for share in shares}
    if len(gpus) != 1:
        raise SystemExit(f"profiles of one GPU: expected (got {', '.join(sorted(gpus)) or 'none'})")
    out.write_text(text(gpus.pop(), shares), encoding="utf-8")


def text(gpu: str, shares: Sequence[Share]) -> str:
    """Return the file: coefficients with their errors, and of what they are."""
    first = shares[0].facts
    of = ", ".join(
        sorted({f"{share.facts['model']['name']} in {share.facts['model']['dtype']}" for share in shares})
    )
    lines = [
        f"# Coefficients of servesim.latency.efficiency for {gpu}: written by scripts/fit_profile.py.",
        "# bias, error_median, error_p90: of predicted / measured - 1 on all rows, which were fitted.",
        f'gpu = "{gpu}"',
        f'source = "servesim profile of {of} on {first["device"]}, driver {first["driver"]}, {first["attention"]}"',
    ]
    for section in sections(gpu, shares):
        found = rounded(fit(section))
        bias, middle, p90 = relative_errors(section, found)
        lines += ["", f'[coefficients."{section.name}"]']
        lines += [f"{f.name} = {getattr(found, f.name)!r}" for f in fields(section.kind)]
        lines += [f"rows = {len(section.table)}", f"bias = {bias:.3f}"]
        lines += [f"error_median = {middle:.3f}", f"error_p90 = {p90:.3f}"]
        lines += [f"{column} = [{low:.6g}, {high:.6g}]" for column, low, high in ranges(section)]
    return "\n".join(lines) + "\n"


def sections(gpu: str, shares: Sequence[Share]) -> Iterator[Section]:
    """Return what there is to fit."""
    peaks = device(gpu).peaks
    for dtype in ("bf16", "fp8"):
        if (table := gemm(shares, dtype)) is not None:
            predict = partial(predict_gemm, peaks=peaks(dtype), dtype=dtype)
            yield Section(name=f"gemm.{dtype}", kind=e.Gemm, table=table, predict=predict, **GEMM_SEARCH)
    if (table := experts(shares)) is not None:
        routed = partial(predict_experts, peaks=peaks("bf16"), dtype="bf16")
        yield Section(name="experts.bf16", kind=e.Experts, table=table, predict=routed, **EXPERTS_SEARCH)
    for name, kind, predict_attention, search in (
        ("decode", e.Decode, predict_decode, DECODE_SEARCH),
        ("prefill", e.Prefill, predict_prefill, PREFILL_SEARCH),
    ):
        predict = partial(predict_attention, peaks=peaks("bf16"))
        if (table := attention(shares, decode=name == "decode")) is not None:
            yield Section(name=f"{name}.bf16", kind=kind, table=table, predict=predict, **search)


def gemm(shares: Sequence[Share], dtype: str) -> Table | None:
    """Return all matrices in *dtype*."""
    found = []
    for share in shares:
        dense = share.rows("dense")
        if dense is None:
            continue
        rows = dense.filter(pl.col("operator").str.ends_with(f" {dtype}"))
        shape = rows["operator"].str.extract_groups(r"matrix (?<n>\d+) x (?<k>\d+)").struct.unnest()
        found.append(rows.select("time_s", m="tokens").hstack(shape.cast(pl.Float64)))
    return _table(found, ("m", "n", "k"))


def attention(shares: Sequence[Share], *, decode: bool) -> Table | None:
    """Return decodes, or chunks, without windows."""
    found = []
    for share in shares:
        model = share.facts["model"]
        rows = share.rows("attention")
        if rows is None:
            continue
        rows = rows.filter(pl.col("window") == 0, (pl.col("chunk") == 0) == decode)
        if not decode:
            rows = rows.filter(pl.col("sequences") == 0)
        kv_heads = max(1, model["kv_heads"] // share.ranks)
        shape = {"head_dim": model["head_dim"], "heads": model["heads"] / share.ranks}
        token_bytes = 2 * kv_heads * model["head_dim"] * WEIGHT_BYTES["bf16"]
        found.append(
            rows.select(
                "time_s",
                "start",
                "context",
                sequences=pl.col("sequences") if decode else pl.lit(1),
                tokens="chunk",
                token_bytes=pl.lit(token_bytes),
                **{name: pl.lit(float(value)) for name, value in shape.items()},
            )
        )
    chunks = ("sequences", "tokens", "start", "heads", "head_dim")
    return _table(found, ("sequences", "context", "token_bytes") if decode else chunks)


def experts(shares: Sequence[Share]) -> Table | None:
    """Return routed experts."""
    found = []
    for share in shares:
        rows = share.rows("experts")
        if rows is None:
            continue
        moe = catalog_model(share.facts["model"]["name"]).moe
        assert moe is not None
        hidden = share.facts["model"]["hidden_size"]
        found.append(
            rows.select(
                "time_s",
                pairs=pl.col("tokens") * moe.experts_per_token,
                visited="experts",
                hidden=pl.lit(float(hidden)),
                weights=pl.lit(3.0 * hidden * moe.intermediate_size / share.ranks),
            )
        )
    return _table(found, ("pairs", "visited", "hidden", "weights"))


def _table(found: Sequence[pl.DataFrame], columns: Sequence[str]) -> Table | None:
    """Return one row for each shape, since shares of several models have some in common; None: there is none."""
    if not any(frame.height for frame in found):
        return None
    frame = pl.concat(found).group_by(columns).agg(pl.col("time_s").median()).sort(columns)
    return Table(
        {name: frame[name].cast(pl.Float64).to_numpy() for name in columns}, frame["time_s"].to_numpy()
    )


if __name__ == "__main__":
    main()
