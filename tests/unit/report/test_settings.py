"""What runs were told differently."""

from __future__ import annotations

import pytest

from servesim.report.html import safe
from servesim.report.settings import ROWS_MAX, differing_settings


def scenario(**pool):
    """Return a scenario of one pool, as plain data."""
    return {"seed": 0, "cluster": {"pools": [{"name": "main", "replicas": 4, **pool}]}, "policies": {}}


def test_only_what_differs_by_the_names_of_pools():
    """A row for the key, a cell per run; a key that a run does not have is a dash."""
    (shown,) = differing_settings({"a": scenario(), "<b>": scenario(replicas=2, gpu="h100-sxm")})
    text = safe(shown)
    assert '<th scope="row">cluster.pools.main.replicas</th><td>4</td><td>2</td>' in text
    assert '<th scope="row">cluster.pools.main.gpu</th><td>\N{EN DASH}</td><td>h100-sxm</td>' in text
    assert "seed" not in text
    assert "&lt;b&gt;" in text


def test_nothing_differs():
    """A single run, and runs alike, have no table."""
    assert differing_settings({"a": scenario()}) == []
    assert differing_settings({"a": scenario(), "b": scenario()}) == []


@pytest.mark.parametrize(("keys", "folded"), [(ROWS_MAX, False), (ROWS_MAX + 1, True)])
def test_many_are_folded(keys, folded):
    """Scenarios of different kinds differ in everything: the table waits to be asked for."""
    other = scenario(**{f"key{number}": number for number in range(keys)})
    (shown,) = differing_settings({"a": scenario(), "b": other})
    assert safe(shown).startswith("<details>") is folded
