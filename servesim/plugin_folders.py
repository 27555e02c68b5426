"""Plugins of folders that are not installed, named on the command line or in the environment.

A folder declares its plugins in ``pyproject.toml`` as an installed distribution does, so that one declaration serves
before and after ``pip install``. A scenario cannot name a folder: a file that somebody sent must not be able to run
code. The environment variable `VARIABLE` is where the folders are kept, because worker processes inherit it.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from servesim.errors import ServesimError, nearest

VARIABLE = "SERVESIM_PLUGINS"
"""Environment variable that lists the folders, separated as in PATH."""

GROUPS = (
    "servesim.trace_readers",
    "servesim.workload_generators",
    "servesim.latency_models",
    "servesim.routers",
    "servesim.schedulers",
    "servesim.length_predictors",
)
"""Entry-point groups that servesim reads."""

_EXPECTED = 'expected a table such as [project.entry-points."servesim.routers"]'


@dataclass(frozen=True, slots=True)
class FolderPlugin:
    """An entry point that a folder declares.

    Attributes
    ----------
    group, name, target
        As in the metadata of an installed distribution; *target* is ``"module:Class"``.
    folder
        Where its module lies: what stands on ``sys.path`` for it.
    """

    group: str
    name: str
    target: str
    folder: Path


def plugin_folders() -> tuple[Path, ...]:
    """Return the folders that `VARIABLE` names, absolute, each once."""
    told = os.environ.get(VARIABLE, "").split(os.pathsep)
    return tuple(dict.fromkeys(Path(folder).expanduser().resolve() for folder in told if folder))


def folder_plugins() -> tuple[FolderPlugin, ...]:
    """Return what the folders declare; its modules can be imported from now on, ahead of all others.

    Raises
    ------
    ServesimError
        If a folder is not there, or its ``pyproject.toml`` is missing, invalid, or declares no plugins.
    """
    found = [plugin for folder in plugin_folders() for plugin in _declared(folder)]
    for folder in reversed(list(dict.fromkeys(str(plugin.folder) for plugin in found))):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    return tuple(found)


@contextmanager
def with_plugin_folders(folders: Sequence[Path]) -> Iterator[None]:
    """Put *folders* before those that `VARIABLE` names already, until the block ends.

    Raises
    ------
    ServesimError
        As `folder_plugins`, at the start; or if a path has the character that separates paths.
    """
    before = os.environ.get(VARIABLE)
    paths = [str(folder.absolute()) for folder in folders]
    for path in paths:
        if os.pathsep in path:
            raise ServesimError(f"--plugins: {path}: the path has a {os.pathsep!r}. expected one without")
    os.environ[VARIABLE] = os.pathsep.join([*paths, *([before] if before else [])])
    try:
        folder_plugins()
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


@cache
def _declared(folder: Path) -> tuple[FolderPlugin, ...]:
    file = folder / "pyproject.toml"
    groups = _mapping(_mapping(_read(folder, file).get("project")).get("entry-points"))
    declared = {group: _mapping(points) for group, points in groups.items() if group.startswith("servesim.")}
    for group in declared:
        if group not in GROUPS:
            raise ServesimError(
                f"{file}: unknown kind of plugin (got {group!r}). expected one of {', '.join(GROUPS)}",
                hint=nearest(group, GROUPS),
            )
    plugins = tuple(
        FolderPlugin(group, name, target, _place(folder, target))
        for group, points in declared.items()
        for name, target in points.items()
        if _is_target(target, f"{file}: {group}: {name}")
    )
    if not plugins:
        raise ServesimError(f"{file}: no plugins in it. {_EXPECTED}")
    return plugins


def _read(folder: Path, file: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ServesimError(
            f"{folder}: no such folder. expected one with plugins and a pyproject.toml",
            hint=f"--plugins names one folder, {VARIABLE} several, separated by {os.pathsep!r}",
        )
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ServesimError(
            f"{folder}: no pyproject.toml in it. {_EXPECTED} there", hint="servesim init DIR makes one"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ServesimError(f"{file}: not TOML ({error}). {_EXPECTED}") from error
    except OSError as error:
        raise ServesimError(f"{file}: cannot be read ({error.strerror}). {_EXPECTED}") from error


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_target(target: Any, where: str) -> bool:
    """Return True for ``"module:Class"``.

    Raises
    ------
    ServesimError
        If it is something else.
    """
    module, _, attribute = target.partition(":") if isinstance(target, str) else ("", "", "")
    if not all(name.isidentifier() for name in [*module.split("."), *attribute.split(".")]):
        raise ServesimError(f'{where}: not a class of a module (got {target!r}). expected "module:Class"')
    return True


def _place(folder: Path, target: str) -> Path:
    """Return ``src`` below *folder* if the module is there, else *folder*."""
    top = target.partition(":")[0].partition(".")[0]
    source = folder / "src"
    return source if (source / top).is_dir() or (source / f"{top}.py").is_file() else folder
