"""The reference page of the command line, made from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import typer

from servesim.cli.app import app

_INTRODUCTION = """# Command line reference

Results go to stdout; the scenario's hash and seed, progress and errors go to stderr. Exit codes:

| code | meaning |
| --- | --- |
| 0 | it worked |
| 1 | a gate failed: the run was fine, its numbers were not (`servesim check`) |
| 2 | user error: the message says what, where, and what was expected |
| 3 | internal error: a bug in servesim or in a plugin; the last line is the command that repeats it |
| 130 | interrupted with Ctrl-C; what there is was printed, and saved where `--out` says |
| 141 | whoever read the output went away |
"""


def cli_page() -> str:
    """Return ``docs/reference/cli.md``: every command with its arguments and options."""
    group: Any = typer.main.get_command(app)
    return "\n".join([_INTRODUCTION, *_sections("servesim", group)])


def _sections(title: str, command: Any) -> list[str]:
    """Return the section of a command, and those of the commands below it."""
    below = getattr(command, "commands", {})
    sections = [_section(title, command.help, command.params)]
    return sections + [text for name, each in below.items() for text in _sections(f"{title} {name}", each)]


def _section(title: str, text: str | None, parameters: Iterable[Any]) -> str:
    described = "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text or "").split("\n\n"))
    rows = "".join(f"| {_form(item)} | {item.help} |\n" for item in parameters)
    return f"## `{title}`\n\n{described}\n" + (
        f"\n| argument | meaning |\n| --- | --- |\n{rows}" if rows else ""
    )


def _form(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar}`"
    assert parameter.is_flag or parameter.metavar, f"{parameter.opts}: no metavar. expected one for its page"
    value = "" if parameter.is_flag else f" {parameter.metavar}"
    return f"`{', '.join(parameter.opts)}{value}`"
