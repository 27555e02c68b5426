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
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

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
from profile_tables import PROFILES, Share, attention, elementwise, experts, gemm, shares_of

from servesim.latency import efficiency as e
from servesim.latency.coefficients import fitted

FITTED = ROOT / "servesim" / "latency" / "fitted"
PAGE = ROOT / "docs" / "how-to" / "profile-a-gpu.md"

BEGIN, END = "<!-- errors: scripts/fit_profile.py renews this -->\n", "<!-- end -->"

Fits = Mapping[str, Any]
"""Coefficients by section."""


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


def fit_all(gpu: str, shares: Sequence[Share]) -> Fits:
    """Return the coefficients that fit the rows best."""
    return {section.name: rounded(fit(section)) for section in sections(gpu, shares)}


def default(gpu: str, shares: Sequence[Share]) -> Fits:
    """Return the coefficients that *gpu* has by default, as far as they are fitted to tables of others."""
    known = fitted(gpu)
    return {
        section.name: section.kind(**{f.name: known[section.name][f.name] for f in fields(section.kind)})
        for section in sections(gpu, shares)
        if section.name != "elementwise"
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
    columns: dict[str, dict[str, str]] = {}
    for gpu in gpus:
        told = fitted(f"{gpu}-profile")
        columns[f"{LABELS[gpu]}, {LABELS[gpu]}"] = {
            section: f"{entry['error_median']:.3f} ({entry['error_p90']:.2f})"
            for section, entry in told.items()
        }
        for section, entry in told.items():
            for name, error in entry["error_median_of"].items():
                of = LABELS.get(name.removesuffix("-profile"), name)
                columns.setdefault(f"{LABELS[gpu]}, {of}", {})[section] = f"{error:.3f}"
    rows = dict.fromkeys(section for cells in columns.values() for section in cells)
    lines = ["| rows of, coefficients of | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        "| " + " | ".join([f"`{section}`", *(cells.get(section, "") for cells in columns.values())]) + " |"
        for section in rows
    ]
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


if __name__ == "__main__":
    main()
