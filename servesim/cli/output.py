"""Writing to stdout: text and JSON, and what to do when that is not possible."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import typer

from servesim.errors import ServesimError

BROKEN_PIPE = 141
"""Exit code of a program that wrote to a closed pipe: 128 + SIGPIPE, as shells report it."""


def write(text: str) -> None:
    """Write *text* to stdout at once, so that a closed pipe is noticed here.

    Raises
    ------
    typer.Exit
        With `BROKEN_PIPE`, if whoever read the output is gone.
    ServesimError
        If it cannot be written for another reason, such as a full disk.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer goes nowhere, because Python would try to write it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(BROKEN_PIPE) from None
        raise ServesimError(
            f"stdout: cannot be written ({error.strerror}). expected a place for it"
        ) from error


def write_json(data: Any) -> None:
    """Write *data* as indented JSON; errors as in `write`."""
    write(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
