"""What a check found, in a sentence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning"]

CHECKSUM = "checksum"
"""The check that a file is the one its datasheet describes: no part of a datasheet."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes
    ----------
    check
        Name of the check.
    level
        ``ok``; ``note``: worth knowing; ``warning``: conclusions from the trace may be wrong.
    text
        The finding, a sentence without a full stop.
    """

    check: str
    level: Level
    text: str


def rubric_of(findings: Iterable[Finding]) -> dict[str, str]:
    """Return *findings* as a datasheet has them: check to level and text."""
    return {each.check: f"{each.level}: {each.text}" for each in findings if each.check != CHECKSUM}


def defects_in(findings: Iterable[Finding]) -> list[str]:
    """Return what a reader of the file must put up with: the texts of those that are not ok."""
    return [each.text for each in findings if each.level != "ok" and each.check != CHECKSUM]
