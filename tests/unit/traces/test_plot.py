"""The figure of a trace: what its panels show, and what they show of next to nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from servesim.traces.info import trace_info
from servesim.traces.plot import length_edges, trace_figure


def figure_of(tmp_path: Path, rows: list[tuple[float, int, int]]) -> Figure:
    """Return the figure of a table with these arrivals and lengths."""
    lines = ["arrival_s,prompt_tokens,output_tokens", *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    return trace_figure(trace_info(tmp_path / "t.csv"))


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_no_bin_is_narrower_than_a_token(low: int, more: int):
    """Edges stand between whole numbers, from below the least to above the largest."""
    edges = length_edges(low, low + more)
    assert (np.diff(edges) >= 1).all()
    assert (edges % 1 == 0.5).all()
    assert (edges[0], edges[-1]) == (low - 0.5, low + more + 0.5)


def test_equal_shares_of_every_length_make_no_combs(tmp_path: Path):
    """As many outputs of 1, 2, ..., 300 tokens: heights rise with the length, from bin to bin, without holes."""
    figure = figure_of(tmp_path, [(float(n), 5, n + 1) for n in range(300)])
    heights = figure.axes[3].patches[0].get_data().values
    assert (heights > 0).all()
    assert (heights[1:] > 0.93 * heights[:-1]).all()


def test_a_single_request_has_no_empty_panels(tmp_path: Path):
    """What cannot be drawn says why."""
    figure = figure_of(tmp_path, [(0.0, 100, 10)])
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes] == [
        ["no time passes"],
        ["no gaps"],
        [],
        [],
    ]


def test_labels_do_not_overlap(tmp_path: Path, shared: Callable[[str], Path]):
    """Constant lengths, lengths over five decades, gaps of 3 s only."""
    figures = [
        figure_of(tmp_path, [(float(n), 512, 100 + n % 3) for n in range(300)]),
        figure_of(tmp_path, [(float(n), 1 + n**3, 10**6 + n) for n in range(100)]),
        trace_figure(trace_info(shared("traces/mooncake/conversation_trace.jsonl"))),
    ]
    for figure in figures:
        figure.draw_without_rendering()
        for axes in figure.axes:
            low, high = axes.get_xlim()
            ticks = [*axes.xaxis.get_major_ticks(), *axes.xaxis.get_minor_ticks()]
            shown = [
                tick.label1 for tick in ticks if low <= tick.get_loc() <= high and tick.label1.get_text()
            ]
            boxes = sorted((label.get_window_extent() for label in shown), key=lambda box: box.x0)
            assert len(boxes) >= 2
            assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_the_poisson_line_is_always_there(shared: Callable[[str], Path]):
    """Of Mooncake, whose gaps are all longer than a Poisson process' of its rate: exp(-t / mean) from 1 down."""
    info = trace_info(shared("traces/mooncake/conversation_trace.jsonl"))
    _, poisson = trace_figure(info).axes[1].get_lines()
    times, shares = poisson.get_data()
    assert len(times) > 100
    np.testing.assert_allclose(shares, np.exp(-times / info.statistics["gap_s"]["mean"]))
    assert shares[0] > 0.9
    assert shares[-1] == pytest.approx(0.5 / 12_030)
