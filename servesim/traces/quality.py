"""Is a trace sound? Checks of its requests, each with a finding in a sentence.

What cannot be used at all (missing or negative numbers) is refused by the readers, with file, row and column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from servesim.traces.arrival_checks import grid
from servesim.traces.finding import Finding
from servesim.traces.regularity import signs_of_fabrication
from servesim.traces.statistics import open_arrivals
from servesim.traces.tally import DRAWN, Tally


def assess(
    requests: pl.DataFrame,
    notes: Mapping[str, Any],
    *,
    whole: pl.DataFrame | None = None,
    spread_s: bool = False,
) -> list[Finding]:
    """Return the findings on a trace.

    Parameters
    ----------
    requests
        In order of arrival, as a simulation would see them.
    notes
        Their reader's.
    whole
        The same with those that the reader left out: gaps between them hide what is regular. None: there are none.
    spread_s
        Whether the reader has a parameter of this name.
    """
    tally = Tally()
    tally.add(requests)
    drawn = bool(notes.get(DRAWN))
    return [
        *tally.findings(notes),
        *([] if drawn else [grid(open_arrivals(requests), spread_s=spread_s)]),
        _fabricated(requests, requests if whole is None else whole),
    ]


def _fabricated(requests: pl.DataFrame, whole: pl.DataFrame) -> Finding:
    signs = signs_of_fabrication(requests, whole)
    if not signs:
        return Finding("regularity", "ok", "no sign of made-up rows")
    return Finding(
        "regularity",
        "warning",
        f"too regular to be recorded: {'; '.join(signs)}. Do not take it for measured data",
    )
