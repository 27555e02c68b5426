"""What a result says of the files and the plugins' code that its run rests on: enough to tell later whether they
are still the same.

The rest of the provenance is put together where the run is (`servesim.simulation`).
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from servesim.scenario import Scenario
from servesim.scenario.files import calibration_files, input_files, model_files
from servesim.scenario.slots import plugin_classes

HASHED_BYTES_MAX = 1 << 30
"""Larger files are told by their size alone: reading them twice would take longer than many runs."""


_Place = tuple[str | int, ...]


def scenario_facts(scenario: Scenario) -> list[dict[str, Any]]:
    """Return what numbers of *scenario* rest on besides its hash and servesim: its files, its plugins' code.

    As `input_facts` and `code_facts` tell it.
    """
    files = [*input_files(scenario), *model_files(scenario), *calibration_files(scenario)]
    return [*input_facts(files), *code_facts(plugin_classes(scenario))]


def input_facts(files: Iterable[tuple[tuple[str | int, ...], Path]]) -> list[dict[str, Any]]:
    """Return name, size and SHA-256 of every input file, in the given order.

    Parameters
    ----------
    files
        Place in the scenario, such as ``("workload", "source", "path")``, and path of each file.

    Returns
    -------
    list of dict
        ``key`` (the place, joined by dots), ``name`` (without its folder, so that a copy elsewhere gives the
        same facts), ``size_bytes`` and ``sha256`` in hexadecimal digits. The digest is null above
        `HASHED_BYTES_MAX`; both are null for what is no readable file: whether the run can do with that is
        for its reader to say.
    """
    return [
        {"key": ".".join(map(str, place)), "name": path.name, **_content_facts(path)} for place, path in files
    ]


def code_facts(classes: Iterable[tuple[_Place, type[Any]]]) -> list[dict[str, Any]]:
    """Return name, size and SHA-256 of the code of every class that is not servesim's, in the given order.

    The code of a class is the module or, where that is part of a package, the package that defines it, and so for the
    classes that it derives from. What these import from elsewhere does not count. Classes of a notebook or a
    script, whose text may be anything by now, are left out.

    Parameters
    ----------
    classes
        Place in the scenario, such as ``("policies", "router")``, and the class.

    Returns
    -------
    list of dict
        ``key``, ``name`` (``router.py``, or that of the package), ``size_bytes`` and ``sha256``; of a package, the
        latter two are of all its Python files together. They are as of when they were first asked for in this
        process: modules are loaded once.
    """
    return [
        {"key": ".".join(map(str, place)), **fact}
        for place, cls in classes
        for fact in _facts_of_code(cls)  # type: ignore[arg-type]  # mypy takes no class for hashable
    ]


@cache
def _facts_of_code(cls: type) -> tuple[dict[str, Any], ...]:
    known = {"servesim", "__main__", *sys.stdlib_module_names}
    modules = [owner.__module__ for owner in cls.__mro__ if owner.__module__.partition(".")[0] not in known]
    files = dict.fromkeys(Path(file) for module in modules if (file := _code_file(module)))
    return tuple({"name": _code_name(file), **_code_facts(file)} for file in files)


def _code_file(module: str) -> str | None:
    """Return the file of the package that *module* is part of, if that has one, or of *module* itself."""
    names = (module.partition(".")[0], module)
    files = (getattr(sys.modules.get(name), "__file__", None) for name in names)
    return next((file for file in files if file), None)


def _code_name(file: Path) -> str:
    return file.parent.name if file.name == "__init__.py" else file.name


def _code_facts(file: Path) -> dict[str, Any]:
    """Return size and digest of a module, or of all Python files of the package that *file* begins."""
    if file.name != "__init__.py":
        return _content_facts(file)
    digest, size = hashlib.sha256(), 0
    for path in sorted(file.parent.rglob("*.py")):
        content = path.read_bytes()
        size += len(content)
        digest.update(f"{path.relative_to(file.parent).as_posix()}\0{len(content)}\0".encode() + content)
    return {"size_bytes": size, "sha256": digest.hexdigest()}


def _content_facts(path: Path) -> dict[str, Any]:
    try:
        if path.is_file():  # a pipe can be read only once, and the run has to
            size = path.stat().st_size
            return {"size_bytes": size, "sha256": _sha256(path) if size <= HASHED_BYTES_MAX else None}
    except OSError:
        pass
    return {"size_bytes": None, "sha256": None}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
