"""How a command ends: errors become messages and exit codes, here and nowhere else."""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Callable, Sequence

import typer

from servesim.errors import InvariantError, ServesimError

OK, GATE_FAILED, USER_ERROR, INTERNAL_ERROR, INTERRUPTED = 0, 1, 2, 3, 130

# The base of all errors of usage has no name of its own in typer, which carries its own copy of click.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def guarded(command: Callable[[], object], arguments: Sequence[str]) -> int:
    """Call *command* and return the exit code that its outcome means; say on stderr what went wrong.

    Parameters
    ----------
    command
        Returns an exit code, or None for success.
    arguments
        What the user typed after the program's name: an internal error ends with the command that repeats it.
    """
    try:
        outcome = command()
    except _UsageError as error:
        error.show()  # type: ignore[attr-defined]
        return USER_ERROR
    except (KeyboardInterrupt, typer.Abort):
        _say("interrupted")
        return INTERRUPTED
    except Exception as error:
        return _reported(error, arguments)
    return outcome if isinstance(outcome, int) else OK


def _reported(error: Exception, arguments: Sequence[str]) -> int:
    if isinstance(error, ServesimError) and not isinstance(error, InvariantError):
        _say(f"error: {error}")
        return USER_ERROR
    if not isinstance(error, ServesimError):
        traceback.print_exception(error)
        error = InvariantError(f"{type(error).__name__}: {error}")
    _say(f"internal error: {error}")
    _say(f"replay with: {shlex.join(['servesim', *arguments])}")
    return INTERNAL_ERROR


def _say(message: str) -> None:
    print(message, file=sys.stderr)
