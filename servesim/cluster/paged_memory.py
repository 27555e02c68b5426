"""The KV blocks that a replica has taken, and those that its next steps take.

Blocks are not booked: how many are taken follows from the contexts in the batch. Most of the time an upper bound, which
needs their sum only (no sequence wastes more than its last block but one token), shows that memory binds no decision;
where it does not, `blocks_used` counts exactly.
"""

from __future__ import annotations

from servesim.cluster.leap import blocks_held, decode_blocks
from servesim.cluster.request import Request
from servesim.latency.api import BatchShape


class PagedMemory:
    """What `servesim.cluster.replica.Replica` counts of its memory; the attributes are explained there."""

    __slots__ = ("kv_blocks_used_max",)

    batch: BatchShape
    block_tokens: int
    by_residue: list[int]
    context_tokens: int
    decode_step: int
    decoding: list[tuple[int, int, Request]]
    kv_blocks_used_max: int
    prefill_blocks: int
    prefilling: list[Request]

    def blocks_used(self) -> int:
        """Return the blocks taken at the last booked boundary."""
        return self.prefill_blocks + blocks_held(self.by_residue, self.context_tokens, self.decode_step)

    def note_peak(self) -> None:
        """Keep the most blocks taken at once; called before any are given back."""
        block_tokens = self.block_tokens
        bound = (
            self.context_tokens + len(self.decoding) * (block_tokens - 1)
        ) // block_tokens + self.prefill_blocks
        if bound > self.kv_blocks_used_max:
            self.kv_blocks_used_max = max(self.kv_blocks_used_max, self.blocks_used())

    def decode_blocks_needed(self, steps: int) -> int:
        """Return how many blocks *steps* more decode steps take."""
        return decode_blocks(self.by_residue, len(self.decoding), self.decode_step, steps)

    def blocks_after(self, steps: int) -> int:
        """Return the blocks taken when *steps* more steps of the segment are booked."""
        return self.blocks_used() + (self.blocks_needed(steps) if steps else 0)

    def blocks_needed(self, steps: int) -> int:
        """Return how many blocks *steps* more steps of the segment take."""
        blocks = 0
        if self.batch.sequences:
            blocks = self.decode_blocks_needed(steps)
        for request, (chunk, _) in zip(self.prefilling, self.batch.chunks, strict=True):
            before = request.computed_tokens
            blocks += -(-(before + chunk * steps) // self.block_tokens) + (-before // self.block_tokens)
        return blocks
