"""Measured operator tables as arrays: AIConfigurator's (vLLM kernels) and the layer profiles of LLMServingSim.

Latencies become seconds, shapes become what the functions of `servesim.latency.efficiency` ask for. Rows that a model
in service would not see are dropped here, each with its reason. What the calibration data lack comes from the package
that they are from, aiconfigurator-core 0.12.0: what quantising to fp8 takes, and all-reduces of the RTX PRO 6000.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from servesim.catalog import Gpu
from servesim.catalog import gpu as catalog_gpu
from servesim.profiles.aiconfigurator import BLACKWELL_EXPERT_DTYPES, EXPERT_DTYPES

Floats = NDArray[np.float64]

FOLDERS = {
    "a100-80gb-sxm": "a100_sxm",
    "h100-sxm": "h100_sxm",
    "h200-sxm": "h200_sxm",
    "b200-sxm": "b200_sxm",
    "gb200": "gb200",
    "l40s": "l40s",
}
"""The tables' name of each GPU."""

PROFILES = {"rtx-4090": "RTX4090", "rtx-pro-6000": "RTXPRO6000"}
"""The layer profiles' name of each GPU. Llama-3.1-8B is fitted; profiles of other models are left to check with."""

WEIGHT_BYTES = {
    "fp32": 4.0,
    "tf32": 4.0,
    "bf16": 2.0,
    "fp8": 1.0,
    "nvfp4": 4.5 / 8,
    "int4": 4.5 / 8,
    "mxfp4": 4.25 / 8,
}

ROUTERS_GPU, ROUTERS = "h200-sxm", Path(__file__).with_name("routers_h200.csv")

GEMM_DTYPES = {"bf16": "bfloat16", "fp8": "fp8", "nvfp4": "nvfp4"}
WITHOUT_PEERS = {"rtx-pro-6000": "rtx_pro_6000_server/comm/vllm/0.19.0"}
"""All-reduces of GPUs that vLLM did not let read one another's memory: 0.24 does, and is 2.5 times as fast."""

KV_DTYPES = {"bf16": "bfloat16", "fp8": "fp8"}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one operator on one GPU: columns by name, and seconds."""

    columns: dict[str, Floats]
    seconds: Floats

    def __len__(self) -> int:
        return len(self.seconds)

    def take(self, index: NDArray[np.intp]) -> Table:
        """Return some of the rows."""
        return Table({name: column[index] for name, column in self.columns.items()}, self.seconds[index])


def twin(gpu: str) -> Gpu:
    """Return the GPU as the catalog has it; GB200, which is not in it, has the chips of B200."""
    return catalog_gpu("b200-sxm" if gpu == "gb200" else gpu)


def package_tables() -> Path:
    """Return the folder of the tables of the installed package."""
    found = find_spec("aiconfigurator_core")
    if found is None or found.origin is None:
        raise SystemExit("aiconfigurator_core: not installed. expected pip install -e '.[dev]'")
    return Path(found.origin).parent / "systems" / "data"


class Tables:
    """The tables below *root*, the folder of the calibration data."""

    def __init__(self, root: Path) -> None:
        self.root = root / "operator_tables"

    def _read(self, gpu: str, pattern: str) -> pl.DataFrame | None:
        """Return the newest version of a table, or None."""
        folder = self.root / "aiconfigurator" / FOLDERS[gpu]
        paths = sorted(folder.glob(pattern), key=lambda path: [int(n) for n in path.parent.name.split(".")])
        return pl.read_parquet(paths[-1]) if paths else None

    def gemm(self, gpu: str, dtype: str, peak_bytes_per_s: float) -> Table | None:
        """Return matrix multiplications with at least 256 x 256 weights.

        Where some rows read weights faster than memory allows, those that fit the cache are dropped. In fp8 the kernel
        that quantises activations was measured, too; in service it is part of the norm or activation before.
        """
        frame = self._read(gpu, "gemm/vllm/*/gemm_perf.parquet")
        assert frame is not None
        frame = frame.filter(
            pl.col("gemm_dtype") == GEMM_DTYPES[dtype], pl.col("n") >= 256, pl.col("k") >= 256
        )
        found = _table(frame, ["m", "n", "k"])
        if found is None:
            return None
        weights = found.columns["n"] * found.columns["k"] * WEIGHT_BYTES[dtype]
        cached = weights < twin(gpu).cache_bytes
        if np.any(weights / found.seconds > peak_bytes_per_s):
            found = found.take(np.flatnonzero(~cached | (found.columns["m"] > 512)))
        if dtype == "fp8":
            quantised_s = _quantising_s(
                package_tables() / FOLDERS[gpu], found.columns["m"], found.columns["k"]
            )
            found = Table(found.columns, np.maximum(found.seconds - quantised_s, 0.25 * found.seconds))
        return found

    def routers(self, gpu: str, dtype: str) -> Table | None:
        """Return matrices of 32 bits in format *dtype*, which ``scripts/measure_routers.py`` measured on an H200."""
        if gpu != ROUTERS_GPU:
            return None
        frame = pl.read_csv(ROUTERS).filter(pl.col("dtype") == dtype)
        columns = {name: frame[name].cast(pl.Float64).to_numpy() for name in ("m", "n", "k")}
        return Table(columns, frame["us"].to_numpy() * 1e-6)

    def experts(self, gpu: str, dtype: str, peak_bytes_per_s: float) -> Table | None:
        """Return experts that tensor parallelism splits at most eightfold, with evenly spread tokens.

        So the visited experts are known; routing by a power law over them stands in where that was not measured
        (A100). Under expert parallelism the kernels were given all tokens, those of other
        GPUs too; and models with hidden size 2688 or 22 experts per token (Nemotron) have no gate. So is
        every shape of which some row reads the weights of its experts faster than memory allows: fewer were visited.
        """
        frame = self._read(gpu, "moe/vllm/*/moe_perf.parquet")
        assert frame is not None
        names = BLACKWELL_EXPERT_DTYPES if twin(gpu).generation == "blackwell" else EXPERT_DTYPES
        frame = frame.filter(
            pl.col("moe_dtype") == names[dtype],
            pl.col("distribution") == ("balanced" if gpu != "a100-80gb-sxm" else "power_law_1.01"),
            ~pl.col("kernel_source").str.contains(
                "w4a4mxfp4"
            ),  # not what 4-bit weights with 16-bit activations use
            (pl.col("moe_ep_size") == 1) & (pl.col("moe_tp_size") <= 8),
            (pl.col("hidden_size") != 2688) & (pl.col("topk") != 22),
        )
        shape = ["num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size"]
        found = _table(frame, shape)
        if found is None:
            return None
        c = found.columns
        pairs = c["num_tokens"] * c["topk"]
        visited = np.minimum(c["num_experts"], pairs)
        weights = 3.0 * c["hidden_size"] * c["inter_size"] / c["moe_tp_size"]
        columns = {"pairs": pairs, "visited": visited, "hidden": c["hidden_size"], "weights": weights}
        read = visited * weights * WEIGHT_BYTES[dtype]
        if gpu == "a100-80gb-sxm":  # a power law visits fewer, how many is not told
            return Table(columns, found.seconds)
        read_share = np.where(
            read > 2.0 * twin(gpu).cache_bytes, read / found.seconds / peak_bytes_per_s, 0.0
        )
        shapes = np.stack([c[name] for name in shape[1:]], axis=1)
        _, group = np.unique(shapes, axis=0, return_inverse=True)
        largest = np.zeros(group.max() + 1)
        np.maximum.at(largest, group.ravel(), read_share)
        return Table(columns, found.seconds).take(np.flatnonzero(largest[group.ravel()] <= 1.0))

    def decode(self, gpu: str, kv_dtype: str) -> Table | None:
        """Return decode attention without windows.

        A layer's keys and values that fit the cache were read from it in the benchmark, and come from memory
        in a model, where other layers come between: rows of 1 MB to 1.5 times the cache are dropped.
        """
        frame = self._read(gpu, "attention/vllm/*/generation_attention_perf.parquet")
        assert frame is not None
        shape = ["batch_size", "step", "num_heads", "num_key_value_heads", "head_dim"]
        found = _table(_attention(frame, kv_dtype), shape)
        if found is None:
            return None
        c = found.columns
        context = c["step"] + 1.0
        token_bytes = 2.0 * c["num_key_value_heads"] * c["head_dim"] * WEIGHT_BYTES[kv_dtype]
        columns = {"sequences": c["batch_size"], "context": context, "token_bytes": token_bytes}
        read = c["batch_size"] * context * token_bytes
        keep = (read < 1e6) | (read > 1.5 * twin(gpu).cache_bytes)
        return Table(columns, found.seconds).take(np.flatnonzero(keep))

    def prefill(self, gpu: str, kv_dtype: str) -> Table | None:
        """Return causal attention of whole prompts without windows, of up to 64 k tokens: a step has no more."""
        frame = self._read(gpu, "attention/vllm/*/context_attention_perf.parquet")
        assert frame is not None
        shape = ["batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim"]
        found = _table(_attention(frame, kv_dtype), shape)
        if found is None:
            return None
        c = found.columns
        columns = {"sequences": c["batch_size"], "tokens": c["isl"], "heads": c["num_heads"]}
        columns |= {"head_dim": c["head_dim"], "start": 0.0 * c["isl"]}
        # Wider heads run on another kernel, for no model of the catalog.
        keep = (c["head_dim"] <= 256) & (c["batch_size"] * c["isl"] <= 65_536) & (c["batch_size"] <= 64)
        return Table(columns, found.seconds).take(np.flatnonzero(keep))

    def latent(self, gpu: str, kv_dtype: str, phase: str) -> Table | None:
        """Return whole attention modules of DeepSeek-V3, projections in 16 bits included."""
        frame = self._read(gpu, f"mla/vllm/*/mla_{phase}_module_perf.parquet")
        if frame is None:
            return None
        wanted = (pl.col("gemm_type") == "bfloat16") & (pl.col("kv_cache_dtype") == KV_DTYPES[kv_dtype])
        frame = frame.filter(wanted & (pl.col("mla_dtype") == "bfloat16"))
        found = _table(frame, ["batch_size", "isl", "step", "num_heads"])
        if found is None:
            return None
        c = found.columns
        if phase == "context":
            return Table(
                {"sequences": c["batch_size"], "tokens": c["isl"], "heads": c["num_heads"]}, found.seconds
            )
        columns = {"sequences": c["batch_size"], "context": c["step"], "heads": c["num_heads"]}
        read = c["batch_size"] * c["step"] * 576 * WEIGHT_BYTES[kv_dtype]
        keep = (read < 1e6) | (read > 1.5 * twin(gpu).cache_bytes)
        return Table(columns, found.seconds).take(np.flatnonzero(keep))

    def all_reduce(self, gpu: str) -> Table | None:
        """Return vLLM's all-reduces in CUDA graphs, from 1 kB up to 256 MB; tables count elements of 16 bits."""
        frame: pl.DataFrame | None = None
        if gpu not in WITHOUT_PEERS:
            frame = self._read(gpu, "comm/vllm/*/custom_allreduce_perf.parquet")
        else:
            frame = pl.read_parquet(package_tables() / WITHOUT_PEERS[gpu] / "custom_allreduce_perf.parquet")
        if frame is None:
            return None
        size = pl.col("message_size")
        frame = frame.with_columns(message_size=2 * size)
        frame = frame.filter(pl.col("backend") == "vllm_graph", size >= 1024, size <= 2**28)
        return _table(frame, ["message_size", "num_gpus"])

    def elementwise(self) -> Table:
        """Return norms, rotations and activations of Llama-3.1-8B, with what they move and the GPU's peaks."""
        widths = {"layernorm": 4 * 4096, "rotary_emb": 2 * 40 * 128, "act_fn": 3 * 14336}
        columns: dict[str, list[float]] = {"moved_bytes": [], "bytes_per_s": [], "cache_bytes": []}
        seconds = []
        for gpu in PROFILES:
            device = catalog_gpu(gpu)
            for layer, tokens, time_us in self._profile(gpu, "dense").iter_rows():
                if layer in widths:
                    columns["moved_bytes"].append(2.0 * widths[layer] * tokens)
                    columns["bytes_per_s"].append(device.memory_bandwidth_bytes_per_s)
                    columns["cache_bytes"].append(device.cache_bytes)
                    seconds.append(time_us * 1e-6)
        return Table({name: np.array(values) for name, values in columns.items()}, np.array(seconds))

    def _profile(self, gpu: str, name: str) -> pl.DataFrame:
        folder = self.root / "layer_profiles" / "profile_v1" / PROFILES[gpu]
        return pl.read_parquet(folder / "meta-llama" / "Llama-3.1-8B" / "bf16" / "tp1" / f"{name}.parquet")

    def profile_gemm(self, gpu: str) -> Table:
        """Return the matrices of Llama-3.1-8B, output head included."""
        shapes = {
            "qkv_proj": (6144, 4096),
            "o_proj": (4096, 4096),
            "gate_up_proj": (28672, 4096),
            "down_proj": (4096, 14336),
            "lm_head": (128256, 4096),
        }
        frame = pl.concat(
            [
                self._profile(gpu, name).rename({count: "m"})
                for name, count in (("dense", "tokens"), ("per_sequence", "sequences"))
            ]
        )
        frame = frame.filter(pl.col("layer").is_in(list(shapes)))
        n, k = (np.array([float(shapes[layer][i]) for layer in frame["layer"]]) for i in (0, 1))
        columns = {"m": frame["m"].cast(pl.Float64).to_numpy(), "n": n, "k": k}
        return Table(columns, frame["time_us"].to_numpy() * 1e-6)

    def profile_attention(self, gpu: str, phase: str) -> Table:
        """Return attention of Llama-3.1-8B: of decodes, of one chunk, or of both in one step."""
        chunk, decodes = pl.col("prefill_chunk"), pl.col("n_decode")
        wanted = {"decode": chunk == 0, "prefill": decodes == 0, "mixed": (chunk > 0) & (decodes > 0)}[phase]
        frame = self._profile(gpu, "attention").filter(wanted, (chunk > 0) | (decodes > 0))
        raw = {name: frame[name].cast(pl.Float64).to_numpy() for name in frame.columns}
        seconds = raw["time_us"] * 1e-6
        same = np.ones(len(seconds))
        chunks = {"tokens": raw["prefill_chunk"], "start": raw["kv_prefill"]}
        batch = {
            "sequences": raw["n_decode"],
            "context": raw["kv_decode"] + 1.0,
            "token_bytes": 4096.0 * same,
        }
        if phase == "decode":
            return Table(batch, seconds)
        if phase == "prefill":
            return Table({"sequences": same, "heads": 32 * same, "head_dim": 128 * same, **chunks}, seconds)
        return Table(batch | chunks, seconds)


def _quantising_s(tables: Path, m: Floats, k: Floats) -> Floats:
    """Return what quantising *m* rows of *k* activations by token took: the scales' part, and the rest."""
    folder = tables / "quantize" / "vllm" / "0.24.0"
    frame = pl.concat(
        pl.read_parquet(folder / f"{part}_perf.parquet").select("m", "k", "latency")
        for part in ("computescale", "scale_matrix")
    )
    wide = frame.group_by("m", "k").agg(pl.col("latency").sum()).pivot(on="k", index="m", values="latency")
    wide = wide.sort("m").select("m", *sorted(wide.columns[1:], key=int))
    rows, widths = wide["m"].to_numpy(), np.array([float(name) for name in wide.columns[1:]])
    look_up = RegularGridInterpolator((np.log(rows), np.log(widths)), wide.drop("m").to_numpy())
    at = (np.clip(m, rows[0], rows[-1]), np.clip(k, widths[0], widths[-1]))
    found: Floats = look_up((np.log(at[0]), np.log(at[1]))) * 1e-3
    return found


def _attention(frame: pl.DataFrame, kv_dtype: str) -> pl.DataFrame:
    if "window_size" in frame.columns:
        frame = frame.filter(pl.col("window_size") == 0)
    return frame.filter(pl.col("kv_cache_dtype") == KV_DTYPES[kv_dtype])


def _table(frame: pl.DataFrame, shape: list[str]) -> Table | None:
    """Return the fastest measurement of every shape: engines choose among kernels; None if there is no row."""
    if frame.is_empty():
        return None
    frame = frame.group_by(shape).agg(pl.col("latency").min()).sort(shape)
    columns = {name: frame[name].cast(pl.Float64).to_numpy() for name in shape}
    return Table(columns, frame["latency"].cast(pl.Float64).to_numpy() * 1e-3)
