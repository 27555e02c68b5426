"""`make_views` and `make_request`: what they show is what a cluster shows."""

from __future__ import annotations

from array import array

import pytest

from servesim.cluster.request import Request
from servesim.cluster.views import LiveReplicaView, ReplicaGroup
from servesim.policies.api import RequestView, reveal_output_tokens
from servesim.policies.routers import LeastRequests, LeastTokens
from servesim.testing import make_request, make_views
from servesim.testing.synthetic import SyntheticReplica


def properties(cls):
    """Return the names of the properties of a class."""
    return {name for name, value in vars(cls).items() if isinstance(value, property)}


def test_synthetic_replicas_show_what_live_ones_show():
    """The same properties and no more: what a router reads here it can read in a run."""
    assert properties(SyntheticReplica) == properties(LiveReplicaView)
    views = make_views(kv_blocks=[1])
    for name in ("requests", "__len__", "__getitem__", "__iter__"):
        assert hasattr(views, name)
        assert hasattr(ReplicaGroup([], array("q")), name)


def test_synthetic_requests_are_request_views():
    """Every property of the view answers, with the values of a kernel's request."""
    values = {
        "arrival_s": 1.5,
        "prompt_tokens": 7,
        "output_tokens": 9,
        "priority": -1,
        "tenant": "t",
        "session": "s",
    }
    synthetic = make_request(4, model="m", **values)
    real = RequestView(Request(4, 1.5, 7, 9, "m", "t", -1, "s"))
    for name in properties(RequestView):
        assert getattr(synthetic, name) == getattr(real, name)
    assert reveal_output_tokens(synthetic) == reveal_output_tokens(real) == 9
    with pytest.raises(AttributeError):
        synthetic.output_tokens  # noqa: B018


def test_views_decide_routers():
    """Numbers per replica, the rest 0; the fast column is waiting plus running."""
    views = make_views(waiting_requests=[0, 3, 1], running_requests=[4, 0, 2], waiting_tokens=[0, 10, 20])
    assert list(views.requests) == [4, 3, 3]
    assert [view.index for view in views] == [0, 1, 2]
    assert [view.waiting_tokens for view in views] == [0, 10, 20]
    assert views[2].kv_blocks_used == 0
    assert LeastRequests().route(make_request(), views) == 1
    assert LeastTokens().route(make_request(), views) == 0


@pytest.mark.parametrize("columns", [{}, {"kv_blocks": []}, {"kv_blocks": [1], "waiting_requests": [1, 2]}])
def test_views_need_one_length(columns):
    """Nothing, no replica, or columns of different lengths."""
    with pytest.raises(ValueError, match="expected one length"):
        make_views(**columns)
