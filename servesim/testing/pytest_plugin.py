"""Fixture ``servesim_check``: a check file as a test of a policy author's own suite. Setting ``servesim_plugins``: the
folders whose plugins the tests may name.

Installing servesim makes it known to pytest. Nothing of servesim is loaded until a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from servesim.checks.report import CheckReport


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the setting; paths in it start from the file that it is in."""
    parser.addini(
        "servesim_plugins",
        "folders whose pyproject.toml declares plugins of servesim",
        type="paths",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Use the folders until the tests have ended."""
    if folders := config.getini("servesim_plugins"):
        from servesim.errors import ServesimError
        from servesim.plugin_folders import with_plugin_folders

        used = ExitStack()
        config.add_cleanup(used.close)
        try:
            used.enter_context(with_plugin_folders(folders))
        except ServesimError as error:
            raise pytest.UsageError(f"servesim_plugins: {error}") from error


@pytest.fixture(scope="session")
def servesim_check() -> Callable[..., CheckReport]:
    """Return a function that runs a check file and fails the test, with the table, when its gate is closed.

    Called as ``servesim_check(path, objects={"variant": {"router": MyRouter()}}, strict=False)``; it returns the
    `servesim.checks.run.CheckReport`. A single worker computes, in this process.
    """
    return _check


def _check(
    path: str | Path,
    *,
    objects: Mapping[str, Mapping[str, Any]] | None = None,
    strict: bool = False,
) -> CheckReport:
    """Run the check file at *path*.

    Raises
    ------
    pytest.fail.Exception
        If an expectation failed, or with *strict* is undecided.
    """
    __tracebackhide__ = True
    from servesim.checks.run import check
    from servesim.cli.check import checks_text

    report = check(path, objects=objects, workers=1)
    if not report.passed(strict=strict):
        pytest.fail("servesim check\n" + checks_text([report], strict=strict), pytrace=False)
    return report
