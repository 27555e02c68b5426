"""Fit the coefficients of `servesim.latency.efficiency` to measured operator tables, and write them with their errors.

    python scripts/fit_coefficients.py [FOLDER]

FOLDER holds the calibration data (default: ../shared/calibration). Every set of coefficients minimises the logarithms
of predicted over measured times, outliers damped (soft L1), on at most 6,000 rows drawn with a fixed seed; errors are
those of all rows. Each file of servesim/latency/fitted also has the errors of the other GPUs' coefficients on its rows:
nothing there was fitted to them.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from operator_tables import FOLDERS, PROFILES, WEIGHT_BYTES, WITHOUT_PEERS, Table, Tables
from profile_tables import elementwise_of_all
from scipy.optimize import least_squares

from servesim.catalog import Parallelism
from servesim.catalog import gpu as catalog_gpu
from servesim.catalog import model as catalog_model
from servesim.latency import efficiency as e
from servesim.latency.api import BatchShape
from servesim.latency.attention import AttentionPrices
from servesim.latency.coefficients import FULL_PRECISION, MEASURED, MEASURED_IN_FULL
from servesim.latency.operators import operators

ROOT = Path(__file__).resolve().parents[1]
FITTED = ROOT / "servesim" / "latency" / "fitted"
ROWS = 6000
SEED = 5
PAGE = ROOT / "docs" / "model" / "latency.md"
LABELS = {
    "a100-80gb-sxm": "A100",
    "h100-sxm": "H100",
    "h200-sxm": "H200",
    "b200-sxm": "B200",
    "gb200": "GB200",
    "l40s": "L40S",
    "rtx-4090": "RTX 4090",
    "rtx-pro-6000": "RTX PRO 6000",
}
FOREIGN = (
    ("a100-80gb-sxm", "h100-sxm"),
    ("h100-sxm", "h200-sxm"),
    ("h200-sxm", "h100-sxm"),
    ("b200-sxm", "h200-sxm"),
    ("l40s", "a100-80gb-sxm"),
    ("rtx-4090", "l40s"),
    ("rtx-pro-6000", "l40s"),
    ("b200-sxm", "gb200"),
)
"""Pairs on the page of the model: a GPU, and whose coefficients it is given."""

KINDS = ("gemm", "experts", "decode", "prefill", "mixed", "latent_decode", "latent_prefill", "all_reduce")
FORMATS = ("bf16", "fp8", "fp32", "tf32", "nvfp4", "int4", "mxfp4", "")
"""Order of the page's rows."""

SOURCE = "NVIDIA aiconfigurator-core 0.12.0 (Apache-2.0), vLLM tables"
HOPPER = ("h100-sxm", "h200-sxm")
LATENT_LAUNCH = "b200-sxm"
"""Latent attention runs the same kernels on both. On Hopper its module was measured with what its backend prepares
once a step, and with starts that CUDA graphs hide in service: 58 microseconds and more where B200 takes 14."""

ROUTERS_SOURCE = "scripts/measure_routers.py on one H200, PyTorch 2.11, CUDA 13"
GDDR = ("l40s",)
"""Caches of GPUs with such memory are fast beside it: what a kernel finds there takes a third of the time. Those of
GPUs with HBM are no faster than it: measured on Hopper, taken for all."""
ELEMENTWISE_SOURCES = (
    "servesim profile of H100 and H200 (benchmarks/profiles)",
    "LLMServingSim layer profiles (MIT) of RTX 4090 and RTX PRO 6000",
)
"""Of GPUs with HBM, and with GDDR."""

PROFILE_SOURCE = "LLMServingSim layer profiles (MIT), vLLM 0.19, Llama-3.1-8B in bf16"

Floats = NDArray[np.float64]
Predict = Callable[[Any, Table], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Peaks of a GPU whose tables are fitted."""

    bytes_per_s: float
    link_bytes_per_s: float
    multiprocessors: int
    cache_bytes: float
    flops_per_s: dict[str, float]

    def peaks(self, dtype: str) -> e.Peaks:
        """Return the peaks of multiplying weights of *dtype*."""
        kind = {"int4": "bf16", "mxfp4": "fp8" if "nvfp4" in self.flops_per_s else "bf16"}.get(dtype, dtype)
        return e.Peaks(
            flops_per_s=self.flops_per_s[kind],
            bytes_per_s=self.bytes_per_s,
            multiprocessors=self.multiprocessors,
            cache_bytes=self.cache_bytes,
        )


def device(name: str) -> Device:
    """Return the peaks of the catalog; GB200 is not in it and has those of the tables' own device file."""
    if name == "gb200":
        flops = {"bf16": 2500e12, "fp8": 5000e12, "nvfp4": 10000e12}
        return Device(
            bytes_per_s=8e12,
            link_bytes_per_s=900e9,
            multiprocessors=152,
            cache_bytes=126e6,
            flops_per_s=flops,
        )
    found = catalog_gpu(name)
    formats = {"bf16": found.bf16_flops_per_s, "fp8": found.fp8_flops_per_s, "nvfp4": found.fp4_flops_per_s}
    return Device(
        bytes_per_s=found.memory_bandwidth_bytes_per_s,
        link_bytes_per_s=found.link.bandwidth_bytes_per_s,
        multiprocessors=found.multiprocessors,
        cache_bytes=found.cache_bytes,
        flops_per_s={dtype: rate for dtype, rate in formats.items() if rate},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One set of coefficients: its class, where the search starts and ends, its rows, how it predicts them."""

    name: str
    kind: type[Any]
    start: Sequence[float]
    lower: Sequence[float]
    upper: Sequence[float]
    table: Table
    predict: Predict


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantisedGemm(e.Gemm):
    """A multiplication in fp8 as it was measured: behind a kernel that quantises the activations.

    That kernel's start is known from tables of its own; it takes ``row_s`` for each row, and ``element_s`` for each
    element of the activations. In service it is part of the norm or activation before. Without it, H200's coefficients
    are within 8 % (median) of what cuBLAS was measured to take there (benchmarks/profiles).
    """

    element_s: float

    def in_service(self) -> e.Gemm:
        """Return the multiplication alone."""
        alone = {f.name: getattr(self, f.name) for f in fields(e.Gemm)}
        return e.Gemm(**alone | {"row_s": 0.0})


GEMM_SEARCH = {
    "start": (2.5e-6, 2e-10, 1e-9, 0.85, 0.8, 3.0, 0.2),
    "lower": (0.5e-6, 0.0, 0.0, 0.3, 0.2, 1.2, 0.0),
    "upper": (20e-6, 2e-9, 2e-8, 1.0, 1.0, 12.0, 1.0),
}
QUANTISED_SEARCH = {
    name: (*values, element_s)
    for (name, values), element_s in zip(GEMM_SEARCH.items(), (1e-12, 0.0, 1e-11), strict=True)
}
EXPERTS_SEARCH = {
    "start": (2e-5, 1e-9, 16.0, 0.7, 0.6, 3.0),
    "lower": (1e-6, 0.0, 0.0, 0.1, 0.05, 1.0),
    "upper": (2e-4, 1e-7, 128.0, 1.0, 1.0, 12.0),
}
DECODE_SEARCH = {
    "start": (1e-5, 0.6, 1e-5, 0.9, 64.0, 0.7),
    "lower": (1e-6, 0.1, 0.0, 0.3, 1.0, 0.05),
    "upper": (2e-4, 1.0, 1e-4, 1.0, 256.0, 1.0),
}
PREFILL_SEARCH = {
    "start": (1e-5, 0.6, 16.0, 0.5, 0.5),
    "lower": (1e-6, 0.1, 0.0, 0.0, 0.02),
    "upper": (2e-4, 1.0, 256.0, 2.0, 1.0),
}
ALL_REDUCE_SEARCH = {
    "start": (4e-6, 5e-7, 0.4, 3e-6, 0.4, 0.1),
    "lower": (1e-6, 0.0, 0.02, 0.0, 0.02, -0.5),
    "upper": (5e-5, 3e-5, 1.0, 5e-5, 1.0, 3.0),
}
ELEMENTWISE_SEARCH = {"start": (2e-6, 1.0, 0.8), "lower": (0.5e-6, 0.1, 0.3), "upper": (1e-5, 4.0, 1.0)}


def predict_gemm(c: e.Gemm, table: Table, *, peaks: e.Peaks, dtype: str) -> Floats:
    """Return the seconds of every row."""
    columns = table.columns
    found: Floats = e.gemm_s(
        c, peaks, columns["m"], n=columns["n"], k=columns["k"], element_bytes=WEIGHT_BYTES[dtype]
    )
    return found


def predict_quantised(c: QuantisedGemm, table: Table, *, peaks: e.Peaks, launch_s: float) -> Floats:
    """Return the seconds of every row, quantising included, which starts in *launch_s*."""
    elements = table.columns["m"] * table.columns["k"]
    return predict_gemm(c, table, peaks=peaks, dtype="fp8") + c.element_s * elements + launch_s


def predict_experts(c: e.Experts, table: Table, *, peaks: e.Peaks, dtype: str) -> Floats:
    """Return the seconds of every row."""
    found: Floats = e.experts_s(c, peaks, **table.columns, element_bytes=WEIGHT_BYTES[dtype])
    return found


def predict_decode(c: e.Decode, table: Table, *, peaks: e.Peaks) -> Floats:
    """Return the seconds of every row."""
    columns = table.columns
    attended = columns["sequences"] * np.maximum(columns["context"], c.least_tokens)
    found: Floats = e.decode_s(c, peaks, attended * columns["token_bytes"])
    return found


def predict_prefill(c: e.Prefill, table: Table, *, peaks: e.Peaks) -> Floats:
    """Return the seconds of every row: prompts of one length, started together."""
    x = table.columns
    heads, head_dim, tokens = x["heads"], x["head_dim"], x["tokens"]
    cost = e.chunk_costs(c, peaks, heads=heads, head_dim=head_dim, flops_per_pair=4 * heads * head_dim)
    return _chunks_s(cost, x["sequences"], tokens, x["start"])


def _chunks_s(cost: e.Chunk, sequences: Floats, tokens: Floats, start: Floats | float = 0.0) -> Floats:
    pairs = tokens * (start + (tokens + 1) / 2)
    found: Floats = cost.launch_s + sequences * (cost.pair_s * pairs + cost.token_s * tokens)
    return found + cost.tile_s * (start + tokens)


def predict_mixed(
    c: e.Mixed, table: Table, *, peaks: e.Peaks, decode: e.Decode, prefill: e.Prefill
) -> Floats:
    """Return the seconds of every row: one layer of Llama-3.1-8B."""
    shape = operators(catalog_model("llama-3.1-8b"), Parallelism()).attention
    prices = AttentionPrices(shape, peaks, decode=decode, prefill=prefill, mixed=c, layers=1, window=None)
    x = table.columns
    rows = zip(x["sequences"], x["context"], x["tokens"], x["start"], strict=True)
    return np.array(
        [
            prices.price(BatchShape(int(count), int(count * context), [(int(tokens), int(start))]))[0]
            for count, context, tokens, start in rows
        ]
    )


LATENT = {"hidden": 7168, "query": 1536, "rank": 512, "rope": 64, "nope": 128, "value": 128}
"""DeepSeek-V3's attention (its config.json)."""


def latent_projections_s(gemm: e.Gemm, peaks: e.Peaks, rows: Floats, heads: Floats) -> Floats:
    """Return what the matrices of a latent attention module take: they stand in its measurements."""
    w = LATENT
    shapes: list[tuple[Any, Any]] = [
        (w["query"] + w["rank"] + w["rope"], w["hidden"]),
        (heads * (w["nope"] + w["rope"]), w["query"]),
        (heads * (w["nope"] + w["value"]), w["rank"]),
        (w["hidden"], heads * w["value"]),
    ]
    total: Floats = sum(e.gemm_s(gemm, peaks, rows, n=n, k=k, element_bytes=2.0) for n, k in shapes)
    return total


def predict_latent_decode(c: e.Decode, table: Table, *, peaks: e.Peaks, gemm: e.Gemm, dtype: str) -> Floats:
    """Return the seconds of every module: its matrices, and attention on the compressed vectors."""
    x = table.columns
    heads, attended = x["heads"], x["sequences"] * np.maximum(x["context"], c.least_tokens)
    width = LATENT["rank"] + LATENT["rope"]
    flops = 2 * heads * (width + LATENT["rank"])
    per_token = np.maximum(
        width * WEIGHT_BYTES[dtype], flops / (c.flops_share * peaks.flops_per_s) * peaks.bytes_per_s
    )
    found: Floats = e.decode_s(c, peaks, attended * per_token)
    return found + latent_projections_s(gemm, peaks, x["sequences"], heads)


def predict_latent_prefill(c: e.Prefill, table: Table, *, peaks: e.Peaks, gemm: e.Gemm) -> Floats:
    """Return the seconds of every module: its matrices, and attention on expanded keys and values."""
    x = table.columns
    heads, tokens = x["heads"], x["tokens"]
    key = LATENT["nope"] + LATENT["rope"]
    cost = e.chunk_costs(
        c, peaks, heads=heads, head_dim=key, flops_per_pair=2 * heads * (key + LATENT["value"])
    )
    return _chunks_s(cost, x["sequences"], tokens) + latent_projections_s(
        gemm, peaks, x["sequences"] * tokens, heads
    )


def predict_all_reduce(c: e.AllReduce, table: Table, *, link_bytes_per_s: float) -> Floats:
    """Return the seconds of every row."""
    size, ranks = table.columns["message_size"], table.columns["num_gpus"]
    found = np.zeros(len(table))
    for n in np.unique(ranks):
        rows = ranks == n
        found[rows] = e.all_reduce_s(c, link_bytes_per_s, size[rows], int(n))
    return found


def predict_elementwise(c: e.Elementwise, table: Table) -> Floats:
    """Return the seconds of every row."""
    x: dict[str, Any] = dict(table.columns)
    peaks = e.Peaks(
        flops_per_s=1.0, bytes_per_s=x["bytes_per_s"], multiprocessors=1, cache_bytes=x["cache_bytes"]
    )
    found: Floats = e.elementwise_s(c, peaks, x["moved_bytes"], 1)
    return found


def fit(section: Section) -> Any:
    """Return the coefficients that fit the section's rows best."""
    rows = np.random.default_rng(SEED).permutation(len(section.table))[:ROWS]
    sample = section.table.take(np.sort(rows))
    scale = np.array(section.upper)

    names = [f.name for f in fields(section.kind)]

    def build(point: Floats) -> Any:
        return section.kind(**dict(zip(names, (point * scale).tolist(), strict=True)))

    def residuals(point: Floats) -> Floats:
        found: Floats = np.log(section.predict(build(point), sample) / sample.seconds)
        return found

    found = least_squares(
        residuals,
        np.array(section.start) / scale,
        bounds=(np.array(section.lower) / scale, np.ones(len(scale)) * (1 + 1e-12)),
        loss="soft_l1",
        f_scale=0.1,
    )
    return build(np.minimum(found.x, 1.0))


MIXED_SEARCH = {"start": (0.3,), "lower": (0.0,), "upper": (1.0,)}


def profile_sections(tables: Tables, name: str, found: dict[str, Any]) -> list[Section]:
    """Return what there is to fit of a GPU with layer profiles; mixed steps need attention's other coefficients."""
    peaks = device(name).peaks("bf16")
    gemm = partial(predict_gemm, peaks=peaks, dtype="bf16")
    rows = tables.profile_attention
    listed = [
        Section(name="gemm.bf16", kind=e.Gemm, table=tables.profile_gemm(name), predict=gemm, **GEMM_SEARCH),
        Section(
            name="decode.bf16",
            kind=e.Decode,
            table=rows(name, "decode"),
            predict=partial(predict_decode, peaks=peaks),
            **DECODE_SEARCH,
        ),
        Section(
            name="prefill.bf16",
            kind=e.Prefill,
            table=rows(name, "prefill"),
            predict=partial(predict_prefill, peaks=peaks),
            **PREFILL_SEARCH,
        ),
    ]
    reduces = tables.all_reduce(name) if name in WITHOUT_PEERS else None
    if reduces is not None:
        link = device(name).link_bytes_per_s
        reduce = partial(predict_all_reduce, link_bytes_per_s=link)
        listed.append(
            Section(name="all_reduce", kind=e.AllReduce, table=reduces, predict=reduce, **ALL_REDUCE_SEARCH)
        )
    if found:
        mixed = partial(
            predict_mixed, peaks=peaks, decode=found["decode.bf16"], prefill=found["prefill.bf16"]
        )
        listed.append(
            Section(name="mixed.bf16", kind=e.Mixed, table=rows(name, "mixed"), predict=mixed, **MIXED_SEARCH)
        )
    return listed


def sections(tables: Tables, name: str, found: dict[str, Any]) -> list[Section]:
    """Return what there is to fit of one GPU; *found* has what was fitted before, which the latent modules need."""
    if name in PROFILES:
        return profile_sections(tables, name, found)
    d, listed = device(name), []

    def add(
        section: str, kind: type[Any], search: dict[str, Any], table: Table | None, predict: Predict
    ) -> None:
        if table is not None:
            listed.append(Section(name=section, kind=kind, table=table, predict=predict, **search))

    for dtype in d.flops_per_s:
        rows = tables.gemm(name, dtype, d.bytes_per_s)
        if dtype == "fp8":
            launch_s = tables.quantising_launch_s(name)
            quantised = partial(predict_quantised, peaks=d.peaks(dtype), launch_s=launch_s)
            add("gemm.fp8", QuantisedGemm, QUANTISED_SEARCH, rows, quantised)
            continue
        alone = partial(predict_gemm, peaks=d.peaks(dtype), dtype=dtype)
        add(f"gemm.{dtype}", e.Gemm, GEMM_SEARCH, rows, alone)
    for dtype in FULL_PRECISION:
        peaks = replace(d.peaks("bf16"), flops_per_s=catalog_gpu(MEASURED_IN_FULL).peak_flops_per_s(dtype))
        predict = partial(predict_gemm, peaks=peaks, dtype=dtype)
        add(f"gemm.{dtype}", e.Gemm, GEMM_SEARCH, tables.routers(name, dtype), predict)
    for dtype in [*d.flops_per_s, "int4", "mxfp4"]:
        predict_moe = partial(predict_experts, peaks=d.peaks(dtype), dtype=dtype)
        add(
            f"experts.{dtype}",
            e.Experts,
            EXPERTS_SEARCH,
            tables.experts(name, dtype, d.bytes_per_s),
            predict_moe,
        )
    peaks = d.peaks("bf16")
    for kv in ("bf16", "fp8"):
        add(
            f"decode.{kv}",
            e.Decode,
            DECODE_SEARCH,
            tables.decode(name, kv),
            partial(predict_decode, peaks=peaks),
        )
        add(
            f"prefill.{kv}",
            e.Prefill,
            PREFILL_SEARCH,
            tables.prefill(name, kv),
            partial(predict_prefill, peaks=peaks),
        )
    add(
        "all_reduce",
        e.AllReduce,
        ALL_REDUCE_SEARCH,
        tables.all_reduce(name),
        partial(predict_all_reduce, link_bytes_per_s=d.link_bytes_per_s),
    )
    moved = tables.elementwise() if name in GDDR else elementwise_of_all()
    add("elementwise", e.Elementwise, ELEMENTWISE_SEARCH, moved, predict_elementwise)
    if "gemm.bf16" in found:
        gemm = found["gemm.bf16"]
        for kv in ("bf16", "fp8"):
            decode = partial(predict_latent_decode, peaks=peaks, gemm=gemm, dtype=kv)
            prefill = partial(predict_latent_prefill, peaks=peaks, gemm=gemm)
            add(f"latent_decode.{kv}", e.Decode, DECODE_SEARCH, tables.latent(name, kv, "generation"), decode)
            add(
                f"latent_prefill.{kv}", e.Prefill, PREFILL_SEARCH, tables.latent(name, kv, "context"), prefill
            )
    return listed


def relative_errors(section: Section, coefficients: Any) -> tuple[float, float, float]:
    """Return the median of predicted / measured - 1, and the median and 90th percentile of its magnitude."""
    error = section.predict(coefficients, section.table) / section.table.seconds - 1.0
    size = np.abs(error)
    return float(np.median(error)), float(np.median(size)), float(np.quantile(size, 0.9))


def fit_all(tables: Tables, name: str) -> tuple[list[Section], dict[str, Any]]:
    """Return what there is of one GPU, and its coefficients, latent attention last: it needs the matrices'."""
    found: dict[str, Any] = {}
    for section in sections(tables, name, found):
        found[section.name] = fit(section)
    listed = sections(tables, name, found)
    for section in listed[len(found) :]:
        found[section.name] = fit(section)
    return listed, {section.name: rounded(found[section.name]) for section in listed}


def rounded(coefficients: Any) -> Any:
    """Return *coefficients* with four digits: what the files hold is what the errors were worked out with."""
    digits = {f.name: float(f"{getattr(coefficients, f.name):.3e}") for f in fields(coefficients)}
    return type(coefficients)(
        **{name: value if abs(value) > 1e-13 else 0.0 for name, value in digits.items()}
    )


def text(
    name: str,
    listed: list[Section],
    fits: dict[str, dict[str, Any]],
    launches: dict[str, dict[str, float]],
) -> str:
    """Return the file of one GPU; *launches* are what its benchmarks had besides, by section."""
    lines = [
        f"# Coefficients of servesim.latency.efficiency for {name}: written by scripts/fit_coefficients.py.",
        "# bias, error_median, error_p90: of predicted / measured - 1 on all rows, which were fitted;",
        "# benchmark_*: what the benchmark's kernels took besides, which a model in service does not have;",
        "# error_median_of: the same median with the coefficients of other GPUs, nothing fitted here.",
        f'source = "{PROFILE_SOURCE if name in PROFILES else SOURCE}"',
    ]
    for section in listed:
        coefficients = fits[name][section.name]
        bias, median, p90 = relative_errors(section, coefficients)
        others = {
            other: relative_errors(section, found[section.name])[1]
            for other, found in fits.items()
            if other != name and section.name in found and section.name not in ("elementwise", "mixed.bf16")
        }
        lines += ["", f'[coefficients."{section.name}"]']
        lines += _values(coefficients)
        lines += [f"rows = {len(section.table)}", f"bias = {bias:.3f}"]
        lines += [f"error_median = {median:.3f}", f"error_p90 = {p90:.3f}"]
        lines += [f"{column} = [{low:.6g}, {high:.6g}]" for column, low, high in ranges(section)]
        if others:
            inner = ", ".join(f"{other} = {error:.3f}" for other, error in others.items())
            lines.append(f"error_median_of = {{ {inner} }}")
        if section.name == "all_reduce" and name in WITHOUT_PEERS:
            lines.append(f'source = "{SOURCE}: {WITHOUT_PEERS[name]}"')
        if section.name in launches.get(name, {}):
            lines.append(f"benchmark_launch_s = {launches[name][section.name]!r}")
        if section.name.removeprefix("gemm.") in FULL_PRECISION:
            lines.append(f'source = "{ROUTERS_SOURCE}"')
        if section.name == "elementwise":
            lines.append(f'source = "{ELEMENTWISE_SOURCES[name in GDDR]}"')
    return "\n".join(lines) + "\n"


def _values(coefficients: Any) -> list[str]:
    """Return what a model in service has, and what a benchmark had besides."""
    if not isinstance(coefficients, QuantisedGemm):
        return [f"{f.name} = {getattr(coefficients, f.name)!r}" for f in fields(coefficients)]
    besides = {name: getattr(coefficients, name) for name in ("row_s", "element_s")}
    return [
        *_values(coefficients.in_service()),
        *(f"benchmark_{name} = {value!r}" for name, value in besides.items()),
    ]


def ranges(section: Section) -> list[tuple[str, float, float]]:
    """Return the range of every column of the rows."""
    return [(f"range_{name}", float(c.min()), float(c.max())) for name, c in section.table.columns.items()]


def with_errors(page: str) -> str:
    """Return the page of the model with the errors that the files of `FITTED` tell."""
    told = {
        name: tomllib.loads((FITTED / f"{name}.toml").read_text(encoding="utf-8"))["coefficients"]
        for name in MEASURED
    }
    rows: dict[str, None] = dict.fromkeys(
        key for name in MEASURED for key in told[name] if key != "elementwise"
    )
    order = sorted(
        rows, key=lambda row: (KINDS.index(row.partition(".")[0]), FORMATS.index(row.partition(".")[2]))
    )

    def own(row: str, name: str) -> str:
        entry = told[name].get(row)
        return f"{entry['error_median']:.2f} ({entry['error_p90']:.2f})" if entry else ""

    def foreign(row: str, pair: tuple[str, str]) -> str:
        error = told[pair[0]].get(row, {}).get("error_median_of", {}).get(pair[1])
        return "" if error is None else f"{error:.2f}"

    names = [LABELS[name] for name in MEASURED]
    pairs = [f"{LABELS[name]} from {LABELS[other]}" for name, other in FOREIGN]
    tables = {
        "errors": _rows(names, {row: [own(row, name) for name in MEASURED] for row in order}),
        "errors of others": _rows(pairs, {row: [foreign(row, pair) for pair in FOREIGN] for row in order}),
    }
    for mark, table in tables.items():
        begin = f"<!-- {mark}: scripts/fit_coefficients.py renews this -->\n"
        before, _, after = page.partition(begin)
        page = before + begin + table + after[after.index("<!-- end -->") :]
    return page


def _rows(heads: Sequence[str], rows: dict[str, list[str]]) -> str:
    lines = ["| operator | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for row, cells in rows.items():
        if any(cells):
            lines.append("| " + " | ".join([f"`{row}`", *cells]) + " |")
    return "\n".join(lines).replace("|  |", "| |").replace("|  |", "| |") + "\n"


def main() -> None:
    """Fit all, and write the files and the page's tables."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "calibration"
    tables = Tables(folder)
    listed, fits = {}, {}
    for name in [*FOLDERS, *PROFILES]:
        listed[name], fits[name] = fit_all(tables, name)
        print(f"{name}: {len(listed[name])} sets of coefficients", file=sys.stderr)
    launches: dict[str, dict[str, float]] = {name: {} for name in MEASURED}
    for name in set(launches) & set(FOLDERS):
        if "gemm.fp8" in fits[name]:
            launches[name]["gemm.fp8"] = float(f"{tables.quantising_launch_s(name):.3e}")
    for name in HOPPER:
        for section, found in fits[name].items():
            if section.startswith("latent"):
                in_service = fits[LATENT_LAUNCH][section].launch_s
                launches[name][section] = float(f"{found.launch_s - in_service:.3e}")
                fits[name][section] = replace(found, launch_s=in_service)
    for name in MEASURED:
        (FITTED / f"{name}.toml").write_text(text(name, listed[name], fits, launches), encoding="utf-8")
    PAGE.write_text(with_errors(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
