"""Small runs worked out by hand. Steps take 1 s unless a test says otherwise, so times are step counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness import Linear, engine, run

from servesim.errors import PluginError
from servesim.latency.api import UNLIMITED_STEPS
from servesim.policies.predictors import Oracle
from servesim.policies.schedulers import Priority, ShortestJobFirst


def test_one_request():
    """A prompt step emits token 1, two decode steps tokens 2 and 3."""
    result = run([(5.0, 10, 3)])
    assert result.times("scheduled_s") == [5.0]
    assert result.times("first_token_s") == [6.0]
    assert result.times("finished_s") == [8.0]
    assert result.reasons() == ["stop"]


def test_an_output_of_one_token_finishes_with_its_prompt():
    """The step that computes the prompt's end emits the only token."""
    result = run([(0.0, 10, 1)])
    assert result.times("first_token_s") == result.times("finished_s") == [1.0]
    assert result.segments["sequences"].tolist() == [0]


def test_an_arrival_in_a_step_joins_at_its_end():
    """Arriving at 1.5, in the second step, the request is admitted at 2 and prefills beside the decode."""
    result = run([(0.0, 4, 5), (1.5, 4, 2)])
    assert result.times("scheduled_s") == [0.0, 2.0]
    assert result.times("first_token_s") == [1.0, 3.0]
    assert result.times("finished_s") == [5.0, 4.0]


def test_an_arrival_at_a_boundary_joins_there():
    """Arrivals come before step ends of the same time, so a tie is admitted at once."""
    result = run([(0.0, 4, 5), (2.0, 4, 2)])
    assert result.times("scheduled_s") == [0.0, 2.0]


def test_simultaneous_arrivals_share_the_first_batch():
    """An idle replica starts after all arrivals of that time."""
    result = run([(0.0, 4, 2), (0.0, 4, 2), (0.0, 4, 2)])
    assert result.times("scheduled_s") == [0.0, 0.0, 0.0]
    assert result.segments["prefill_sequences"].tolist() == [3, 0]


def test_chunked_prefill_takes_what_decodes_leave_of_the_budget():
    """Budget 8: prompt 20 alone takes 8 + 8 + 4; the rest of its last step is the next one's first chunk."""
    result = run([(0.0, 20, 4), (0.5, 10, 1)], settings=engine(max_num_batched_tokens=8))
    assert result.times("first_token_s")[0] == 3.0  # steps of 8, 8, 4 tokens
    assert result.times("scheduled_s")[1] == 2.0  # 4 tokens of the third step's budget
    assert result.times("first_token_s")[1] == 4.0  # 6 more beside one decode: 7 would fit
    assert result.segments["prefill_tokens"].tolist() == [8, 8, 6, 0]
    assert result.segments["steps"].tolist() == [2, 1, 1, 2]


def test_a_long_prompt_is_one_segment_of_equal_chunks():
    """Sixteen full chunks are one leap whose steps grow with the prompt's length (prefill is quadratic)."""
    result = run([(0.0, 128, 1)], settings=engine(max_num_batched_tokens=8), latency=Linear(per_pair_s=0.125))
    assert result.segments["steps"].tolist() == [16]
    assert result.segments["growth_s"].tolist() == [8.0]  # 0.125 s a pair * 8 * 8 pairs more each step
    assert result.times("finished_s") == [16 + 0.125 * 64 * (16 * 15 / 2)]


def test_without_chunked_prefill_a_prompt_waits_for_room_in_the_budget():
    """Budget 10: with two sequences decoding, a prompt of 9 waits until one of them finishes."""
    settings = engine(max_num_batched_tokens=10, chunked_prefill=False, context_limit=10)
    result = run([(0.0, 2, 3), (0.0, 2, 6), (0.5, 9, 1)], settings=settings)
    assert result.times("finished_s")[0] == 3.0
    assert result.times("scheduled_s")[2] == 3.0


def test_prefill_only_steps_hold_decodes_up():
    """V0's way: the step at 2 carries the new prompt alone, so the running request's tokens wait a step."""
    settings = engine(
        chunked_prefill=False, prefill_only_steps=True, max_num_batched_tokens=64, context_limit=64
    )
    result = run([(0.0, 4, 5), (1.5, 4, 1)], settings=settings)
    assert result.times("first_token_s") == [1.0, 3.0]
    assert result.times("finished_s") == [6.0, 3.0]


def test_admission_leaves_the_watermark_free():
    """The first takes five of ten blocks, the second needs three: what is left meets a watermark of two, not three."""
    settings = engine(kv_block_tokens=1, kv_blocks=10, context_limit=11)
    work = [(0.0, 5, 3), (0.0, 3, 1)]
    assert run(work, settings=settings).times("scheduled_s") == [0.0, 0.0]
    assert run(work, settings=replace(settings, watermark_blocks=2)).times("scheduled_s") == [0.0, 0.0]
    assert run(work, settings=replace(settings, watermark_blocks=3)).times("scheduled_s") == [0.0, 3.0]


def test_the_watermark_holds_no_lone_request_up():
    """With nothing running, a prompt as long as the cache is admitted: it could never be otherwise."""
    settings = engine(kv_block_tokens=1, kv_blocks=10, context_limit=11, watermark_blocks=9)
    assert run([(0.0, 10, 1)], settings=settings).times("finished_s") == [1.0]


def test_seats_limit_the_batch():
    """With two seats the third request starts when the first finishes."""
    result = run([(0.0, 1, 2), (0.0, 1, 4), (0.0, 1, 1)], settings=engine(max_num_seqs=2))
    assert result.times("scheduled_s") == [0.0, 0.0, 2.0]


def test_context_makes_steps_longer():
    """Step = 1 + attended context: the prompt step 1, then contexts of 5 and 6 (KV 4 and 5, plus one)."""
    result = run([(0.0, 4, 3)], latency=Linear(per_context_s=1.0))
    assert result.times("first_token_s") == [1.0]
    assert result.times("finished_s") == [1.0 + (1 + 5) + (1 + 6)]
    assert result.segments["context_tokens"].tolist() == [0, 5]


def test_a_price_that_ends_is_asked_for_again():
    """With valid_steps 3, nine decode steps are three segments; nothing else changes."""
    plain, knotted = (
        run([(0.0, 4, 10)], latency=Linear(per_context_s=0.5, valid_steps=v)) for v in (UNLIMITED_STEPS, 3)
    )
    assert knotted.segments["steps"].tolist() == [1, 3, 3, 3]
    assert knotted.times("finished_s") == plain.times("finished_s")


def test_blocks_are_taken_at_the_start_of_the_step_that_needs_them():
    """Blocks of 4: prompt 4 fills one; the decode step that writes token 5 takes another; 8 fill two."""
    for output, blocks in ((1, 1), (2, 2), (5, 2), (6, 3)):
        result = run([(0.0, 4, output)], settings=engine(kv_block_tokens=4))
        assert result.accounts[0].kv_blocks_used_max == blocks, output


def test_preemption_takes_the_last_admitted_and_recomputes():
    """Two requests of 4 tokens in a cache of 3 blocks of 4: worked out step by step.

    At 1 both hold 1 block and need another to decode: one is free, so the second (admitted last) is preempted
    with one token emitted. The first decodes 4 more tokens, to 5 s, and gives 2 blocks back. The second then
    prefills its prompt and its token (5 tokens, 2 blocks), which emits token 2 at 6 s, and decodes on to
    token 5 at 9 s. But it is tried at every boundary before: at 2 s one block is free and 2 are needed, so it
    waits.
    """
    result = run([(0.0, 4, 5), (0.0, 4, 5)], settings=engine(kv_block_tokens=4, kv_blocks=3))
    assert result.times("first_token_s") == [1.0, 1.0]
    assert result.happenings() == [(1.0, "preempted", 1), (5.0, "readmitted", 1), (6.0, "resumed", 1)]
    assert result.times("finished_s") == [5.0, 9.0]
    assert result.outcomes["preemptions"].tolist() == [0, 1]
    assert result.outcomes["output_tokens"].tolist() == [5, 5]
    assert result.accounts[0].preemptions == 1


def test_preemption_takes_the_lowest_priority():
    """Under the priority scheduler the request with the larger number goes, though it was admitted first."""
    result = run(
        [(0.0, 4, 5, 1), (0.0, 4, 5, 0)],
        settings=engine(kv_block_tokens=4, kv_blocks=3),
        scheduler=Priority(),
    )
    assert result.outcomes["preemptions"].tolist() == [1, 0]


def test_priority_and_shortest_job_order_the_queue():
    """One seat: the waiting requests are served by key, ties by arrival."""
    work = [(0.0, 1, 5, 0), (1.0, 1, 4, 2), (1.0, 1, 2, 1), (1.0, 1, 3, 1)]
    one_seat = engine(max_num_seqs=1)
    by_priority = run(work, settings=one_seat, scheduler=Priority()).times("scheduled_s")
    by_length = run(work, settings=one_seat, scheduler=ShortestJobFirst(predictor=Oracle())).times(
        "scheduled_s"
    )
    assert by_priority == [0.0, 10.0, 5.0, 7.0]
    assert by_length == [0.0, 10.0, 5.0, 7.0]


def test_a_prompt_that_can_never_fit_is_rejected():
    """Prompt 17 against a context limit of 17 leaves no room for a token: rejected, and nothing waits."""
    result = run([(0.0, 17, 1), (0.0, 16, 1)], settings=engine(kv_block_tokens=4, kv_blocks=4))
    assert result.states() == ["rejected", "completed"]
    assert result.reasons() == ["prompt_too_long", "stop"]
    assert result.accounts[0].rejected == 1


def test_an_output_is_cut_at_the_context_limit():
    """Cache of 16 tokens: prompt 10 leaves room for 7 tokens, the last of which is never written."""
    result = run([(0.0, 10, 100)], settings=engine(kv_block_tokens=4, kv_blocks=4))
    assert result.outcomes["output_tokens"].tolist() == [7]
    assert result.reasons() == ["length"]
    assert result.accounts[0].kv_blocks_used_max == 4


def test_a_run_that_ends_early_counts_what_was_emitted():
    """Stopped at 3.5: the first request has emitted tokens at 1, 2 and 3; the second arrives after them."""
    result = run([(0.0, 4, 9), (3.2, 4, 9)], stop_s=3.5)
    assert result.states() == ["unfinished", "unfinished"]
    assert result.outcomes["output_tokens"].tolist() == [3, 0]
    assert result.times("scheduled_s") == [0.0, None]
    assert result.accounts[0].output_tokens == 3
    assert (result.accounts[0].waiting, result.accounts[0].running) == (1, 1)


@pytest.mark.parametrize(
    "price", [(0.0, 0.0, 1), (-1.0, 0.0, 1), (1.0, -0.1, 1), (1.0, 0.0, 0), (float("nan"), 0.0, 1)]
)
def test_a_bad_price_is_refused(price):
    """A latency model that would stall or reverse the clock is named."""

    class Bad(Linear):
        def price(self, batch):
            return price

    with pytest.raises(PluginError, match="cannot price"):
        run([(0.0, 4, 2)], latency=Bad())


@pytest.mark.parametrize("answer", [-1, 2, 1.5, None, "0"])
def test_a_router_that_answers_nonsense_is_named(answer):
    """The error says which router, what it answered, and what it may answer."""

    class Lost:
        def reset(self, context):
            pass

        def route(self, request, replicas):
            return answer

    with pytest.raises(PluginError, match=r"Lost.*expected an integer from 0 to 1"):
        run([(0.0, 4, 2)], router=Lost(), replicas=2)
