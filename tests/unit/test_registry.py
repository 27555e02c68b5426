"""From a name and parameters in a scenario to an object."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Literal, Protocol

import pytest
from pydantic import Field, ValidationError

from servesim import registry
from servesim.errors import PluginError
from servesim.policies.api import Router
from servesim.registry import ComponentSpec, Registry, constructor, parameters_model
from servesim.testing import check_policy


class Plain:
    """Takes no parameters, and has no constructor."""


class Parametrized:
    """Takes one parameter of each kind."""

    def __init__(
        self,
        *,
        rate_per_s: Annotated[float, Field(gt=0)],
        count: int = 1,
        flag: bool = False,
        limit: float | None = None,
        sizes: tuple[int, ...] = (),
        shares: dict[str, float] | None = None,
        path: Path = Path("here"),
        mode: Literal["a", "b"] = "a",
    ) -> None:
        self.rate_per_s, self.count, self.flag, self.limit = rate_per_s, count, flag, limit
        self.sizes, self.shares, self.path, self.mode = sizes, shares, path, mode


class Hiding:
    """Does not tell what it takes."""

    def __init__(self, **parameters: int) -> None:
        self.parameters = parameters


REGISTRY = Registry(
    "sample",
    "servesim.none",
    {
        "plain": f"{__name__}:Plain",
        "parametrized": f"{__name__}:Parametrized",
        "absent": f"{__name__}:Absent",
        "nowhere": "a_module_that_is_not_there:Class",
    },
)


def build(**parameters):
    """Return a `Parametrized` with these parameters and a rate."""
    return REGISTRY.build("parametrized", {"rate_per_s": 1.0, **parameters})


def wrong(**parameters):
    """Return where and as what these parameters of `Parametrized` are refused."""
    with pytest.raises(ValidationError) as caught:
        build(**parameters)
    return [(".".join(map(str, error["loc"])), error["type"]) for error in caught.value.errors()]


def test_defaults_and_conversions():
    """What is left out has its default; YAML's lists and texts become tuples and paths."""
    built = build(sizes=[1, 2], path="there", shares={"x": 1}, limit=3)
    assert (built.rate_per_s, built.count, built.flag, built.mode) == (1.0, 1, False, "a")
    assert (built.sizes, built.path, built.shares) == ((1, 2), Path("there"), {"x": 1.0})
    assert type(built.limit) is float


@pytest.mark.parametrize("value", ["40", "1e3", True, None, [1.0]])
def test_only_a_number_is_a_number(value):
    """A quoted number, a truth value and a missing one are refused; an integer is a float."""
    assert [where for where, _ in wrong(rate_per_s=value)] == ["rate_per_s"]
    assert build(rate_per_s=40).rate_per_s == 40.0


@pytest.mark.parametrize("value", ["4", True, 4.0, 4.5])
def test_only_a_whole_number_is_a_whole_number(value):
    """4.0 is none either, as everywhere in a scenario."""
    assert [where for where, _ in wrong(count=value)] == ["count"]


@pytest.mark.parametrize("value", ["yes", "true", 1, 0])
def test_only_true_and_false_are_truth_values(value):
    """YAML 1.1's yes and no are texts."""
    assert wrong(flag=value) == [("flag", "bool_type")]


def test_numbers_inside_other_types_are_strict_too():
    """In optional values, lists and mappings; what stands around the type (a limit) still holds."""
    assert wrong(limit="1") == [("limit", "float_type")]
    assert wrong(sizes=[1, "2"]) == [("sizes.1", "int_type")]
    assert wrong(shares={"x": True}) == [("shares.x", "float_type")]
    assert wrong(rate_per_s=0) == [("rate_per_s", "greater_than")]


def test_unknown_and_missing_parameters_are_refused():
    """Every parameter that is given must exist, and every one without a default be given."""
    assert wrong(rate=2.0) == [("rate", "extra_forbidden")]
    with pytest.raises(ValidationError) as caught:
        REGISTRY.build("parametrized", {})
    assert caught.value.errors()[0]["type"] == "missing"
    with pytest.raises(ValidationError, match="extra_forbidden"):
        REGISTRY.build("plain", {"count": 1})


def test_keywords_must_be_told():
    """A constructor of ``**parameters`` could not be checked."""
    with pytest.raises(PluginError, match=r"Hiding: parameter \*\*parameters: 'int' hides"):
        parameters_model(Hiding)


class Named(Router):
    """Names the protocol as its base, and has no constructor."""

    def reset(self, context):
        """Keep no state."""

    def route(self, request, replicas):
        """Return the first replica."""
        return 0


class Mixin:
    """A constructor that comes from beside the protocol."""

    def __init__(self, *, first: int = 0) -> None:
        self.first = first


class NamedWithMixin(Router, Mixin):
    """Its constructor is the mixin's, though the protocol comes first."""

    def reset(self, context):
        """Keep no state."""

    def route(self, request, replicas):
        """Return the one that it was built with."""
        return self.first


@pytest.mark.parametrize("instances", [0, 1])
def test_a_class_may_name_its_protocol(instances):
    """The placeholder that Python gives to subclasses of a protocol declares nothing, before or after use."""

    class Fresh(Router):
        def reset(self, context): ...

        def route(self, request, replicas):
            return 0

    for _ in range(instances):
        Fresh()
    assert constructor(Fresh) is None
    assert list(parameters_model(Fresh).model_fields) == []
    assert constructor(NamedWithMixin) is Mixin.__init__
    assert list(parameters_model(NamedWithMixin).model_fields) == ["first"]


def test_classes_that_name_their_protocol_keep_the_contract():
    """`check_policy` builds them as it builds the others."""
    check_policy(Named())
    check_policy(NamedWithMixin(first=0))


def test_a_protocol_of_ones_own_counts_as_little():
    """The rule is about protocols, not about servesim's."""

    class Mine(Protocol):
        def act(self) -> int: ...

    class Actor(Mine):
        def __init__(self, *, power: int = 1) -> None:
            self.power = power

        def act(self) -> int:
            return self.power

    assert list(parameters_model(Actor).model_fields) == ["power"]


def test_unknown_names_list_the_known_ones():
    """The nearest is the hint, and what is forgotten most easily."""
    with pytest.raises(
        PluginError, match=r"unknown sample \(got 'plane'\)\. expected one of plain, "
    ) as caught:
        REGISTRY.resolve("plane")
    forgotten = "plugins of a folder need --plugins DIR before the command"
    assert caught.value.hint == f"did you mean 'plain'? {forgotten}"
    with pytest.raises(PluginError) as caught:
        REGISTRY.resolve("entirely_other")
    assert caught.value.hint == forgotten


@pytest.mark.parametrize(
    ("name", "reason"), [("absent", "AttributeError: "), ("nowhere", "ModuleNotFoundError: No module named")]
)
def test_what_does_not_import_says_why(name, reason):
    """The message holds the error of the import, and the error itself is its cause."""
    with pytest.raises(PluginError, match=rf"sample '{name}' \(.*\) failed to import: {reason}") as caught:
        REGISTRY.resolve(name)
    assert caught.value.__cause__ is not None


def test_a_name_has_one_provider(monkeypatch):
    """Two distributions that declare it, or one that declares a built-in's name, would leave it to chance."""
    targets = [("new", "pathlib:Path"), ("new", "pathlib:PurePath"), ("plain", "pathlib:Path")]
    points = [EntryPoint(name=name, value=value, group="servesim.none") for name, value in targets]
    monkeypatch.setattr(registry, "_installed", lambda: tuple(points))
    assert REGISTRY.names() == ["plain", "parametrized", "absent", "nowhere", "new"]
    for name in ("new", "plain"):
        with pytest.raises(PluginError, match=f"sample '{name}' has 2 providers: .*pathlib:Path"):
            REGISTRY.resolve(name)


def test_a_target_that_is_declared_twice_counts_once(monkeypatch):
    """Metadata that lie on the path twice make no conflict: there is nothing to choose between."""
    point = EntryPoint(name="new", value="pathlib:Path", group="servesim.none")
    monkeypatch.setattr(registry, "_installed", lambda: (point, point))
    assert REGISTRY.resolve("new") is Path


def test_what_is_no_class_is_refused():
    """A function could not be asked for its parameters."""
    functions = Registry("sample", "servesim.none", {"dumps": "json:dumps"})
    for ask in (functions.resolve, functions.parameters):
        with pytest.raises(
            PluginError,
            match=r"sample 'dumps' \(json:dumps\) is not a class \(got a function\)\. expected one",
        ):
            ask("dumps")


class Untyped:
    """Its type hint names nothing."""

    def __init__(self, *, count: Nothing = 1) -> None:  # noqa: F821  # that is the point
        self.count = count


def test_type_hints_that_lead_nowhere_are_named():
    """The plugin and the name that is missing are told."""
    broken = Registry("sample", "servesim.none", {"untyped": f"{__name__}:Untyped"})
    with pytest.raises(
        PluginError,
        match=r"sample 'untyped': the constructor of Untyped cannot be read: NameError: .*'Nothing'",
    ):
        broken.parameters("untyped")


def test_a_spec_tells_its_parameters():
    """All that stands beside the name."""
    assert ComponentSpec(name="x").parameters == {}
    assert ComponentSpec.model_validate({"name": "x", "a": 1, "b": [2]}).parameters == {"a": 1, "b": [2]}
