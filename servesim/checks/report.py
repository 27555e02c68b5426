"""What a check file gave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from servesim.checks.verdicts import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What a check file gave.

    Attributes
    ----------
    name, file
        Of the check.
    seeds
        The seeds that were run.
    random
        Whether seeds changed anything.
    verdicts
        One per expectation, in the order of the file.
    updated
        What the baseline was and is, a line per number that moved; None unless it was rewritten.
    """

    name: str
    file: Path
    seeds: list[int]
    random: bool
    verdicts: list[Verdict]
    updated: list[str] | None = None

    def passed(self, *, strict: bool = False) -> bool:
        """Return whether the gate is open: nothing failed, and with *strict* nothing is undecided."""
        closed = {"failed", "undecided"} if strict else {"failed"}
        return not any(verdict.outcome in closed for verdict in self.verdicts)
