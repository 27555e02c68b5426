"""Kernels by hand at perfect coefficients, and what holds for any: never below the peaks, never less for more work."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servesim.latency import efficiency as e

PEAKS = e.Peaks(flops_per_s=1e15, bytes_per_s=4e12, multiprocessors=100, cache_bytes=50e6)
PERFECT = e.Gemm(
    launch_s=0.0,
    depth_s=0.0,
    row_s=0.0,
    bandwidth_share=1.0,
    flops_share=1.0,
    overlap=math.inf,
    wave_share=0.0,
)
GEMM = e.Gemm(
    launch_s=2e-6,
    depth_s=1e-10,
    row_s=1e-9,
    bandwidth_share=0.9,
    flops_share=0.8,
    overlap=3.0,
    wave_share=0.3,
)
DECODE = e.Decode(
    launch_s=1e-5, ramp_share=0.5, ramp_s=2e-5, bandwidth_share=1.0, least_tokens=64, flops_share=1.0
)


def gemm_s(c: e.Gemm, m: float, n: float = 8192, k: float = 4096) -> float:
    """Return the time in 16 bits."""
    return float(e.gemm_s(c, PEAKS, m, n=n, k=k, element_bytes=2.0))


def test_small_product_reads_its_weights_and_a_large_one_computes() -> None:
    """One row: weights and activations over the bandwidth; 8,192 rows: two operations per weight and row."""
    assert gemm_s(PERFECT, 1) == pytest.approx((8192 * 4096 + 4096 + 8192) * 2 / 4e12)
    assert gemm_s(PERFECT, 8192) == pytest.approx(2 * 8192 * 8192 * 4096 / 1e15)


def test_whole_waves_of_tiles() -> None:
    """129 rows of 6,400 columns are 2 x 50 tiles, one wave of 100; one column more makes 102 tiles, two waves."""
    waved, fast_memory = replace(PERFECT, wave_share=1.0), replace(PEAKS, bytes_per_s=1e15)
    wave_s = 100 * 2 * 128 * 128 * 4096 / 1e15
    for columns, waves in ((6400, 1), (6401, 2)):
        time_s = e.gemm_s(waved, fast_memory, 129, n=columns, k=4096, element_bytes=2.0)
        assert time_s == pytest.approx(waves * wave_s)


def test_overlap_adds_at_one_and_hides_at_infinity() -> None:
    """The exponent moves a kernel between the sum and the larger of computing and reading."""
    rows = 250.0  # where both are alike
    added, hidden = gemm_s(replace(PERFECT, overlap=1.0), rows), gemm_s(PERFECT, rows)
    assert hidden < added < 2.01 * hidden
    assert gemm_s(replace(PERFECT, overlap=2.0), rows) == pytest.approx(added / 2**0.5, rel=0.05)


def test_launch_depth_and_rows_add() -> None:
    """What no rate covers comes on top."""
    slow = replace(PERFECT, launch_s=3e-6, depth_s=1e-9, row_s=2e-9)
    assert gemm_s(slow, 100) - gemm_s(PERFECT, 100) == pytest.approx(3e-6 + 4096e-9 + 200e-9)


@given(
    m=st.integers(1, 20_000), more=st.integers(1, 5_000), n=st.integers(64, 30_000), k=st.integers(64, 30_000)
)
def test_product_is_bounded_by_the_peaks_and_grows(m: int, more: int, n: int, k: int) -> None:
    """No product beats peak FLOP/s or peak bandwidth, and more rows never take less."""
    time_s = gemm_s(GEMM, m, n, k)
    assert time_s >= 2 * m * n * k / PEAKS.flops_per_s
    assert time_s >= 2 * (n * k + m * k + m * n) / PEAKS.bytes_per_s
    assert gemm_s(GEMM, m + more, n, k) >= time_s * (1 - 1e-12)


def test_arrays_are_priced_as_numbers_are() -> None:
    """One call for many row counts gives what single calls give."""
    rows = np.array([1.0, 17.0, 300.0, 5000.0])
    together = e.gemm_s(GEMM, PEAKS, rows, n=8192, k=4096, element_bytes=2.0)
    assert together == pytest.approx([gemm_s(GEMM, m) for m in rows.tolist()])


def test_expected_experts() -> None:
    """Two tokens that choose 2 of 8 share half an expert on average; many tokens visit all."""
    assert e.expected_experts(8, 2, 2) == pytest.approx(3.5)
    assert e.expected_experts(128, 8, 100_000) == pytest.approx(128)
    assert e.expected_experts(4, 4, 1) == 4


def test_experts_read_the_visited_and_fill_up_their_tiles() -> None:
    """Few pairs: the weights of the visited experts; many: two operations per pair and weight, and the filling.

    No more is filled up than there is.
    """
    c = e.Experts(
        launch_s=0.0, pair_s=0.0, pad_rows=32.0, bandwidth_share=1.0, flops_share=1.0, overlap=math.inf
    )
    shape = {"hidden": 4096.0, "weights": 1e7, "element_bytes": 2.0}
    few_s = e.experts_s(c, PEAKS, pairs=8.0, visited=8.0, **shape)
    assert few_s == pytest.approx((8 * 2e7 + 8 * 4 * 4096) / 4e12)
    many_s = e.experts_s(c, PEAKS, pairs=1e5, visited=8.0, **shape)
    assert many_s == pytest.approx(2e7 * (1e5 + 8 * 32) / 1e15)
    fast = replace(PEAKS, bytes_per_s=1e30)
    assert e.experts_s(c, fast, pairs=8.0, visited=8.0, **shape) == pytest.approx(2e7 * 16 / 1e15)


def test_activations_are_as_wide_as_weights_of_32_bits() -> None:
    """One row: 4 bytes for each weight, input and result, where 16 bits are 2."""
    c = replace(GEMM, launch_s=0.0, depth_s=0.0, row_s=0.0, bandwidth_share=1.0, overlap=math.inf)
    slow = replace(PEAKS, bytes_per_s=1.0)
    wide_s = e.gemm_s(c, slow, 1.0, n=256, k=3072, element_bytes=4.0)
    assert wide_s == pytest.approx(4 * (256 * 3072 + 3072 + 256))


def test_busiest_of_many_has_more_than_the_mean() -> None:
    """The largest of 64 Poisson counts of mean 100 is about 129; simulation agrees within 5 %."""
    drawn = np.random.default_rng(1).poisson(100.0, size=(2000, 64)).max(axis=1).mean()
    assert e.busiest(100.0, 64) == pytest.approx(drawn, rel=0.05)
    assert e.busiest(100.0, 1) == 100.0


def test_all_reduce_by_hand() -> None:
    """Each of 8 GPUs sends 7/8 of the message twice, after a start and seven hops; PCIe shares what there is."""
    c = e.AllReduce(launch_s=4e-6, hop_s=1e-6, link_share=0.5, contention=1.0)
    assert e.ring_s(8e6, 8, 100e9) == pytest.approx(14e6 / 100e9)
    assert e.ring_s(8e6, 1, 100e9) == 0.0
    assert e.all_reduce_s(c, 100e9, 8e6, 2) == pytest.approx(5e-6 + 8e6 / 50e9)
    assert e.all_reduce_s(c, 100e9, 8e6, 8) == pytest.approx(11e-6 + 14e6 / 12.5e9)


def test_decode_follows_the_lower_of_two_lines() -> None:
    """Small reads at half the peak; large ones at the peak after 20 us: the lines meet at 80 MB."""
    assert e.decode_s(DECODE, PEAKS, 4e6) == pytest.approx(1e-5 + 2e-6)
    assert e.decode_s(DECODE, PEAKS, 80e6) == pytest.approx(1e-5 + 4e-5)
    assert e.decode_s(DECODE, PEAKS, 400e6) == pytest.approx(1e-5 + 2e-5 + 1e-4)


def test_chunk_costs_by_hand() -> None:
    """Pairs at the peak plus softmax; the longest tile stands for the idle rest; queries and outputs move."""
    c = e.Prefill(launch_s=1e-5, flops_share=0.5, softmax_width=32.0, critical_share=0.5, io_share=0.25)
    chunk = e.chunk_costs(c, PEAKS, heads=32.0, head_dim=128, flops_per_pair=4 * 32 * 128)
    assert chunk.pair_s == pytest.approx(4 * 32 * 160 / 0.5e15)
    assert chunk.tile_s == pytest.approx(0.5 * 100 * 128 * 4 * 160 / 0.5e15)
    assert chunk.token_s == pytest.approx(2 * 32 * 128 * 2 / 1e12)


def test_scale_multiplies_times_and_never_beats_a_peak() -> None:
    """Twice as slow is twice the time; ten times as fast stops at the peaks, launch aside."""
    assert gemm_s(e.scaled(GEMM, 2.0), 700) == pytest.approx(2 * gemm_s(GEMM, 700))
    fast = gemm_s(e.scaled(replace(GEMM, depth_s=0.0, row_s=0.0, wave_share=0.0), 0.1), 8192)
    assert fast >= 2 * 8192 * 8192 * 4096 / 1e15
