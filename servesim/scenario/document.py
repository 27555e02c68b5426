"""A scenario file as plain data, with the line and column of every key and value.

YAML 1.2 is read node by node, so that nothing but mappings, lists and plain values can come out of it: other
tags, repeated keys and aliases that blow up are refused. What the data mean is checked in
`servesim.scenario.load`.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node, ScalarNode, SequenceNode

from servesim.errors import ScenarioError
from servesim.scenario.problems import Path as KeyPath

MOST_NODES = 100_000
"""Values that a file may have after its aliases are expanded; real scenarios have hundreds."""

_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a file, or an override of the command line (line 0)."""

    label: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.label}:{self.line}:{self.column}" if self.line else self.label


@dataclass(slots=True)
class Document:
    """Data with their places.

    Attributes
    ----------
    data
        Mappings, lists and plain values.
    label
        Name of the file, as messages quote it.
    keys, values
        Where the key and the value at a path stand.
    """

    label: str
    data: Any = None
    keys: dict[KeyPath, Mark] = field(default_factory=dict)
    values: dict[KeyPath, Mark] = field(default_factory=dict)

    def mark(self, path: KeyPath, *, at_key: bool = False) -> Mark:
        """Return the place of *path*, or of the nearest thing above it that has one."""
        for length in range(len(path), -1, -1):
            # What is missing is missed in the mapping above it, which its key stands for.
            places = self.values if length == len(path) and not at_key else self.keys
            mark = places.get(path[:length]) or self.values.get(path[:length])
            if mark is not None:
                return mark
        return Mark(self.label, 1, 1)


def read_document(path: Path, *, what: str = "a scenario file") -> Document:
    """Return the content of the file at *path*.

    Raises
    ------
    ScenarioError
        If it cannot be read, or is not YAML of plain data.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ScenarioError(f"{path}: no such file. expected {what}.") from None
    except IsADirectoryError:
        raise ScenarioError(f"{path}: a directory. expected {what}.") from None
    except UnicodeDecodeError as error:
        message = f"{path}: not a text in UTF-8 ({error.reason}). expected {what}."
        raise ScenarioError(message) from error
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}). expected {what}."
        raise ScenarioError(message) from error
    return parse_document(text, str(path))


def parse_document(text: str, label: str) -> Document:
    """Return the data of a YAML *text*; *label* names it in messages.

    Raises
    ------
    ScenarioError
        If it is not YAML of plain data; all repeated keys and refused tags are named at once.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        node = yaml.compose(text)
    except MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        mark = Mark(label, at.line + 1, at.column + 1) if at is not None else Mark(label)
        problem = " ".join(filter(None, (error.context, error.problem)))
        raise ScenarioError(f"{mark}: not valid YAML: {problem}.") from error
    except YAMLError as error:
        raise ScenarioError(f"{label}: not valid YAML: {str(error).splitlines()[0]}.") from error
    except RecursionError:
        raise _too_deep(label) from None
    document = Document(label)
    reading = _Reading(document, yaml)
    try:
        document.data = None if node is None else reading.value(node, ())
    except RecursionError:
        raise _too_deep(label) from None
    if reading.problems:
        raise ScenarioError("\n".join(reading.problems))
    return document


def document_text(data: dict[str, Any]) -> str:
    """Return plain *data* as YAML text that `parse_document` reads as equal data.

    Raises
    ------
    YAMLError
        If something in it has no form in YAML.
    """
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 1000  # long paths stay on one line
    yaml.allow_unicode = False  # written plainly, U+0085 and its like would be read as line breaks
    text = io.StringIO()
    yaml.dump(data, text)
    return text.getvalue()


def _too_deep(label: str) -> ScenarioError:
    return ScenarioError(f"{label}: nested too deeply. expected a scenario, which has about six levels.")


class _Reading:
    """One pass over the nodes of a file."""

    def __init__(self, document: Document, yaml: YAML) -> None:
        self.problems: list[str] = []
        self._document = document
        self._constructor = yaml.constructor
        self._nodes = 0
        self._open: set[int] = set()

    def value(self, node: Node, path: KeyPath) -> Any:
        """Return the data of *node* and note where it stands."""
        mark = self._mark(node)
        self._document.values[path] = mark
        self._nodes += 1
        if self._nodes > MOST_NODES or id(node) in self._open:
            raise ScenarioError(f"{mark}: aliases expand without end. expected at most {MOST_NODES} values.")
        if isinstance(node, ScalarNode):
            return self._scalar(node, mark)
        self._open.add(id(node))
        kind = "seq" if isinstance(node, SequenceNode) else "map"
        if node.tag != f"{_TAG}{kind}":
            self.problems.append(f"{mark}: a tag that is not plain data (got {node.tag!r}). expected no tag.")
        data: Any
        if isinstance(node, SequenceNode):
            data = [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        else:
            data = self._mapping(node, path)
        self._open.discard(id(node))
        return data

    def _mapping(self, node: Node, path: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            mark = self._mark(key_node)
            if not isinstance(key_node, ScalarNode):
                self.problems.append(f"{mark}: a key that is not a text. expected a plain key.")
                continue
            key = str(key_node.value)
            below = (*path, key)
            if key in data:
                name = ".".join(map(str, below))
                first = self._document.keys[below]
                self.problems.append(
                    f"{mark}: {name}: repeated key, as in line {first.line}. expected it once."
                )
                continue
            self._document.keys[below] = mark
            data[key] = self.value(value_node, below)
        return data

    def _scalar(self, node: ScalarNode, mark: Mark) -> Any:
        kind = node.tag.removeprefix(_TAG) if isinstance(node.tag, str) else str(node.tag).removeprefix(_TAG)
        if kind in ("str", "timestamp"):
            return str(node.value)
        try:
            if kind in ("null", "bool", "int", "float"):
                return self._constructor.construct_object(node)
        except ValueError:
            pass
        self.problems.append(f"{mark}: a tag that is not plain data (got {node.tag!r}). expected no tag.")
        return None

    def _mark(self, node: Node) -> Mark:
        return Mark(self._document.label, node.start_mark.line + 1, node.start_mark.column + 1)
