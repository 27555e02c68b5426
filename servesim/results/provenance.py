"""What a result says of the files that its run read: enough to tell later whether a file is still the same.

The rest of the provenance is put together where the run is (`servesim.simulation`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HASHED_BYTES_MAX = 1 << 30
"""Larger files are told by their size alone: reading them twice would take longer than many runs."""


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
