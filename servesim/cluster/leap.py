"""The closed forms of a segment: a run of identical engine steps, each ``growth_s`` longer than the one before.

Boundary k of a segment that starts at t0 is t0 + T(k) with T(k) = k*step_s + growth_s*k*(k-1)/2. Both engine modes,
the audits and `RunResult.token_times` compute boundaries with this one expression, so that they agree to the last
bit. See docs/how-it-works.md.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt


def boundary_s(start_s: float, step_s: float, growth_s: float, steps: int) -> float:
    """Return the time at which step number *steps* (from 1) of a segment ends; 0 gives its start."""
    return start_s + (steps * step_s + growth_s * (steps * (steps - 1) * 0.5))


def steps_until(time_s: float, start_s: float, step_s: float, growth_s: float) -> int:
    """Return the smallest k >= 1 whose boundary is at or after *time_s*.

    The root of the quadratic, in its form without cancellation, is a first guess; the answer is then found by
    comparing boundaries, so that it is exact whatever the rounding.
    """
    elapsed_s = time_s - start_s
    if elapsed_s <= step_s:
        k = 1
    else:
        half = step_s - 0.5 * growth_s
        k = int(2.0 * elapsed_s / (half + sqrt(half * half + 2.0 * growth_s * elapsed_s))) + 1
    # boundary_s, without the calls
    while start_s + (k * step_s + growth_s * (k * (k - 1) * 0.5)) < time_s:
        k += 1
    while k > 1 and start_s + ((k - 1) * step_s + growth_s * ((k - 1) * (k - 2) * 0.5)) >= time_s:
        k -= 1
    return k


def blocks_held(by_residue: list[int], context_tokens: int, decode_step: int) -> int:
    """Return how many KV blocks the decoding sequences hold, together.

    A sequence of c tokens holds ceil(c / s) blocks of s tokens: c and what its last block has left, over s. What is
    left is (-c) mod s = (r - decode_step) mod s, with r as in `decode_blocks`.

    Parameters
    ----------
    by_residue
        Number of sequences for each r.
    context_tokens
        Their tokens, summed.
    decode_step
        Number of the replica's next decode step.
    """
    block_tokens = len(by_residue)
    left = 0
    for residue, sequences in enumerate(by_residue):
        if sequences:
            left += sequences * ((residue - decode_step) % block_tokens)
    return (context_tokens + left) // block_tokens


def decode_blocks(by_residue: list[int], sequences: int, decode_step: int, steps: int) -> int:
    """Return how many KV blocks decoding *steps* more steps takes.

    A sequence of c tokens takes a new block of s tokens at the start of a step when c is a multiple of s. Sequences
    are counted by r = (decode_step - c) mod s, which a step leaves as it is: the sequences that take a block
    j steps from now are those with r = (decode_step + j) mod s.

    Parameters
    ----------
    by_residue
        Number of decoding sequences for each r; its length is the block size s.
    sequences
        Their sum.
    decode_step
        Number of the replica's next decode step.
    """
    block_tokens = len(by_residue)
    first = decode_step % block_tokens
    if steps == 1:
        return by_residue[first]
    last = first + steps
    if last <= block_tokens:
        return sum(by_residue[first:last])
    cycles, last = divmod(last, block_tokens)
    return cycles * sequences + sum(by_residue[:last]) - sum(by_residue[:first])


def most_steps(blocks_needed: Callable[[int], int], free_blocks: int, steps: int) -> int:
    """Return how many of the next *steps* steps, of which one does, find blocks: by bisection.

    Parameters
    ----------
    blocks_needed
        Blocks that a number of steps takes; does not fall as the number grows.
    free_blocks
        Blocks there are for them.
    """
    if blocks_needed(steps) <= free_blocks:
        return steps
    fits, fails = 1, steps
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if blocks_needed(middle) <= free_blocks:
            fits = middle
        else:
            fails = middle
    return fits
