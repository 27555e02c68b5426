"""Steps without a CUDA graph: the host starts every kernel, and the step takes at least as long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from servesim.catalog import HostCosts, Parallelism, gpu, model
from servesim.latency.api import BatchShape, LatencyContext
from servesim.latency.operators import launched_kernels
from servesim.latency.pricing import StepPrices

KERNEL_S = 1e-4
HOST = HostCosts(launch_s=0.002, eager_kernel_s=KERNEL_S)
CONTEXT = LatencyContext(
    model=model("llama-3.1-8b"),
    gpu=gpu("h100-sxm"),
    tensor_parallel=1,
    max_num_seqs=1024,
    max_num_batched_tokens=8192,
    async_scheduling=True,
    graph_tokens_max=512,
    host=HOST,
)
EAGER_S = 321 * KERNEL_S + 0.002  # kernels, and what every step waits for


class Kernels:
    """A GPU of 10 us per token that attends for nothing at first and 1 ms more each step."""

    decode_lines = None

    def tokens_s(self, tokens: int) -> float:
        """By the padded number."""
        return 1e-5 * tokens

    def sequences_s(self, sequences: int) -> float:
        """Sampling is free."""
        return 0.0

    def attention(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return a line."""
        return 0.0, 0.001, 1000


def first_s(tokens: int, context: LatencyContext = CONTEXT, sequences: int = 0) -> float:
    """Return the time of a step with one chunk of *tokens* and so many decodes."""
    chunks = [(tokens, 0)] if tokens else []
    return StepPrices(Kernels(), context).price(BatchShape(sequences, 0, chunks))[0]


def test_kernels_of_a_layer_by_hand():
    """Four matrices, two of attention, four between; two sums with two GPUs; the head once.

    With experts: three matrices (the router is one), two of attention and three between; experts count apart.
    """
    assert launched_kernels(model("llama-3.1-8b"), Parallelism()) == 32 * (4 + 2 + 4) + 1
    assert launched_kernels(model("llama-3.1-8b"), Parallelism(tensor=2)) == 321 + 64
    assert launched_kernels(model("gpt-oss-120b"), Parallelism()) == 36 * (3 + 2 + 3) + 1


def test_experts_are_started_apart():
    """36 layers of 1 ms beside 289 other kernels; a dense model has none."""
    host = replace(HOST, eager_experts_s=1e-3)
    assert first_s(513, replace(CONTEXT, host=host)) == pytest.approx(EAGER_S)
    experts = replace(CONTEXT, host=host, model=model("gpt-oss-120b"))
    assert first_s(513, experts) == pytest.approx(289 * KERNEL_S + 0.036 + 0.002)


@pytest.mark.parametrize(("tokens", "expected_s"), [(512, 0.00712), (513, EAGER_S), (8192, 0.08392)])
def test_a_step_with_a_prompt_beyond_the_largest_graph(tokens, expected_s):
    """Host and GPU work side by side: the longer of both, and with a graph the GPU alone."""
    assert first_s(tokens) == pytest.approx(expected_s)


def test_decodes_count_too():
    """One more decode than the largest graph has; tokens of prompts and decodes are counted together."""
    assert first_s(0, sequences=512) == pytest.approx(0.00712)
    assert first_s(0, sequences=513) == pytest.approx(EAGER_S)
    assert first_s(400, sequences=113) == pytest.approx(EAGER_S)


def test_graphs_of_decodes_alone():
    """Any prompt makes a step eager; decodes do not."""
    context = replace(CONTEXT, prompt_graphs=False)
    assert first_s(1, context) == pytest.approx(EAGER_S)
    assert first_s(0, context, sequences=512) == pytest.approx(0.00712)


def test_a_leap_ends_where_the_gpu_becomes_the_slower_side():
    """The price is a constant until the line of the GPU passes it; the step after is on that line."""
    price = StepPrices(Kernels(), CONTEXT).price
    batch = BatchShape(600, 600)
    least_s, growth_s, steps = price(batch)
    assert (least_s, growth_s) == (pytest.approx(EAGER_S), 0.0)
    gpu_s = 600 * 1e-5 + 0.002
    assert gpu_s + (steps - 1) * 0.001 <= least_s < gpu_s + steps * 0.001


def test_a_host_that_starts_kernels_for_nothing_changes_no_price():
    """Without a time per kernel all prices are those of the GPU and the rest of the host."""
    context = replace(CONTEXT, host=replace(HOST, eager_kernel_s=0.0))
    assert first_s(513, context) == pytest.approx(0.00713)
