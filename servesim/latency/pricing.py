"""From what the GPU and the host take to the price of a step: the part that latency models of engines share.

A model says what kernels take (`StepCosts`); here that is looked up per step, padded as CUDA graphs pad it, and
joined with the host, which starts kernels one by one where no CUDA graph does. docs/model/latency.md has the equations.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple, Protocol

from servesim.latency.api import UNLIMITED_STEPS, BatchShape, LatencyContext
from servesim.latency.operators import launched_kernels
from servesim.latency.parallel import Price, of_groups, of_stages
from servesim.latency.speculative import of_drafts


class DecodeLines(NamedTuple):
    """What attention takes in steps that only decode: a line in the attended tokens, and another from a knot on.

    Attributes
    ----------
    least_tokens
        Tokens per sequence from which on the lines hold.
    knot_tokens
        Attended tokens from which on the second line holds.
    near, far
        ``(zero_s, token_s)`` of both lines: the time at no token, and that of each.
    """

    least_tokens: float
    knot_tokens: float
    near: tuple[float, float]
    far: tuple[float, float]


NO_LINES = DecodeLines(inf, inf, (0.0, 0.0), (0.0, 0.0))
"""They hold for no batch."""


class StepCosts(Protocol):
    """What the kernels of an engine step take on the GPU.

    Attributes
    ----------
    decode_lines
        What `attention` says of batches that only decode, where it is so simple; None: it is not.
    """

    decode_lines: DecodeLines | None

    def tokens_s(self, tokens: int) -> float:
        """Return the time of all that depends on the number of tokens: matrices, norms, experts, collectives.

        *tokens* are those of one data-parallel group; the others have as many.
        """

    def sequences_s(self, sequences: int) -> float:
        """Return the time of all that depends on the number of sequences: output head and sampling."""

    def attention(self, batch: BatchShape) -> tuple[float, float, int]:
        """Return ``(first_step_s, growth_s, valid_steps)`` of the attention of all layers."""


class StepPrices:
    """Prices of the steps of one replica, GPU and host together: ``price(batch)`` returns them.

    Parameters
    ----------
    costs
        What the GPU takes.
    context
        The replica: its host costs, largest batch, CUDA graphs, scheduling.
    drafter
        What the model takes that drafts for this one, if one does.
    """

    def __init__(
        self, costs: StepCosts, context: LatencyContext, *, drafter: StepCosts | None = None
    ) -> None:
        host = context.host
        counts = range(context.max_num_seqs + 1)
        launch = [host.launch_s + host.launch_per_sequence_s * count for count in counts]
        schedule = [host.schedule_s + host.schedule_per_sequence_s * count for count in counts]
        waiting = (
            launch if context.async_scheduling else [a + b for a, b in zip(launch, schedule, strict=True)]
        )
        # A step takes at least this long: the host prepares the next one meanwhile.
        hidden_s = [launch[count] + schedule[count] if context.async_scheduling else 0.0 for count in counts]
        # Without a CUDA graph it starts every kernel of this one, side by side with the GPU.
        starts_s = host.eager_kernel_s * launched_kernels(context.model, context.parallelism)
        starts_s += host.eager_experts_s * context.model.moe_layers
        eager_s = [max(least_s, starts_s + waiting[count]) for count, least_s in enumerate(hidden_s)]
        largest = context.graph_tokens_max
        padded = padded_tokens(largest)
        tokens_s = TokenTimes(costs, padded)
        if context.speculation is not None:
            draft = (
                (costs, tokens_s, 1.0 / context.model.layers)
                if drafter is None
                else (drafter, TokenTimes(drafter, padded), 1.0)
            )
            self.price = of_drafts(
                costs,
                tokens_s,
                context.speculation,
                draft=draft,
                waiting_s=waiting,
                host_s=(hidden_s, eager_s),
                graph_tokens_max=largest,
            )
            return
        sequences_s = [costs.sequences_s(count) + waiting[count] for count in counts]
        decode_least_s = [*hidden_s[: largest + 1], *eager_s[largest + 1 :]]
        decode_s = [step_s + (tokens_s[count] if count else 0.0) for count, step_s in enumerate(sequences_s)]
        self.price = _of_one_group(
            costs,
            tokens_s,
            (sequences_s, decode_s),
            (decode_least_s, hidden_s, eager_s),
            graph_tokens_max=largest if context.prompt_graphs else 0,
        )
        if context.pipeline_parallel > 1:
            self.price = of_stages(self.price, context.pipeline_parallel)
        if context.data_parallel > 1:
            self.price = of_groups(self.price, context.data_parallel)


class TokenTimes(dict[int, float]):
    """What numbers of tokens take, padded; each worked out when it is first asked for."""

    def __init__(self, costs: StepCosts, graph_tokens: list[int]) -> None:
        super().__init__()
        self._costs = costs
        self._graph_tokens = graph_tokens

    def __missing__(self, tokens: int) -> float:
        padded = self._graph_tokens[tokens] if tokens < len(self._graph_tokens) else tokens
        self[tokens] = tokens_s = self._costs.tokens_s(padded)
        return tokens_s


def _of_one_group(
    costs: StepCosts,
    tokens_s: TokenTimes,
    sequences_s: tuple[list[float], list[float]],
    host_s: tuple[list[float], list[float], list[float]],
    *,
    graph_tokens_max: int,
) -> Price:
    """Return the price of a batch of one group of GPUs: a closure, because attributes would cost more.

    The hot path. The usual case comes first, a step that only decodes and in which the GPU is the slower side; its
    sums are in the order of those that follow, so that prices are the same to the last bit.

    *sequences_s* is what sequences take, and what they take with their tokens where all decode. *host_s* is the least
    time of a step by its sequences: of decodes alone, and of one that holds prompts, up to *graph_tokens_max* tokens
    and beyond.
    """
    any_s, decode_s = sequences_s
    decode_least_s, graph_least_s, eager_least_s = host_s
    attention = costs.attention
    least_tokens, knot_tokens, (near_s, near_token_s), (far_s, far_token_s) = costs.decode_lines or NO_LINES
    near_growth_s = [count * near_token_s for count in range(len(decode_s))]

    def price(batch: BatchShape) -> tuple[float, float, int]:
        count, attended, chunks = batch.sequences, batch.context_tokens, batch.chunks
        if not chunks and attended >= least_tokens * count:
            if attended < knot_tokens:
                first_s = near_s + attended * near_token_s + decode_s[count]
                if first_s >= decode_least_s[count]:
                    return first_s, near_growth_s[count], int((knot_tokens - attended) / count) + 1
            else:
                first_s = far_s + attended * far_token_s + decode_s[count]
                if first_s >= decode_least_s[count]:
                    return first_s, count * far_token_s, UNLIMITED_STEPS
        first_s, growth_s, steps = attention(batch)
        if chunks:
            tokens = count
            for chunk_tokens, _ in chunks:
                tokens += chunk_tokens
            count += len(chunks)
            first_s += tokens_s[tokens] + any_s[count]
            least_s = eager_least_s[count] if tokens > graph_tokens_max else graph_least_s[count]
        else:
            first_s += decode_s[count]
            least_s = decode_least_s[count]
        if first_s < least_s:
            # The host is the slower side until the GPU's growing time passes it: that is the knot.
            if growth_s > 0.0:
                steps = min(steps, int((least_s - first_s) / growth_s) + 1)
            return least_s, 0.0, steps
        return first_s, growth_s, steps

    return price


def padded_tokens(graph_tokens_max: int) -> list[int]:
    """Return for every number of tokens up to *graph_tokens_max* the captured size that it is padded to.

    vLLM captures 1, 2, 4, then every multiple of 8 up to 256 and of 16 beyond.

    Examples
    --------
    >>> [padded_tokens(512)[tokens] for tokens in (1, 3, 5, 9, 250, 257)]
    [1, 4, 8, 16, 256, 272]
    """
    sizes = [1, 2, 4, *range(8, 257, 8), *range(272, graph_tokens_max + 1, 16)]
    captured = [0, *(size for size in sizes if size <= graph_tokens_max)]
    return [
        larger
        for smaller, larger in zip([-1, *captured], captured, strict=False)
        for _ in range(larger - smaller)
    ]
