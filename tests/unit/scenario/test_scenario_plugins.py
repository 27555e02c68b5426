"""What is told of plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from servesim.registry import Registry
from servesim.scenario.plugins import distributions, plugin_info, type_text
from servesim.scenario.slots import REGISTRIES
from servesim.workload.registries import GENERATORS


class Sample:
    """Do something
    with care.

    Parameters
    ----------
    first, second
        Two numbers.
    path : Path
        A file.

        More about it.

    Raises
    ------
    ValueError
        Never.
    """

    def __init__(
        self, *, first: int, second: float = 0.5, path: Path | None = None, mode: Literal["a", "b"] = "a"
    ) -> None:
        self.first, self.second, self.path, self.mode = first, second, path, mode


def test_a_plugin_tells_its_parameters():
    """Summary, types, defaults and descriptions come from the class itself."""
    info = plugin_info(Registry("sample", "none", {"s": f"{__name__}:Sample"}), "s")
    assert info.summary == "Do something with care."
    told = [(p.name, p.type, p.required, p.default, p.description) for p in info.parameters]
    assert told == [
        ("first", "int", True, None, "Two numbers."),
        ("second", "float", False, 0.5, "Two numbers."),
        ("path", "path or null", False, None, "A file. More about it."),
        ("mode", "a or b", False, "a", ""),
    ]


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_every_builtin_plugin_describes_itself(registry):
    """Each has a summary, and each of its parameters a description."""
    for name in registry.builtin:
        info = plugin_info(registry, name)
        assert info.summary, name
        assert all(parameter.description for parameter in info.parameters), name


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int | None, "int or null"),
        (list[float], "list of float"),
        (dict[str, str], "mapping to str"),
        (Annotated[bool, Field()], "bool"),
        (Any, "any"),
        (int | list[int], "int or list of int"),
    ],
)
def test_types_are_told_in_words(annotation, text):
    """Readers of a scenario need not know Python."""
    assert type_text(annotation) == text


def test_distributions_are_told_like_plugins():
    """Each with its keys, the required ones first; a key that holds another distribution says so."""
    infos = distributions()
    told = {info.name: info for info in infos if info.kind == "length distribution"}
    times = [info.name for info in infos if info.kind == "time distribution"]
    assert times == ["constant", "exponential", "lognormal"]
    assert list(told) == [
        "constant", "lognormal", "exponential", "zipf", "uniform", "empirical", "mixture",
    ]  # fmt: skip
    uniform = [(p.name, p.required) for p in told["uniform"].parameters]
    assert uniform == [("low", True), ("high", True), ("min", False), ("max", False)]
    assert all(p.description for info in told.values() for p in info.parameters)
    poisson = plugin_info(GENERATORS, "poisson")
    assert [p.type for p in poisson.parameters[:2]] == ["length distribution"] * 2
