"""Steps of replicas whose sequences are spread over data-parallel groups, or whose layers over a pipeline.

Data parallelism: the groups step together, because the experts are everybody's. Each has its share of the decodes,
and every chunk of a prompt lies on one of them; a step takes as long as that of the group with the most to do.

Pipelines: the batch is as many microbatches as there are stages, and they follow one another through the stages. A
step of all of them takes as long as every stage works on all microbatches, or as the longest microbatch takes through
all stages: ``max(sum(t_i) / stages, max(t_i))``, with t_i the time of microbatch i through all layers. Without prompts
the microbatches are alike, and this is the time of one of them.

Both take batches to be balanced: routers inside the engine are not simulated.
"""

from __future__ import annotations

from collections.abc import Callable

from servesim.latency.api import BatchShape

Price = Callable[[BatchShape], tuple[float, float, int]]


def share(batch: BatchShape, parts: int, chunks: list[tuple[int, int]]) -> BatchShape:
    """Return one of *parts* equal parts of the decodes in *batch*, rounded up, with *chunks*."""
    sequences = -(-batch.sequences // parts)
    # The mean context stays, so that the part's context grows by one token per sequence and step as the whole does.
    context_tokens = batch.context_tokens * sequences / batch.sequences if batch.sequences else 0
    return BatchShape(sequences, context_tokens, chunks)


def of_groups(price: Price, groups: int) -> Price:
    """Return the price of batches of *groups* data-parallel groups, from that of one group's batch."""

    def priced(batch: BatchShape) -> tuple[float, float, int]:
        # The longest chunks go to different groups; the first group has the longest of all.
        chunks = sorted(batch.chunks, reverse=True)[::groups]
        first_s, growth_s, steps = price(share(batch, groups, chunks))
        return (first_s, 0.0, 1) if batch.chunks else (first_s, growth_s, steps)

    return priced


def of_stages(price: Price, stages: int) -> Price:
    """Return the price of batches in a pipeline of *stages*, from that of one microbatch through all layers."""

    def priced(batch: BatchShape) -> tuple[float, float, int]:
        if not batch.chunks:
            return price(share(batch, stages, []))
        longest = sorted(batch.chunks, reverse=True)
        parts = [longest[part::stages] for part in range(stages)]
        times = [price(share(batch, stages, part))[0] for part in parts if part or batch.sequences]
        return max(sum(times) / stages, *times), 0.0, 1

    return priced
