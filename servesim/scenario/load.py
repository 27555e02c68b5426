"""From a YAML file to a checked `Scenario`, with every mistake named at its line and column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from servesim.errors import ScenarioError
from servesim.scenario.document import Document, Mark, read_document
from servesim.scenario.files import missing_files
from servesim.scenario.overrides import apply_overrides
from servesim.scenario.problems import Problem, problems_of, shown
from servesim.scenario.schema import Scenario

Model = TypeVar("Model", bound=BaseModel)


def load_scenario(
    path: str | Path,
    *,
    overrides: Sequence[str] = (),
    varied: Sequence[str] = (),
    with_files: bool = False,
) -> Scenario:
    """Return the scenario in the YAML file at *path*.

    Parameters
    ----------
    path
        The file. Relative paths in it, and in *overrides*, start from its folder.
    overrides
        Changes such as ``"cluster.pools.main.replicas=8"``: keys separated by dots, items of a list by
        position or by their ``name``, the value as YAML.
    varied
        Further changes, applied after *overrides*: the values that an experiment gives to its axes. Messages
        call them so.
    with_files
        Whether the traces that it names must be there, too. A scenario can be looked at without them.

    Raises
    ------
    ScenarioError
        If the file cannot be read or anything in it is wrong; all mistakes are named at once, each as
        ``file:line:column: key: what is wrong (got X). expected Y.``
    """
    path = Path(path)
    document = read_document(path)
    apply_overrides(document, overrides)
    apply_overrides(document, varied, option="--vary")
    scenario = check_document(document, base_dir=path.absolute().parent)
    if with_files and (missing := missing_files(scenario)):
        raise _error(missing, document)
    return scenario


def check_document(document: Document, *, base_dir: Path) -> Scenario:
    """Return the scenario that *document* describes; errors as in `load_scenario`."""
    return checked(document, Scenario, what="a scenario", base_dir=base_dir)


def checked(document: Document, model: type[Model], *, what: str, base_dir: Path) -> Model:
    """Return what *document* describes: a *model*, which messages call *what*.

    Raises
    ------
    ScenarioError
        If anything is wrong; all mistakes are named at once, each at its line.
    """
    if not isinstance(document.data, dict):
        raise ScenarioError(
            f"{document.mark(())}: not {what} (got {shown(document.data)}). "
            f"expected a mapping with the keys {', '.join(model.model_fields)}."
        )
    try:
        return model.model_validate(document.data, context={"base_dir": base_dir})
    except ValidationError as error:
        problems = problems_of(error, model, document.data)
    raise _error(problems, document)


def _error(problems: Sequence[Problem], document: Document) -> ScenarioError:
    """Return the error that names every problem at its place, in the order of the file."""
    marked = [(document.mark(problem.path, at_key=problem.at_key), problem) for problem in problems]
    marked.sort(key=lambda pair: pair[0])
    lines = []
    told: set[Mark] = set()
    for mark, problem in marked:
        lines.append(f"{_again(mark) if mark in told else mark}: {problem}")
        told.add(mark)
    return ScenarioError("\n".join(lines))


def _again(mark: Mark) -> str:
    """Return *mark* once more: an override may be long, and its key tells which it is."""
    key, separator, _ = mark.label.partition("=")
    return str(mark) if mark.line or not separator else f"{key}=..."
