"""Fixtures that all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# How long an example takes says nothing about the code on a machine that does other work too. The seed of the
# examples is the environment variable SERVESIM_HYPOTHESIS_SEED, which scripts/test hands to Hypothesis.
settings.register_profile("servesim", deadline=None)
settings.load_profile("servesim")


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Return a function from a name below ``../shared`` to its path.

    A missing file skips the test with its reason, or fails it where SERVESIM_REQUIRE_SHARED is set (in CI).
    """

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            message = f"third-party data ../shared/{name} is not here"
            if os.environ.get("SERVESIM_REQUIRE_SHARED"):
                pytest.fail(message)
            pytest.skip(message)
        return path

    return find
