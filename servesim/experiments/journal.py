"""A journal of runs that are done: a line of JSON each, on disk as soon as the run ends."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from servesim.errors import ServesimError
from servesim.results.frames import disk_errors

_FORMAT = {"journal": "servesim sweep", "format": 1}


class Journal:
    """Runs that are done, by key; a context manager that closes the file.

    A process that is killed loses nothing that was added: a line that was being written is left out, and cut
    off, when the journal is opened again.

    Parameters
    ----------
    path
        The file; it is made if there is none.

    Attributes
    ----------
    found
        Key to the numbers of the run.

    Raises
    ------
    ServesimError
        If the file is something else, or cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, dict[str, Any]] = {}
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            keep = self._read() if path.exists() else 0
            self._file: IO[bytes] = path.open("r+b" if path.exists() else "x+b")
            self._file.truncate(keep)
            self._file.seek(keep)
            if keep == 0:
                self._line(_FORMAT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # of a full disk once more: what was added is there already
            self._file.close()

    def add(self, key: str, numbers: dict[str, Any]) -> None:
        """Note that the run *key* gave *numbers*.

        Raises
        ------
        ServesimError
            If it cannot be written, say because the disk is full.
        """
        with disk_errors(self.path):
            self._line({"key": key, "numbers": numbers})
        self.found[key] = numbers

    def _line(self, data: dict[str, Any]) -> None:
        self._file.write(json.dumps(data, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> int:
        """Take over what an older journal holds and return the bytes up to the end of its last whole line."""
        content = self.path.read_bytes()
        keep = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:keep].splitlines()):
            try:
                data = json.loads(line)
                if number == 0:
                    known = data == _FORMAT
                else:
                    self.found[data["key"]] = dict(data["numbers"])
                    known = True
            except (ValueError, KeyError, TypeError):
                known = False
            if not known:
                raise ServesimError(
                    f"{self.path}:{number + 1}: not a journal of servesim sweep (got {line[:40]!r}). "
                    "expected one, or no such file"
                )
        return keep
