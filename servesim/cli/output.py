"""Writing to stdout: text and JSON, and what to do when nobody reads it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

BROKEN_PIPE = 141
"""Exit code of a program that wrote to a closed pipe: 128 + SIGPIPE, as shells report it."""


def write(text: str) -> None:
    """Write *text* to stdout at once, so that a closed pipe is noticed here.

    Raises
    ------
    BrokenPipeError
        If whoever read the output is gone.
    """
    sys.stdout.write(text)
    sys.stdout.flush()


def write_json(data: Any) -> None:
    """Write *data* as indented JSON; errors as in `write`."""
    write(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def silence_stdout() -> None:
    """Send what is left in the buffer nowhere, because Python would try to write it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
