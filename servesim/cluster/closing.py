"""What a replica leaves behind when the run ends: unfinished requests as rows, and its own account for the audits."""

from __future__ import annotations

from typing import cast

from servesim.cluster.leap import boundary_s, steps_until
from servesim.cluster.queues import FifoQueue
from servesim.cluster.replica import NEVER, PACK_OUTCOME, UNFINISHED, Replica
from servesim.cluster.request import Request


def close(replica: Replica, now: float) -> None:
    """End the run: book the steps that ended before *now*, write down what is unfinished, fill in the account."""
    busy_s = replica.busy_s(now)
    if replica.planned > replica.done:
        _book_ended_steps(replica, now)
        busy_s -= now - boundary_s(replica.start_s, replica.step_s, replica.growth_s, replica.done)
    if replica.done:
        replica.write_segment()
    _write_unfinished(replica)
    replica.note_peak()
    _fill_in(replica, now, busy_s)


def send_back(replica: Replica, now: float) -> Request | None:
    """Take the request out of the queue that would have joined it at *now* or later, and return it."""
    request = replica.expected
    if request is None or not replica.expects(now):
        return None
    replica.queue_area_s = replica.expected_area_s
    replica.waiting_tokens -= request.prompt_tokens
    entry = (replica.expected_s, request)
    if replica.late and entry in replica.late:
        replica.late.remove(entry)
    else:
        cast("FifoQueue", replica.queue).remove(request)
    return request


def _book_ended_steps(replica: Replica, now: float) -> None:
    steps = steps_until(now, replica.start_s, replica.step_s, replica.growth_s) - 1 - replica.done
    if steps > 0:
        replica.done += steps
        if replica.batch.sequences:
            replica.context_tokens = replica.context_after(steps)
            replica.decode_step += steps
        replica.book_prefills(steps)


def _write_unfinished(replica: Replica) -> None:
    replica.close_decodes()
    for request in sorted([*replica.running, *replica.waiting()], key=lambda request: request.request_id):
        replica.system.outcomes += PACK_OUTCOME(
            request.request_id,
            replica.index,
            NEVER if request.scheduled_s is None else request.scheduled_s,
            NEVER if request.first_token_s is None else request.first_token_s,
            NEVER,
            request.emitted_tokens,
            request.preemptions,
            UNFINISHED,
            -1,
        )
        replica.output_tokens += request.emitted_tokens


def _fill_in(replica: Replica, now: float, busy_s: float) -> None:
    account, waiting, running = replica.account, len(replica.waiting()), len(replica.running)
    account.busy_s = busy_s
    account.queue_area_s = replica.queue_area_s + now * waiting
    account.batch_area_s = replica.batch_area_s + now * running
    account.completed = replica.completed
    account.enqueued = replica.completed + waiting + running
    account.output_tokens, account.steps = replica.output_tokens, replica.steps
    account.kv_blocks_used, account.kv_blocks_used_max = replica.blocks_used(), replica.kv_blocks_used_max
    account.waiting, account.running = waiting, running
