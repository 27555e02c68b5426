"""The closed forms against the loops that they replace."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from servesim.cluster.leap import boundary_s, decode_blocks, steps_until

STEP_S = st.floats(1e-4, 10.0)
GROWTH_S = st.one_of(st.just(0.0), st.floats(1e-9, 0.1))


@given(st.floats(0.0, 1e6), STEP_S, GROWTH_S, st.integers(0, 5_000))
def test_boundary_is_the_sum_of_the_steps(start_s, step_s, growth_s, steps):
    """T(m) = m*s0 + g*m*(m-1)/2 is the exact sum of s0 + k*g over m steps."""
    exact = Fraction(start_s) + sum(
        (Fraction(step_s) + k * Fraction(growth_s) for k in range(steps)), Fraction(0)
    )
    assert abs(Fraction(boundary_s(start_s, step_s, growth_s, steps)) - exact) <= Fraction(
        1e-14
    ) * exact + Fraction(1e-12)


@given(st.sampled_from([0.25, 0.5, 3.0]), st.sampled_from([0.0, 0.125, 2.0]), st.integers(0, 500))
def test_boundary_is_exact_for_dyadic_steps(step_s, growth_s, steps):
    """With steps that are sums of powers of two there is no rounding at all."""
    now = 0.0
    for k in range(steps):
        now += step_s + k * growth_s
    assert boundary_s(0.0, step_s, growth_s, steps) == now


@given(st.floats(0.0, 1e5), STEP_S, GROWTH_S, st.floats(0.0, 1e4))
def test_steps_until_is_the_smallest(start_s, step_s, growth_s, wait_s):
    """The cut is the first boundary at or after the time asked for, whatever the rounding."""
    time_s = start_s + wait_s
    k = steps_until(time_s, start_s, step_s, growth_s)
    assert k >= 1
    assert boundary_s(start_s, step_s, growth_s, k) >= time_s
    assert k == 1 or boundary_s(start_s, step_s, growth_s, k - 1) < time_s


@given(st.floats(0.0, 1e5), STEP_S, GROWTH_S, st.integers(1, 3_000))
def test_steps_until_hits_its_own_boundaries(start_s, step_s, growth_s, steps):
    """An arrival at exactly a boundary cuts there, not one step later."""
    time_s = boundary_s(start_s, step_s, growth_s, steps)
    k = steps_until(time_s, start_s, step_s, growth_s)
    assert boundary_s(start_s, step_s, growth_s, k) == time_s


@given(
    st.integers(1, 20),
    st.lists(st.integers(0, 200), max_size=12),
    st.integers(0, 100),
    st.integers(1, 100),
)
def test_decode_blocks_counts_every_block(block_tokens, contexts, decode_step, steps):
    """The blocks of m decode steps are those of m tokens more per sequence, counted one by one."""
    by_residue = [0] * block_tokens
    for context in contexts:
        by_residue[(decode_step - context) % block_tokens] += 1
    naive = sum(-(-(c + steps) // block_tokens) - -(-c // block_tokens) for c in contexts)
    assert decode_blocks(by_residue, len(contexts), decode_step, steps) == naive
