"""Fit the coefficients of `servesim.latency.efficiency` to profiles of one GPU.

    python scripts/fit_profile.py OUT FOLDER...

FOLDERs are profiles that ``servesim profile`` wrote, of several models, so that shapes vary; OUT is the file that
``latency: {name: roofline, coefficients: OUT}`` takes. What is fitted: matrices, experts, decode and prefill attention
with the write to the KV cache, and the kernels between the matrices, each where a profile has them; the method is that
of ``scripts/fit_coefficients.py``. Sums over GPUs stay those of the GPU's own coefficients.

Without arguments it writes a file for each GPU of benchmarks/profiles, servesim/latency/fitted/GPU-profile.toml, and
the table of errors of docs/how-to/profile-a-gpu.md. These files also have the errors of coefficients that never saw
their rows: the other GPU's, with the right peaks, and the default's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from fit_coefficients import (
    DECODE_SEARCH,
    ELEMENTWISE_SEARCH,
    EXPERTS_SEARCH,
    GEMM_SEARCH,
    LABELS,
    PREFILL_SEARCH,
    ROOT,
    Section,
    device,
    fit,
    predict_decode,
    predict_elementwise,
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
from servesim.latency.coefficients import fitted
from servesim.profiler.elementwise import elementwise as elementwise_operators
from servesim.profiles.native import read_facts

FITTED = ROOT / "servesim" / "latency" / "fitted"
PROFILES = ROOT / "benchmarks" / "profiles"
PAGE = ROOT / "docs" / "how-to" / "profile-a-gpu.md"

BEGIN, END = "<!-- errors: scripts/fit_profile.py renews this -->\n", "<!-- end -->"

NOT_PRICED = ("embedding", "cache_write")
"""Kernels that `servesim.latency.efficiency.Elementwise` is not for: once a step, and part of attention."""

Fits = Mapping[str, Any]
"""Coefficients by section."""


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
    """Fit, and write the file or files."""
    arguments = [Path(each) for each in sys.argv[1:]]
    if arguments:
        out, *folders = arguments
        gpus = shares_of(folders)
        if len(gpus) != 1:
            raise SystemExit(f"profiles of one GPU: expected (got {', '.join(sorted(gpus)) or 'none'})")
        ((gpu, shares),) = gpus.items()
        out.write_text(text(gpu, shares, fit_all(gpu, shares)), encoding="utf-8")
        return
    gpus = shares_of(sorted(PROFILES.iterdir()))
    fits = {gpu: fit_all(gpu, shares) for gpu, shares in gpus.items()}
    for gpu, shares in gpus.items():
        others = {f"{other}-profile": found for other, found in fits.items() if other != gpu}
        others["default"] = default(gpu, shares)
        (FITTED / f"{gpu}-profile.toml").write_text(text(gpu, shares, fits[gpu], others), encoding="utf-8")
    PAGE.write_text(with_errors(PAGE.read_text(encoding="utf-8"), sorted(gpus)), encoding="utf-8")


def shares_of(folders: Sequence[Path]) -> dict[str, list[Share]]:
    """Return the tables in *folders* by GPU."""
    found: dict[str, list[Share]] = {}
    for folder in folders:
        facts = read_facts(folder)
        found.setdefault(str(facts["gpu"]), []).extend(
            Share(path, facts) for path in sorted(folder.glob("tp*"))
        )
    return found


def fit_all(gpu: str, shares: Sequence[Share]) -> Fits:
    """Return the coefficients that fit the rows best."""
    return {section.name: rounded(fit(section)) for section in sections(gpu, shares)}


def default(gpu: str, shares: Sequence[Share]) -> Fits:
    """Return the coefficients that *gpu* has by default, fitted to tables of others."""
    known = fitted(gpu)
    return {
        section.name: section.kind(**{f.name: known[section.name][f.name] for f in fields(section.kind)})
        for section in sections(gpu, shares)
    }


def text(gpu: str, shares: Sequence[Share], found: Fits, others: Mapping[str, Fits] | None = None) -> str:
    """Return the file: coefficients with their errors, those of *others* on the same rows, and of what they are."""
    first = shares[0].facts
    of = ", ".join(
        sorted({f"{share.facts['model']['name']} in {share.facts['model']['dtype']}" for share in shares})
    )
    lines = [
        f"# Coefficients of servesim.latency.efficiency for {gpu}: written by scripts/fit_profile.py.",
        "# bias, error_median, error_p90: of predicted / measured - 1 on all rows, which were fitted;",
        "# error_median_of: the same median with coefficients that never saw these rows.",
        f'gpu = "{gpu}"',
        f'source = "servesim profile of {of} on {first["device"]}, driver {first["driver"]}, {first["attention"]}"',
    ]
    for section in sections(gpu, shares):
        own = found[section.name]
        bias, middle, p90 = relative_errors(section, own)
        lines += ["", f'[coefficients."{section.name}"]']
        lines += [f"{f.name} = {getattr(own, f.name)!r}" for f in fields(section.kind)]
        lines += [f"rows = {len(section.table)}", f"bias = {bias:.3f}"]
        lines += [f"error_median = {middle:.3f}", f"error_p90 = {p90:.3f}"]
        lines += [f"{column} = [{low:.6g}, {high:.6g}]" for column, low, high in ranges(section)]
        errors = [
            f"{name} = {relative_errors(section, fits[section.name])[1]:.3f}"
            for name, fits in (others or {}).items()
            if section.name in fits
        ]
        if errors:
            lines.append(f"error_median_of = {{ {', '.join(errors)} }}")
    return "\n".join(lines) + "\n"


def with_errors(page: str, gpus: Sequence[str]) -> str:
    """Return the page with the errors that the files of *gpus* tell: their own, another GPU's and the default's."""
    heads, rows = [], dict[str, list[str]]()
    for gpu in gpus:
        told = fitted(f"{gpu}-profile")
        others = list(next(iter(told.values()))["error_median_of"])
        heads += [
            f"{LABELS[gpu]}, {LABELS.get(name.removesuffix('-profile'), name)}" for name in (gpu, *others)
        ]
        for section, entry in told.items():
            foreign = [f"{entry['error_median_of'][name]:.3f}" for name in others]
            rows.setdefault(section, []).extend(
                [f"{entry['error_median']:.3f} ({entry['error_p90']:.2f})", *foreign]
            )
    lines = ["| rows of, coefficients of | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    lines += ["| " + " | ".join([f"`{section}`", *cells]) + " |" for section, cells in rows.items()]
    before, _, after = page.partition(BEGIN)
    return before + BEGIN + "\n".join(lines) + "\n" + after[after.index(END) :]


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
    if (table := elementwise(gpu, shares)) is not None:
        yield Section(
            name="elementwise",
            kind=e.Elementwise,
            table=table,
            predict=predict_elementwise,
            **ELEMENTWISE_SEARCH,
        )


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
    """Return decodes, or chunks, without windows, each with the write of its tokens to the KV cache."""
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
        written = written_s(share, rows["sequences" if decode else "chunk"])
        found.append(
            rows.select(
                pl.col("time_s") + written,
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


def written_s(share: Share, tokens: pl.Series) -> pl.Series:
    """Return what writing keys and values of so many tokens to the cache of a layer takes: before its attention."""
    dense = share.rows("dense")
    if dense is None:
        return pl.zeros(len(tokens), eager=True)
    rows = dense.filter(pl.col("operator") == "cache_write").sort("tokens")
    return pl.Series(np.interp(tokens, rows["tokens"], rows["time_s"]))


def elementwise(gpu: str, shares: Sequence[Share]) -> Table | None:
    """Return norms, rotations and activations by what they move."""
    found = []
    for share in shares:
        dense = share.rows("dense")
        if dense is None:
            continue
        for name, _, kernel in elementwise_operators(
            catalog_model(share.facts["model"]["name"]), share.ranks
        ):
            if name not in NOT_PRICED:
                rows = dense.filter(pl.col("operator") == name)
                moved = [kernel(tokens).moved_bytes for tokens in rows["tokens"]]
                found.append(rows.select("time_s", moved_bytes=pl.Series(moved, dtype=pl.Float64)))
    table = _table(found, ("moved_bytes",))
    if table is None:
        return None
    peaks = device(gpu)
    same = {"bytes_per_s": peaks.bytes_per_s, "cache_bytes": peaks.cache_bytes}
    constant = {name: np.full(len(table), value) for name, value in same.items()}
    return Table(table.columns | constant, table.seconds)


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
