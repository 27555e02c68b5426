"""Reading YAML: plain data only, with the place of everything."""

from __future__ import annotations

import pytest

from servesim.errors import ScenarioError
from servesim.scenario.document import parse_document


def test_values_are_those_of_yaml_1_2():
    """Yes is a text, 010 is ten, 1e6 is a number, and dates stay texts."""
    text = "{a: yes, b: 010, c: 1e6, d: 2024-01-01, e: ~, f: '1', g: true, h: -.5, i: 0x10}"
    data = parse_document(text, "f").data
    assert data == {
        "a": "yes", "b": 10, "c": 1e6, "d": "2024-01-01", "e": None, "f": "1", "g": True, "h": -0.5, "i": 16,
    }  # fmt: skip


def test_every_key_and_value_has_its_place():
    """Lines and columns count from 1, as editors do."""
    document = parse_document("a:\n  - x: 1\n    yy: 2\n", "f")
    assert str(document.mark(("a", 0, "yy"))) == "f:3:9"
    assert str(document.mark(("a", 0, "yy"), at_key=True)) == "f:3:5"
    assert str(document.mark(("a", 0, "missing"))) == "f:2:5"
    assert str(document.mark(("b",))) == "f:1:1"


def test_all_repeated_keys_are_refused():
    """The second of two equal keys would silently win; it is an error at its place."""
    with pytest.raises(ScenarioError) as caught:
        parse_document("a: 1\nb: {c: 1, c: 2}\na: 2\n", "f")
    assert str(caught.value).splitlines() == [
        "f:2:11: b.c: repeated key, as in line 2. expected it once.",
        "f:3:1: a: repeated key, as in line 1. expected it once.",
    ]


@pytest.mark.parametrize(
    "value", ["!!python/object/apply:os.system ['true']", "!!set {a}", "!x 1", "!!int abc"]
)
def test_tags_that_make_objects_are_refused(value):
    """A scenario file cannot name a class or a function."""
    with pytest.raises(ScenarioError, match=r"f:1:4: a tag that is not plain data"):
        parse_document(f"a: {value}\n", "f")


def test_aliases_work_until_they_blow_up():
    """A repeated block is fine; the file that expands to a billion values, or into itself, is not."""
    data = parse_document("a: &x {k: 1}\nb: *x\n", "f").data
    assert data == {"a": {"k": 1}, "b": {"k": 1}}
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
    with pytest.raises(ScenarioError, match="aliases expand without end"):
        parse_document(bomb, "f")
    with pytest.raises(ScenarioError, match="f:1:4: aliases expand without end"):
        parse_document("a: &a [*a]\n", "f")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [1\nb: 2\n", "f:2:"),
        ("a: b: c\n", "f:1:5"),
        ("a:\n\t- 1\n", "f:2:1"),
        ("a: 1\n---\nb: 2\n", "f:2:1"),
    ],
)
def test_what_is_not_yaml_is_named_at_its_place(text, place):
    """Broken syntax is one message with line and column."""
    with pytest.raises(ScenarioError) as caught:
        parse_document(text, "f")
    assert str(caught.value).startswith(place) and "not valid YAML: " in str(caught.value)


def test_a_key_that_is_a_list_is_refused():
    """Keys are texts."""
    with pytest.raises(ScenarioError, match="f:1:3: a key that is not a text"):
        parse_document("? [a, b]\n: 1\n", "f")


@pytest.mark.parametrize("text", ["[" * 5000, "a: " + "[" * 5000 + "]" * 5000])
def test_nesting_has_an_end(text):
    """A file of brackets is refused, closed or not, and does not exhaust the stack."""
    with pytest.raises(ScenarioError, match=r"f: nested too deeply\. expected a scenario"):
        parse_document(text, "f")
