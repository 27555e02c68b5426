"""Random small clusters that preempt, chunk, tie and cut a lot."""

from __future__ import annotations

from harness import Linear, engine
from hypothesis import strategies as st

from servesim.catalog.speculative import Speculation
from servesim.cluster.closed_loop import Loop
from servesim.latency.api import UNLIMITED_STEPS

ROUND = Linear(base_s=0.25, per_context_s=2.0**-7, per_token_s=0.125, per_pair_s=2.0**-10)
"""Step times that are exact in floating point: boundaries and round arrivals tie."""

ODD = Linear(base_s=0.1, per_context_s=0.003, per_token_s=0.07, per_pair_s=0.0007)


def speculation(method: str, draft_tokens: int, ratio: float) -> Speculation:
    """Return how an engine drafts so many tokens, each accepted with the given probability."""
    return Speculation(method=method, draft_tokens=draft_tokens, acceptance_ratio=ratio)


@st.composite
def engines(draw: st.DrawFn, *, prefill_only: bool = True, noise: bool = False, drafts: bool = False):
    """Draw engine settings: tiny caches, small blocks, tight budgets."""
    block_tokens = draw(st.sampled_from([1, 3, 4, 16]))
    budget = draw(st.sampled_from([4, 8, 16, 64]))
    blocks = max(2 + 7 // block_tokens, draw(st.sampled_from([12, 40, 160, 640])) // block_tokens)
    chunked = draw(st.booleans())
    drafted = draw(st.sampled_from([0, 1, 3])) if drafts else 0
    drafting = None
    if drafted:
        method = draw(st.sampled_from(["ngram", "eagle"]))
        drafting = speculation(method, drafted, draw(st.sampled_from([0.0, 0.5, 0.8, 1.0])))
    limit = blocks * block_tokens + 1 - (drafting.slot_tokens - 1 if drafting else 0)
    return engine(
        max_num_seqs=min(budget // (1 + drafted), draw(st.sampled_from([1, 2, 4, 8]))),
        speculative=drafting,
        kv_block_tokens=block_tokens,
        kv_blocks=blocks,
        watermark_blocks=draw(st.sampled_from([0, 0, 1, 5])),
        context_limit=limit if chunked else min(limit, budget),
        chunked_prefill=chunked,
        prefill_only_steps=prefill_only and not chunked and draw(st.booleans()),
        async_scheduling=draw(st.booleans()),
        step_noise_cv=draw(st.sampled_from([0.0, 0.0, 0.3])) if noise else 0.0,
    )


@st.composite
def requests(draw: st.DrawFn, *, most: int = 25):
    """Draw (arrival_s, prompt, output, priority) in order of arrival, with bursts, ties and pauses."""
    gap = st.sampled_from([0.0, 0.0, 0.125, 0.25, 0.3, 1.0, 2.5, 40.0])
    length = st.one_of(st.sampled_from([1, 2, 4, 16]), st.integers(1, 60))
    rows = draw(st.lists(st.tuples(gap, length, length, st.integers(0, 2)), min_size=1, max_size=most))
    now, result = 0.0, []
    for pause, prompt, output, priority in rows:
        now += pause
        result.append((now, prompt, output, priority))
    return result


@st.composite
def session_requests(draw: st.DrawFn, *, most: int = 10):
    """Draw requests as above, some with follow-ups: (arrival_s, prompt, output, priority, session, think_s).

    Think times are often 0 or round; prompts are now and then too long for any cache drawn by `engines`.
    """
    length = st.one_of(st.sampled_from([1, 2, 4, 16]), st.integers(1, 60))
    prompt = st.one_of(length, length, length, st.just(5000))
    think_s = st.sampled_from([0.0, 0.0, 0.125, 0.25, 0.3, 1.0, 2.5, 1e-18])
    follow_ups = st.lists(st.tuples(prompt, length, st.integers(0, 2), think_s), max_size=4)
    work = []
    plain = draw(requests(most=most))
    for index, (arrival_s, *request) in enumerate(plain):
        now = arrival_s - plain[0][0]  # before any horizon
        work.append((now, *request, str(index), None))
        work += [(now, *rest, str(index), pause_s) for *rest, pause_s in draw(follow_ups)]
    return work


loops = st.builds(Loop, follow_ups=st.just(True), max_concurrency=st.sampled_from([None, None, 1, 2, 5]))

latencies = st.builds(
    lambda base, valid: Linear(base.base_s, base.per_context_s, base.per_token_s, base.per_pair_s, valid),
    st.sampled_from([ROUND, ODD]),
    st.sampled_from([UNLIMITED_STEPS, 1, 3]),
)
