"""Rows of profiles that ``servesim profile`` wrote, those of several models together, in the shape that fits take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from operator_tables import WEIGHT_BYTES, Table

from servesim.catalog import gpu as catalog_gpu
from servesim.catalog import model as catalog_model
from servesim.profiler.elementwise import elementwise as elementwise_operators
from servesim.profiles.native import read_facts

PROFILES = Path(__file__).resolve().parents[1] / "benchmarks" / "profiles"

NOT_PRICED = ("embedding", "cache_write")
"""Kernels that `servesim.latency.efficiency.Elementwise` is not for: once a step, and part of attention."""


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


def shares_of(folders: Sequence[Path]) -> dict[str, list[Share]]:
    """Return the tables in *folders* by GPU."""
    found: dict[str, list[Share]] = {}
    for folder in folders:
        facts = read_facts(folder)
        found.setdefault(str(facts["gpu"]), []).extend(
            Share(path, facts) for path in sorted(folder.glob("tp*"))
        )
    return found


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
    """Return what writing keys and values of so many tokens to a layer's cache takes; 0 where that was not measured."""
    dense = share.rows("dense")
    rows = None if dense is None else dense.filter(pl.col("operator") == "cache_write").sort("tokens")
    if rows is None or rows.is_empty():
        return pl.zeros(len(tokens), eager=True)
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
    device = catalog_gpu(gpu)
    same = {"bytes_per_s": device.memory_bandwidth_bytes_per_s, "cache_bytes": float(device.cache_bytes)}
    constant = {name: np.full(len(table), value) for name, value in same.items()}
    return Table(table.columns | constant, table.seconds)


def elementwise_of_all() -> Table:
    """Return `elementwise` of all GPUs that were profiled, with the peaks of each."""
    tables = [
        table
        for gpu, shares in shares_of(sorted(PROFILES.iterdir())).items()
        if (table := elementwise(gpu, shares)) is not None
    ]
    columns = {name: np.concatenate([table.columns[name] for table in tables]) for name in tables[0].columns}
    return Table(columns, np.concatenate([table.seconds for table in tables]))


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
