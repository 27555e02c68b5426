"""Every error that servesim raises on purpose.

A message reads ``where: what is wrong (got X). expected Y.``; a hint may follow on a line of its own.
The command line turns `ServesimError` into exit code 2, except `InvariantError`, which is 3.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable


class ServesimError(Exception):
    """Base of all servesim errors; *hint* tells the reader what to do next.

    Parameters
    ----------
    message
        ``where: what is wrong (got X). expected Y.``
    hint
        One sentence, printed on a line of its own.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n  hint: {self.hint}" if self.hint else message


class ScenarioError(ServesimError):
    """A scenario that cannot be run as it is written."""


class TraceError(ServesimError):
    """A trace file whose content cannot be taken as it is."""


class PluginError(ServesimError):
    """A plugin that is unknown, does not import, or broke its contract during a run."""


class InvariantError(ServesimError):
    """A bug in servesim or in a plugin: an audit or an assertion of the kernel failed."""


def plugin_failed(who: str, call: str, error: Exception) -> PluginError:
    """Return the error for an exception inside the plugin that messages call *who*; it tells file and line."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return PluginError(
        f"{who}: {call} failed (got {type(error).__name__}: {error}, at {place.filename}:{place.lineno}). "
        "expected an answer"
    )


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return a hint that names the known word closest to *name*, or None when nothing is near."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {matches[0]!r}?" if matches else None
