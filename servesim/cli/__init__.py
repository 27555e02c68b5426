"""The command line: parse, call the library, print. Nothing heavy is imported before a command needs it."""

from servesim.cli.app import app, console, main

__all__ = ["app", "console", "main"]
