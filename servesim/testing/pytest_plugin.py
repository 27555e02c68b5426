"""Fixture ``servesim_check``: a check file as a test of a policy author's own suite.

Installing servesim makes it known to pytest. Nothing of servesim is loaded until a test asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from servesim.checks.run import CheckReport


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
