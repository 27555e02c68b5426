"""``servesim init``: a small project with a scenario, a router of one's own, its check, its tests and its CI.

The files are in ``starter/`` as they are written, but for the project's name; those of Python have the suffix ``.txt``
there, because they are no modules of servesim.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path

from servesim.cli.exits import OK
from servesim.cli.output import write
from servesim.errors import ServesimError

FILES = {
    "scenario.yaml": ("scenario.yaml", "a cluster and its requests, every key explained"),
    "least_work.py": ("least_work.py.txt", "a router: change it"),
    "pyproject.toml": ("pyproject.toml", "its name for scenarios"),
    "checks/router.yaml": ("router.yaml", "what must hold for it"),
    "test_router.py": ("test_router.py.txt", "tests: its contract, its decisions, its check"),
    ".github/workflows/servesim.yml": ("servesim.yml", "CI that is red when it regresses"),
    "README.md": ("README.md", "the commands"),
}
"""File of the project to its text in ``starter/`` and what it is."""

COMMANDS = (
    "servesim --plugins . run scenario.yaml",
    "servesim --plugins . check checks/router.yaml",
    "pytest",
)
"""What is typed next, all of which pass."""

_NAME = "PROJECT_NAME"


def init_project(folder: Path) -> int:
    """Write the project into *folder* and print what to type next; return the exit code.

    Raises
    ------
    ServesimError
        If a file of that name is there already, or the folder cannot be written. Nothing is written then.
    """
    _check_free(folder)
    try:
        _write(folder)
    except OSError as error:
        raise ServesimError(
            f"{folder}: cannot be written ({error.strerror}). expected a folder that is new or writable"
        ) from error
    write(_page(folder))
    return OK


def _check_free(folder: Path) -> None:
    """Refuse a place that is no folder, or one that holds what would be written."""
    if folder.exists() and not folder.is_dir():
        raise ServesimError(f"{folder}: not a folder. expected a new or an empty one")
    taken = [name for name in _top_names() if (folder / name).exists()]
    if taken:
        raise ServesimError(
            f"{folder}: not empty (got {', '.join(taken)}). expected a new folder, or one without these",
            hint="nothing was written",
        )


def _write(folder: Path) -> None:
    """Write all files to a folder of their own, then move it, or what is in it, to its place."""
    new = not folder.exists()
    home = folder.absolute().parent if new else folder
    home.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=".servesim-init-", dir=home))
    try:
        for name, text in project_files(_project_name(folder)).items():
            path = stage / "project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if new:
            (stage / "project").rename(folder)
        else:
            for name in _top_names():
                (stage / "project" / name).rename(folder / name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def project_files(name: str) -> dict[str, str]:
    """Return the files of a project called *name*: path to text."""
    starter = files("servesim.cli") / "starter"
    return {
        path: (starter / source).read_text(encoding="utf-8").replace(_NAME, name)
        for path, (source, _) in FILES.items()
    }


def _project_name(folder: Path) -> str:
    """Return the folder's name as one that a distribution may have."""
    return re.sub(r"[^A-Za-z0-9]+", "-", folder.absolute().name).strip("-").lower() or "my-policies"


def _top_names() -> list[str]:
    return list(dict.fromkeys(Path(name).parts[0] for name in FILES))


def _page(folder: Path) -> str:
    width = max(map(len, FILES))
    here = folder.absolute() == Path.cwd()
    commands = [*([] if here else [f"cd {shlex.quote(str(folder))}"]), *COMMANDS]
    return "\n".join(
        [
            f"made in {folder}:",
            *(f"  {name:{width}}  {meaning}" for name, (_, meaning) in FILES.items()),
            "",
            "next:",
            *(f"  {command}" for command in commands),
            "",
        ]
    )
