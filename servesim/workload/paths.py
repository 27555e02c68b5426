"""How a path in a scenario is understood. What is read from it is in the readers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, ValidationInfo


def resolve_path(path: Path, info: ValidationInfo) -> Path:
    """Return *path* resolved against ``base_dir`` of the validation context, where there is one."""
    base_dir = (info.context or {}).get("base_dir")
    return path if base_dir is None else Path(base_dir) / path


TracePath = Annotated[Path, AfterValidator(resolve_path)]
"""A path to a file; a relative one starts from the folder of the scenario file that names it."""

FOLDER_TOO: Final = "a folder of files, too"
"""Mark of a parameter, ``Annotated[TracePath, FOLDER_TOO]``, whose path may be that of a folder."""
