"""Operator tables of NVIDIA AIConfigurator (Apache-2.0): one folder per GPU, kernels of an engine by shape, in ms.

The folder holds ``gemm``, ``attention``, ``mla``, ``moe`` and ``comm``, in each the engine's versions, as Parquet. It
may be a copy, or that of the installed package ``aiconfigurator-core``, which need not be there. Of several versions
the newest that has a table counts; of several kernels for a shape the fastest, as engines choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from servesim.errors import ServesimError
from servesim.profiles.files import refuse

PACKAGE = "aiconfigurator"
"""What stands for the installed package instead of a path."""

SYSTEMS = {
    "a100-80gb-sxm": "a100_sxm",
    "h100-sxm": "h100_sxm",
    "h200-sxm": "h200_sxm",
    "b200-sxm": "b200_sxm",
    "l40s": "l40s",
}
"""The package's folder of each GPU of the catalog."""

DEVICES = {
    "A100-SXM4-80GB": "a100-80gb-sxm",
    "H100 80GB HBM3": "h100-sxm",
    "H200": "h200-sxm",
    "B200": "b200-sxm",
}
"""The catalog's name of each device that the tables call otherwise."""

GEMM_DTYPES = {"bf16": "bfloat16", "fp16": "bfloat16", "fp8": "fp8", "nvfp4": "nvfp4"}
EXPERT_DTYPES = {
    "bf16": "bfloat16",
    "fp16": "bfloat16",
    "fp8": "fp8_block",  # per-tensor experts of the Hopper tables take longer than 16 bits: not what is served
    "nvfp4": "nvfp4",
    "int4": "int4_wo",
    "mxfp4": "w4a16_mxfp4",
}
BLACKWELL_EXPERT_DTYPES = EXPERT_DTYPES | {"mxfp4": "w4a8_mxfp4_mxfp8"}
"""On Blackwell activations of mxfp4 have 8 bits, as vLLM's recipe for gpt-oss asks for
(``VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8``)."""

KV_DTYPES = {"bf16": "bfloat16", "fp16": "bfloat16", "fp8": "fp8"}


@dataclass(frozen=True, slots=True)
class OperatorTables:
    """The tables of one GPU, as rows of a shape and its latency in s; a table that is not there has no rows.

    Attributes
    ----------
    folder
        Where they are.
    gpu
        Its name in the catalog, or the device's own.
    engine
        Engine and version of the matrix multiplications.
    """

    folder: Path
    gpu: str
    engine: str

    def gemm(self, dtype: str) -> list[tuple[float, ...]]:
        """Return ``(n, k, m, s)``."""
        return self._rows("gemm/vllm/*/gemm_perf.parquet", ["n", "k", "m"], gemm_dtype=GEMM_DTYPES.get(dtype))

    def decode(self, kv_dtype: str) -> list[tuple[float, ...]]:
        """Return ``(heads, kv_heads, head_dim, window, sequences, cached tokens, s)``."""
        return self._rows(
            "attention/vllm/*/generation_attention_perf.parquet",
            ["num_heads", "num_key_value_heads", "head_dim", "window_size", "batch_size", "step"],
            kv_cache_dtype=KV_DTYPES.get(kv_dtype),
        )

    def prefill(self, kv_dtype: str) -> list[tuple[float, ...]]:
        """Return ``(heads, kv_heads, head_dim, window, tokens, s)`` of one whole prompt."""
        return self._rows(
            "attention/vllm/*/context_attention_perf.parquet",
            ["num_heads", "num_key_value_heads", "head_dim", "window_size", "isl"],
            kv_cache_dtype=KV_DTYPES.get(kv_dtype),
            batch_size=1,
        )

    def latent(self, kv_dtype: str, phase: str) -> list[tuple[float, ...]]:
        """Return ``(heads, sequences, tokens, s)`` of DeepSeek's attention modules in 16 bits, projections included.

        *phase* is ``context`` (tokens of the prompt) or ``generation`` (of the context).
        """
        tokens = "isl" if phase == "context" else "step"
        return self._rows(
            f"mla/vllm/*/mla_{phase}_module_perf.parquet",
            ["num_heads", "batch_size", tokens],
            kv_cache_dtype=KV_DTYPES.get(kv_dtype),
            gemm_type="bfloat16",
            mla_dtype="bfloat16",
        )

    def experts(self, dtype: str) -> list[tuple[float, ...]]:
        """Return ``(hidden, width, experts per token, experts, tokens, s)`` of experts that tensor parallelism slices.

        Evenly spread tokens where these were measured, else by the flattest power law. Under expert parallelism the
        kernels were given the tokens of all GPUs, which is not what one of them does. Hidden size 2688 and 22
        experts per token are Nemotron's, which have no gate.
        """
        shape = ["hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "num_tokens"]
        names = BLACKWELL_EXPERT_DTYPES if self.gpu == "b200-sxm" else EXPERT_DTYPES
        for distribution in ("balanced", "power_law_1.01"):
            rows = self._rows(
                "moe/vllm/*/moe_perf.parquet",
                shape,
                moe_dtype=names.get(dtype),
                distribution=distribution,
                moe_ep_size=1,
            )
            if rows:
                break
        return [
            (hidden, width / ranks, per_token, experts, tokens, seconds)
            for hidden, width, per_token, experts, ranks, tokens, seconds in rows
            if ranks <= 8 and hidden != 2688 and per_token != 22
        ]

    def all_reduce(self) -> list[tuple[float, ...]]:
        """Return ``(ranks, bytes, s)`` of the engine's all-reduces in CUDA graphs; tables count 16-bit elements."""
        rows = self._rows(
            "comm/vllm/*/custom_allreduce_perf.parquet", ["num_gpus", "message_size"], backend="vllm_graph"
        )
        return [(ranks, 2 * elements, seconds) for ranks, elements, seconds in rows]

    def collective(self, name: str) -> list[tuple[float, ...]]:
        """Return ``(ranks, bytes, s)`` of NCCL's ``all_reduce``, ``all_gather`` or ``reduce_scatter`` in 16 bits.

        Bytes are those of the whole message, which a GPU has after a gather or before a scatter. The table counts
        elements: in 8 bits twice as many take as long.
        """
        rows = self._rows(
            "comm/nccl/*/nccl_perf.parquet", ["num_gpus", "message_size"], op_name=name, nccl_dtype="half"
        )
        return [(ranks, 2.0 * elements, seconds) for ranks, elements, seconds in rows]

    def exchange(self, backend: str, phase: str) -> list[tuple[float, ...]]:
        """Return ``(ranks, hidden, experts per token, experts, tokens of one GPU, s)`` of DeepEP on one node.

        *backend* is ``deepep_ht`` or ``deepep_ll``, *phase* ``dispatch`` or ``combine``. This table is in us.
        """
        rows = self._rows(
            "comm/vllm/*/moe_a2a_perf.parquet",
            ["ep_size", "hidden_size", "topk", "num_experts", "num_tokens"],
            comm_backend=backend,
            phase=phase,
            node_num=1,
        )
        return [(*shape, seconds * 1e-3) for *shape, seconds in rows]

    def _rows(self, pattern: str, shape: list[str], **wanted: str | int | None) -> list[tuple[float, ...]]:
        """Return the rows whose columns are *wanted*, or none; a missing ``window_size`` is 0."""
        paths = sorted(self.folder.glob(pattern), key=_version)
        if not paths or None in wanted.values():
            return []
        path = paths[-1]
        try:
            frame = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise ServesimError(f"{path}: unreadable ({error})") from error
        if "window_size" in shape and "window_size" not in frame.columns:
            frame = frame.with_columns(window_size=0)
        needed = [*shape, *wanted, "latency"]
        if missing := [column for column in needed if column not in frame.columns]:
            raise ServesimError(
                f"{path}: no column {missing[0]!r} (got {', '.join(frame.columns)}). expected it"
            )
        frame = frame.with_row_index("row", offset=1)
        frame = frame.filter(*(pl.col(name) == value for name, value in wanted.items()))
        latency = pl.col("latency").cast(pl.Float64)
        bad = frame.filter(latency.is_null() | ~latency.is_finite() | (latency <= 0))
        refuse(bad, "latency", "no time", "milliseconds > 0", where=path)
        for column in shape:
            size = pl.col(column).cast(pl.Float64)
            refuse(frame.filter(size.is_null() | (size < 0)), column, "no shape", "a number >= 0", where=path)
        frame = frame.group_by(shape).agg(latency.min() * 1e-3).sort(shape)
        return [tuple(map(float, row)) for row in frame.iter_rows()]


def operator_tables(path: Path, gpu: str) -> OperatorTables | None:
    """Return the operator tables at *path*, or None if there is something else.

    Raises
    ------
    ServesimError
        If *path* is the package's word, and it is not installed or has no tables of *gpu*.
    """
    # A scenario's relative paths start from its folder: the word may have become a path.
    folder = _packaged(gpu) if path.name == PACKAGE and not path.exists() else path
    tables = sorted(folder.glob("gemm/vllm/*/gemm_perf.parquet"), key=_version)
    if not tables:
        return None
    try:
        device = str(pl.scan_parquet(tables[-1]).select("device").head(1).collect().item())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise ServesimError(f"{tables[-1]}: unreadable ({error})") from error
    device = device.removeprefix("NVIDIA ")
    return OperatorTables(
        folder=folder,
        gpu=DEVICES.get(device, device),
        engine=f"vllm {tables[-1].parent.name} (AIConfigurator)",
    )


def _packaged(gpu: str) -> Path:
    """Return the installed package's folder of *gpu*, without importing the package."""
    found = find_spec("aiconfigurator_core")
    if found is None or not found.submodule_search_locations:
        raise ServesimError(
            "latency: the package aiconfigurator-core is not installed. expected it, or a folder of tables\n"
            "  hint: pip install 'servesim[aiconfigurator]'"
        )
    folder = Path(found.submodule_search_locations[0]) / "systems" / "data" / SYSTEMS.get(gpu, gpu)
    if not folder.is_dir():
        raise ServesimError(
            f"latency: aiconfigurator-core has no tables of this GPU (got {gpu}). expected one of {', '.join(SYSTEMS)}"
        )
    return folder


def _version(path: Path) -> list[int]:
    """Return the version that a table's folder is named after, for sorting."""
    return [int(part) if part.isdigit() else -1 for part in path.parent.name.split(".")]
