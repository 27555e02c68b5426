"""What a router reads at an arrival, in both engine modes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness import engine, run


class Spy:
    """Route to replica 0 and remember what its view said."""

    def reset(self, context):
        self.seen = []

    def route(self, request, replicas):
        view = replicas[0]
        self.seen.append(
            (
                view.waiting_requests,
                view.running_requests,
                view.waiting_tokens,
                view.running_tokens,
                view.kv_blocks_used,
                list(replicas.requests),
            )
        )
        return 0


@pytest.mark.parametrize("leap", [True, False])
def test_views_show_the_last_boundary(leap):
    """Steps of 1 s, blocks of 4; the state at t is that of the last boundary at or before t."""
    spy = Spy()
    work = [(0.0, 4, 20), (2.5, 6, 1), (2.75, 5, 1), (4.0, 1, 1)]
    run(work, settings=replace(engine(kv_block_tokens=4), leap=leap), router=spy, replicas=2)
    assert spy.seen == [
        (0, 0, 0, 0, 0, [0, 0]),
        (0, 1, 0, 5, 2, [1, 0]),  # at 2: prompt 4 and one decoded token in the cache
        (1, 1, 6, 5, 2, [2, 0]),
        # At 4: admitted at 3, the prompts of 6 and 5 tokens are through at 4, and take their 2 blocks each;
        # the first request holds 4 + 3 tokens. They leave at this boundary, which arrivals come before.
        (0, 3, 0, 7 + 6 + 5, 2 + 2 + 2, [3, 0]),
    ]


def test_columns_are_live():
    """A column kept from an earlier call shows the present, and cannot be written."""

    class Keeper(Spy):
        def route(self, request, replicas):
            self.column = replicas.requests
            return super().route(request, replicas)

    keeper = Keeper()
    run([(0.0, 1, 1), (0.0, 1, 1)], router=keeper, replicas=3)
    assert list(keeper.column) == [0, 0, 0]
    assert (len(keeper.column), keeper.column[1:], min(keeper.column)) == (3, [0, 0], 0)
    with pytest.raises(TypeError):
        keeper.column[0] = 5
