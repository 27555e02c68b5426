"""Steps that decode speculatively: the model on all drafted tokens, then the passes that draft the next ones.

docs/model/speculative-decoding.md has the equations. A layer that drafts is priced as a layer of the model, a smaller
model by its own costs; n-grams are looked up by the host, which is taken to hide it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from servesim.catalog.speculative import Speculation
from servesim.latency.api import BatchShape
from servesim.latency.parallel import Price

if TYPE_CHECKING:
    from servesim.latency.pricing import StepCosts, TokenTimes


def of_drafts(
    costs: StepCosts,
    tokens_s: TokenTimes,
    speculation: Speculation,
    *,
    draft: tuple[StepCosts, TokenTimes, float],
    waiting_s: list[float],
    host_s: tuple[list[float], list[float]],
    graph_tokens_max: int,
) -> Price:
    """Return the price of steps that verify drafted tokens and draft others.

    Parameters
    ----------
    costs, tokens_s
        Of the model.
    speculation
        How it drafts.
    draft
        Costs of what drafts, its times by tokens, and which share of these it takes: one layer of many, or all.
    waiting_s, host_s
        Of the host, by number of sequences: what the GPU waits for, and the least that a step takes, up to
        *graph_tokens_max* tokens and beyond.
    """
    hidden_s, eager_s = host_s
    drafted, step_tokens = speculation.draft_tokens, speculation.step_tokens
    passes = 0 if speculation.method == "ngram" else drafted
    draft_costs, draft_tokens_s, share = draft

    def price(batch: BatchShape) -> tuple[float, float, int]:
        sequences, chunks = batch.sequences, batch.chunks
        count = sequences + len(chunks)
        # The last drafted token attends to this many more than the first; keys and values are read once for all.
        verified = BatchShape(sequences, batch.context_tokens + drafted * sequences, chunks)
        tokens = step_tokens * sequences + sum([chunk for chunk, _ in chunks])
        first_s, growth_s, steps = costs.attention(verified)
        first_s += (
            tokens_s[tokens] + costs.sequences_s(step_tokens * sequences + len(chunks)) + waiting_s[count]
        )
        if passes:
            # The first pass takes all tokens of the step, the others one of each sequence.
            again = BatchShape(
                count, verified.context_tokens + sum([chunk + start for chunk, start in chunks])
            )
            all_s, all_growth_s, all_steps = draft_costs.attention(verified)
            one_s, one_growth_s, one_steps = draft_costs.attention(again)
            all_s += draft_tokens_s[tokens]
            one_s += draft_tokens_s[count]
            first_s += share * (all_s + (passes - 1) * one_s) + passes * draft_costs.sequences_s(count)
            growth_s += share * (all_growth_s + (passes - 1) * one_growth_s)
            steps = min(steps, all_steps, one_steps)
        least_s = eager_s[count] if tokens > graph_tokens_max else hidden_s[count]
        if first_s < least_s:  # as without drafts
            if growth_s > 0.0:
                steps = min(steps, int((least_s - first_s) / growth_s) + 1)
            return least_s, 0.0, steps
        return first_s, growth_s, steps

    return price
