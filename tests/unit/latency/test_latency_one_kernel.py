"""Decodes beside chunks in one kernel: by hand, on finely measured axes, and against measured steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from profile_format import tables, write

from servesim.catalog import gpu, model
from servesim.latency.api import BatchShape, LatencyContext
from servesim.latency.edges import Edges
from servesim.latency.measured_attention import MeasuredAttention
from servesim.latency.one_kernel import POINTS, OneKernel, one_kernel, thinned
from servesim.latency.table import Table
from servesim.profiles import Grid, read_layer_profile

CONTEXT = LatencyContext(
    model=model("llama-3.1-8b"),
    gpu=gpu("rtx-4090"),
    tensor_parallel=1,
    max_num_seqs=128,
    max_num_batched_tokens=2048,
    async_scheduling=False,
)
PREFILL = Grid({"chunk": [16, 128, 1024], "start": [0, 8192]}, [[2.0, 10.0], [2.0, 10.0], [6.0, 40.0]])
DECODE = Grid({"sequences": [1, 100], "context": [16, 8192]}, [[1.0, 2.0], [5.0, 50.0]])
KERNEL = OneKernel(
    heads=32,
    group=4,
    kv_bytes=4096.0,
    bytes_per_s=1e15,
    multiprocessors=128,
    cache_bytes=1e12,
    window=None,
)
"""Memory without end: what the multiprocessors take is all there is."""


def test_tiles_by_hand() -> None:
    """100 decodes after 8,192 tokens: 25 waves of tiles of 9 s, half a tile, and the launch of 1 s."""
    price = KERNEL.grid(PREFILL, DECODE)
    tile_s, chunk_s = 9.0, 1.0 / 4  # 32 of 128 multiprocessors work on a chunk of one tile
    assert price(16, 0, 100, 8192) == pytest.approx(1.0 + 25 * tile_s + chunk_s + tile_s / 2, rel=1e-3)
    assert price(16, 0, 1, 8192) == pytest.approx(1.0 + tile_s)  # beside one decode: its tile is the longest


def test_window_ends_what_a_tile_takes() -> None:
    """Contexts beyond the window take what the window does."""
    price = replace(KERNEL, window=1024).grid(PREFILL, DECODE)
    assert price(16, 0, 100, 8192) == pytest.approx(1.0 + 25.5 * (1.0 + 1024 / 1024) + 0.25, rel=1e-2)


def test_heads_of_a_group_read_again_what_the_cache_lost() -> None:
    """100 decodes at a time leave 1.28 heads of each together: 4 / 1.28 reads, and one where the cache holds them."""
    tokens = 100 * 8192
    slow = replace(KERNEL, bytes_per_s=1e6)
    found = slow.grid(PREFILL, DECODE)(16, 0, 100, 8192)
    assert found == pytest.approx(tokens * 4096.0 / 1e6, rel=0.01)
    lost = replace(slow, cache_bytes=1e3).grid(PREFILL, DECODE)(16, 0, 100, 8192)
    assert lost == pytest.approx(tokens * 4096.0 / 1e6 * 4 / 1.28, rel=0.01)


def test_finely_measured_axes_are_thinned() -> None:
    """First and last stay."""
    found = thinned([float(point) for point in range(1000)])
    assert (len(found), found[0], found[-1]) == (POINTS, 0.0, 999.0)


def test_where_flash_attention_2_runs_both_take_more_than_their_sum(tmp_path: Path) -> None:
    """Llama-3.1-8B on an RTX 4090, whose profile has no such steps: told in the sources, and no price falls."""
    known = tables(mixed=False)
    path = write(tmp_path, {f"tp1/{name}": frame for name, frame in known.items()})
    ready = Table(path=path)
    ready.reset(CONTEXT)
    assert ready.sources["derived"] == "decodes beside chunks"
    decodes_s = ready.attention(BatchShape(32, 32 * 4096))[0]
    both_s = ready.attention(BatchShape(32, 32 * 4096, [(256, 0)]))
    assert both_s[0] > decodes_s
    assert both_s[1:] == (0.0, 1)
    more = [BatchShape(33, 33 * 4096, [(256, 0)]), BatchShape(32, 32 * 4097, [(256, 0)])]
    more += [BatchShape(32, 32 * 4096, [(257, 0)]), BatchShape(32, 32 * 4096, [(256, 64)])]
    assert all(ready.attention(batch)[0] >= both_s[0] for batch in more)


@pytest.mark.parametrize(
    ("folder", "device", "name", "ranks", "band"),
    [
        ("RTXPRO6000/Qwen/Qwen3-32B", "rtx-pro-6000", "qwen3-32b", 1, 0.11),
        ("RTXPRO6000/meta-llama/Llama-3.1-8B", "rtx-pro-6000", "llama-3.1-8b", 2, 0.11),
        ("RTX4090/meta-llama/Llama-3.1-8B", "rtx-4090", "llama-3.1-8b", 1, 0.13),
    ],
)
def test_measured_steps_with_both_are_met(
    shared: Callable[[str], Path], folder: str, device: str, name: str, ranks: int, band: float
) -> None:
    """The measured steps of both, hidden and worked out from each alone: nothing is fitted to them."""
    path = shared(f"calibration/operator_tables/layer_profiles/profile_v1/{folder}") / "bf16"
    context = replace(CONTEXT, model=model(name), gpu=gpu(device), tensor_parallel=ranks)
    profile = read_layer_profile(path, tensor_parallel=ranks)
    hidden = MeasuredAttention(
        replace(profile.attention, mixed=None),
        context,
        Edges(),
        layers=1,
        growth=lambda _: 1.0,
        one_kernel=one_kernel(context, None),
    )
    mixed = profile.attention.mixed
    assert mixed is not None
    axes = [points[::3] for points in mixed.axes.values()]
    errors = [
        hidden.price(BatchShape(int(n), int(n * mean), [(int(chunk), int(start))]))[0]
        / mixed(chunk, start, n, mean)
        - 1.0
        for chunk in axes[0]
        for start in axes[1]
        for n in axes[2]
        for mean in axes[3]
    ]
    assert np.median(np.abs(errors)) < band
