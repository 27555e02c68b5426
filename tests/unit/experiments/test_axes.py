"""Axes and variants: how they are written, named and multiplied."""

from __future__ import annotations

import pytest

from servesim.errors import ScenarioError
from servesim.experiments.axes import Axis, grid, parse_axis, value_text


def test_values_are_yaml() -> None:
    """Numbers, words, components with parameters."""
    assert parse_axis("a.b=1,2.5,true,null").values == (1, 2.5, True, None)
    axis = parse_axis("policies.router={name: power_of_two},round_robin")
    assert axis == Axis("policies.router", ({"name": "power_of_two"}, "round_robin"))


@pytest.mark.parametrize("text", ["", "a", "a.=1", "=1", "a=", "a=1,1", "a=[", "a=x,,y"])
def test_what_is_no_axis_is_refused(text: str) -> None:
    """Each message starts with the option and what was typed."""
    with pytest.raises(ScenarioError, match=r"^--vary "):
        parse_axis(text)


def test_a_grid_is_every_combination() -> None:
    """The last axis changes fastest; names tell the values."""
    variants = grid([Axis("policies.router.name", ("a", "b")), Axis("cluster.pools.main.replicas", (1, 2))])
    assert [variant.name for variant in variants] == [
        "router=a, replicas=1",
        "router=a, replicas=2",
        "router=b, replicas=1",
        "router=b, replicas=2",
    ]
    assert variants[1].overrides == ['policies.router.name="a"', "cluster.pools.main.replicas=2"]


def test_names_are_short_where_they_can_be() -> None:
    """A single axis of words needs no label, one of numbers does; no axis is the base."""
    assert [variant.name for variant in grid([Axis("policies.router.name", ("a", "b"))])] == ["a", "b"]
    assert [variant.name for variant in grid([Axis("workload.rate_scale", (1, 2.5))])] == [
        "rate_scale=1",
        "rate_scale=2.5",
    ]
    assert [variant.name for variant in grid([])] == ["base"]
    assert value_text({"name": "x", "d": 2}) == "x(d=2)"


def test_the_same_key_twice_is_refused() -> None:
    """It would be undefined which one wins."""
    with pytest.raises(ScenarioError, match="two axes"):
        grid([Axis("a", (1,)), Axis("a", (2,))])
